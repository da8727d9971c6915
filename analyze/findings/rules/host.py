"""Does the GPU wait because the host loads data, or runs Python?"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from tracekit.wording import counted, duration, percent

from ...activity.whatif import Program
from ...trace.arrays import Int64s
from ...trace.trace import Category, Trace
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from ..reasons import Reason, rows_of
from .activities import Rows, functions, innermost, named, of_reasons, share_of
from .needs import CALLS, DISPATCH, GPU, HOST, LOST, needs
from .python_stalls import stalled_ns

LOADER = re.compile(r"enumerate\(DataLoader\)#")
"""The start of the name of the event in which PyTorch fetches the next batch of a DataLoader."""

SINGLE = re.compile(r"_SingleProcessDataLoaderIter")
WORKERS = 8
"""So many workers the remedy names."""


@needs(GPU, CALLS, DISPATCH)
def host_late(facts: Facts) -> Answer:
    """The GPU waits while the launching thread is in no operator: it runs other Python code, or nothing that is recorded."""
    late = facts.reason_ns(Reason.ELSE)
    if facts.share(late) < facts.thresholds.host_late:
        return None
    if facts.explained_by_loss("host_other"):
        return CannotTell("host_late", LOST)
    chosen = of_reasons(facts, Reason.ELSE)
    if 2 * stalled_ns(facts) > late:
        return None  # `lock_waits` and `logging` tell it
    lines, places = functions(facts, chosen), innermost(facts, chosen)
    saved = facts.without(Reason.ELSE)
    told = "; ".join(f"{row['function']} {duration(row['idle_ns'])} ({percent(row['idle_ns'] / late)})" for row in lines[:3])
    return Finding(
        code="host_late",
        title="The GPU waits while the host is outside PyTorch",
        severity=facts.severity(saved),
        affected_ns=late,
        **saved.fields,
        evidence=f"{share_of(facts, late)}, is idle while the launching thread is in no operator"
        + (f": {_innermost(places, late)}{told}" if lines else f": {named(places)}"),
        action="Take the work of these functions out of the loop: do it in another thread or process, for the step before "
        "while the GPU runs this one, or less often."
        if lines
        else "Look at the Python between the operators: logging, tokenising, a Python loop over tokens, a data pipeline other "
        "than DataLoader. Profile with with_stack=True to see its lines.",
        reasoning="Idle time in which the launching thread was in no operator, no call and no fetch of a batch. The program is "
        "played again without it. Functions are told with all that is inside them.",
        rows=(*lines, *places),
    )


def _innermost(places: Rows, late_ns: int) -> str:
    """The function in which itself most of the time passes, as a clause; empty if no one takes a third of it."""
    by_name: Counter[str] = Counter()
    for row in places:
        by_name[row["name"]] += row["idle_ns"]
    name, ns = by_name.most_common(1)[0] if by_name else ("", 0)
    return f"{duration(ns)} of it in {name} itself; functions with all inside them: " if 3 * ns >= late_ns else ""


@needs(GPU, CALLS, HOST)
def data_loader(facts: Facts) -> Answer:
    """The GPU waits for the next batch."""
    waited = facts.reason_ns(Reason.LOADING)
    if facts.share(waited) < facts.thresholds.data_loader:
        return None
    trace = facts.trace
    rows = _loads(trace)
    if not len(rows):  # only Python's functions tell the fetches
        rows = rows_of(trace, Reason.LOADING)
    host = int(trace.events["duration_ns"][rows].sum())
    inside, saved = innermost(facts, of_reasons(facts, Reason.LOADING)), facts.saved(_with_workers(facts, rows))
    return Finding(
        code="data_loader",
        title="The GPU waits for the DataLoader",
        severity=facts.severity(saved),
        affected_ns=waited,
        **saved.fields,
        evidence=f"{percent(facts.share(waited))} of the span is idle while the launching thread fetches a batch: "
        f"{counted(len(rows), 'fetch', 'fetches')}, {duration(host)} together; most of it in {inside[0]['name']}",
        action="DataLoader(num_workers=8, pin_memory=True, persistent_workers=True, prefetch_factor=4), and "
        "batch.to(device, non_blocking=True); then move heavy transforms to the device or cache their results.",
        snippet="loader = DataLoader(data, batch, num_workers=8, pin_memory=True,\n"
        "                    persistent_workers=True, prefetch_factor=4)",
        reasoning="The idle time that lies inside a fetch on the thread that launched what ended the gap, whatever operators "
        "run there. The program is played again with batches that are ready when they are needed, but not more often than "
        f"{WORKERS} workers make them, each as fast as the launching thread did.",
        rows=({"fetches": len(rows), "host_ns": host, "idle_ns": waited}, *inside),
    )


def _with_workers(facts: Facts, rows: Int64s) -> Change:
    """The program with batches that workers make: one in an n-th of the time that the launching thread took for it.

    Where workers made them already, a batch is taken to be ready: how long they need for one is not known.
    """
    share, waits = facts.work_of(Reason.LOADING), np.isin(facts.played.row, rows)
    single = bool(facts.trace.strings_of(rows, SINGLE.search).any())

    def change(program: Program) -> Program:
        work = share * (program.work_ns + program.call_ns)
        ready = program.without_waits(waits).without_work(work)
        fetch, rest = float(work.sum()) / max(len(rows), 1), ready.total_ns / max(len(rows), 1)
        left = max(fetch / WORKERS - rest, 0.0) / fetch if single and fetch else 0.0
        return program.without_waits(waits).without_work((1 - left) * work)

    return change


def _loads(trace: Trace) -> Int64s:
    """The rows of the events that fetch a batch."""
    return trace.named(trace.where(Category.OPERATOR, Category.ANNOTATION), LOADER.match)
