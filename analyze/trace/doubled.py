"""Does the file hold events twice, and what is left without the second ones?

A stream runs one thing after the other, so two GPU events that are alike in everything, their id included, are one event that
was written twice. Files that were merged or exported twice hold such pairs. What else stands twice in such a file was written
twice as well. In other files two operators may be alike: one called the other within the same microsecond.
"""

from __future__ import annotations

import numpy as np

from tracekit.wording import counted, form

from .arrays import Bools, Int64s
from .subset import subset
from .trace import NO_CORRELATION, Trace, TraceWarning


def without_doubles(trace: Trace) -> Trace:
    """The trace with each event once. A warning tells how many stood there twice."""
    if not _may_hold_doubles(trace):
        return trace
    again = _again(trace)
    on_gpu = again[trace.gpu["event"]]
    has_id = trace.events["correlation"][trace.gpu["event"]] != NO_CORRELATION
    if not (on_gpu & has_id).any():
        return trace
    count, gpu_count = int(again.sum()), int(on_gpu.sum())
    told = TraceWarning(
        "doubled_events",
        f"{counted(count, 'event stands', 'events stand')} in the file more than once and {form(count, 'counts', 'count')} "
        f"once, {counted(gpu_count, 'GPU event', 'GPU events')} among them: was it merged or exported twice?",
        count,
    )
    return subset(trace, ~again, ~on_gpu, (*trace.warnings, told))


def _may_hold_doubles(trace: Trace) -> bool:
    """Whether two GPU events of one stream start in the same nanosecond. This is rare, and quick to see."""
    order = trace.gpu_order
    start, stream = trace.start_ns[trace.gpu["event"][order]], trace.gpu["stream"][order]
    return bool(((start[1:] == start[:-1]) & (stream[1:] == stream[:-1])).any())


def _again(trace: Trace) -> Bools:
    """For each event, whether one before it in the file is alike in everything that figures are made of."""
    place: Int64s = np.full((3, len(trace)), -1, dtype=np.int64)
    node = np.array([-1 if number is None else number for number in trace.gpu["graph_node_id"]], dtype=np.int64)
    for row, column in enumerate((trace.gpu["device"], trace.gpu["stream"], node)):
        place[row, trace.gpu["event"]] = column
    columns = ("category", "name", "start_ns", "duration_ns", "thread", "correlation", "signature")
    keys = np.stack((*(trace.events[column].astype(np.int64) for column in columns), *place), axis=1)
    again = np.ones(len(trace), dtype=np.bool_)
    again[np.unique(keys, axis=0, return_index=True)[1]] = False
    return again
