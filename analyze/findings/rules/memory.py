"""Is time lost on moving bytes: weights read for few tokens, copies between memories?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, form, percent, quantity, rate, size

from ...trace.arrays import Int64s
from ...trace.intervals import merge
from ...trace.trace import Category, Trace
from ...work.roofline import LATENCY_SHARE
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import DATASHEET, GPU, KERNELS, SHAPES, needs
from .wording import kept, kernels

PAGEABLE = re.compile(r"Memcpy.*Pageable")
TRANSFER = re.compile(r"(?:Memcpy|Copy\w*) ?(?:HtoD|DtoH|PtoP|HostToDevice|DeviceToHost)")
"""Matches the names of copies that leave a device or arrive at one."""


@needs(KERNELS, DATASHEET, SHAPES)
def memory_bound_gemv(facts: Facts) -> Answer:
    """Products with few rows read all weights for only a few tokens.

    Memory bandwidth limits them, so only fewer bytes make them faster.
    """
    products, known = facts.of_family("gemm"), facts.work["has_bytes"]
    if 2 * facts.time(products & known) < facts.time(products):
        return CannotTell("memory_bound_gemv", "the operands of most matrix products are not known")
    sheet = facts.sheet
    assert sheet is not None
    time, moved = facts.work["duration_ns"], facts.work["bytes"]
    few = facts.rows_per_product < facts.thresholds.gemv_rows  # False where the number of rows is not known
    bound = few & (moved / sheet.memory_gb_s >= LATENCY_SHARE * time)
    if facts.work_share(bound) < facts.thresholds.gemv:
        return None
    floor = int(time.min())
    faster = np.where(bound, np.rint((time - floor) * (1 - 1 / facts.item_bytes)), 0).astype(np.int64)
    saved = facts.shorter(faster)
    gb_s = int(moved[bound].sum()) / max(facts.time(bound), 1)
    return Finding(
        code="memory_bound_gemv",
        title="Matrix-vector products wait for memory",
        severity=facts.severity(saved.saving_ns),
        affected_ns=facts.time(bound),
        **saved.fields,
        evidence=f"{percent(facts.work_share(bound))} of the kernel time is {counted(int(bound.sum()), 'product')} of few "
        f"rows, at {quantity(gb_s, 'GB/s')}, {percent(gb_s / sheet.memory_gb_s)} of the device's bandwidth",
        action="Only fewer bytes help: quantise the weights (torchao.quantization.quantize_(model, Int8WeightOnlyConfig()) "
        "with torch.compile), use half precision if it is not yet, or batch requests, so that one reading of the weights "
        "serves them all. A faster arithmetic does not.",
        reasoning="Weights of one byte each: the time of these products over the shortest kernel's shrinks as the bytes of an "
        f"element do. {kept(int(faster.sum()), saved.saving_ns)} Scales and the cost of dequantising are not counted.",
        rows=kernels(facts, bound, faster),
    )


@needs(GPU)
def pageable_copies(facts: Facts) -> Answer:
    """Copies from or to pageable memory go through a staging buffer, and the host waits for them."""
    return _copies(
        facts,
        _transfers(facts.trace, PAGEABLE),
        code="pageable_copies",
        title="Copies go through pageable host memory",
        what="from or to pageable memory",
        action="DataLoader(pin_memory=True), or tensor.pin_memory(), then tensor.to(device, non_blocking=True): the copy then "
        "runs beside kernels.",
    )


@needs(GPU)
def device_copies(facts: Facts) -> Answer:
    """Copies between the host and the device, or between devices, run while the device computes nothing."""
    trace = facts.trace
    rows = np.setdiff1d(_transfers(trace, TRANSFER), _transfers(trace, PAGEABLE))
    return _copies(
        facts,
        rows,
        code="device_copies",
        title="The GPU waits for copies between devices",
        what="from or to pinned memory or another device",
        action="Keep data where it is used: no .cpu() and .to(device) in the loop, indices and masks made on the device "
        "(torch.arange(..., device=device)); copy the next batch on a stream of its own (torch.cuda.stream) beside kernels.",
    )


def _transfers(trace: Trace, pattern: re.Pattern[str]) -> Int64s:
    """The rows of the copies whose name matches the pattern at its start."""
    return trace.named(trace.where(Category.MEMCPY), pattern.match)


def _copies(facts: Facts, rows: Int64s, *, code: str, title: str, what: str, action: str) -> Answer:
    """A finding about these copies, if they run long enough while no kernel runs."""
    trace = facts.trace
    mine = merge(trace.start_ns[rows], trace.end_ns[rows])
    computing = merge(trace.start_ns[trace.kernels], trace.end_ns[trace.kernels])
    exposed = mine.total - int(computing.within(mine.start, mine.end).sum())
    if not len(rows) or facts.share(exposed) < facts.thresholds.transfers:
        return None
    sizes = dict(zip(trace.gpu["event"].tolist(), trace.gpu["bytes"].tolist(), strict=True))
    moved = sum(sizes[row] or 0 for row in rows.tolist())
    time = int(trace.events["duration_ns"][rows].sum())
    return Finding(
        code=code,
        title=title,
        severity=facts.severity(exposed),
        affected_ns=time,
        saving_ns=exposed,
        evidence=f"{counted(len(rows), 'copy', 'copies')} {what} {form(len(rows), 'takes', 'take')} {duration(time)}, "
        f"{percent(facts.share(exposed))} of the span while no kernel runs; {size(moved)} at {rate(moved, time)}",
        action=action,
        reasoning="The time in which these copies run and no kernel does: an upper bound, as if all of it ran beside kernels.",
        rows=tuple(_by_copy(trace, rows, sizes)),
    )


def _by_copy(trace: Trace, rows: Int64s, sizes: Mapping[int, int | None]) -> list[Mapping[str, Any]]:
    names = trace.names(rows)
    found: list[Mapping[str, Any]] = []
    for name in sorted(set(names.tolist())):
        mine = rows[names == name]
        time = int(trace.events["duration_ns"][mine].sum())
        found.append({"name": name, "count": len(mine), "time_ns": time, "bytes": sum(sizes[r] or 0 for r in mine.tolist())})
    return sorted(found, key=lambda row: -row["time_ns"])
