"""Is time lost on moving bytes: weights read for few tokens, copies between memories?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, form, percent, quantity, rate, size

from ...trace.arrays import Int64s
from ...trace.intervals import merge
from ...trace.trace import Category, Trace
from ...work.roofline import LATENCY_SHARE
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import DATASHEET, GPU, KERNELS, SHAPES, needs
from .wording import kept, kernels

PAGEABLE = re.compile(r"Memcpy.*Pageable")
PINNED = re.compile(r"Memcpy (?:HtoD|DtoH).*Pinned")
LARGE_COPY = 4_000_000
"""From so many bytes on, a copy shows the speed of the bus."""
BUS_SHARE = 0.85
"""The share of the bus's rate that a large pinned copy reaches: assumed. H200s were seen to reach it (PCIe 5)."""
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
        severity=facts.severity(saved),
        affected_ns=facts.time(bound),
        **saved.fields,
        evidence=f"{percent(facts.work_share(bound))} of the kernel time is {counted(int(bound.sum()), 'product')} of few "
        f"rows, at {quantity(gb_s, 'GB/s')}, {percent(gb_s / sheet.memory_gb_s)} of the device's bandwidth",
        action="Only fewer bytes help: quantise the weights (torchao.quantization.quantize_(model, Int8WeightOnlyConfig()) "
        "with torch.compile), use half precision if it is not yet, or batch requests, so that one reading of the weights "
        "serves them all. A faster arithmetic does not.",
        snippet="quantize_(model, Int8WeightOnlyConfig())  # of torchao.quantization\nmodel = torch.compile(model)",
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
        action="DataLoader(pin_memory=True), or tensor.pin_memory(), then tensor.to(device, non_blocking=True): the copy runs "
        "at the speed of the bus, and the host goes on.",
        snippet="loader = DataLoader(dataset, batch_size, pin_memory=True)\nbatch = batch.to(device, non_blocking=True)",
        change=_pinned,
        reasoning="The program is played again with copies as fast as the largest pinned copy of this trace, or else at "
        f"{percent(BUS_SHARE)} of the bus that the datasheet states (assumed), and with a host that does not wait for them.",
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
        snippet="with torch.cuda.stream(copying):\n    following = next(batches).to(device, non_blocking=True)",
        change=_beside,
        reasoning="The program is played again as if what these copies take while no kernel runs ran beside kernels: an upper "
        "bound.",
    )


def _transfers(trace: Trace, pattern: re.Pattern[str]) -> Int64s:
    """The rows of the copies whose name matches the pattern at its start."""
    return trace.named(trace.where(Category.MEMCPY), pattern.match)


Made = Callable[[Facts, Int64s], Change | None]
"""The change to these copies, or None where its effect is not known."""


def _pinned(facts: Facts, rows: Int64s) -> Change | None:
    """These copies at the rate of pinned ones, with a host that neither stages them nor waits for them."""
    trace, played = facts.trace, facts.played
    rate = _bus_rate(facts)
    if rate is None:
        return None
    event = trace.gpu["event"]
    mine = np.isin(event, rows)
    time = trace.events["duration_ns"][event].astype(np.float64)
    moved = np.array([0 if size is None else size for size in trace.gpu["bytes"].tolist()], dtype=np.float64)
    saving = np.where(mine & (moved > 0), np.maximum(time - moved / rate, 0), 0.0)
    launched = (played.item >= 0) & mine[played.gpu]
    items = np.zeros(len(played.row), dtype=np.bool_)
    items[played.item[launched]] = True
    others = played.call_ns[~items & (played.waits_for < 0)]
    usual = float(np.median(others)) if len(others) else 0.0
    staged = np.where(items, np.maximum(played.call_ns - usual, 0), 0.0) / np.maximum(played.work_ns + played.call_ns, 1.0)
    awaited = np.zeros(len(played.gpu) + 1, dtype=np.bool_)
    awaited[:-1] = mine[played.gpu]
    waits = awaited[played.waits_for]
    return lambda program: program.faster(saving).without_waits(waits | items).without_call_share(staged)


def _bus_rate(facts: Facts) -> float | None:
    """How fast pinned memory is copied, in 1e9 bytes a second: as in this trace, else by the datasheet; None if unknown."""
    trace = facts.trace
    rows = _transfers(trace, PINNED)
    mine = np.isin(trace.gpu["event"], rows)
    moved = np.array([0 if size is None else size for size in trace.gpu["bytes"][mine].tolist()], dtype=np.float64)
    time = trace.events["duration_ns"][trace.gpu["event"][mine]]
    large = moved >= LARGE_COPY
    if large.any():
        return float((moved[large] / np.maximum(time[large], 1)).max())
    return facts.sheet.bus_gb_s * BUS_SHARE if facts.sheet and facts.sheet.bus_gb_s else None


def _beside(facts: Facts, rows: Int64s) -> Change:
    """These copies as if they ran beside kernels."""
    trace = facts.trace
    event = trace.gpu["event"]
    start, end = trace.start_ns[event], trace.end_ns[event]
    computing = merge(trace.start_ns[trace.kernels], trace.end_ns[trace.kernels])
    alone = np.where(np.isin(event, rows), end - start - computing.within(start, end), 0).astype(np.float64)
    return lambda program: program.faster(alone)


def _copies(
    facts: Facts, rows: Int64s, *, code: str, title: str, what: str, action: str, snippet: str, change: Made, reasoning: str
) -> Answer:
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
    made = change(facts, rows)
    saved = facts.saved(made) if made else None
    return Finding(
        code=code,
        title=title,
        severity=facts.severity(saved or exposed),
        affected_ns=time,
        **(saved.fields if saved else {"saving_ns": None}),
        evidence=f"{counted(len(rows), 'copy', 'copies')} {what} {form(len(rows), 'takes', 'take')} {duration(time)}, "
        f"{percent(facts.share(exposed))} of the span while no kernel runs; {size(moved)} at {rate(moved, time)}",
        action=action,
        snippet=snippet,
        reasoning=reasoning if made else "No estimate: the speed of this device's bus is not known.",
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
