"""Where the GPU is hardly ever idle: what could its kernels gain, or are they near what the device can do?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tracekit.names import shorten
from tracekit.wording import counted, duration, percent, rate, shapes

from ...trace.arrays import Bools, Floats, Int64s
from ...trace.group import group
from ...work.call import OperatorCall, UnrecordedError
from ...work.roofline import roofs
from ...work.step_time import Saved
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import DATASHEET, KERNELS, SHAPES, Need, needs
from .wording import kept

WORST = 5
RAMP_NS = 5_000
"""What a kernel takes beside its work, to fill the device and to empty it: assumed."""
BUSY_SHAPES = Need(SHAPES.because, lambda e: not is_gpu_bound(e) or SHAPES.met(e))
BUSY_DATASHEET = Need(DATASHEET.because, lambda e: not is_gpu_bound(e) or DATASHEET.met(e))


def is_gpu_bound(facts: Facts) -> bool:
    """Whether the GPU is busy for nearly all of its span."""
    return facts.gpu is not None and facts.share(facts.idle.total_ns) < facts.thresholds.gpu_bound


# --- Below the roof -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roofs:
    """For each row of `work`, in ns: the least time that its work takes, 0 where that is not known, and what it could save.

    `is_compute` says whether arithmetic binds it, `is_known` whether its roof is known. `attainable` is the share of the roof
    that it could reach, and `is_shown` whether other kernels of its family reach so much here; else it is assumed.
    """

    roof_ns: Floats
    is_known: Bools
    is_compute: Bools
    attainable: Floats
    is_shown: Bools
    saving_ns: Int64s


@needs(KERNELS, BUSY_DATASHEET, BUSY_SHAPES)
def below_roof(facts: Facts) -> Answer:
    """The GPU is busy, and kernels take much longer than their arithmetic or their bytes need."""
    if not is_gpu_bound(facts):
        return None
    found = kernel_roofs(facts)
    if 2 * facts.time(found.is_known) < facts.time(np.ones(len(facts.work), dtype=np.bool_)):
        return CannotTell("below_roof", "the work of most kernels is not known: a graph or compiled code hides their shapes")
    family = facts.families
    by_family = {one: int(found.saving_ns[family == one].sum()) for one in sorted(set(family.tolist()))}
    worst = max(by_family, key=lambda one: (by_family[one], one))
    chosen = (family == worst) & (found.saving_ns > 0)
    if by_family[worst] < facts.thresholds.work * int(facts.work["duration_ns"].sum()):
        return None
    saving = np.where(chosen, found.saving_ns, 0)
    rows = _worst_rows(facts, found, chosen)
    reached = float(found.roof_ns[chosen].sum()) / max(facts.time(chosen), 1)
    remedy = _remedy(facts, worst, rows[0])
    is_sound = bool(remedy.because) or 2 * int(saving[found.is_shown].sum()) >= int(saving.sum())
    saved = facts.shorter(saving) if is_sound else None
    return Finding(
        code="below_roof",
        title=f"{_word(worst)} reach little of what the device can do",
        severity=facts.severity(saved) if saved else "low",
        affected_ns=facts.time(chosen),
        **(saved.fields if saved else {"saving_ns": None}),
        evidence=f"{percent(facts.work_share(chosen))} of the kernel time is {counted(int(chosen.sum()), 'kernel')} of "
        f"{worst} at {percent(reached)} of the roof; the most time is lost in {_place(rows[0])}"
        + (f": {remedy.because}" if remedy.because else ""),
        action=remedy.action,
        snippet=remedy.snippet,
        reasoning=_reasoning(facts, int(saving.sum()), saved),
        rows=rows,
    )


def _reasoning(facts: Facts, gain_ns: int, saved: Saved | None) -> str:
    limits = facts.thresholds
    roof = "The roof is the longer of FLOPs over peak and bytes over bandwidth. "
    if saved is None:
        return (
            f"{roof}No estimate: no kernel of this family reaches {percent(limits.reachable)} of it here, so nothing shows "
            "what could be reached."
        )
    return (
        f"{roof}No kernel is taken to reach more of it than the best of its family here, at least {percent(limits.reachable)} "
        f"and at most {percent(limits.reached_at_most)} (assumed), plus {duration(RAMP_NS)} to fill and empty the device "
        f"(assumed). {kept(gain_ns, saved.saving_ns)} Kernels below {duration(limits.long_kernel_ns)} are not counted: they "
        "are too short to fill the device."
    )


def near_roof(facts: Facts) -> Answer:
    """The GPU is busy, and its kernels are near what the device can do: only less work would make it faster.

    It is told only where no other finding saves much (see `findings`).
    """
    if not is_gpu_bound(facts) or facts.sheet is None or not len(facts.work):
        return None  # `below_roof` says what is missing
    found, time = kernel_roofs(facts), facts.work["duration_ns"]
    known, whole = facts.time(found.is_known), int(time.sum())
    if known < facts.thresholds.known * whole:
        return None  # `below_roof` says it if too little is known
    reached = float(found.roof_ns[found.is_known].sum()) / max(known, 1)
    if reached < facts.thresholds.reachable or int(found.saving_ns.sum()) >= facts.thresholds.work * whole:
        return None
    return Finding(
        code="near_roof",
        title="Healthy: the GPU is busy, and its kernels are near what the device can do",
        severity="low",
        affected_ns=known,
        saving_ns=None,
        evidence=f"the GPU is busy for {percent(1 - facts.share(facts.idle.total_ns))} of its span; kernels of known work, "
        f"{percent(known / max(whole, 1))} of the kernel time, reach {percent(reached)} of their roof",
        action="No setting makes this much faster. What is left is less work: fewer bytes or FLOPs (narrower types where "
        "accuracy allows, sparsity, a smaller model, no recomputation), or a faster device.",
        reasoning="No saving: the roof is the longer of FLOPs over peak and bytes over bandwidth, of each kernel.",
        rows=({"known_ns": known, "roof_ns": round(float(found.roof_ns[found.is_known].sum())), "kernel_time_ns": whole},),
    )


def kernel_roofs(facts: Facts) -> Roofs:
    """What each kernel's work needs at least, and what it could save."""
    work, limits = facts.work, facts.thresholds
    time = work["duration_ns"]
    compute, memory = roofs(work, facts.sheet)
    compute, memory = np.nan_to_num(compute), np.nan_to_num(memory)
    roof = np.where(work["has_bytes"], np.maximum(compute, memory), 0.0)
    # What is faster than its roof read from the cache, or its work is counted wrongly: nothing is known of it.
    known = work["has_bytes"] & (roof > 0) & (roof <= time) & (facts.families != "communication")
    is_compute = compute >= memory
    attainable, shown = _attainable(facts, roof, known, is_compute)
    could = roof / attainable + RAMP_NS
    saving = np.where(known & (time >= limits.long_kernel_ns), np.maximum(time - could, 0), 0.0)
    saving[saving < limits.far_below * time] = 0
    return Roofs(roof, known, is_compute, attainable, shown, np.rint(saving).astype(np.int64))


