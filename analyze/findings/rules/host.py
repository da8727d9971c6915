"""Does the GPU wait because the host waits, loads data or does something else?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, percent

from ...activity.idle import blocking_calls
from ...activity.whatif import Program
from ...trace.arrays import Int64s
from ...trace.trace import Category, Trace
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from ..reasons import Reason
from .activities import LIBRARY, functions, innermost, named, of_reasons, share_of
from .needs import CALLS, DISPATCH, GPU, HOST, LOST, needs
from .wording import worst_place

LOADER = re.compile(r"enumerate\(DataLoader\)#")
"""The start of the name of the event in which PyTorch fetches the next batch of a DataLoader."""

PYTHON_LINE = re.compile(r"(?P<file>.+)\((?P<line>\d+)\): ")

WORST = 5


@needs(GPU, CALLS)
def host_sync(facts: Facts) -> Answer:
    """The host waited for the device before its next launch, so then the device waited for the host."""
    waited, saved = facts.idle.host_sync_ns, facts.saved(_without_waits)
    holds_up = waited if _once_a_step(facts) else max(waited, saved.saving_ns)
    if facts.share(holds_up) < facts.thresholds.host_sync:
        return None
    if facts.explained_by_loss("host_sync"):
        return CannotTell("host_sync", LOST)
    rows = _waits(facts.trace)
    line = next((row["line"] for row in rows if row["line"]), None)
    return Finding(
        code="host_sync",
        title="The host waits for the GPU, then the GPU for the host",
        severity=facts.severity(holds_up),
        affected_ns=holds_up,
        **(facts.without(Reason.WAITING) if _once_a_step(facts) else saved).fields,
        evidence=f"{percent(facts.share(waited))} of the span is idle inside blocking calls of the launching thread"
        + worst_place(facts, "host_sync")
        + _longest(rows)
        + (f", at {line}" if line else ""),
        action="Take .item(), .cpu(), print(tensor), boolean masks and torch.cuda.synchronize() out of the loop; keep flags "
        "and positions on the device and copy with non_blocking=True from pinned memory.",
        reasoning=(
            "The host waits once a step, as for its result. The program is played again without the idle time in these waits."
            if _once_a_step(facts)
            else "The program is played again without these waits: the host runs ahead as far as its own work lets it."
        )
        + " Rows are the blocking calls by operator and, where stacks are recorded, Python line.",
        rows=rows,
    )


def _longest(rows: tuple[Mapping[str, Any], ...]) -> str:
    """The blocking call with the longest waits, as a clause."""
    if not rows:
        return ""
    inside = f" in {rows[0]['operator']}" if rows[0]["operator"] else ""
    return (
        f"; the longest waits: {rows[0]['call']}{inside}, {counted(rows[0]['count'], 'time')}, {duration(rows[0]['wait_ns'])}"
    )


def _waits(trace: Trace) -> tuple[Mapping[str, Any], ...]:
    """The blocking calls by name, operator and Python line: how often each occurs, and how long the host was in it."""
    rows = blocking_calls(trace)
    operators = _names(trace, trace.enclosing(trace.operator_forest, rows))
    lines = _lines(trace, rows)
    keys = list(zip(trace.names(rows).tolist(), operators, lines, strict=True))
    waits: Counter[tuple[str, str | None, str | None]] = Counter()
    for key, wait_ns in zip(keys, trace.events["duration_ns"][rows].tolist(), strict=True):
        waits[key] += wait_ns
    count = Counter(keys)
    worst = sorted(waits, key=lambda key: (-waits[key], str(key)))[:WORST]
    return tuple(
        {"call": key[0], "operator": key[1], "line": key[2], "count": count[key], "wait_ns": waits[key]} for key in worst
    )


def _names(trace: Trace, rows: Int64s) -> list[str | None]:
    return [None if row < 0 else str(trace.strings[trace.events["name"][row]]) for row in rows.tolist()]


def _lines(trace: Trace, rows: Int64s) -> list[str | None]:
    """For each row, the innermost line of the user's own Python code around it, as `file:line`; None without one."""
    python = trace.where(Category.PYTHON)
    if not len(python):
        return [None] * len(rows)
    forest = trace.nested(trace.named(python, _own_line))
    return [None if name is None else _own_line(name) for name in _names(trace, trace.enclosing(forest, rows))]


