"""Is attention fused, as far as the device has kernels for it?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.devices import PEAKS
from tracekit.wording import counted, form, percent

from ...trace.arrays import Bools, Int64s
from ...work.roofline import peak_tflops
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import CAPABILITY, KERNELS, OPERATORS, needs
from .wording import kept

BATCHED = re.compile(r"aten::(?:bmm|baddbmm|matmul|einsum)\b")
SOFTMAX = re.compile(r"aten::_?(?:safe_)?(?:masked_)?(?:softmax\b|softmax_backward)")
FALLBACK = re.compile(r"aten::(?:_efficient_attention_forward|_scaled_dot_product_(?:efficient_attention|attention_math))")
AMPERE = 8.0
FUSED_SHARE = 0.4
"""The share of the arithmetic peak that a fused attention kernel reaches on long sequences: assumed."""


@needs(KERNELS, OPERATORS)
def unfused_attention(facts: Facts) -> Answer:
    """Attention runs as separate kernels instead of one.

    Between the two products the scores are written to memory, scaled, masked, normalised and read again. A fused kernel keeps
    them on the chip.
    """
    softmax = facts.of_kind("softmax") & facts.of_family("reduction")
    hidden = softmax & (facts.work["operator"] < 0)
    if softmax.any() and 2 * facts.time(hidden) > facts.time(softmax):
        return CannotTell("unfused_attention", "the operators around the softmax kernels are not known: a graph hides them")
    between, products, times = _between_products(facts, softmax)
    if facts.work_share(between) < facts.thresholds.work / 5:
        return None
    faster = np.where(between, facts.work["duration_ns"], np.where(products, _products_faster(facts), 0))
    saved, each = facts.fewer(faster, between), int(between.sum()) / max(times, 1)
    return Finding(
        code="unfused_attention",
        title="Attention runs as separate kernels",
        severity=facts.severity(saved),
        affected_ns=facts.time(between),
        **saved.fields,
        evidence=f"{counted(times, 'time')} {counted(each, 'kernel')} (scale, mask, softmax, copies) "
        f"{form(each, 'lies', 'lie')} between two products of one attention: "
        f"{percent(facts.work_share(between))} of the kernel time",
        action="torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True), in Transformers "
        "attn_implementation='sdpa' (or 'flash_attention_2'): one kernel, and the scores never reach memory.",
        snippet="y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)",
        reasoning="The kernels between the two products vanish, with their launches. The products no longer write and read the "
        f"scores: they take as long as {percent(FUSED_SHARE)} of the arithmetic peak allows (assumed), if that is less. "
        f"{kept(int(faster.sum()), saved.saving_ns)}",
        rows=(
            {
                "chains": times,
                "kernels": int(between.sum()),
                "time_ns": facts.time(between),
                "bytes": int(facts.work["bytes"][between].sum()),
            },
        ),
    )


def _products_faster(facts: Facts) -> Int64s:
    """How much less each product would take inside a fused kernel, in ns: where writing or reading the scores binds it."""
    time, sheet = facts.work["duration_ns"], facts.sheet
    if sheet is None:
        return np.zeros(len(time), dtype=np.int64)
    peaks = [peak_tflops(sheet, peak) or np.inf for peak in PEAKS]
    peak = np.array([*peaks, np.inf])[facts.work["peak"]]
    least = facts.work["flops"] / (1e3 * peak * FUSED_SHARE)
    known = facts.work["has_flops"] & np.isfinite(peak) & (peak > 0)
    found: Int64s = np.where(known, np.maximum(time - least, 0), 0).astype(np.int64)
    return found


def _between_products(facts: Facts, softmax: Bools) -> tuple[Bools, Bools, int]:
    """The kernels between two batched products that have a softmax between them, the products, and how many such pairs.

    The first two are masks with one entry for each row of `work`.
    """
    order = facts.in_order
    lane = facts.lane[order]
    products = np.flatnonzero((facts.launched_by(BATCHED) & facts.of_family("gemm"))[order])
    centres = np.flatnonzero((softmax & facts.launched_by(SOFTMAX))[order])
    after = np.searchsorted(products, centres)
    enclosed = (after > 0) & (after < len(products))
    left, right = products[after[enclosed] - 1], products[after[enclosed]]
    near = (right - left - 1 <= facts.thresholds.attention_steps) & (lane[left] == lane[right])
    left, right = np.unique(np.stack((left[near], right[near])), axis=1)
    opens = np.zeros(len(order) + 1, dtype=np.int64)
    opens[left + 1] += 1
    opens[right] -= 1
    between = np.zeros(len(order), dtype=np.bool_)
    between[order] = np.cumsum(opens[:-1]) > 0
    around = np.zeros(len(order), dtype=np.bool_)
    around[order[np.concatenate((left, right))]] = True
    return between, around & ~between, len(left)


@needs(KERNELS, OPERATORS, CAPABILITY)
def flash_unavailable(facts: Facts) -> Answer:
    """FlashAttention is not available on this device.

    PyTorch's FlashAttention needs Ampere or newer. On an older device scaled_dot_product_attention uses another kernel.
    """
    capability = facts.capability
    assert capability is not None
    fallback = facts.launched_by(FALLBACK)
    if capability >= AMPERE or facts.work_share(fallback) < facts.thresholds.work:
        return None
    return Finding(
        code="flash_unavailable",
        title="FlashAttention is not available on this architecture",
        severity="low",
        affected_ns=facts.time(fallback),
        saving_ns=None,
        evidence=f"{percent(facts.work_share(fallback))} of the kernel time is attention by the memory-efficient or the "
        f"plain kernel; PyTorch's FlashAttention needs compute capability 8.0, this is {capability:g}",
        action="Keep the memory-efficient kernel (torch.nn.attention.sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION), or "
        "xformers.ops.memory_efficient_attention) rather than the plain one; on compute capability 7.5 tracekit's own "
        "attention kernels (docs/kernels.md), or a FlashAttention made for Turing. It matters for long prompts: a decode step "
        "reads few keys and values beside its weights.",
        snippet="with torch.nn.attention.sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):\n    y = model(x)",
        reasoning="No estimate: no kernel of such a device was measured against another one here.",
        rows=({"kernels": int(fallback.sum()), "time_ns": facts.time(fallback), "compute_capability": capability},),
    )
