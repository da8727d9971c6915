"""Which gaps cost the most, and what do they have in common?"""

from __future__ import annotations

import numpy as np

from tracekit.schema import CAUSES
from tracekit.table import Table

from ..trace.arrays import Int64s, Objects
from ..trace.group import Groups, group
from ..trace.trace import Trace
from .idle import gaps
from .profiler import profiler_of_gaps
from .waits import NOTHING, told, waits

WINDOW_BEGINS, WINDOW_ENDS = "(the window begins)", "(the window ends)"
"""What lies beside the first and the last gap of a device, if a process drives several."""
WAITS = ("stream_wait_ns", "copy_wait_ns", "device_dispatch_ns")
"""The parts of the device's wait, as `Waits` has them."""
SUMS = (*(f"{cause}_ns" for cause in CAUSES), *WAITS, "profiler_ns")
LONGEST = 1_000
"""How many single gaps are kept. The groups hold all gaps."""


def longest_gaps(trace: Trace) -> Table:
    """The longest idle gaps of the GPU, the longest first.

    Columns: `start_ns`, `duration_ns`, `cause` (the cause with most time), a column of ns for each cause, the parts of the
    device's wait and the profiler's time (see `Waits` and `profiler_of_gaps`), `waits_for` (what for), `before` and `after`
    (names of the GPU events on either side), `operator` and `call` (names of what launched `after`) and `thread` (`"pid/tid"`
    of that call). `waits_for`, `operator`, `call` and `thread` are None where unknown.
    """
    found = _with_reasons(trace)
    duration = found["end_ns"] - found["start_ns"]
    order = np.argsort(-duration, kind="stable")[:LONGEST]
    found, duration = found.take(order), duration[order]
    call = found["call"]
    return Table(
        {
            "start_ns": found["start_ns"],
            "duration_ns": duration,
            "cause": _main_cause(found),
            **{column: found[column] for column in SUMS},
            "waits_for": told(found["target"]),
            "before": _names_of_gpu(trace, found["before"], WINDOW_BEGINS),
            "after": _names_of_gpu(trace, found["after"], WINDOW_ENDS),
            "operator": _names_or_none(trace, _operators(trace, found["after"])),
            "call": _names_or_none(trace, call),
            "thread": _threads_or_none(trace, call),
        }
    )


def gap_groups(trace: Trace) -> Table:
    """A row for all idle gaps before one kernel that one operator and call launched, the most idle time first.

    Columns: `after` (the kernel's name), `operator`, `call`, `cause` (the cause with most time), `count`, `idle_ns`, the sums
    of `longest_gaps`, and `waits_for` (of most idle time for which something tells it).
    """
    found = _with_reasons(trace)
    duration = found["end_ns"] - found["start_ns"]
    after = _name_codes(trace, _events(trace, found["after"]))
    operator, call = _name_codes(trace, _operators(trace, found["after"])), _name_codes(trace, found["call"])
    distinct, code = np.unique(np.stack((after, operator, call), axis=1), axis=0, return_inverse=True)
    by_group = group(code.reshape(-1))
    sums = {column: by_group.sum(found[column]) for column in SUMS}
    table = Table(
        {
            "after": np.where(distinct[:, 0] >= 0, trace.strings[distinct[:, 0]], WINDOW_ENDS),
            "operator": _strings_or_none(trace, distinct[:, 1]),
            "call": _strings_or_none(trace, distinct[:, 2]),
            "cause": _main_cause(Table(sums)),
            "count": by_group.count,
            "idle_ns": by_group.sum(duration),
            **sums,
            "waits_for": told(_main_target(by_group, found["target"], duration)),
        }
    )
    return table.sorted_by("idle_ns", descending=True)


def _with_reasons(trace: Trace) -> Table:
    """All gaps, with what they waited for and the profiler's part of them."""
    found, reasons = gaps(trace), waits(trace)
    parts = {part: getattr(reasons, part) for part in WAITS}
    return Table({**found.columns, **parts, "profiler_ns": profiler_of_gaps(trace), "target": reasons.target})


def _main_target(groups: Groups, target: Int64s, duration: Int64s) -> Int64s:
    """What most of each group's time waited for, among what is known; NOTHING where nothing is."""
    known = np.flatnonzero(target != NOTHING)
    kinds, code = np.unique(np.stack((groups.code[known], target[known]), axis=1), axis=0, return_inverse=True)
    time = group(code.reshape(-1)).sum(duration[known])
    order = np.argsort(time, kind="stable")  # the last one written is the longest
    found = np.full(len(groups.keys), NOTHING, dtype=np.int64)
    found[kinds[order, 0]] = kinds[order, 1]
    return found


def _events(trace: Trace, gpu: Int64s) -> Int64s:
    """The row of `events` of each of these rows of `trace.gpu`; -1 for -1."""
    return np.where(gpu >= 0, trace.gpu["event"][gpu], -1) if len(gpu) else gpu


def _operators(trace: Trace, gpu: Int64s) -> Int64s:
    """The row of the operator that launched each of these rows of `trace.gpu`, or -1."""
    return np.where(gpu >= 0, trace.operator_of_gpu[gpu], -1) if len(gpu) else gpu


def _names_of_gpu(trace: Trace, gpu: Int64s, none: str) -> Objects:
    """The names of these rows of `trace.gpu`; for -1 the words given."""
    rows = _events(trace, gpu)
    names: Objects = np.where(rows >= 0, trace.names(rows), none)
    return names


def _main_cause(causes: Table) -> Objects:
    """The cause with most time in each row. Of equal causes it is the first in the order of `CAUSES`."""
    parts = np.stack([causes[f"{cause}_ns"] for cause in CAUSES])
    largest: Objects = np.array(CAUSES, dtype=object)[np.argmax(parts, axis=0)]
    return largest


def _name_codes(trace: Trace, rows: Int64s) -> Int64s:
    """For each row of `events`, the code of its name; -1 for row -1."""
    return np.where(rows >= 0, trace.events["name"][rows].astype(np.int64), -1)


def _strings_or_none(trace: Trace, codes: Int64s) -> Objects:
    strings: Objects = trace.strings[codes]
    strings[codes < 0] = None
    return strings


def _names_or_none(trace: Trace, rows: Int64s) -> Objects:
    return _strings_or_none(trace, _name_codes(trace, rows))


def _threads_or_none(trace: Trace, rows: Int64s) -> Objects:
    labels = np.array([f"{pid}/{tid}" for pid, tid in trace.threads], dtype=object)
    threads: Objects = labels[trace.events["thread"][rows]]
    threads[rows < 0] = None
    return threads
