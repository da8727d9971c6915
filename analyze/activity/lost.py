"""Which launching calls have no GPU event, although they must have launched something?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Int64s
from ..trace.calls import BEGIN_CAPTURE, COPY, END_CAPTURE
from ..trace.once import once
from ..trace.trace import NO_CORRELATION, Trace
from .launches import graph_launch_calls, kernel_launches

REAL_NS = 1_000
"""No call that gives the device something to do takes less. Where the trace says otherwise, its times say nothing."""
QUICK = 4
"""A copy that returns this many times sooner than any call that launched something has copied nothing: its size is 0."""


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
    launches = np.concatenate((kernel_launches(trace), graph_launch_calls(trace)))
    kernels, graphs, copies = (
        _without_event(trace, calls)
        for calls in (kernel_launches(trace), graph_launch_calls(trace), trace.named(trace.calls, COPY.match))
    )
    kernels, copies = _of_their_own(trace, kernels, launches), _of_some_size(trace, copies)
    captured = np.concatenate([rows[_is_captured(trace, rows)] for rows in (kernels, copies)])
    kernels, copies = np.setdiff1d(kernels, captured), np.setdiff1d(copies, captured)
    unlinked = 0
    if _belong_together(trace, np.concatenate((kernels, graphs)), trace.is_kernel, several=len(graphs) > 0):
        unlinked, kernels, graphs = unlinked + len(kernels) + len(graphs), nothing, nothing
    if _belong_together(trace, copies, ~trace.is_kernel):
        unlinked, copies = unlinked + len(copies), nothing
    return Lost(kernels, graphs, copies, captured, unlinked)


def _belong_together(trace: Trace, calls: Int64s, kind: Bools, several: bool = False) -> bool:
    """Whether these calls launched the GPU events of a kind that have no call: as many, and each after its call in order.

    If some of the calls launch `several` events, there are more events than calls.
    """
    orphans = np.sort(trace.start_ns[trace.gpu["event"][(trace.call_of_gpu < 0) & trace.first_of_launch & kind]])
    if not len(calls) or len(calls) > len(orphans) or (len(calls) < len(orphans) and not several):
        return False
    later = len(orphans) - np.searchsorted(orphans, np.sort(trace.start_ns[calls]), side="left")
    return bool((later >= np.arange(len(calls), 0, -1)).all())  # each call has an event of its own after it


def _of_their_own(trace: Trace, calls: Int64s, launches: Int64s) -> Int64s:
    """Those of these calls that are no part of another launch: a runtime call and the driver call inside it are one.

    The outer one stands for both, unless an event carries the id of the inner one.
    """
    if not len(calls):
        return calls
    forest = trace.nested(launches)
    correlation = trace.events["correlation"]
    is_inner = (forest.parent >= 0) & (correlation[forest.rows] != correlation[forest.parent])
    carried = np.isin(trace.events["correlation"][forest.rows], trace.events["correlation"][trace.gpu["event"]])
    return calls[~np.isin(calls, np.concatenate((forest.rows[is_inner], forest.parent[is_inner & carried])))]


def _of_some_size(trace: Trace, copies: Int64s) -> Int64s:
    """Those of these copies and fills that took as long as a call takes that gives the device something to do."""
    launching = trace.call_of_gpu[trace.call_of_gpu >= 0]
    least = int(trace.events["duration_ns"][launching].min()) if len(launching) else 0
    return copies if least < REAL_NS else copies[QUICK * trace.events["duration_ns"][copies] >= least]


def _without_event(trace: Trace, calls: Int64s) -> Int64s:
    """Those of these calls that have a correlation which no GPU event carries; one call for each correlation.

    An event that was left out is not lost: another warning tells it.
    """
    correlation = trace.events["correlation"][calls]
    carried = np.concatenate((trace.events["correlation"][trace.gpu["event"]], trace.left_out))
    alone = np.flatnonzero((correlation != NO_CORRELATION) & ~np.isin(correlation, carried))
    first = np.unique(correlation[alone], return_index=True)[1]
    return calls[alone[np.sort(first)]]


def _captures(trace: Trace) -> list[tuple[int, int]]:
    """When some thread was capturing a graph: from when until when.

    A capture ends with the end that belongs to its begin, as brackets do, on its own thread, or else on another one. One
    without an end lasts to the end of the trace, and one without a begin from its beginning.
    """
    begins, ends = trace.named(trace.calls, BEGIN_CAPTURE.match), trace.named(trace.calls, END_CAPTURE.match)
    rows = np.concatenate((begins, ends))
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    is_begin, spans = set(begins.tolist()), []
    opened: dict[int, list[int]] = {}
    lone: list[int] = []
    for row in rows.tolist():
        mine = opened.setdefault(int(trace.events["thread"][row]), [])
        if row in is_begin:
            mine.append(row)
        elif mine:
            spans.append((int(trace.start_ns[mine.pop()]), int(trace.end_ns[row])))
        else:
            lone.append(row)
    left = sorted((begin for mine in opened.values() for begin in mine), key=lambda row: int(trace.start_ns[row]))
    for end in lone:  # of a capture that another thread began, or that began before the trace
        begun = [row for row in left if trace.start_ns[row] <= trace.start_ns[end]]
        if begun:
            left.remove(begun[-1])
        elif len(begins) and trace.start_ns[begins].min() < trace.start_ns[end]:
            continue
        spans.append((int(trace.start_ns[begun[-1]]) if begun else 0, int(trace.end_ns[end])))
    last = int(trace.end_ns.max()) + 1
    return [*spans, *((int(trace.start_ns[begin]), last) for begin in left)]


def _is_captured(trace: Trace, calls: Int64s) -> Bools:
    """Which of these calls were captured, on whichever thread: a backward pass is captured on its own.

    If another thread's calls have GPU events while one captures, that thread was launching beside the capture.
    """
    captured = np.zeros(len(calls), dtype=np.bool_)
    ran = trace.call_of_gpu[trace.call_of_gpu >= 0]
    for begin, end in _captures(trace):
        beside = trace.events["thread"][ran[(trace.start_ns[ran] >= begin) & (trace.start_ns[ran] < end)]]
        inside = (trace.start_ns[calls] >= begin) & (trace.start_ns[calls] < end)
        captured |= inside & ~np.isin(trace.events["thread"][calls], beside)
    return captured


def lost_within(trace: Trace, start: Int64s, end: Int64s) -> Bools:
    """For each span [start, end), whether a call begins in it whose work is missing."""
    begins = np.sort(trace.start_ns[lost(trace).calls])
    return np.searchsorted(begins, end) > np.searchsorted(begins, start)


def copy_calls(trace: Trace) -> int:
    """How many calls launch a copy or a fill."""
    return len(trace.named(trace.calls, COPY.match))
