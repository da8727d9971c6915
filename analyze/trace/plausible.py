"""Which recorded times cannot be, and what is left of the trace without them?

A kernel cannot start before the call that launches it began, last while several later ones of its stream run and end, or go on
after the host has waited for the whole device. What cannot be is left out, or cut to what can be, and said. Two legitimate
things look alike: the clocks of host and device differ by microseconds, and a kernel that was launched as the programmatic
dependent of the one before overlaps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tracekit.table import Table
from tracekit.wording import counted, duration, form

from .arrays import Bools, Int64s
from .subset import subset
from .trace import Trace, TraceWarning

SKEW_NS = 1_000_000
"""Clocks differ by less. A kernel that starts longer before its call has an impossible time."""
FAR_NS = 1_000_000_000
"""A GPU event that no call launched, and that lies this far from all others, is no part of the run."""
FAR_SPANS = 10
"""It also lies this many spans of the others away from them."""
FEW = 0.01
"""The largest share of the GPU events that may lie apart."""
INSIDE = 2
"""How many later kernels of its stream must run and end inside a kernel before its duration is impossible."""
OTHERS = 3
"""How many other events there must be to lie apart from."""
OVERLAP_NS = 100_000
"""A kernel overlaps the next one on its stream by less, however it was launched."""
WAITS_FOR_ALL = re.compile(r"(?:cuda|hip)DeviceSynchronize|cuCtxSynchronize")
NAME = 60
"""How much of a kernel's name a warning quotes."""


@dataclass(frozen=True)
class _Times:
    """The GPU events that are left out, and the duration of each that is cut (else its own)."""

    early: Bools
    apart: Bools
    duration_ns: Int64s


def plausible(trace: Trace) -> Trace:
    """The trace without times that cannot be, with a warning for each kind of them."""
    if not len(trace.gpu):
        return trace
    early = _early(trace)
    times = _Times(early, _apart(trace) & ~early, _possible_durations(trace))
    recorded = trace.events["duration_ns"][trace.gpu["event"]]
    cut = times.duration_ns < recorded
    warnings = (*trace.warnings, *_skew(trace), *_impossible(trace, times, cut))
    if cut.any():
        durations = trace.events["duration_ns"].copy()
        durations[trace.gpu["event"][cut]] = times.duration_ns[cut]
        trace = replace(trace, events=Table({**trace.events.columns, "duration_ns": durations}))
    gone = times.early | times.apart
    if not gone.any():
        return replace(trace, warnings=warnings) if len(warnings) > len(trace.warnings) else trace
    keep = np.ones(len(trace), dtype=np.bool_)
    keep[trace.gpu["event"][gone]] = False
    left_out = trace.events["correlation"][trace.gpu["event"][gone]]
    return replace(subset(trace, keep, ~gone, warnings), left_out=left_out)


def _lead(trace: Trace) -> Int64s:
    """For each GPU event that begins a launch, how long after the start of its call it starts; 0 for all others."""
    call = trace.call_of_gpu
    known = (call >= 0) & trace.first_of_launch
    return np.where(known, trace.start_ns[trace.gpu["event"]] - trace.start_ns[call], 0)


def _early(trace: Trace) -> Bools:
    return _lead(trace) < -SKEW_NS


def _skew(trace: Trace) -> Iterator[TraceWarning]:
    lead = _lead(trace)
    before = (lead < 0) & (lead >= -SKEW_NS)
    if count := int(before.sum()):
        yield TraceWarning(
            "clock_skew",
            f"{counted(count, 'GPU event starts', 'GPU events start')} before the call that launched "
            f"{form(count, 'it', 'them')}, "
            f"by {duration(int(-lead[before].min()))} at most: the clocks of host and device differ, so latencies and the "
            "causes of short gaps are wrong by about as much",
            count,
        )


def _apart(trace: Trace) -> Bools:
    """The few GPU events without a call that lie far before or after all others."""
    order = trace.gpu_order
    start, end = trace.start_ns[trace.gpu["event"][order]], trace.end_ns[trace.gpu["event"][order]]
    is_alone = trace.call_of_gpu[order] < 0
    apart = np.zeros(len(order), dtype=np.bool_)
    few = np.arange(1, min(max(int(FEW * len(order)), 1), len(order) - OTHERS) + 1)  # how many may lie apart
    if not len(few):
        return apart
    until, since = np.maximum.accumulate(end), np.maximum.accumulate(end[::-1])[::-1]
    # Before all others: the first ones end, then the others run from `start[few]` to `since[few]`.
    before = _is_far(start[few] - until[few - 1], since[few] - start[few]) & np.logical_and.accumulate(is_alone)[few - 1]
    # After all others, which run from the first start to `until`.
    rest = len(order) - few
    after = _is_far(start[rest] - until[rest - 1], until[rest - 1] - start[0])
    after &= np.logical_and.accumulate(is_alone[::-1])[few - 1]
    apart[order[: int(few[before].max(initial=0))]] = True
    apart[order[len(order) - int(few[after].max(initial=0)) :]] = True
    return apart


