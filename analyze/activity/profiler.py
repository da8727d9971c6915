"""How much of the GPU's idle time did the profiler itself cost?

It asks for buffers and flushes them, and the program waits meanwhile. The recording does not say which thread waited. So the
idle time in which the profiler was at work is what it cost at most.
"""

from __future__ import annotations

import re
from dataclasses import asdict

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Int64s
from ..trace.intervals import Union, merge
from ..trace.once import once
from ..trace.trace import Category, Trace
from .idle import IdleCauses, causes_within, gaps, idle

OWN_WORK = re.compile(r"(?i).*buffer[ _](?:request|flush)|.*\b(?:instrumentation|resource)\b")
"""The profiler's own work, by the name of its `overhead` event. CUPTI records the loading of modules and full command buffers
in the same category, but these cost time without a profiler as well."""


@once
def profiler_idle(trace: Trace) -> IdleCauses:
    """The part of each cause of idle time in which the profiler was at work, in ns. Zero if nothing of it was recorded."""
    return IdleCauses(**{column: int(values.sum()) for column, values in _parts(trace)[1].items()})


def program_idle(trace: Trace) -> IdleCauses:
    """The idle time of each cause in which the profiler was not at work, in ns: what the program itself may change."""
    found, part = idle(trace), profiler_idle(trace)
    return IdleCauses(**{name: value - getattr(part, name) for name, value in asdict(found).items()})


@once
def profiler_of_gaps(trace: Trace) -> Int64s:
    """For each of `gaps`, the time in ns in which the profiler was at work."""
    row, parts = _parts(trace)
    total = np.zeros(len(gaps(trace)), dtype=np.int64)
    np.add.at(total, row, sum(parts.values()))
    return total


def profiler_work(trace: Trace) -> Int64s:
    """Rows of the events that are the profiler's own work."""
    return trace.named(trace.where(Category.OVERHEAD), OWN_WORK.match)


@once
def _parts(trace: Trace) -> tuple[Int64s, dict[str, Int64s]]:
    """The pieces of gaps in which the profiler was at work: the gap (row of `gaps`) of each, and its ns by cause."""
    rows, found = profiler_work(trace), gaps(trace)
    row, start, end = _pieces(found, merge(trace.start_ns[rows], trace.end_ns[rows]))
    return row, causes_within(trace, found.take(row), start, end)


def _pieces(found: Table, union: Union) -> tuple[Int64s, Int64s, Int64s]:
    """Where gaps and the intervals of a union overlap: the row of the gap, start and end of each piece."""
    first = np.searchsorted(union.end, found["start_ns"], side="right")
    count = np.maximum(np.searchsorted(union.start, found["end_ns"], side="left") - first, 0)
    row = np.repeat(np.arange(len(found)), count)
    interval = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + first[row]
    start = np.maximum(found["start_ns"][row], union.start[interval])
    end = np.minimum(found["end_ns"][row], union.end[interval])
    return row, start, end
