"""How long would the program take if something about it changed? It is played again, host and device, with the change made.

The host launches and waits in the recorded order. Between two of these it works as long as recorded, and a wait ends when the
device has done what it waited for. The device starts an event when the event before it allows, as recorded, and not before the
host has launched it. So a change has the effect that it can have: a shorter kernel helps only if the next is queued already,
a removed wait only if the host then runs ahead.

Events of several streams are played in the order of their starts and overlap as they did. Several launching threads are played
as one host, in the order of their launches: mostly one of them waits for the other.

The profiler makes the host slower, by about as much for each operator and Python function that it records. If the real time of
a step is known, `fitted` finds that cost, and the host is played without it. Kernels keep their times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import numpy as np

from ..trace.arrays import Bools, Floats, Int64s
from ..trace.once import once
from ..trace.trace import CALLS, Category, Trace
from .idle import blocking_calls, gaps
from .idle_activity import idle_pieces

DISPATCH_NS = 1_000
"""What the device takes from one event to the next that was launched in time, where the trace has no such pair."""
MOST_OVERHEAD_NS = 20_000
"""The profiler's cost of one recorded event is sought below this."""
GRAPH_CALL_NS = 10_000
"""What the launch of a graph costs the host without the profiler: assumed.

With the profiler, those of the shipped traces took 4 to 302 µs, mostly the longer the more nodes they have.
"""
GRAPH_GAP_NS = 500
"""What the device takes from one node of a graph to the next.

Quoted, V100: kernels of 2.9 µs take 3.4 µs each in a graph (NVIDIA Technical Blog, "Getting Started with CUDA Graphs", 2019).
"""
LEAST_WORK = 0.1
"""The share of the host's work that is left at least when the profiler's cost is taken off."""
RECORDED = (*CALLS, Category.OPERATOR, Category.ANNOTATION, Category.PYTHON)
"""The events that the profiler records on the host, each at a cost."""


