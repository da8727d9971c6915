"""What does one more launch cost on the host, and what on the device?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Int64s
from ..trace.trace import Trace
from .idle import blocking_calls, gaps
from .launches import graph_kernels, launching_calls

LONGEST_PERCENT = 1
"""The per cent of the times between launches that the mean leaves out: the longest, as a first call also sets things up."""


@dataclass(frozen=True)
class LaunchCosts:
    """Costs of a launch in ns. A cost is None where the trace has no example of it.

    `gap_ns` is the median time from the end of a GPU event to the start of the next one, if that one was already queued. The
    nodes of a graph are not counted, because they follow each other faster.

    `launch_ns` is the mean time on the host from one launching call to the next on its thread. It leaves out time in blocking
    calls and the longest per cent of these times. It includes the profiler's own cost.
    """

    gap_ns: int | None
    launch_ns: int | None


def launch_costs(trace: Trace) -> LaunchCosts:
    """The launch costs that this trace shows."""
    between = _between_launches(trace)
    usual = between[between <= np.percentile(between, 100 - LONGEST_PERCENT)] if len(between) else between
    queued = _queued_gaps(trace)
    return LaunchCosts(
        gap_ns=int(np.median(queued)) if len(queued) else None,
        launch_ns=round(float(usual.mean())) if len(usual) else None,
    )


def _queued_gaps(trace: Trace) -> Int64s:
    found = gaps(trace)
    queued: Int64s = found["device_wait_ns"][(found["device_wait_ns"] > 0) & ~graph_kernels(trace)[found["after"]]]
    return queued


def _between_launches(trace: Trace) -> Int64s:
    """The times from the start of each launching call to the start of the next on its thread, without blocking calls."""
    launching, blocking = launching_calls(trace), blocking_calls(trace)
    thread, start = trace.events["thread"][launching], trace.start_ns[launching]
    order = np.lexsort((start, thread))
    thread, start = thread[order], start[order]
    follows = np.flatnonzero(thread[1:] == thread[:-1]) + 1
    begins, ends = start[follows - 1], start[follows]
    return ends - begins - trace.covered(blocking, thread[follows], begins, ends)
