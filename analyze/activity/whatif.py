"""How long would the program take if something about it changed? It is played again, host and device, with the change made.

The host launches and waits in the recorded order. Between two of these it works as long as recorded, and a wait ends when the
device has done what it waited for. The device starts an event when the event before it allows, as recorded, and not before the
host has launched it. So a change has the effect that it can have: a shorter kernel helps only if the next is queued already,
a removed wait only if the host then runs ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..trace.arrays import Bools, Floats, Int64s

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


@dataclass(frozen=True)
class Program:
    """What the host does, item by item (a launch, a wait, or a call that is both), and what the device runs. Times in ns.

    Of the host's items: `row` (of `trace.events`), `work_ns` (from the return of the item before to its start), `call_ns` (its
    own duration, without waiting), `events` (what the profiler recorded in both, in operators' worth), `waits_for` (the place
    of the device event whose end it waited for, or -1).

    Of the device's events, in the order of their starts: `gpu` (row of `trace.gpu`), `item` (that launched it, or -1 for a
    later node of a graph and where no launch is known), `latency_ns` (from the start of the item to the event's start, if the
    device is free; without an item minus infinity), `recorded_ns` (its duration in the trace),
    `duration_ns`, `offset_ns` (from the start of the event before to the moment when this one may start), `own_ns` (how much
    earlier the next event may start if this one takes no time) and `free_ns` (of `offset_ns`: when the device does nothing).
    """

    row: Int64s
    work_ns: Floats
    call_ns: Floats
    events: Floats
    waits_for: Int64s
    gpu: Int64s
    item: Int64s
    latency_ns: Floats
    recorded_ns: Floats
    duration_ns: Floats
    offset_ns: Floats
    own_ns: Floats
    free_ns: Floats

    @property
    def total_ns(self) -> float:
        """How long the program takes: from the first item's beginning until host and device are done."""
        return self.played()[2]

    @cached_property
    def span_ns(self) -> float:
        """From the start of the first event of the device to the end of its last."""
        _, ends, _ = self.played()
        return float(ends.max() - (ends - self.duration_ns).min()) if len(ends) else 0.0

    def played(self) -> tuple[Floats, Floats, float]:
        """When each item of the host starts, when each event of the device ends, and when both are done, from the start."""
        cost = self.work_ns + self.call_ns
        until = np.cumsum(cost)
        waits = np.flatnonzero(self.waits_for >= 0)
        # Between two waits the host does not depend on the device, and the device's starts are a running maximum.
        # One start more than items: the last one, 0, is for events of no item, -1.
        starts, ends = np.zeros(len(self.row) + 1), np.empty(len(self.gpu))
        item = np.maximum.accumulate(self.item) if len(self.item) else self.item
        first_event = np.searchsorted(item, np.arange(len(self.row)), side="left")
        base = np.cumsum(self.offset_ns)
        delay, begun, reached = 0.0, 0, 0
        latest = 0.0 if len(self.item) and self.item[0] < 0 else -np.inf
        for stop in dict.fromkeys([*(waits + 1).tolist(), len(self.row)]):
            starts[begun:stop] = until[begun:stop] - self.call_ns[begun:stop] + delay
            after = int(first_event[stop]) if stop < len(self.row) else len(self.gpu)
            if after > reached:
                of = self.item[reached:after]
                ready = self.latency_ns[reached:after] + starts[of]
                lead = np.maximum.accumulate(np.maximum(ready - base[reached:after], latest))
                ends[reached:after] = lead + base[reached:after] + self.duration_ns[reached:after]
                latest, reached = float(lead[-1]), after
            awaited = int(self.waits_for[stop - 1]) if stop else -1
            if 0 <= awaited < reached:
                delay += max(ends[awaited] - starts[stop - 1], 0.0)
            begun = stop
        host = float(until[-1]) + delay if len(until) else 0.0
        return starts[:-1], ends, max(host, float(ends.max(initial=0.0)))

    def twice(self, items: tuple[int, int], events: tuple[int, int], begins_ns: float) -> Program:
        """Only these items and device events, from one up to another, and then the same again, as in a loop.

        `begins_ns` is how long before the first of the items their round begins.
        """
        (first, stop), (first_event, stop_event) = items, events
        count, n = stop - first, stop_event - first_event
        of_items = {
            name: np.tile(getattr(self, name)[first:stop], 2) for name in ("row", "work_ns", "call_ns", "events", "waits_for")
        }
        of_events = {
            name: np.tile(getattr(self, name)[first_event:stop_event], 2)
            for name in ("gpu", "item", "latency_ns", "recorded_ns", "duration_ns", "offset_ns", "own_ns", "free_ns")
        }
        of_items["work_ns"][[0, count]] = np.minimum(of_items["work_ns"][[0, count]], begins_ns)
        # An event of the round before is awaited in the second round only; in the first there is none.
        awaited = of_items["waits_for"]
        waits = awaited >= 0
        awaited[waits] -= first_event
        awaited[count:][waits[count:]] += n
        awaited[waits & (awaited < 0)] = -1
        of_events["item"] = np.where(of_events["item"] >= 0, of_events["item"] - first, -1)
        of_events["item"][n:] += np.where(of_events["item"][n:] >= 0, count, 0)
        if n:
            of_events["offset_ns"][0] = 0.0
            of_events["offset_ns"][n] = self.duration_ns[stop_event - 1] + self.free_ns[first_event]
        return Program(**of_items, **of_events)

    # --- Changes ------------------------------------------------------------------------------------------------

    def unprofiled(self, cost_ns: float) -> Program:
        """Without the profiler's cost of so much for each recorded event."""
        work, call = self.work_ns, self.call_ns
        less = np.minimum(self.events * cost_ns, (1 - LEAST_WORK) * (work + call))
        from_work = np.minimum(less, (1 - LEAST_WORK) * work)
        return self._with_less(from_work, less - from_work)

    def host_slower(self, factor: float) -> Program:
        """With a host whose work and calls take so much longer."""
        return replace(self, work_ns=self.work_ns * factor, call_ns=self.call_ns * factor)

    def slower(self, factor: float) -> Program:
        """With host and device that take so much longer."""
        scaled = {
            name: getattr(self, name) * factor
            for name in ("work_ns", "call_ns", "latency_ns", "duration_ns", "offset_ns", "own_ns", "free_ns")
        }
        return replace(self, **scaled)

    def device_faster(self, share: float) -> Program:
        """With a device whose events take this share less, each of them."""
        less = self.duration_ns * share
        next_sooner = np.concatenate(([0.0], np.minimum(less, self.own_ns)[:-1]))
        return replace(
            self, duration_ns=self.duration_ns - less, own_ns=self.own_ns * (1 - share), offset_ns=self.offset_ns - next_sooner
        )

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

    def with_launches(self, number: Floats) -> Program:
        """With so many more launches before each item, each of which takes the host as long as one usually does here."""
        usual = float(np.median(self.work_ns + self.call_ns)) if len(self.row) else 0.0
        return replace(self, work_ns=self.work_ns + number * usual)

    def without_share(self, share: Floats) -> Program:
        """Without this share of the host's work before and in each item."""
        return self.without_work(np.clip(share, 0, 1) * (self.work_ns + self.call_ns))

    def without_call_share(self, share: Floats) -> Program:
        """Without this share of the host's work before and in each item, taken from the item's own call first."""
        ns = np.clip(share, 0, 1) * (self.work_ns + self.call_ns)
        from_call = np.minimum(ns, self.call_ns)
        return self._with_less(np.minimum(ns - from_call, self.work_ns), from_call)

    def without_items(self, items: Bools) -> Program:
        """Without these items: the host does nothing before and in them, and does not wait. What they launch stays."""
        return self.without_waits(items).without_work(np.where(items, self.work_ns + self.call_ns, 0.0))

    def one_launch(self, span: Int64s, keeps: Floats) -> Program:
        """With all items of a span launched by one call, as by a graph, and no waits among them.

        `span` is a number for each item, or -1 for those that stay as they are. `keeps` is the share of each item's work that
        the host still has to do. The device goes from one event to the next as in a graph.
        """
        launches = np.zeros(len(span), dtype=np.bool_)
        launches[self.item[self.item >= 0]] = True
        mine = (span >= 0) & launches
        first = np.zeros(len(span), dtype=np.bool_)
        first[np.flatnonzero(mine)[np.unique(span[mine], return_index=True)[1]]] = True
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
            duration_ns=self.duration_ns * (1 - np.clip(shorter_ns[self.gpu] / np.maximum(self.recorded_ns, 1), 0, 1)),
            offset_ns=self.offset_ns - sooner,
        )

    def faster(self, saving_ns: Floats) -> Program:
        """With device events that take so much less; one entry for each row of `trace.gpu`."""
        share = np.divide(saving_ns[self.gpu], self.recorded_ns, out=np.zeros(len(self.gpu)), where=self.recorded_ns > 0)
        saved = np.clip(share, 0, 1) * self.duration_ns
        next_sooner = np.concatenate(([0.0], np.minimum(saved, self.own_ns)[:-1]))
        return replace(self, duration_ns=self.duration_ns - saved, offset_ns=self.offset_ns - next_sooner)
