"""What does a CUDA graph launch run, and how long is the GPU idle inside it?

One call launches a whole graph, and everything that it replays has that call's correlation. The host takes no part in the gaps
between the nodes of a graph; they are the device's own. The trace does not say which graph was launched. So launches that
replay the same kernels and copies, each equally often, count as launches of one graph.
"""

from __future__ import annotations

import numpy as np

from tracekit.table import Table

from ..activity.launches import graph_kernels
from ..trace.arrays import Int64s
from ..trace.group import group
from ..trace.trace import Trace


def graph_launches(trace: Trace) -> Table:
    """One row for each graph launch with recorded GPU events, in the order of the calls; times in ns.

    Columns: `graph` (a number, in the order of first launches), `start_ns` (of its first GPU event), `span_ns` (from there to
    the end of its last GPU event), `busy_ns` (the union of its kernels and copies), `gap_ns` (the rest of the span), `gaps`
    (how many gaps there are), `kernels`, `copies` (and fills), `kernel_time_ns`, `latency_ns` (from the start of the call to
    the start of the first GPU event), `call_ns` (the duration of the call) and `first` (the name of its first GPU event).
    """
    mine = np.flatnonzero(graph_kernels(trace))
    start = trace.start_ns[trace.gpu["event"][mine]]
    mine = mine[np.lexsort((trace.gpu["stream"][mine], start, _order_of_calls(trace, trace.call_of_gpu[mine])))]
    launch = trace.call_of_gpu[mine]
    first = np.flatnonzero(np.r_[True, launch[1:] != launch[:-1]]) if len(mine) else np.empty(0, np.int64)
    event, call = trace.gpu["event"][mine], launch[first]
    start, end = trace.start_ns[event], trace.end_ns[event]
    gap, gaps = _gaps(start, end, first)
    is_kernel = trace.is_kernel[mine].astype(np.int64)
    span = _each(np.maximum, end, first) - start[first]
    kernels = _each(np.add, is_kernel, first)
    return Table(
        {
            "graph": _identities(trace.events["name"][event].astype(np.int64), first),
            "start_ns": start[first],
            "span_ns": span,
            "busy_ns": span - gap,
            "gap_ns": gap,
            "gaps": gaps,
            "kernels": kernels,
            "copies": np.diff(np.append(first, len(mine))) - kernels,
            "kernel_time_ns": _each(np.add, is_kernel * (end - start), first),
            "latency_ns": start[first] - trace.start_ns[call],
            "call_ns": trace.events["duration_ns"][call],
            "first": trace.names(event[first]),
        }
    )


def graphs(launches: Table, kernel_time_ns: int) -> Table:
    """One row for each graph, the most kernel time first; `launches` is what `graph_launches` returns.

    Columns: `graph`, `launches` (how many), `kernels` and `copies` (of one launch), `span_ns`, `busy_ns`, `gap_ns`,
    `latency_ns` and `call_ns` (lower medians over its launches), `kernel_time_ns` (of all its launches), `share` (of all kernel
    time) and `first` (the name of its first GPU event).
    """
    by_graph = group(launches["graph"])
    some = [rows[0] for rows in by_graph.order_by(launches["start_ns"])] if len(launches) else np.empty(0, np.int64)
    time = by_graph.sum(launches["kernel_time_ns"])

    def median(column: str) -> Int64s:
        values = launches[column]
        return np.array([values[rows[(len(rows) - 1) // 2]] for rows in by_graph.order_by(values) if len(rows)], np.int64)

    return Table(
        {
            "graph": by_graph.keys,
            "launches": by_graph.count,
            **{column: launches[column][some] for column in ("kernels", "copies")},
            **{column: median(column) for column in ("span_ns", "busy_ns", "gap_ns", "latency_ns", "call_ns")},
            "kernel_time_ns": time,
            "share": time / max(kernel_time_ns, 1),
            "first": launches["first"][some],
        }
    ).sorted_by("kernel_time_ns", descending=True)


def _order_of_calls(trace: Trace, calls: Int64s) -> Int64s:
    """The place of each call in the order of their starts. Two calls that start together get different places."""
    distinct, code = np.unique(calls, return_inverse=True)
    place = np.empty(len(distinct), dtype=np.int64)
    place[np.argsort(trace.start_ns[distinct], kind="stable")] = np.arange(len(distinct))
    return place[code.reshape(-1)]


def _each(function: np.ufunc, values: Int64s, first: Int64s) -> Int64s:
    """The ufunc, applied to each run of values. A run begins at each place of `first`."""
    reduced: Int64s = function.reduceat(values, first) if len(first) else np.empty(0, np.int64)
    return reduced


def _gaps(start: Int64s, end: Int64s, first: Int64s) -> tuple[Int64s, Int64s]:
    """For each run of events, the time that no event covers, and in how many gaps it lies. Each run is sorted by start."""
    # The ends are replaced by their ranks, and each run's ranks lie above those of the run before. So one running maximum
    # serves all runs.
    ends, rank = np.unique(end, return_inverse=True)
    run = np.zeros(len(start), dtype=np.int64)
    run[first[1:]] = 1
    key = np.cumsum(run) * len(ends) + rank.reshape(-1)
    latest = ends[np.maximum.accumulate(key) % max(len(ends), 1)] if len(ends) else ends
    gap = np.zeros(len(start), dtype=np.int64)
    gap[1:] = np.maximum(start[1:] - latest[:-1], 0)
    gap[first] = 0
    return _each(np.add, gap, first), _each(np.add, (gap > 0).astype(np.int64), first)


def _identities(names: Int64s, first: Int64s) -> Int64s:
    """A number for each run of names, in the order of appearance.

    Two runs get the same number if they hold the same names, each equally often.
    """
    known: dict[bytes, int] = {}
    runs: list[Int64s] = np.split(names, first[1:]) if len(first) else []
    return np.array([known.setdefault(np.sort(run).tobytes(), len(known)) for run in runs], dtype=np.int64)
