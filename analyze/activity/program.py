"""What do host and device do in a trace, as a program that can be played again?

Events of several streams are played in the order of their starts and overlap as they did. Several launching threads are played
as one host, in the order of their launches: mostly one of them waits for the other. Played as it is, a program takes as long as
it took.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..trace.arrays import Bools, Floats, Int64s
from ..trace.intervals import merge
from ..trace.once import once
from ..trace.trace import CALLS, Category, Trace
from .idle import blocking_calls, gaps
from .idle_activity import idle_pieces
from .whatif import Program

DISPATCH_NS = 1_000
"""What the device takes from one event to the next that was launched in time, where the trace has no such pair."""
CALL_COST = 0.2
"""What the profiler's record of a call, or of a graph's node at its launch, costs, if that of an operator costs 1.

Estimated from the pairs of programs.
"""
FREES = re.compile(r"(?:cuda|hip|musa)Free(?!Host|Async|Array)|(?:cu|hip)Mem(?:Unmap|Release|Free)(?!Host|Async)")
"""Calls that give device memory back. Those of the allocator wait until the device has done all that was launched."""
FULL_QUEUE = 400
"""A launch may find the device's queue full from so many events on that were launched and are not done. CUDA's holds 1,024."""
LONG_CALLS, LONG_CALL_NS = 10, 50_000
"""A launch waits for the queue if its call takes so many times as long as the median, and at least so many ns."""
RECORDED = (*CALLS, Category.OPERATOR, Category.ANNOTATION, Category.PYTHON)
"""The events that the profiler records on the host, each at a cost."""


@once
def program(trace: Trace) -> Program:
    """The program of a trace, as recorded: played as it is, it takes as long as it took."""
    order = trace.gpu_order
    event, call = trace.gpu["event"][order], trace.call_of_gpu[order]
    waits = np.union1d(waiting_calls(trace), trace.named(trace.calls, FREES.match))
    begins = np.where(trace.first_of_launch[order], call, -1)
    # What a thread waits for that launches nothing keeps no launch back.
    threads = np.unique(trace.events["thread"][begins[begins >= 0]])
    waits = waits[np.isin(trace.events["thread"][waits], threads)] if len(threads) else waits
    rows = np.union1d(begins[begins >= 0], waits)
    rows = rows[np.lexsort((rows, trace.start_ns[rows]))]
    start, end = trace.start_ns[rows], trace.end_ns[rows]
    before = np.concatenate((start[:1], np.maximum.accumulate(end)[:-1]))
    place = np.full(len(trace), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    item = np.where(begins >= 0, place[begins], -1)
    g_start, g_end = trace.start_ns[event], trace.end_ns[event]
    waiting = np.isin(rows, waits) | _finds_the_queue_full(start, end, g_end, item)
    waits_for, call_ns = _awaited(waiting, start, end, g_end, item)
    # Calls of several threads overlap: what the host plays one after the other takes what it adds to those before.
    call_ns = np.maximum(call_ns - np.maximum(before - start, 0), 0)
    offset, own, latency, free = _device(trace, order, item, np.maximum(start, before), np.maximum(end, before))
    return Program(
        row=rows,
        work_ns=np.maximum(start - before, 0).astype(np.float64),
        call_ns=call_ns.astype(np.float64),
        events=_recorded(trace, end) + CALL_COST * _nodes(item, len(rows)),
        waits_for=waits_for,
        gpu=order,
        item=item,
        latency_ns=np.where(item >= 0, latency, -np.inf),
        recorded_ns=(g_end - g_start).astype(np.float64),
        duration_ns=(g_end - g_start).astype(np.float64),
        offset_ns=offset.astype(np.float64),
        own_ns=own.astype(np.float64),
        free_ns=free.astype(np.float64),
    )


@once
def waiting_calls(trace: Trace) -> Int64s:
    """The rows of the calls in which the host waits for the device: blocking ones, and copies that return when done."""
    event, call = trace.gpu["event"], trace.call_of_gpu
    is_copy = (trace.events["category"][event] == Category.MEMCPY) & (call >= 0)
    done = is_copy & (trace.end_ns[event] <= trace.end_ns[call])
    return np.union1d(blocking_calls(trace), call[done])


def _finds_the_queue_full(start: Int64s, end: Int64s, g_end: Int64s, item: Int64s) -> Bools:
    """Which items are launches that take so long because the device's queue is full: it must first do some of its work."""
    if not len(start) or not len(item):
        return np.zeros(len(start), dtype=np.bool_)
    launched = np.searchsorted(np.maximum.accumulate(item), np.arange(len(start)), side="left")
    pending = launched - np.searchsorted(np.sort(g_end), start, side="right")
    long = max(LONG_CALLS * float(np.median(end - start)), LONG_CALL_NS)
    full: Bools = (pending >= FULL_QUEUE) & (end - start > long)
    return full


def _awaited(is_wait: Bools, start: Int64s, end: Int64s, g_end: Int64s, item: Int64s) -> tuple[Int64s, Int64s]:
    """For each item, the device event whose end it waited for, or -1, and its duration without waiting.

    It is the last event to end before the wait returns, of those launched before or by it.
    """
    waits_for, call_ns = np.full(len(start), -1, dtype=np.int64), end - start
    by_end = np.argsort(g_end, kind="stable")
    ends, launched = g_end[by_end], np.maximum.accumulate(item) if len(item) else item
    for at in np.flatnonzero(is_wait).tolist():
        last = int(np.searchsorted(ends, end[at], side="right")) - 1
        if last < 0 or ends[last] <= start[at] or launched[by_end[last]] > at:
            continue
        waits_for[at] = by_end[last]
        call_ns[at] = end[at] - ends[last]
    return waits_for, call_ns