@dataclass(frozen=True)
class Program:
    """What the host does, item by item (a launch, a wait, or a call that is both), and what the device runs. Times in ns.

    Of the host's items: `row` (of `trace.events`), `work_ns` (from the return of the item before to its start), `call_ns` (its
    own duration, without waiting), `events` (how many events the profiler recorded in both), `waits_for` (the place of the
    device event whose end it waited for, or -1).

    Of the device's events, in the order of their starts: `gpu` (row of `trace.gpu`), `item` (that launched it, or -1 for a
    later node of a graph and where no launch is known), `latency_ns` (from the start of the item to the event's start, if the
    device is free; without an item minus infinity),
    `duration_ns`, `offset_ns` (from the start of the event before to the moment when this one may start), `own_ns` (how much
    earlier the next event may start if this one takes no time) and `free_ns` (of `offset_ns`: when the device does nothing).
    """

    row: Int64s
    work_ns: Floats
    call_ns: Floats
    events: Int64s
    waits_for: Int64s
    gpu: Int64s
    item: Int64s
    latency_ns: Floats
    duration_ns: Floats
    offset_ns: Floats
    own_ns: Floats
    free_ns: Floats

    @cached_property
    def total_ns(self) -> float:
        """How long the program takes: from the first item's beginning until host and device are done."""
        return self.played()[2]

    def played(self) -> tuple[Floats, Floats, float]:
        """When each item of the host starts, when each event of the device ends, and when both are done, from the start."""
        cost = self.work_ns + self.call_ns
        until = np.cumsum(cost)
        waits = np.flatnonzero(self.waits_for >= 0)
        # Between two waits the host does not depend on the device, and the device's starts are a running maximum.
        starts, ends = np.empty(len(self.row)), np.empty(len(self.gpu))
        item = np.maximum.accumulate(self.item) if len(self.item) else self.item
        first_event = np.searchsorted(item, np.arange(len(self.row)), side="left")
        base = np.cumsum(self.offset_ns)
        delay, begun, latest, reached = 0.0, 0, 0.0 if len(self.item) and self.item[0] < 0 else -np.inf, 0
        for stop in dict.fromkeys([*(waits + 1).tolist(), len(self.row)]):
            starts[begun:stop] = until[begun:stop] - self.call_ns[begun:stop] + delay
            after = int(first_event[stop]) if stop < len(self.row) else len(self.gpu)
            if after > reached:
                of = self.item[reached:after]
                ready = self.latency_ns[reached:after] + np.append(starts, 0.0)[of]  # the last one is for no item, -1
                lead = np.maximum.accumulate(np.maximum(ready - base[reached:after], latest))
                ends[reached:after] = lead + base[reached:after] + self.duration_ns[reached:after]
                latest, reached = float(lead[-1]), after
            awaited = int(self.waits_for[stop - 1]) if stop else -1
            if 0 <= awaited < reached:
                delay += max(ends[awaited] - starts[stop - 1], 0.0)
            begun = stop
        host = float(until[-1]) + delay if len(until) else 0.0
        return starts, ends, max(host, float(ends.max(initial=0.0)))

    # --- Changes ------------------------------------------------------------------------------------------------

    def unprofiled(self, cost_ns: float) -> Program:
        """Without the profiler's cost of so much for each recorded event."""
        work, call = self.work_ns, self.call_ns
        less = np.minimum(self.events * cost_ns, (1 - LEAST_WORK) * (work + call))
        from_work = np.minimum(less, (1 - LEAST_WORK) * work)
        return self._with_less(from_work, less - from_work)

    def without_waits(self, items: Bools) -> Program:
        """Without the waiting of these items. What they launch stays."""
        return replace(self, waits_for=np.where(items, -1, self.waits_for))

    def without_work(self, ns: Floats) -> Program:
        """With so much less work of the host before and in each item."""
        from_call = np.clip(ns - self.work_ns, 0, self.call_ns)
        return self._with_less(np.minimum(ns, self.work_ns), from_call)

    def _with_less(self, work_ns: Floats, call_ns: Floats) -> Program:
        """With so much less work before each item, and less of the item itself, after which its events start as much sooner."""
        less = np.append(call_ns, 0.0)[self.item]
        return replace(
            self,
            work_ns=self.work_ns - work_ns,
            call_ns=self.call_ns - call_ns,
            latency_ns=np.maximum(self.latency_ns - less, np.where(self.item >= 0, 0.0, -np.inf)),
        )

    def host_free(self) -> Program:
        """With a host that takes no time and never waits: the device alone limits."""
        return replace(
            self.without_work(self.work_ns + self.call_ns),
            waits_for=np.full(len(self.row), -1, dtype=np.int64),
            latency_ns=np.where(self.item >= 0, 0.0, -np.inf),
        )

    def without_share(self, share: Floats) -> Program:
        """Without this share of the host's work before and in each item."""
        return self.without_work(np.clip(share, 0, 1) * (self.work_ns + self.call_ns))

    def one_launch(self, span: Int64s, keeps: Floats) -> Program:
        """With all items of a span launched by one call, as by a graph, and no waits among them.

        `span` is a number for each item, or -1 for those that stay as they are. `keeps` is the share of each item's work that
        the host still has to do. The device goes from one event to the next as in a graph.
        """
        mine = span >= 0
        first = np.zeros(len(span), dtype=np.bool_)
        first[np.unique(span, return_index=True)[1]] = True
        call = np.where(mine, np.where(first, GRAPH_CALL_NS, 0.0), self.call_ns)
        work = np.where(mine, keeps * (self.work_ns + self.call_ns), self.work_ns)
        node = (self.item >= 0) & mine[self.item] & ~first[self.item]
        less = np.where(node | ((self.item >= 0) & mine[self.item]), np.maximum(self.free_ns - GRAPH_GAP_NS, 0), 0)
        return replace(
            self,
            work_ns=work,
            call_ns=call,
            waits_for=np.where(mine, -1, self.waits_for),
            item=np.where(node, -1, self.item),
            latency_ns=np.where(node, -np.inf, self.latency_ns),
            offset_ns=self.offset_ns - less,
            free_ns=self.free_ns - less,
        )

    def closer(self, less_ns: Floats) -> Program:
        """With so much less time in which the device does nothing before its events; one entry for each row of `trace.gpu`."""
        less = np.clip(less_ns[self.gpu], 0, self.free_ns)
        return replace(self, offset_ns=self.offset_ns - less, free_ns=self.free_ns - less)

    def cut(self, shorter_ns: Floats, sooner_ns: Floats) -> Program:
        """With moments of the device left out, in which several events may overlap; one entry for each row of `trace.gpu`.

        Each event takes `shorter_ns` less, and starts `sooner_ns` sooner after the start of the event before.
        """
        sooner = np.minimum(sooner_ns[self.gpu], np.maximum(self.offset_ns, 0))
        return replace(
            self,
            duration_ns=self.duration_ns - np.clip(shorter_ns[self.gpu], 0, self.duration_ns),
            offset_ns=self.offset_ns - sooner,
        )

    def faster(self, saving_ns: Floats) -> Program:
        """With device events that take so much less; one entry for each row of `trace.gpu`."""
        saved = np.clip(saving_ns[self.gpu], 0, self.duration_ns)
        next_sooner = np.concatenate(([0.0], np.minimum(saved, self.own_ns)[:-1]))
        return replace(self, duration_ns=self.duration_ns - saved, offset_ns=self.offset_ns - next_sooner)


