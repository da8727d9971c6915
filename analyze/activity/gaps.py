"""Which gaps cost the most, and what do they have in common?"""

from __future__ import annotations

import numpy as np

from tracekit.schema import CAUSES
from tracekit.table import Table

from ..trace.arrays import Int64s, Objects
from ..trace.group import group
from ..trace.trace import Trace
from .idle import gaps

WINDOW_BEGINS, WINDOW_ENDS = "(the window begins)", "(the window ends)"
"""What lies beside the first and the last gap of a device, if a process drives several."""
LONGEST = 1_000
"""How many single gaps are kept. The groups hold all gaps."""


def longest_gaps(trace: Trace) -> Table:
    """The longest idle gaps of the GPU, the longest first.

    Columns: `start_ns`, `duration_ns`, `cause` (the cause with most time), a column of ns for each cause, `before` and `after`
    (names of the GPU events on either side), `operator` and `call` (names of what launched `after`) and `thread` (`"pid/tid"`
    of that call). The last three are None where unknown.
    """
    found = gaps(trace)
    duration = found["end_ns"] - found["start_ns"]
    order = np.argsort(-duration, kind="stable")[:LONGEST]
    found, duration = found.take(order), duration[order]
    call = found["call"]
    return Table(
        {
            "start_ns": found["start_ns"],
            "duration_ns": duration,
            "cause": _main_cause(found),
            **{f"{cause}_ns": found[f"{cause}_ns"] for cause in CAUSES},
            "before": _names_of_gpu(trace, found["before"], WINDOW_BEGINS),
            "after": _names_of_gpu(trace, found["after"], WINDOW_ENDS),
            "operator": _names_or_none(trace, _operators(trace, found["after"])),
            "call": _names_or_none(trace, call),
            "thread": _threads_or_none(trace, call),
        }
    )


def gap_groups(trace: Trace) -> Table:
    """A row for all idle gaps before one kernel that one operator and call launched, the most idle time first.

    Columns: `after` (the kernel's name), `operator`, `call`, `cause` (the cause with most time), `count`, `idle_ns` and a
    column of ns for each cause.
    """
    found = gaps(trace)
    after = _name_codes(trace, _events(trace, found["after"]))
    operator, call = _name_codes(trace, _operators(trace, found["after"])), _name_codes(trace, found["call"])
    distinct, code = np.unique(np.stack((after, operator, call), axis=1), axis=0, return_inverse=True)
    by_group = group(code.reshape(-1))
    sums = {f"{cause}_ns": by_group.sum(found[f"{cause}_ns"]) for cause in CAUSES}
    table = Table(
        {
            "after": np.where(distinct[:, 0] >= 0, trace.strings[distinct[:, 0]], WINDOW_ENDS),
            "operator": _strings_or_none(trace, distinct[:, 1]),
            "call": _strings_or_none(trace, distinct[:, 2]),
            "cause": _main_cause(Table(sums)),
            "count": by_group.count,
            "idle_ns": by_group.sum(found["end_ns"] - found["start_ns"]),
            **sums,
        }
    )
    return table.sorted_by("idle_ns", descending=True)


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
