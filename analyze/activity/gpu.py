"""How busy was the GPU?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.arrays import objects
from ..trace.intervals import merge
from ..trace.once import once
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
    """The summary of all GPU events, or None if there are none.

    If a process drives several devices, span, busy and idle are sums over them, each over the process's common window.
    """
    if not len(trace.gpu):
        return None
    found = devices(trace)
    kernels = trace.kernels
    return GpuSummary(
        span_ns=int(found["span_ns"].sum()),
        busy_ns=int(found["busy_ns"].sum()),
        idle_ns=int(found["idle_ns"].sum()),
        kernel_time_ns=int(trace.events["duration_ns"][kernels].sum()),
        kernels=len(kernels),
        unique_kernels=len(np.unique(trace.events["name"][kernels])),
        memcpys=len(trace.where(Category.MEMCPY)),
        memsets=len(trace.where(Category.MEMSET)),
    )


@once
def devices(trace: Trace) -> Table:
    """One row for each device, by its number; they add up to `gpu`.

    Columns: `device`, `name` (None where not recorded), `span_ns` (from the process's first GPU event to its last one's end),
    `busy_ns`, `idle_ns`, `kernel_time_ns` and `kernels`.
    """
    start, end = trace.window
    busy, time, kernels = [], [], []
    for rows in trace.by_device.values():
        event = trace.gpu["event"][rows]
        busy.append(merge(trace.start_ns[event], trace.end_ns[event]).total)
        mine = event[trace.is_kernel[rows]]
        time.append(int(trace.events["duration_ns"][mine].sum()))
        kernels.append(len(mine))
    numbers = list(trace.by_device)
    known = trace.device_names
    names = [known.get(number, trace.device.name if trace.device and len(numbers) == 1 else None) for number in numbers]
    span = np.full(len(numbers), end - start, dtype=np.int64)
    return Table(
        {
            "device": np.array(numbers, dtype=np.int64),
            "name": objects(names),
            "span_ns": span,
            "busy_ns": np.array(busy, dtype=np.int64),
            "idle_ns": span - np.array(busy, dtype=np.int64),
            "kernel_time_ns": np.array(time, dtype=np.int64),
            "kernels": np.array(kernels, dtype=np.int64),
        }
    )


def streams(trace: Trace) -> Table:
    """One row for each stream: `device`, `stream`, `events`, `kernels`, `busy_ns` and `share` (of the GPU's span)."""
    rows = trace.gpu["event"]
    span = trace.window[1] - trace.window[0]
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
