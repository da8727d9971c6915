"""Which host operators and runtime calls take the host's time, and which take the GPU's?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Bools, Int64s
from ..trace.group import group
from ..trace.trace import CALLS, Category, Trace

HOST = (Category.OPERATOR, Category.ANNOTATION, Category.PYTHON, *CALLS)


@dataclass(frozen=True)
class HostSummary:
    """The host's side of the trace, times in ns. The span runs from the start of the first event to the end of the last."""

    span_ns: int
    threads: int
    operator_self_ns: int
    operators: int
    calls: int


def host(trace: Trace) -> HostSummary | None:
    """The summary of all host events, or None if there are none."""
    rows = trace.where(*HOST)
    if not len(rows):
        return None
    return HostSummary(
        span_ns=int(trace.end_ns[rows].max() - trace.start_ns[rows].min()),
        threads=len(np.unique(trace.events["thread"][rows])),
        operator_self_ns=int(self_times(trace).sum()),
        operators=len(trace.operators),
        calls=len(trace.calls),
    )


def operators(trace: Trace) -> Table:
    """One row for each operator name, the most self time first.

    Columns: `name`, `count`, `host_total_ns` (an operator inside another of the same name is not counted twice),
    `host_self_ns` (without the operators inside it), `kernel_time_ns` and `kernels` (launched by its own calls).
    """
    rows = trace.operators
    by_name = group(trace.events["name"][rows])
    launched = _launched_time(trace)
    return Table(
        {
            "name": trace.strings[by_name.keys],
            "count": by_name.count,
            "host_total_ns": by_name.sum(np.where(_is_outermost_of_its_name(trace), trace.events["duration_ns"][rows], 0)),
            "host_self_ns": by_name.sum(self_times(trace)),
            "kernel_time_ns": by_name.sum(launched["time_ns"]),
            "kernels": by_name.sum(launched["kernels"]),
        }
    ).sorted_by("host_self_ns", "host_total_ns", descending=True)


def calls(trace: Trace) -> Table:
    """One row for each name of a runtime or driver call, the most time first: `name`, `count`, `time_ns`, `max_ns`."""
    rows = trace.calls
    by_name = group(trace.events["name"][rows])
    duration = trace.events["duration_ns"][rows]
    longest = np.zeros(len(by_name.keys), dtype=np.int64)
    np.maximum.at(longest, by_name.code, duration)
    return Table(
        {
            "name": trace.strings[by_name.keys],
            "count": by_name.count,
            "time_ns": by_name.sum(duration),
            "max_ns": longest,
        }
    ).sorted_by("time_ns", descending=True)


def _places(rows: Int64s, size: int) -> Int64s:
    """For each row of `events`, its place in `rows`, or -1. One more entry at the end lets row -1 find -1."""
    place = np.full(size + 1, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return place


def self_times(trace: Trace) -> Int64s:
    """For each operator, its duration without its direct children."""
    rows, parent = trace.operators, trace.operator_forest.parent
    self_ns = trace.events["duration_ns"][rows].copy()
    inside = np.flatnonzero(parent >= 0)
    # If intervals cross instead of nesting, the parent loses only the part that they share.
    shared = np.minimum(trace.end_ns[rows[inside]], trace.end_ns[parent[inside]]) - trace.start_ns[rows[inside]]
    np.subtract.at(self_ns, _places(rows, len(trace))[parent[inside]], shared)
    positive: Int64s = np.maximum(self_ns, 0)
    return positive


def _is_outermost_of_its_name(trace: Trace) -> Bools:
    """For each operator, whether no operator around it has the same name."""
    rows = trace.operators
    parent = _places(rows, len(trace))[trace.operator_forest.parent]
    name = trace.events["name"][rows]
    outermost = np.ones(len(rows), dtype=np.bool_)
    ancestor = parent.copy()
    while (ancestor >= 0).any():
        inside = ancestor >= 0
        outermost[inside] &= name[ancestor[inside]] != name[inside]
        ancestor[inside] = parent[ancestor[inside]]
    return outermost


def _launched_time(trace: Trace) -> Table:
    """For each operator, the time and the number of the kernels that its own calls launched."""
    rows = trace.operators
    mine = (trace.operator_of_gpu >= 0) & trace.is_kernel
    place = _places(rows, len(trace))[trace.operator_of_gpu[mine]]
    time, kernels = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    np.add.at(time, place, trace.events["duration_ns"][trace.gpu["event"][mine]])
    np.add.at(kernels, place, 1)
    return Table({"time_ns": time, "kernels": kernels})
