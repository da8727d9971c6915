"""Does arithmetic use a wider type than it needs, or one that the hardware lacks?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.wording import counted, percent, three_digits

from ...trace.arrays import Bools, Int64s
from ...work.predict import FP16, FP16_FROM_BF16, MATRIX_FAMILIES, TF32, Change, changed_ns
from ...work.roofline import peak_tflops
from ...work.step_time import Saved
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import CAPABILITY, DATASHEET, KERNELS, SHAPES, Need, needs
from .wording import kept, kernels

AMPERE, VOLTA = 8.0, 7.0
CASTS = 2
"""How many casts autocast adds for each product of a training step: its input, and its weights or their gradient."""
BF16_NAME = re.compile(r"BFloat16|bfloat16|(?<![a-z])bf16(?![a-z])")

MATRIX_CORES = Need(
    "the device's datasheet has no FP16 peak above that of FP32",
    lambda e: e.sheet is not None and (peak_tflops(e.sheet, "fp16") or 0) > (peak_tflops(e.sheet, "fp32") or 0),
)


@needs(KERNELS, DATASHEET, SHAPES, MATRIX_CORES)
def fp32_gemm(facts: Facts) -> Answer:
    """Matrix products run in FP32: they read twice the bytes that they need, and leave the matrix cores unused."""
    products = facts.of_family("gemm", "convolution")
    unknown = _mostly_unknown(facts, products, "fp32_gemm")
    wide = products & facts.at_peak("fp32", "tf32") & facts.work["has_bytes"]
    if unknown is not None or facts.work_share(wide) < facts.thresholds.work:
        return unknown
    attention = facts.of_family("attention") & facts.at_peak("fp32", "tf32") & facts.work["has_bytes"]
    faster, saved = _faster(facts, wide | attention, FP16, casts=CASTS if facts.trains else 0)
    sheet = facts.sheet
    assert sheet is not None
    ratio = (peak_tflops(sheet, "fp16") or 0) / (peak_tflops(sheet, "fp32") or 1)
    return Finding(
        code="fp32_gemm",
        title="Matrix products run in FP32 on a device with matrix cores",
        severity=facts.severity(saved),
        affected_ns=facts.time(wide),
        **saved.fields,
        evidence=f"{percent(facts.work_share(wide))} of the kernel time is {counted(int(wide.sum()), 'matrix product')} of "
        f"FP32 operands; {sheet.name} does FP16 at {three_digits(ratio)} times the FP32 peak",
        action="model.half() for inference, or torch.autocast('cuda', dtype=torch.float16) (bfloat16 from compute capability "
        "8.0 on), with torch.amp.GradScaler to train in float16. Compare the outputs with FP32's.",
        snippet="with torch.autocast('cuda', dtype=torch.bfloat16):\n    loss = model(batch)"
        if (facts.capability or 0) >= AMPERE and facts.trains
        else "model = model.half()  # and its inputs: x = x.half()",
        reasoning="By the roofline, each product's time over the shortest kernel's changes as its roof does: half the bytes "
        "where memory binds it, FP16's peak where arithmetic does, nothing where neither does. "
        f"{kept(int(faster.sum()), saved.saving_ns)} "
        + (f"In training, {CASTS} casts for each product are added, with their launches." if facts.trains else ""),
        rows=kernels(facts, wide, faster),
    )


@needs(KERNELS, DATASHEET, CAPABILITY, SHAPES)
def tf32_off(facts: Facts) -> Answer:
    """FP32 matrix products run on the ordinary cores although the device could round their operands to TF32."""
    capability, sheet = facts.capability, facts.sheet
    assert capability is not None
    assert sheet is not None
    if capability < AMPERE or "tf32" not in sheet.tflops:
        return None
    products = facts.of_family("gemm", "convolution")
    unknown = _mostly_unknown(facts, products, "tf32_off")
    plain = products & facts.at_peak("fp32") & facts.work["has_flops"]
    if unknown is not None or facts.work_share(plain) < facts.thresholds.work:
        return unknown
    faster, saved = _faster(facts, plain, TF32)
    if not int(faster.sum()):
        return None  # arithmetic does not bind them, and TF32 moves as many bytes as FP32
    return Finding(
        code="tf32_off",
        title="FP32 matrix products do not use TF32",
        severity=facts.severity(saved),
        affected_ns=facts.time(plain),
        **saved.fields,
        evidence=f"{percent(facts.work_share(plain))} of the kernel time is {counted(int(plain.sum()), 'FP32 product')} "
        "whose kernels are not named as TF32's",
        snippet="torch.set_float32_matmul_precision('high')\ntorch.backends.cudnn.allow_tf32 = True",
        action="torch.set_float32_matmul_precision('high') (before it: torch.backends.cuda.matmul.allow_tf32 = True, and "
        "torch.backends.cudnn.allow_tf32 = True for convolutions). Inputs keep 10 bits of mantissa: compare the outputs.",
        reasoning="By the roofline, the time over the shortest kernel's of products that arithmetic binds changes as the peaks "
        f"do, FP32 to TF32; TF32 moves as many bytes as FP32. {kept(int(faster.sum()), saved.saving_ns)} Instead of half "
        "precision, not beside it.",
        rows=kernels(facts, plain, faster),
    )


@needs(KERNELS, CAPABILITY)
def bf16_emulated(facts: Facts) -> Answer:
    """BF16 is emulated on this device.

    Devices before Ampere have no BF16 arithmetic: products are done in FP32, and elementwise kernels convert.
    """
    capability = facts.capability
    assert capability is not None
    if capability >= AMPERE:
        return None
    narrow = facts.named(BF16_NAME) | facts.at_peak("bf16")
    if facts.work_share(narrow) < facts.thresholds.work:
        return None
    products = narrow & facts.of_family("gemm") & facts.at_peak("bf16")
    can_estimate = facts.sheet is not None and capability >= VOLTA and bool(products.any())
    faster, saved = _faster(facts, products, FP16_FROM_BF16) if can_estimate else (None, None)
    return Finding(
        code="bf16_emulated",
        title="BF16 is emulated on this device",
        severity="medium" if saved is None else facts.severity(saved),
        affected_ns=facts.time(narrow),
        **(saved.fields if saved else {"saving_ns": None}),
        evidence=f"{percent(facts.work_share(narrow))} of the kernel time works on BF16, and compute capability "
        f"{capability:g} has no BF16 arithmetic (from 8.0 on)",
        action="Use torch.float16 here (torch.autocast('cuda', dtype=torch.float16), with torch.amp.GradScaler to train); it "
        "takes as many bytes and has matrix cores from compute capability 7.0 on.",
        snippet="with torch.autocast('cuda', dtype=torch.float16):\n    loss = model(batch)",
        reasoning=(
            "By the roofline, products that arithmetic binds change as the peaks do, FP32's, in which BF16 is emulated, to "
            f"FP16's. {kept(int(faster.sum()), saved.saving_ns)}"
        )
        if faster is not None and saved is not None
        else "No estimate: the work of the products, or the device's peaks, are not known.",
        rows=() if faster is None else kernels(facts, products, faster),
    )


def _mostly_unknown(facts: Facts, products: Bools, code: str) -> CannotTell | None:
    """The reason why nothing can be said about the products, as an answer.

    None if the work is known for at least half of their time, or if there are none.
    """
    total, known = facts.time(products), facts.time(products & facts.work["has_bytes"])
    if 2 * known >= total:
        return None
    return CannotTell(code, "the operands of most matrix products are not known: a graph or compiled code hides their shapes")


def _faster(facts: Facts, mask: Bools, change: Change, casts: int = 0) -> tuple[Int64s, Saved]:
    """What a change brings: how much less each of these kernels takes, in ns, and what that saves.

    The first is an int64 array with one entry for each row of `work`, 0 for the kernels that do not change. So many `casts` are
    added for each of these kernels: together they read the kernel's operands, and write them at half their size.
    """
    assert facts.sheet is not None
    time = facts.work["duration_ns"]
    changed = changed_ns(facts.work, facts.of_family(*MATRIX_FAMILIES), facts.sheet, change)
    faster = np.where(mask, time - changed, 0)
    if not casts:
        return faster, facts.shorter(faster)
    cast_ns = np.rint(facts.work["bytes"] / facts.sheet.memory_gb_s).astype(np.int64)
    faster = np.where(mask, np.maximum(faster - cast_ns, 0), 0)
    events, more = facts.of_events(faster), np.where(facts.items_of(mask), float(casts), 0.0)
    return faster, facts.saved(lambda program: program.faster(events).with_launches(more))