def _attainable(facts: Facts, roof: Floats, known: Bools, is_compute: Bools) -> tuple[Floats, Bools]:
    """The share of its roof that each kernel could reach: that of the best kernel of its family here, within limits.

    The second says whether the best reaches the lower limit. Else that limit is assumed.

    Of each family and bound, the best is the name with the highest share among those with a hundredth of the kernel time.
    """
    limits, time = facts.thresholds, facts.work["duration_ns"]
    families, code = np.unique(facts.families.astype(str), return_inverse=True)
    kind = code.reshape(-1) * 2 + is_compute
    by_name = group((facts.names * (2 * len(families)) + kind)[known])
    ns, least = by_name.sum(time[known]), by_name.sum_of_floats(roof[known])
    share = np.where(ns >= 0.01 * time.sum(), least / np.maximum(ns, 1), 0.0)
    best = np.zeros(2 * len(families))
    np.maximum.at(best, by_name.keys % (2 * len(families)), share)
    found: Floats = np.clip(best, limits.reachable, limits.reached_at_most)[kind]
    shown: Bools = (best >= limits.reachable)[kind]
    return found, shown


def _worst_rows(facts: Facts, found: Roofs, chosen: Bools) -> tuple[Mapping[str, Any], ...]:
    """These kernels by name, operator and shapes, those that lose the most time first."""
    trace, work = facts.trace, facts.work
    whose = np.where(work["owner"] >= 0, work["owner"], work["operator"])
    named = np.where(whose >= 0, trace.events["name"][whose].astype(np.int64), -1)
    signature = np.where(whose >= 0, trace.events["signature"][whose].astype(np.int64), -1)
    keys = np.stack((facts.names, named, signature), axis=1)[chosen]
    distinct, code = np.unique(keys, axis=0, return_inverse=True)
    of = group(code.reshape(-1))
    time, saving = of.sum(work["duration_ns"][chosen]), of.sum(found.saving_ns[chosen])
    roof = of.sum_of_floats(found.roof_ns[chosen])
    compute, moved = of.sum(found.is_compute[chosen].astype(np.int64)), of.sum(work["bytes"][chosen])
    return tuple(
        {
            "kernel": str(trace.strings[distinct[at, 0]]),
            "operator": str(trace.strings[distinct[at, 1]]) if distinct[at, 1] >= 0 else None,
            "shapes": _shapes(trace.signatures[distinct[at, 2]]) if distinct[at, 2] >= 0 else None,
            "signature": int(distinct[at, 2]),
            "count": int(of.count[at]),
            "time_ns": int(time[at]),
            "roof_ns": round(float(roof[at])),
            "bound": "compute" if 2 * compute[at] > of.count[at] else "memory",
            "bytes": int(moved[at]),
            "faster_ns": int(saving[at]),
        }
        for at in np.lexsort((distinct[:, 0], -saving))[:WORST].tolist()
    )