def _is_far(gap: Int64s, span: Int64s) -> Bools:
    """Whether a gap is so long that what lies beyond it is no part of a run that lasts so long."""
    far: Bools = (gap > FAR_NS) & (gap // FAR_SPANS > span)
    return far


def _possible_durations(trace: Trace) -> Int64s:
    """How long each GPU event can have lasted at most, if that is less than recorded; else as recorded."""
    event = trace.gpu["event"]
    start, end = trace.start_ns[event], trace.end_ns[event]
    limit = np.minimum(_limit_by_stream(trace, start, end), _limit_by_waits(trace, end))
    possible: Int64s = np.maximum(np.minimum(end, limit) - start, 0)
    return possible


def _limit_by_stream(trace: Trace, start: Int64s, end: Int64s) -> Int64s:
    """The start of the next event on the stream, for events inside which several later ones run and end; else their end.

    Events that a graph replayed run side by side under one stream's number.
    """
    limit: Int64s = end.copy()
    plain = np.flatnonzero(~trace.is_replayed)
    order = plain[np.lexsort((start[plain], trace.gpu["stream"][plain], trace.gpu["device"][plain]))]
    device, stream = trace.gpu["device"][order], trace.gpu["stream"][order]
    begins = np.flatnonzero((np.diff(device) != 0) | (np.diff(stream) != 0)) + 1
    for here in np.split(order, begins):
        if len(here) <= INSIDE:
            continue
        # When the next events on the stream have all ended.
        later = np.maximum.reduce([end[here[after : len(here) - INSIDE + after]] for after in range(1, INSIDE + 1)])
        outer, next_start = here[:-INSIDE], start[here[1 : len(here) - INSIDE + 1]]
        holds = (later < end[outer]) & (end[outer] - next_start > OVERLAP_NS)
        limit[outer[holds]] = next_start[holds]
    return limit


def _limit_by_waits(trace: Trace, end: Int64s) -> Int64s:
    """When the first wait for the whole device returned that began after the event's launch; else the event's end."""
    waits = trace.named(trace.calls, WAITS_FOR_ALL.match)
    limit: Int64s = end.copy()
    if not len(waits) or len(np.unique(trace.gpu["device"])) > 1:  # a wait is for one device, and which is not recorded
        return limit
    waits = waits[np.argsort(trace.start_ns[waits], kind="stable")]
    returned = np.minimum.accumulate(trace.end_ns[waits][::-1])[::-1]
    call = trace.call_of_gpu
    place = np.searchsorted(trace.start_ns[waits], np.where(call >= 0, trace.end_ns[call], np.iinfo(np.int64).max))
    known = place < len(waits)
    bound = returned[np.minimum(place, len(waits) - 1)]
    late = known & (end > bound + SKEW_NS)
    limit[late] = bound[late]
    return limit


def _impossible(trace: Trace, times: _Times, cut: Bools) -> Iterator[TraceWarning]:
    event = trace.gpu["event"]
    kinds = (
        (
            times.early,
            "starts long before the call that launched it and was left out",
            "start long before the calls that launched them and were left out",
            -_lead(trace),
        ),
        (
            times.apart,
            "lies far from all others, has no call and was left out",
            "lie far from all others, have no calls and were left out",
            np.zeros(len(event), dtype=np.int64),
        ),
        (
            cut,
            "lasts over later ones of its stream or a wait for the device and was cut",
            "last over later ones of their streams or a wait for the device and were cut",
            trace.events["duration_ns"][event],
        ),
    )
    for which, one, many, amount in kinds:
        if count := int(which.sum()):
            worst = int(np.flatnonzero(which)[np.argmax(amount[which])])
            name = str(trace.names(event[worst : worst + 1])[0])[:NAME]
            told = f" ({duration(int(amount[worst]))})" if amount[worst] else ""
            yield TraceWarning(
                "impossible_times",
                f"{counted(count, 'GPU event', 'GPU events')} {form(count, one, many)}: impossible; the worst is {name}{told}",
                count,
            )
