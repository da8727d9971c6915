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
"""The largest share of the GPU events that may lie apart, or start before their calls. Two may in any trace."""
OTHERS = 2
"""How many other events there must be to lie apart from."""
OTHERS_OF_HOST = 10
"""The same of the host's events: a few of them say nothing about where a run begins."""
EARLY_NS = 10_000
"""If hardly any other event starts before its call, one that does so by more has an impossible time."""
OVERLAP_NS = 100_000
"""A kernel overlaps the next one on its stream by less, however it was launched."""
LATE_NS = 100_000
"""An event goes on for less after a wait for it returned: clocks differ."""
WAITS_FOR_ALL = re.compile(r"(?:cuda|hip|musa)DeviceSynchronize|cuCtxSynchronize")
WAITS_FOR_STREAM = re.compile(r"(?:cuda|hip|cu|musa)StreamSynchronize")
"""A wait for a stream, which is a wait for all if the process uses one stream."""
WAITS_FOR_ITSELF = re.compile(r"(?:cuda|hip|cu|musa)Memcpy(?!.*(?:Async|Peer|Batch))")
"""A copy that returns when it is done."""
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
    trace = _without_strays(trace)
    if not len(trace.gpu):
        return trace
    early = _early(trace)
    times = _Times(early, _apart(trace) & ~early, _possible_durations(trace))
    recorded = trace.events["duration_ns"][trace.gpu["event"]]
    cut = (times.duration_ns < recorded) & ~times.early & ~times.apart
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


def _without_strays(trace: Trace) -> Trace:
    """The trace without the few events of the host that begin far before everything else, as at the time 0."""
    is_host = np.ones(len(trace), dtype=np.bool_)
    is_host[trace.gpu["event"]] = False
    host = np.flatnonzero(is_host)
    order = host[np.argsort(trace.start_ns[host], kind="stable")]
    few = np.arange(1, min(max(int(FEW * len(order)), 2), len(order) - OTHERS_OF_HOST) + 1)
    if not len(few) or trace.start_ns[order[few[-1]]] <= FAR_NS:  # the first event starts at 0
        return trace
    start, until = trace.start_ns[order], np.maximum.accumulate(trace.end_ns[order])
    first = int(few[_is_far(start[few] - until[few - 1], until[-1] - start[few])].max(initial=0))
    if not first:
        return trace
    keep = np.ones(len(trace), dtype=np.bool_)
    keep[order[:first]] = False
    name = str(trace.names(order[:1])[0])[:NAME]
    left_out = form(first, "lies far before all others and was left out", "lie far before all others and were left out")
    told = f"{counted(first, 'event')} of the host {left_out}: impossible; the first is {name}"
    stays = np.ones(len(trace.gpu), dtype=np.bool_)
    return subset(trace, keep, stays, (*trace.warnings, TraceWarning("impossible_times", told, first)))


def _lead(trace: Trace) -> Int64s:
    """For each GPU event that begins a launch, how long after the start of its call it starts; 0 for all others."""
    call = trace.call_of_gpu
    known = (call >= 0) & trace.first_of_launch
    return np.where(known, trace.start_ns[trace.gpu["event"]] - trace.start_ns[call], 0)


def _early(trace: Trace) -> Bools:
    """The GPU events that start too long before their calls: all of them by 1 ms, or a few among others that do not."""
    lead = _lead(trace)
    launched = (trace.call_of_gpu >= 0) & trace.first_of_launch
    before = launched & (lead < 0)
    if _is_offset(lead[launched]):
        return np.zeros(len(lead), dtype=np.bool_)
    few = before.sum() <= max(FEW * launched.sum(), 2) and launched.sum() >= 2 * before.sum() + OTHERS
    return before & (lead < (-EARLY_NS if few else -SKEW_NS))


def _is_offset(lead: Int64s) -> bool:
    """Whether most events start before their calls: then the clocks of host and device differ, by however much."""
    return bool(2 * (lead < 0).sum() > len(lead))