def _shapes(written: tuple[bytes, bytes, bytes, bytes]) -> str | None:
    call = _call(written)
    return ", ".join(str(list(tensor.shape)) for tensor in call.tensors()) or None if call else None


@cache
def _call(written: tuple[bytes, bytes, bytes, bytes]) -> OperatorCall | None:
    """The inputs of an operator, or None if they cannot be read."""
    try:
        call = OperatorCall.parse("", written)
        list(call.tensors())
    except UnrecordedError:
        return None
    return call


def _place(row: Mapping[str, Any]) -> str:
    """A kernel with its operator and shapes, and what it reaches."""
    of = f" of {row['operator']}" if row["operator"] else ""
    sizes = f" {shapes(row['shapes'])}" if row["shapes"] else ""
    reached = percent(row["roof_ns"] / max(row["time_ns"], 1))
    speed = f", {rate(row['bytes'], row['time_ns'])}" if row["bound"] == "memory" else ""
    took = f"{counted(row['count'], 'time')}, {duration(row['time_ns'])}"
    return f"{shorten(row['kernel'])}{of}{sizes} ({took}, {reached}{speed})"


def _word(family: str) -> str:
    words = {"gemm": "Matrix products", "other": "Kernels", "reduction": "Reductions", "convolution": "Convolutions"}
    return words.get(family, f"{family.capitalize()} kernels")


@dataclass(frozen=True)
class _Remedy:
    """What to do about kernels far below their roof, and what in their shapes says so."""

    action: str
    because: str = ""
    snippet: str = ""


COMPILE = "model = torch.compile(model, mode='max-autotune')"


