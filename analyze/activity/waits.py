"""What did the GPU, or the host, wait for in each gap?

A kernel that was launched in time starts when the events before it on its stream have ended, and those of other streams that
its stream was told to wait for. So the event that ended last before the gap tells what held the kernel up:

- it ran on the same stream: a copy was in the way, or the device took its own time to start the next kernel;
- it ran on another stream: the kernel's stream was told to wait for it, or the device took its own time. Only a recording with
  `cuda_sync` events says which.

The device starts the next kernel within microseconds. If it takes long, the kernel waited for something else: for another
device or process. Only a recording with `cuda_sync` events says so. What nothing tells is in none of these three parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.group import earliest_by_key
from ..trace.once import once
from ..trace.trace import NO_CORRELATION, Trace
from .idle import blocking_calls, gaps

STREAM_WAIT, STREAM_SYNC, EVENT_SYNC, CONTEXT_SYNC = "Stream Wait Event", "Stream Sync", "Event Sync", "Context Sync"
"""The names of `cuda_sync` events: a stream waits for an event; the host waits for a stream, an event or the whole device."""
WAITS_FOR_DEVICE = re.compile(r"(?:cuda|hip)DeviceSynchronize|cuCtxSynchronize")
LONGEST_DISPATCH_NS = 100_000
"""A device starts a kernel in less, if nothing holds it up. On the real traces here it takes 1 to 10 µs."""
LONG_AGO = np.iinfo(np.int64).min

# What is waited for, as a number that NumPy can group: a kind, and below it the number of a stream.
NOTHING, STREAM, EVENT_OF_STREAM, EVENT, DEVICE, COPY = -1, 0, 1 << 52, 2 << 52, 3 << 52, 4 << 52


@dataclass(frozen=True)
class Waits:
    """For each of `gaps`: the parts of its device wait in ns (int64), and what was waited for.

    `stream_wait_ns`: for an event of another stream. `copy_wait_ns`: after a copy or fill on the same stream.
    `device_dispatch_ns`: for nothing, the device took its own time. `target` is a number that `told` reads; NOTHING where
    nothing was waited for, or nothing says what.
    """

    stream_wait_ns: Int64s
    copy_wait_ns: Int64s
    device_dispatch_ns: Int64s
    target: Int64s


@once
def waits(trace: Trace) -> Waits:
    """What each gap between GPU events waited for."""
    found = gaps(trace)
    waiting, before, after = found["device_wait_ns"], found["before"], found["after"]
    between = (waiting > 0) & (before >= 0) & (after >= 0)
    in_order = between.copy()
    in_order[between] = _same_stream(trace, before[between], after[between])
    is_short = waiting <= LONGEST_DISPATCH_NS
    copied = in_order & is_short
    copied[copied] = ~trace.is_kernel[before[copied]]
    rest = np.flatnonzero(between & ~(in_order & is_short))
    on_stream = np.full(len(found), -1, dtype=np.int64)
    on_stream[rest] = _stream_waited_for(trace, before[rest], after[rest])
    depends = on_stream >= 0
    own = in_order & is_short & ~copied
    own[rest] = ~depends[rest] & is_short[rest] & _waits_would_show(trace, after[rest])
    host = _host_waited_for(trace)
    return Waits(
        stream_wait_ns=np.where(depends, waiting, 0),
        copy_wait_ns=np.where(copied, waiting, 0),
        device_dispatch_ns=np.where(own, waiting, 0),
        target=np.where(depends, STREAM + on_stream, np.where(copied, COPY, host)),
    )


def told(targets: Int64s) -> Objects:
    """What is waited for, in words such as `stream 20`; None for NOTHING."""
    distinct, code = np.unique(targets, return_inverse=True)
    return objects([_words(target) for target in distinct.tolist()])[code.reshape(-1)]


def _words(target: int) -> str | None:
    if target == NOTHING:
        return None
    if target >= COPY:
        return "a copy"
    if target >= DEVICE:
        return "the whole device"
    if target >= EVENT:
        return "an event"
    return f"an event of stream {target - EVENT_OF_STREAM}" if target >= EVENT_OF_STREAM else f"stream {target - STREAM}"


def _same_stream(trace: Trace, one: Int64s, other: Int64s) -> Bools:
    """For each pair of rows of `trace.gpu`, whether both ran on one stream of one device."""
    device, stream = trace.gpu["device"], trace.gpu["stream"]
    same: Bools = (device[one] == device[other]) & (stream[one] == stream[other])
    return same


# --- What a kernel waited for -------------------------------------------------------------------------------------------------


def _waits_would_show(trace: Trace, after: Int64s) -> Bools:
    """For each of these rows of `trace.gpu`, whether it is known that its stream was not told to wait, if no wait is recorded.

    Waits between the nodes of a graph are not recorded.
    """
    return (_named(trace, STREAM_WAIT).size > 0) & (trace.call_of_gpu[after] >= 0) & trace.first_of_launch[after]


def _stream_waited_for(trace: Trace, before: Int64s, after: Int64s) -> Int64s:
    """For each event `after` that waited for an event of another stream, that stream; else -1.

    Its stream was told so after the event before on it was launched, and before it was launched itself. If it is not recorded
    which stream, it is that of `before`, which ended last.
    """
    found = np.full(len(after), -1, dtype=np.int64)
    rows = _named(trace, STREAM_WAIT)
    if not len(rows) or not len(after):
        return found
    launch, previous = _launches(trace, after)
    for lane in np.unique(_lanes(trace.waits.take(rows)), axis=0).tolist():
        of_lane = rows[(_lanes(trace.waits.take(rows)) == lane).all(axis=1)]
        here = np.flatnonzero((_lanes(trace.gpu.take(after)) == lane).all(axis=1))
        of_lane = of_lane[np.argsort(trace.start_ns[trace.waits["event"][of_lane]], kind="stable")]
        time = trace.start_ns[trace.waits["event"][of_lane]]
        last = np.searchsorted(time, launch[here], side="right") - 1
        is_told = (last >= 0) & (time[np.maximum(last, 0)] > previous[here])
        recorded = trace.waits["on_stream"][of_lane[np.maximum(last, 0)]]
        on_other = np.where(_same_stream(trace, before[here], after[here]), -1, trace.gpu["stream"][before[here]])
        found[here] = np.where(is_told, np.where(recorded >= 0, recorded, on_other), -1)
    return found


def _lanes(table: Table) -> Int64s:
    """The device and stream of each row."""
    return np.stack((table["device"], table["stream"]), axis=1)


def _launches(trace: Trace, rows: Int64s) -> tuple[Int64s, Int64s]:
    """When each of these rows of `trace.gpu` was launched, and when the event before it on its stream was.

    An event without a call counts as launched when it starts, and one that is the first on its stream follows one of long ago.
    """
    call, start = trace.call_of_gpu, trace.start_ns[trace.gpu["event"]]
    launched = np.where(call >= 0, trace.start_ns[call], start)
    order = np.lexsort((start, trace.gpu["stream"], trace.gpu["device"]))
    previous = np.full(len(order), LONG_AGO, dtype=np.int64)
    follows = _same_stream(trace, order[1:], order[:-1])
    previous[order[1:][follows]] = launched[order[:-1][follows]]
    return launched[rows], previous[rows]


def _named(trace: Trace, name: str) -> Int64s:
    """The rows of `trace.waits` of this kind."""
    return np.flatnonzero(trace.names(trace.waits["event"]) == name).astype(np.int64)


# --- What the host waited for -------------------------------------------------------------------------------------------------


def _host_waited_for(trace: Trace) -> Int64s:
    """For each gap with time in which the host waited, what for; else NOTHING. It is that of the last call that waited."""
    found = gaps(trace)
    target = np.full(len(found), NOTHING, dtype=np.int64)
    waited = np.flatnonzero(found["host_sync_ns"] > 0)
    call = found["call"][waited]
    last = _last_before(trace, blocking_calls(trace), trace.events["thread"][call], trace.start_ns[call])
    target[waited] = _target_of(trace)[last]
    return target


def _last_before(trace: Trace, rows: Int64s, thread: Int64s, time: Int64s) -> Int64s:
    """For each thread and time, the last of these rows of `events` that starts on the thread before the time."""
    found = np.full(len(time), -1, dtype=np.int64)
    for one in np.unique(thread).tolist():
        mine = rows[trace.events["thread"][rows] == one]
        mine = mine[np.argsort(trace.start_ns[mine], kind="stable")]
        here = np.flatnonzero(thread == one)
        found[here] = mine[np.searchsorted(trace.start_ns[mine], time[here], side="left") - 1]
    return found


def _target_of(trace: Trace) -> Int64s:
    """What each event waits for, if it is a call that waits; NOTHING for all others and where nothing says it."""
    target = np.full(len(trace), NOTHING, dtype=np.int64)
    calls = blocking_calls(trace)
    wait = earliest_by_key(
        keys=trace.events["correlation"][calls],
        table_keys=trace.events["correlation"][trace.waits["event"]],
        table_times=trace.start_ns[trace.waits["event"]],
        table_rows=np.arange(len(trace.waits), dtype=np.int64),
        missing=NO_CORRELATION,
    )
    of_wait = np.array([*_targets(trace), NOTHING], dtype=np.int64)
    target[calls] = of_wait[wait]
    by_name = trace.named(calls, WAITS_FOR_DEVICE.match)
    target[by_name] = DEVICE
    return target


def _targets(trace: Trace) -> Int64s:
    """What each of `trace.waits` says that the host waited for."""
    name, stream, on_stream = trace.names(trace.waits["event"]), trace.waits["stream"], trace.waits["on_stream"]
    found = np.full(len(trace.waits), NOTHING, dtype=np.int64)
    found[name == CONTEXT_SYNC] = DEVICE
    found[name == EVENT_SYNC] = EVENT
    of_stream, of_event = (name == STREAM_SYNC) & (stream >= 0), (name == EVENT_SYNC) & (on_stream >= 0)
    found[of_stream] = STREAM + stream[of_stream]
    found[of_event] = EVENT_OF_STREAM + on_stream[of_event]
    return found
