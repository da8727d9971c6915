"""What does one more launch cost, the host and the device?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Int64s
from ..trace.trace import Trace
from .idle import blocking_calls, gaps
from .launches import graph_kernels, launching_calls

LONGEST_PERCENT = 1
"""So many per cent of the times between launches, the longest, are left out of their mean: a first call sets things up."""


@dataclass(frozen=True)
class LaunchCosts:
    """Costs of a launch in ns, None where the trace has no example.

    `gap_ns` lies between the end of a kernel and the start of the next one where that was queued already (the median; later
    nodes of a graph are not counted, they lie closer). `launch_ns` passes on the host from one launching call to the next on
    its thread, time in blocking calls left out (the mean, without the longest per cent), with the profiler's own cost in it.
    """

    gap_ns: int | None
    launch_ns: int | None


def launch_costs(trace: Trace) -> LaunchCosts:
    """The costs that this trace shows."""
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
    """From each launching call's start to the next one's on its thread, without what the thread waited in between."""
    launching, blocking = launching_calls(trace), blocking_calls(trace)
    thread, start = trace.events["thread"][launching], trace.start_ns[launching]
    order = np.lexsort((start, thread))
    thread, start = thread[order], start[order]
    follows = np.flatnonzero(thread[1:] == thread[:-1]) + 1
    begins, ends = start[follows - 1], start[follows]
    return ends - begins - trace.covered(blocking, thread[follows], begins, ends)