def _own_line(name: str) -> str | None:
    """`file:line` from a Python event's name such as `train.py(12): step`. None for other names and for libraries."""
    found = PYTHON_LINE.match(name)
    return f"{found['file']}:{found['line']}" if found and not LIBRARY.match(found["file"]) else None


def _once_a_step(facts: Facts) -> bool:
    """Whether the host waits once a step, as for its result. Such a wait is no habit that one could drop.

    Where nothing tells the steps, a graph's launch is taken for one.
    """
    waits = int((facts.played.waits_for >= 0).sum())
    return 2 * waits <= 3 * (len(facts.steps.table) or facts.launches.graph_launches)


def _without_waits(program: Program) -> Program:
    """The program without its waits for the device, but for the last, after which nothing is launched."""
    last = int(program.item.max(initial=-1))
    return program.without_waits((program.waits_for >= 0) & (np.arange(len(program.row)) < last))


@needs(GPU, CALLS, DISPATCH)
def host_late(facts: Facts) -> Answer:
    """The GPU waits while the launching thread is in no operator: it runs other Python code, or nothing that is recorded."""
    late = facts.reason_ns(Reason.ELSE)
    if facts.share(late) < facts.thresholds.host_late:
        return None
    if facts.explained_by_loss("host_other"):
        return CannotTell("host_late", LOST)
    chosen = of_reasons(facts, Reason.ELSE)
    lines, places = functions(facts, chosen), innermost(facts, chosen)
    told = "; ".join(f"{row['function']} {duration(row['idle_ns'])} ({percent(row['idle_ns'] / late)})" for row in lines[:3])
    return Finding(
        code="host_late",
        title="The GPU waits while the host is outside PyTorch",
        severity=facts.severity(late),
        affected_ns=late,
        **facts.without(Reason.ELSE).fields,
        evidence=f"{share_of(facts, late)}, is idle while the launching thread is in no operator"
        + (f": {told}" if lines else f": {named(places)}"),
        action="Take the work of these functions out of the loop: do it in another thread or process, for the step before "
        "while the GPU runs this one, or less often."
        if lines
        else "Look at the Python between the operators: logging, tokenising, a Python loop over tokens, a data pipeline other "
        "than DataLoader. Profile with with_stack=True to see its lines.",
        reasoning="Idle time in which the launching thread was in no operator, no call and no fetch of a batch. The program is "
        "played again without it. Functions are told with all that is inside them.",
        rows=(*lines, *places),
    )


@needs(GPU, CALLS, HOST)
def data_loader(facts: Facts) -> Answer:
    """The GPU waits for the next batch."""
    waited = facts.reason_ns(Reason.LOADING)
    if facts.share(waited) < facts.thresholds.data_loader:
        return None
    trace = facts.trace
    rows = _loads(trace)
    host = int(trace.events["duration_ns"][rows].sum())
    inside = innermost(facts, of_reasons(facts, Reason.LOADING))
    return Finding(
        code="data_loader",
        title="The GPU waits for the DataLoader",
        severity=facts.severity(waited),
        affected_ns=waited,
        **facts.without(Reason.LOADING).fields,
        evidence=f"{percent(facts.share(waited))} of the span is idle while the launching thread fetches a batch: "
        f"{counted(len(rows), 'fetch', 'fetches')}, {duration(host)} together; most of it in {inside[0]['name']}",
        action="DataLoader(num_workers=8, pin_memory=True, persistent_workers=True, prefetch_factor=4), and "
        "batch.to(device, non_blocking=True); then move heavy transforms to the device or cache their results.",
        reasoning="The idle time that lies inside a fetch on the thread that launched what ended the gap, whatever operators "
        "run there. The program is played again as if every batch had been ready.",
        rows=({"fetches": len(rows), "host_ns": host, "idle_ns": waited}, *inside),
    )


def _loads(trace: Trace) -> Int64s:
    """The rows of the events that fetch a batch."""
    return trace.named(trace.where(Category.OPERATOR, Category.ANNOTATION), LOADER.match)
