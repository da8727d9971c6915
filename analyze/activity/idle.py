"""Where does the GPU's idle time go?

Each gap between GPU events is explained by what the host did in the meantime. The six causes add up exactly to the gap, and
the gaps add up to the idle time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.schema import CAUSES
from tracekit.table import Table

from ..trace.arrays import Int64s
from ..trace.calls import BLOCKING_CALL
from ..trace.once import once
from ..trace.trace import Trace


@dataclass(frozen=True)
class IdleCauses:
    """Idle time of the GPU by cause, in ns. The six causes add up to the GPU's idle time."""

    host_sync_ns: int
    dispatch_ns: int
    host_other_ns: int
    launch_latency_ns: int
    device_wait_ns: int
    unattributed_ns: int

    @property
    def total_ns(self) -> int:
        """All idle time."""
        return sum(getattr(self, f"{cause}_ns") for cause in CAUSES)

    @property
    def launch_overhead_ns(self) -> int:
        """Idle time that launching costs: the framework's dispatch plus the latency of the launches."""
        return self.dispatch_ns + self.launch_latency_ns


def idle(trace: Trace) -> IdleCauses:
    """The GPU's idle time by cause. All causes are zero if there are no GPU events."""
    found = gaps(trace)
    return IdleCauses(**{f"{cause}_ns": int(found[f"{cause}_ns"].sum()) for cause in CAUSES})


@once
def gaps(trace: Trace) -> Table:
    """Every gap between GPU events of a device, in the order of time.

    Columns (int64): `start_ns`, `end_ns`; `before` (row of `trace.gpu`: the event that ended last before the gap), `after`
    (row of `trace.gpu`: the event whose start ends the gap), `call` (row of `trace.events` that launched `after`, or -1),
    `queued` (bool: `after` had been launched when the gap began) and a column of ns for each cause. If a process drives several
    devices, each also has a gap from the process's first GPU event to its own, with `before` -1, and one from its last event to
    the process's last, with `after` -1.
    """
    several = len(trace.by_device) > 1
    parts = [_gaps_of(trace, rows, trace.window if several else None) for rows in trace.by_device.values()]
    names = ("start_ns", "end_ns", "before", "after")
    whole = {name: np.concatenate([np.empty(0, np.int64), *(part[at] for part in parts)]) for at, name in enumerate(names)}
    order = np.argsort(whole["start_ns"], kind="stable")
    start, end, before, after = (whole[name][order] for name in names)
    call = np.where(after >= 0, trace.call_of_gpu[after], -1) if len(after) else after
    first = (after < 0) | trace.first_of_launch[after] if len(after) else np.empty(0, dtype=np.bool_)
    # A later node of a graph was launched together with the first node, even if the launch itself was not recorded.
    queued = ~first | ((call >= 0) & (trace.end_ns[call] <= start))
    found = Table({"start_ns": start, "end_ns": end, "before": before, "after": after, "call": call, "queued": queued})
    return Table({**found.columns, **causes_within(trace, found, start, end)})


def _gaps_of(trace: Trace, order: Int64s, window: tuple[int, int] | None) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """The gaps of one device, whose events are given in the order of their start: starts, ends, events before and after.

    With a window, the time in it before the first event and after the last one are gaps as well.
    """
    start, end = trace.start_ns[trace.gpu["event"][order]], trace.end_ns[trace.gpu["event"][order]]
    latest = np.maximum.accumulate(end)
    opens = np.flatnonzero(start[1:] > latest[:-1]) + 1
    last_to_end = np.maximum.accumulate(np.where(end == latest, np.arange(len(end)), 0))
    found = (latest[opens - 1], start[opens], order[last_to_end[opens - 1]], order[opens])
    if window is None:
        return found
    first = (window[0], int(start[0]), -1, int(order[0]))
    last = (int(latest[-1]), window[1], int(order[last_to_end[-1]]), -1)
    whole = [np.concatenate(([head], middle, [tail])) for head, middle, tail in zip(first, found, last, strict=True)]
    real = whole[0] < whole[1]
    return whole[0][real], whole[1][real], whole[2][real], whole[3][real]


def causes_within(trace: Trace, found: Table, start: Int64s, end: Int64s) -> dict[str, Int64s]:
    """The causes of parts of gaps, a column of ns for each: the part [start, end) lies within the gap of the same row."""
    length = end - start
    call, queued = found["call"], found["queued"]
    known = call >= 0
    call_start = np.where(known, trace.start_ns[call], start)
    launched = np.clip(call_start, start, end)  # when the host began to launch
    late = known & ~queued
    host = np.where(late, launched - start, 0)
    sync, dispatch = _host_activity(trace, start, start + host, np.where(late, trace.events["thread"][call], -1))
    return {
        "host_sync_ns": sync,
        "dispatch_ns": dispatch,
        "host_other_ns": host - sync - dispatch,
        "launch_latency_ns": np.where(late, end - launched, 0),
        "device_wait_ns": np.where(queued, length, 0),
        "unattributed_ns": np.where(known | queued, 0, length),
    }


def _host_activity(trace: Trace, start: Int64s, end: Int64s, thread: Int64s) -> tuple[Int64s, Int64s]:
    """For each span [start, end), the time that its thread spent in blocking calls, and the other time in operators."""
    blocking = blocking_calls(trace)
    sync = trace.covered(blocking, thread, start, end)
    either = trace.covered(np.concatenate((blocking, trace.operators)), thread, start, end)
    return sync, either - sync


@once
def blocking_calls(trace: Trace) -> Int64s:
    """Rows of the calls that wait for the device."""
    return trace.named(trace.calls, BLOCKING_CALL.match)