def _device(
    trace: Trace, order: Int64s, item: Int64s, item_start: Int64s, item_end: Int64s
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Of the device's events: offset from the start of the one before, own time, latency, and free time before them."""
    if not len(order):
        return order, order, order, order
    start, end = trace.start_ns[trace.gpu["event"][order]], trace.end_ns[trace.gpu["event"][order]]
    latest = np.maximum.accumulate(end)
    gap = start[1:] - latest[:-1]
    found = gaps(trace)
    queued = np.zeros(len(trace.gpu), dtype=np.bool_)
    queued[found["after"][(found["device_wait_ns"] > 0) & (found["after"] >= 0)]] = True
    was_queued = queued[order][1:]
    typical = int(np.median(gap[was_queued])) if was_queued.any() else DISPATCH_NS
    # An event that the host launched late may start a dispatch after the one before, had it been launched in time.
    # One whose launch is not known starts as long after the one before as it did.
    keeps = was_queued | _is_unlinked(trace, order)[1:]
    free = np.where(gap > 0, np.where(keeps, gap, np.minimum(gap, typical)), 0)
    after_end = latest[:-1] - start[:-1] + free
    offset = np.concatenate(([0], np.where(gap > 0, after_end, start[1:] - start[:-1])))
    own = np.concatenate(
        (np.where(gap >= 0, np.maximum(latest[:-1] - np.maximum(start[:-1], _before(latest)[:-1]), 0), 0), [0])
    )
    own[-1] = end[-1] - start[-1]
    lag = np.where(item >= 0, start - np.append(item_start, 0)[item], 0)
    late = np.concatenate(([False], (gap > 0) & ~was_queued)) & (item >= 0)
    # What was queued could have started as soon after its launch as others do, or else when the launch returned.
    usual = np.full(len(lag), int(np.median(lag[late]))) if late.any() else np.append(item_end - item_start, 0)[item]
    late[0] = item[0] >= 0
    offset[0] = 0 if item[0] >= 0 else start[0] - (item_start[0] if len(item_start) else start[0])
    return offset, own, np.where(late, lag, np.minimum(lag, usual)), np.concatenate(([0], free))


def _is_unlinked(trace: Trace, order: Int64s) -> Bools:
    """Which of these events have no known launch, and are no later node of a graph."""
    unlinked: Bools = trace.first_of_launch[order] & (trace.call_of_gpu[order] < 0)
    return unlinked


def _before(latest: Int64s) -> Int64s:
    """The latest end before each event."""
    return np.concatenate((np.array([np.iinfo(np.int64).min]), latest[:-1]))


def _nodes(item: Int64s, items: int) -> Int64s:
    """How many events each item launches beside the first: the nodes of a graph, which the profiler records one by one."""
    launched = np.maximum.accumulate(item) if len(item) else item
    return np.maximum(np.bincount(launched[launched >= 0], minlength=items) - 1, 0)


def _recorded(trace: Trace, end: Int64s) -> Floats:
    """For each item, what the profiler recorded on the host since the item before ended, in operators' worth."""
    rows = trace.where(*RECORDED)
    start = trace.start_ns[rows]
    order = np.argsort(start, kind="stable")
    weight = np.where(np.isin(trace.events["category"][rows[order]], CALLS), CALL_COST, 1.0)
    until = np.concatenate(([0.0], np.cumsum(weight)))[np.searchsorted(start[order], np.maximum.accumulate(end), side="right")]
    return np.diff(np.concatenate(([0.0], until)))


def item_shares(trace: Trace, played: Program, chosen: Bools) -> Floats:
    """For each item, the share of the host's work before and in it that these of `idle_pieces` are.

    A piece belongs to the item that ended its gap, or to the one in or before which it lies.
    """
    pieces = idle_pieces(trace)
    total = np.zeros(len(played.row))
    if len(played.row):
        ends = np.maximum.accumulate(trace.end_ns[played.row])
        item = np.minimum(np.searchsorted(ends, pieces["start_ns"][chosen], side="right"), len(played.row) - 1)
        np.add.at(total, item, (pieces["end_ns"] - pieces["start_ns"])[chosen].astype(np.float64))
    return np.minimum(total / np.maximum(played.work_ns + played.call_ns, 1.0), 1.0)


def item_work(trace: Trace, played: Program, rows: Sequence[int] | Int64s) -> Floats:
    """How much of the host's work before and in each item these events take, in ns: a moment inside several counts once."""
    chosen = np.asarray(rows, dtype=np.int64)
    total = np.zeros(len(played.row))
    if not len(chosen) or not len(played.row):
        return total
    union = merge(trace.start_ns[chosen], trace.end_ns[chosen])
    end = np.maximum.accumulate(trace.end_ns[played.row])
    begin = np.concatenate((trace.start_ns[played.row][:1], end[:-1]))
    return union.within(np.minimum(begin, end), end).astype(np.float64)