def _remedy(facts: Facts, family: str, row: Mapping[str, Any]) -> _Remedy:
    """What to do about the kernels of one family, by the shapes of the row that loses the most time."""
    call = _call(facts.trace.signatures[row["signature"]]) if row["signature"] >= 0 else None
    tensors = list(call.tensors()) if call else []
    scattered = any(
        tensor.strides and tensor.elements > 1 and not _is_dense(tensor.shape, tensor.strides) for tensor in tensors
    )
    if family == "gemm":
        return _of_products(tensors)
    if family == "convolution":
        return _Remedy(
            "Let cuDNN choose by measuring (torch.backends.cudnn.benchmark = True, equal shapes from step to step), keep "
            "tensors in channels_last, and channels a multiple of 8.",
            snippet="torch.backends.cudnn.benchmark = True\nmodel = model.to(memory_format=torch.channels_last)",
        )
    if family == "attention":
        return _Remedy(
            "Try the other backends of scaled_dot_product_attention and keep the fastest; a head's width that is a multiple of "
            "8, no dense mask where is_causal=True says it, and torch.nn.attention.flex_attention for patterns.",
            snippet="with torch.nn.attention.sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):\n"
            "    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
        )
    if family in ("elementwise", "reduction") and scattered:
        return _Remedy(
            "Keep the tensors in one layout, so that neighbours in memory are read together: .contiguous() once before they "
            "are used often (or channels_last throughout), no transpose or slice in between; torch.compile chooses layouts "
            "itself.",
            because="its inputs do not lie densely in memory",
            snippet="x = x.contiguous()  # once, before it is used often",
        )
    if family == "indexing":
        return _Remedy(
            "Rows that are picked or added at random reach little of the bandwidth: sort or deduplicate the indices, give "
            "embeddings padding_idx where one row repeats, use torch.nn.EmbeddingBag for sums of rows, and sparse=True for "
            "large tables.",
        )
    return _Remedy("Let the compiler write a kernel for these shapes, and fuse its neighbours into it.", snippet=COMPILE)


def _of_products(tensors: list[Any]) -> _Remedy:
    """What to do about a matrix product with these operands."""
    matrices = [tensor for tensor in tensors if len(tensor.shape) >= 2]
    if len(matrices) < 2:
        return _Remedy("Let the compiler choose among kernels for these shapes.", snippet=COMPILE)
    left, right = matrices[-2:]
    unit = max(16 // left.dtype.bytes, 1)
    odd = sorted({size for size in (*left.shape[-2:], *right.shape[-2:]) if size % unit and size > unit})
    if odd:
        padded = -(-odd[-1] // unit) * unit
        return _Remedy(
            f"Make the sizes of the matrices a multiple of {unit} elements (16 bytes), 64 or 128 at best: pad vocabulary, "
            "hidden width and batch; rows that are not aligned cannot use the fast loads of the matrix cores.",
            because=f"{odd[-1]} is no multiple of {unit}",
            snippet=f"size = -(-size // 64) * 64  # {odd[-1]} becomes {-(-padded // 64) * 64}",
        )
    inner, rows, columns = left.shape[-1], left.shape[-2], right.shape[-1]
    if inner * 8 <= min(rows, columns):
        return _Remedy(
            "The inner size is small, so each output is written for little arithmetic: fuse what follows into the product "
            "(torch.compile), or join products that share an operand into one with a larger inner size.",
            because=f"only {inner} products are added up for each output",
            snippet=COMPILE,
        )
    if min(rows, columns) * 8 <= inner:
        return _Remedy(
            "The output is small and the inner size large, so few blocks share the work: batch more rows, join products of one "
            "input into one (q, k and v), or let the autotuner choose a split-K kernel.",
            because=f"{rows} by {columns} outputs from an inner size of {inner}",
            snippet=COMPILE,
        )
    return _Remedy(
        "Another tile shape may fit these sizes: the autotuner tries them; a larger batch fills the device better.",
        snippet=COMPILE,
    )


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether a tensor's elements lie in memory without holes and the shortest stride is 1; expanded ones count as dense."""
    real = sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1 and stride)
    expected = 1
    for stride, size in real:
        if stride != expected:
            return False
        expected *= size
    return True