def _skew(trace: Trace) -> Iterator[TraceWarning]:
    lead = _lead(trace)
    before = (lead < 0) & ~_early(trace)
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
    """The few GPU events that lie far before or after all others, and that no call launched there."""
    order = trace.gpu_order
    start, end = trace.start_ns[trace.gpu["event"][order]], trace.end_ns[trace.gpu["event"][order]]
    call = trace.call_of_gpu[order]
    is_alone = (call < 0) | (start - trace.end_ns[call] > FAR_NS)
    apart = np.zeros(len(order), dtype=np.bool_)
    few = np.arange(1, min(max(int(FEW * len(order)), 2), len(order) - OTHERS) + 1)  # how many may lie apart
    if not len(few) or 2 * is_alone.sum() > len(order):
        return apart
    rest = len(order) - few
    until, since = np.maximum.accumulate(end), np.maximum.accumulate(end[::-1])[::-1]
    # How long nothing runs after the first ones, and before the last ones; none where a call launched one of them there.
    before = np.where(np.logical_and.accumulate(is_alone)[few - 1], start[few] - until[few - 1], 0)
    after = np.where(np.logical_and.accumulate(is_alone[::-1])[few - 1], start[rest] - until[rest - 1], 0)
    first = int(few[_is_far(before, since[few] - start[few])].max(initial=0))
    last = int(few[_is_far(after, until[rest - 1] - start[0])].max(initial=0))
    # Ones on both sides would make the run as long as they are far, so they are looked at together as well.
    either = int(few[np.argmax(before)]), int(few[np.argmax(after)])
    inner = slice(either[0], len(order) - either[1])
    if sum(either) <= few[-1] and _is_far(np.minimum(before.max(), after.max()), end[inner].max() - start[inner][0]):
        first, last = max(first, either[0]), max(last, either[1])
    apart[order[:first]] = True
    apart[order[len(order) - last :]] = True
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
    limit = _limit_by_all(trace, start, np.minimum(end, limit))
    possible: Int64s = np.maximum(limit - start, 0)
    return possible


def _limit_by_stream(trace: Trace, start: Int64s, end: Int64s) -> Int64s:
    """The start of the next kernel on the stream, for kernels that last far into it; else their end.

    Events that a graph replayed run side by side under one stream's number, and so do copies beside kernels. Streams of several
    contexts may share a number.
    """
    limit: Int64s = end.copy()
    plain = np.flatnonzero(~trace.is_replayed & trace.is_kernel)
    lane = np.stack((trace.gpu["device"], trace.gpu["context"], trace.gpu["stream"]), axis=1)[plain]
    order = np.lexsort((end[plain], start[plain], lane[:, 2], lane[:, 1], lane[:, 0]))
    here, lane = plain[order], lane[order]
    same = (lane[1:] == lane[:-1]).all(axis=1)
    over = same & (end[here[:-1]] - start[here[1:]] > OVERLAP_NS)
    limit[here[:-1][over]] = start[here[1:][over]]
    return limit


def _limit_by_all(trace: Trace, start: Int64s, end: Int64s) -> Int64s:
    """When everything else has ended, the host too, for the event that alone lasts far beyond it; else the event's end."""
    limit: Int64s = end.copy()
    if len(end) <= OTHERS:
        return limit
    last, event = int(np.argmax(end)), trace.gpu["event"]
    ends, starts = trace.end_ns.copy(), trace.start_ns.copy()
    ends[event] = end
    ends[event[last]], starts[event[last]] = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    until, since = int(ends.max()), int(starts.min())
    if len(event) < len(trace) and _is_far(end[last : last + 1] - until, np.array([until - since]))[0]:
        limit[last] = max(until, int(start[last]))
    return limit


def _limit_by_waits(trace: Trace, end: Int64s) -> Int64s:
    """When the first wait for it returned that began after the event's launch; else the event's end.

    A wait for the whole device is one for each event, and so is a wait for a stream where there is one. Which device is meant
    is not recorded, so with several devices only a copy that waits for itself says something.
    """
    limit: Int64s = end.copy()
    call = trace.call_of_gpu
    blocking = np.isin(call, trace.named(trace.calls, WAITS_FOR_ITSELF.match)) & ~trace.is_kernel
    own = np.where(blocking, trace.end_ns[call], end)
    lanes = np.unique(np.stack((trace.gpu["device"], trace.gpu["stream"]), axis=1), axis=0)
    names = [WAITS_FOR_ALL] if len(np.unique(lanes[:, 0])) == 1 else []
    waits = [trace.named(trace.calls, pattern.match) for pattern in (*names, *([WAITS_FOR_STREAM] if len(lanes) == 1 else []))]
    rows = np.concatenate([np.empty(0, dtype=np.int64), *waits])
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    bound = own
    if len(rows):
        returned = np.minimum.accumulate(trace.end_ns[rows][::-1])[::-1]
        place = np.searchsorted(trace.start_ns[rows], np.where(call >= 0, trace.end_ns[call], np.iinfo(np.int64).max))
        bound = np.where(place < len(rows), np.minimum(returned[np.minimum(place, len(rows) - 1)], own), own)
    late = end > bound + LATE_NS
    if 2 * late.sum() > (bound < end).sum() and late.sum() > 2:  # then the clocks differ by so much
        return limit
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
