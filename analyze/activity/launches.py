"""What did launching cost, and did every launch's kernel get recorded?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Bools, Int64s
from ..trace.calls import GRAPH_LAUNCH, KERNEL_LAUNCH
from ..trace.once import once
from ..trace.trace import NO_CORRELATION, Trace


@dataclass(frozen=True)
class Latency:
    """The time from the start of a launching call to the start of its kernel, in ns, including the time in the queue.

    The percentiles are None if no launch has a kernel.
    """

    p50: int | None
    p90: int | None
    p99: int | None
    max: int | None


@dataclass(frozen=True)
class Launches:
    """How many launches there were, how many of them have no kernel, and how many kernels have no launch."""

    kernel_launches: int
    graph_launches: int
    launches_without_kernel: int
    kernels_without_launch: int
    latency: Latency


def launches(trace: Trace) -> Launches:
    """Launch statistics. A kernel launch is a runtime or driver call whose name holds `LaunchKernel`."""
    calls = trace.calls
    launching = kernel_launches(trace)
    launched = trace.events["correlation"][launching]
    carried = trace.events["correlation"][trace.gpu["event"]]
    kernel_correlation = trace.events["correlation"][trace.kernels]
    known = trace.events["correlation"][calls]
    known = known[known != NO_CORRELATION]
    return Launches(
        kernel_launches=len(np.unique(launched)),
        graph_launches=len(graph_launch_calls(trace)),
        launches_without_kernel=len(np.setdiff1d(launched, carried)),
        kernels_without_launch=int((~np.isin(kernel_correlation, known)).sum()),
        latency=_percentiles(_latencies(trace)["latency_ns"]),
    )


def launch_latencies(trace: Trace) -> Table:
    """One row for each name of a launching call, the most frequent first.

    Columns: `name`, `count`, `p50_ns`, `p90_ns`, `p99_ns`, `max_ns`.
    """
    found = _latencies(trace)
    names = trace.names(found["call"])
    rows = []
    for name in sorted(set(names.tolist())):
        latency = found["latency_ns"][names == name]
        p = _percentiles(latency)
        rows.append((name, len(latency), p.p50, p.p90, p.p99, p.max))
    columns = ("name", "count", "p50_ns", "p90_ns", "p99_ns", "max_ns")
    kinds = (object, *[np.int64] * 5)
    table = Table({c: np.array([row[i] for row in rows], dtype=kinds[i]) for i, c in enumerate(columns)})
    return table.sorted_by("count", descending=True)


@once
def graph_kernels(trace: Trace) -> Bools:
    """For each row of `trace.gpu`, whether a graph launch replayed it."""
    call = trace.call_of_gpu
    return np.isin(call, graph_launch_calls(trace))


@once
def launching_calls(trace: Trace) -> Int64s:
    """Rows of `trace.events` that launch a kernel or a graph, in the file's order."""
    return np.union1d(kernel_launches(trace), graph_launch_calls(trace))


def _latencies(trace: Trace) -> Table:
    """For the first GPU event of each launch, its call (row of `trace.events`) and the time between their starts."""
    launched = trace.first_of_launch & (trace.call_of_gpu >= 0)
    call = trace.call_of_gpu[launched]
    is_launch = np.isin(call, launching_calls(trace))
    call, event = call[is_launch], trace.gpu["event"][launched][is_launch]
    latency = trace.start_ns[event] - trace.start_ns[call]
    possible = latency >= 0  # else the clocks of host and device differ by more
    return Table({"call": call[possible], "latency_ns": latency[possible]})


@once
def kernel_launches(trace: Trace) -> Int64s:
    """Rows of the calls that launch one kernel and have a correlation."""
    named = trace.named(trace.calls, KERNEL_LAUNCH.search)
    launching: Int64s = named[trace.events["correlation"][named] != NO_CORRELATION]
    return launching


@once
def graph_launch_calls(trace: Trace) -> Int64s:
    """Rows of the calls that launch a graph."""
    return trace.named(trace.calls, GRAPH_LAUNCH.match)


def _percentiles(values: Int64s) -> Latency:
    """Nearest-rank percentiles. Each one is a latency that really occurred."""
    if not len(values):
        return Latency(None, None, None, None)
    ordered = np.sort(values)
    p50, p90, p99 = (int(ordered[-(-len(ordered) * percent // 100) - 1]) for percent in (50, 90, 99))
    return Latency(p50, p90, p99, int(ordered[-1]))
