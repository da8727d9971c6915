"""What does a CUDA graph launch run, and how long is the GPU idle inside it?

One call launches a whole graph, and everything that it replays has that call's correlation. The host takes no part in the gaps
between the nodes of a graph; they are the device's own. Recent profilers number the graphs (`graph id`). In other traces,
launches that replay the same kernels and copies, each equally often, count as launches of one graph.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tracekit.table import Table

from ..activity.launches import graph_kernels
from ..trace.arrays import Int64s, Objects, objects
from ..trace.group import group
from ..trace.once import once
from ..trace.trace import Trace


def graph_launches(trace: Trace) -> Table:
    """One row for each graph launch with recorded GPU events, in the order of the calls; times in ns.

    Columns: `graph` (a number, in the order of first launches), `start_ns` (of its first GPU event), `span_ns` (from there to
    the end of its last GPU event), `busy_ns` (the union of its kernels and copies), `gap_ns` (the rest of the span), `gaps`
    (how many gaps there are), `kernels`, `copies` (and fills), `kernel_time_ns`, `latency_ns` (from the start of the call to
    the start of the first GPU event), `call_ns` (the duration of the call), `first` (the name of its first GPU event) and
    `graph_id` (the profiler's number of the graph, or None).
    """
    mine, first = replayed(trace)
    event, call = trace.gpu["event"][mine], trace.call_of_gpu[mine][first]
    graph_id = _graph_ids(trace, mine, first)
    start, end = trace.start_ns[event], trace.end_ns[event]
    gap, gaps = _gaps(start, end, first)
    is_kernel = trace.is_kernel[mine].astype(np.int64)
    span = _each(np.maximum, end, first) - start[first]
    kernels = _each(np.add, is_kernel, first)
    return Table(
        {
            "graph": _identities(trace.events["name"][event].astype(np.int64), first, graph_id),
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
            "graph_id": graph_id,
        }
    )


def part_of(trace: Trace, launch: int, other: int) -> bool:
    """Whether one graph launch (row of `graph_launches`) ran a part of what another one ran, by names, and less."""
    mine, first = replayed(trace)
    runs = np.split(trace.events["name"][trace.gpu["event"][mine]], first[1:])
    one, whole = Counter(runs[launch].tolist()), Counter(runs[other].tolist())
    return one < whole


@once
def replayed(trace: Trace) -> tuple[Int64s, Int64s]:
    """Rows of `trace.gpu` that graph launches replayed, launch by launch and by start, and where each launch begins in them."""
    mine = np.flatnonzero(graph_kernels(trace))
    start = trace.start_ns[trace.gpu["event"][mine]]
    mine = mine[np.lexsort((trace.gpu["stream"][mine], start, _order_of_calls(trace, trace.call_of_gpu[mine])))].astype(
        np.int64
    )
    launch = trace.call_of_gpu[mine]
    first = np.flatnonzero(np.r_[True, launch[1:] != launch[:-1]]) if len(mine) else np.empty(0, np.int64)
    return mine, first.astype(np.int64)


def _graph_ids(trace: Trace, mine: Int64s, first: Int64s) -> Objects:
    """The number that the profiler gave the graph of each launch; None where it gave none. A copy has none of its own."""
    of_node = [number or None for number in trace.gpu["graph_id"][mine].tolist()]
    runs = np.split(objects(of_node), first[1:]) if len(first) else []
    return objects([next((number for number in run.tolist() if number is not None), None) for run in runs])


def graphs(launches: Table, kernel_time_ns: int) -> Table:
    """One row for each graph, the most kernel time first; `launches` is what `graph_launches` returns.

    Columns: `graph`, `launches` (how many), `kernels` and `copies` (of one launch), `span_ns`, `busy_ns`, `gap_ns`,
    `latency_ns` and `call_ns` (lower medians over its launches), `kernel_time_ns` (of all its launches), `share` (of all kernel
    time), `first` (the name of its first GPU event) and `graph_id` (the profiler's number, or None). Launches of one numbered
    graph may differ, if events were lost: `kernels` and `copies` are then those of the fullest launch.
    """
    by_graph = group(launches["graph"])
    nodes = launches["kernels"] + launches["copies"]
    some = [rows[-1] for rows in by_graph.order_by(nodes)] if len(launches) else np.empty(0, np.int64)
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
            "graph_id": launches["graph_id"][some],
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


def _identities(names: Int64s, first: Int64s, graph_id: Objects) -> Int64s:
    """A number for each run of names, in the order of appearance.

    Two runs get the same number if the profiler numbered their graph alike. Where it gave no number, they do if they hold the
    same names, each equally often.
    """
    known: dict[bytes | int, int] = {}
    runs: list[Int64s] = np.split(names, first[1:]) if len(first) else []
    keys = [np.sort(run).tobytes() if number is None else number for run, number in zip(runs, graph_id.tolist(), strict=True)]
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
