"""How busy was the GPU?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.intervals import merge
from ..trace.trace import Category, Trace


@dataclass(frozen=True)
class GpuSummary:
    """The GPU's time in ns.

    The span runs from the start of the first GPU event to the end of the last. The busy time is the union of the events of all
    streams; the idle time is the rest of the span.
    """

    span_ns: int
    busy_ns: int
    idle_ns: int
    kernel_time_ns: int
    kernels: int
    unique_kernels: int
    memcpys: int
    memsets: int


def gpu(trace: Trace) -> GpuSummary | None:
    """The summary of all GPU events, or None if there are none."""
    rows = trace.gpu["event"]
    if not len(rows):
        return None
    start, end = trace.start_ns[rows], trace.end_ns[rows]
    span, busy = int(end.max() - start.min()), merge(start, end).total
    kernels = trace.kernels
    return GpuSummary(
        span_ns=span,
        busy_ns=busy,
        idle_ns=span - busy,
        kernel_time_ns=int(trace.events["duration_ns"][kernels].sum()),
        kernels=len(kernels),
        unique_kernels=len(np.unique(trace.events["name"][kernels])),
        memcpys=len(trace.where(Category.MEMCPY)),
        memsets=len(trace.where(Category.MEMSET)),
    )


def streams(trace: Trace) -> Table:
    """One row for each stream: `device`, `stream`, `events`, `kernels`, `busy_ns` and `share` (of the GPU's span)."""
    rows = trace.gpu["event"]
    summary = gpu(trace)
    span = summary.span_ns if summary else 0
    lanes = np.stack((trace.gpu["device"], trace.gpu["stream"]), axis=1)
    distinct, lane = np.unique(lanes, axis=0, return_inverse=True)
    lane = lane.reshape(-1)
    is_kernel = trace.is_kernel
    by_lane = np.split(np.argsort(lane, kind="stable"), np.cumsum(np.bincount(lane, minlength=len(distinct)))[:-1])
    busy = [merge(trace.start_ns[rows[part]], trace.end_ns[rows[part]]).total for part in by_lane if len(part)]
    busy_ns = np.array(busy, dtype=np.int64)
    return Table(
        {
            "device": distinct[:, 0],
            "stream": distinct[:, 1],
            "events": np.bincount(lane, minlength=len(distinct)).astype(np.int64),
            "kernels": np.bincount(lane[is_kernel], minlength=len(distinct)).astype(np.int64),
            "busy_ns": busy_ns,
            "share": busy_ns / max(span, 1),
        }
    ).sorted_by("busy_ns", descending=True)


def copies(trace: Trace) -> Table:
    """One row for each name of a copy or fill, the most time first: `name`, `count`, `time_ns`, `bytes`.

    `bytes` is the sum of the recorded sizes, or None if no size was recorded.
    """
    mine = ~trace.is_kernel
    rows, sizes = trace.gpu["event"][mine], trace.gpu["bytes"][mine]
    distinct, code = np.unique(trace.events["name"][rows], return_inverse=True)
    time = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(time, code, trace.events["duration_ns"][rows])
    total: list[int | None] = [None] * len(distinct)
    for one, size in zip(code.tolist(), sizes.tolist(), strict=True):
        if size is not None:
            total[one] = (total[one] or 0) + size
    return Table(
        {
            "name": trace.strings[distinct],
            "count": np.bincount(code, minlength=len(distinct)).astype(np.int64),
            "time_ns": time,
            "bytes": np.array(total, dtype=object),
        }
    ).sorted_by("time_ns", descending=True)