@once
def program(trace: Trace) -> Program:
    """The program of a trace, as recorded: played as it is, it takes as long as it took."""
    order = trace.gpu_order
    event, call = trace.gpu["event"][order], trace.call_of_gpu[order]
    waits = blocking_calls(trace)
    begins = np.where(trace.first_of_launch[order], call, -1)
    rows = np.union1d(begins[begins >= 0], waits)
    rows = rows[np.lexsort((rows, trace.start_ns[rows]))]
    start, end = trace.start_ns[rows], trace.end_ns[rows]
    before = np.concatenate((start[:1], np.maximum.accumulate(end)[:-1]))
    place = np.full(len(trace), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    item = np.where(begins >= 0, place[begins], -1)
    g_start, g_end = trace.start_ns[event], trace.end_ns[event]
    waits_for, call_ns = _awaited(np.isin(rows, waits), start, end, g_end, item)
    offset, own, latency, free = _device(trace, order, item, start, end)
    return Program(
        row=rows,
        work_ns=np.maximum(start - before, 0).astype(np.float64),
        call_ns=call_ns.astype(np.float64),
        events=_recorded(trace, end),
        waits_for=waits_for,
        gpu=order,
        item=item,
        latency_ns=np.where(item >= 0, latency, -np.inf),
        duration_ns=(g_end - g_start).astype(np.float64),
        offset_ns=offset.astype(np.float64),
        own_ns=own.astype(np.float64),
        free_ns=free.astype(np.float64),
    )


def _awaited(is_wait: Bools, start: Int64s, end: Int64s, g_end: Int64s, item: Int64s) -> tuple[Int64s, Int64s]:
    """For each item, the device event whose end it waited for, or -1, and its duration without waiting.

    It is the last event to end before the wait returns, of those launched before or by it.
    """
    waits_for, call_ns = np.full(len(start), -1, dtype=np.int64), end - start
    by_end = np.argsort(g_end, kind="stable")
    launched = np.maximum.accumulate(item) if len(item) else item
    for at in np.flatnonzero(is_wait).tolist():
        last = int(np.searchsorted(g_end[by_end], end[at], side="right")) - 1
        if last < 0 or g_end[by_end[last]] <= start[at] or launched[by_end[last]] > at:
            continue
        waits_for[at] = by_end[last]
        call_ns[at] = end[at] - g_end[by_end[last]]
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


def _recorded(trace: Trace, end: Int64s) -> Int64s:
    """For each item, how many events the profiler recorded on the host since the item before ended."""
    starts = np.sort(trace.start_ns[trace.where(*RECORDED)])
    until = np.searchsorted(starts, np.maximum.accumulate(end), side="right")
    return np.diff(np.concatenate(([0], until)))


def fitted(played: Program, target_ns: float, takes: Callable[[Program], float] = attrgetter("total_ns")) -> Program:
    """The program without the profiler's cost, which is chosen so that what `takes` measures is `target_ns`, if it can be."""
    if takes(played) <= target_ns:
        return played
    low, high = 0.0, float(MOST_OVERHEAD_NS)
    for _ in range(24):
        middle = (low + high) / 2
        if takes(played.unprofiled(middle)) > target_ns:
            low = middle
        else:
            high = middle
    return played.unprofiled(high)


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
    from ..trace.intervals import merge

    union = merge(trace.start_ns[chosen], trace.end_ns[chosen])
    end = np.maximum.accumulate(trace.end_ns[played.row])
    begin = np.concatenate((trace.start_ns[played.row][:1], end[:-1]))
    return union.within(np.minimum(begin, end), end).astype(np.float64)
