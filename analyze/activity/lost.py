"""Which launching calls have no GPU event, although they must have launched something?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Int64s
from ..trace.calls import BEGIN_CAPTURE, COPY, END_CAPTURE
from ..trace.intervals import Union, merge
from ..trace.once import once
from ..trace.trace import NO_CORRELATION, Trace
from .launches import graph_launch_calls, kernel_launches


@dataclass(frozen=True)
class Lost:
    """Calls (rows of `trace.events`) of which no GPU event was recorded.

    `kernels` launch a kernel, `graphs` a graph and `copies` a copy or a fill: what they launched is missing from every figure.
    `captured` are calls that were recorded into a graph and launched nothing. `unlinked` counts launches that have no GPU event
    where as many GPU events of their kind have no call: nothing is missing but the ids that tie them.
    """

    kernels: Int64s
    graphs: Int64s
    copies: Int64s
    captured: Int64s
    unlinked: int

    @property
    def calls(self) -> Int64s:
        """All calls whose work is missing."""
        return np.concatenate((self.kernels, self.graphs, self.copies))


@once
def lost(trace: Trace) -> Lost:
    """The launching calls of a trace that have no GPU event."""
    nothing = np.empty(0, dtype=np.int64)
    kernels, graphs, copies = (
        _without_event(trace, calls)
        for calls in (kernel_launches(trace), graph_launch_calls(trace), trace.named(trace.calls, COPY.match))
    )
    capturing = _capturing(trace)
    captured = np.concatenate([rows[_begins_within(trace, rows, capturing)] for rows in (kernels, copies)])
    kernels, copies = np.setdiff1d(kernels, captured), np.setdiff1d(copies, captured)
    unlinked = 0
    if _belong_together(trace, kernels, trace.is_kernel):
        unlinked, kernels = unlinked + len(kernels), nothing
    if _belong_together(trace, copies, ~trace.is_kernel):
        unlinked, copies = unlinked + len(copies), nothing
    return Lost(kernels, graphs, copies, captured, unlinked)


def _belong_together(trace: Trace, calls: Int64s, kind: Bools) -> bool:
    """Whether these calls launched the GPU events of a kind that have no call: as many, and each after its call in order."""
    orphans = trace.gpu["event"][(trace.call_of_gpu < 0) & trace.first_of_launch & kind]
    if not len(calls) or len(calls) != len(orphans):
        return False
    return bool((np.sort(trace.start_ns[calls]) <= np.sort(trace.start_ns[orphans])).all())


def _without_event(trace: Trace, calls: Int64s) -> Int64s:
    """Those of these calls that have a correlation which no GPU event carries; one call for each correlation.

    An event that was left out is not lost: another warning tells it.
    """
    correlation = trace.events["correlation"][calls]
    carried = np.concatenate((trace.events["correlation"][trace.gpu["event"]], trace.left_out))
    alone = np.flatnonzero((correlation != NO_CORRELATION) & ~np.isin(correlation, carried))
    first = np.unique(correlation[alone], return_index=True)[1]
    return calls[alone[np.sort(first)]]


def _capturing(trace: Trace) -> Union:
    """When some thread was capturing a graph. A capture without an end lasts to the end of the trace."""
    begins, ends = trace.named(trace.calls, BEGIN_CAPTURE.match), trace.named(trace.calls, END_CAPTURE.match)
    last = int(trace.end_ns.max()) + 1
    until = []
    for begin in begins.tolist():
        mine = ends[trace.events["thread"][ends] == trace.events["thread"][begin]]
        later = trace.end_ns[mine][trace.start_ns[mine] >= trace.start_ns[begin]]
        until.append(int(later.min(initial=last)))
    return merge(trace.start_ns[begins], np.array(until, dtype=np.int64))


def _begins_within(trace: Trace, rows: Int64s, union: Union) -> Bools:
    """Which of these rows begin inside the union, on whichever thread: a backward pass is captured on its own."""
    start = trace.start_ns[rows]
    return union.within(start, start + 1) > 0


def lost_within(trace: Trace, start: Int64s, end: Int64s) -> Bools:
    """For each span [start, end), whether a call begins in it whose work is missing."""
    begins = np.sort(trace.start_ns[lost(trace).calls])
    return np.searchsorted(begins, end) > np.searchsorted(begins, start)


def copy_calls(trace: Trace) -> int:
    """How many calls launch a copy or a fill."""
    return len(trace.named(trace.calls, COPY.match))
