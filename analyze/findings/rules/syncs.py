"""Does the host wait for the device in the loop, so that the device waits for the host afterwards?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, number, percent

from ...activity.program import waiting_calls
from ...trace.arrays import Bools, Int64s
from ...trace.intervals import merge
from ...trace.trace import Category, Trace
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from ..reasons import Reason
from .activities import LIBRARY
from .needs import CALLS, GPU, LOST, needs
from .wording import worst_place

PYTHON_LINE = re.compile(r"(?P<file>.+)\((?P<line>\d+)\): ")

FETCH = re.compile(r"aten::(?:item|_local_scalar_dense|is_nonzero|_to_copy|to|copy_|cpu|equal|allclose|tolist)")
"""The operators that fetch values from the device, unless they copy to it."""
UPLOAD = re.compile(r"(?i)HtoD|HostToDevice")
CHECK = re.compile(
    r"aten::(?:linalg_vector_norm|norm|max|min|amax|amin|any|all|isfinite|isnan|isinf|abs|sign|eq|ne|lt|le|gt|ge|logical_\w+"
    r"|count_nonzero|argmax|select|index|slice|detach|_is_all_true|_is_any_true|bitwise_\w+)"
)
"""The operators that only make a value to look at. One whose result is used otherwise may be among them."""

WORST = 5


@needs(GPU, CALLS)
def host_sync(facts: Facts) -> Answer:
    """The host waited for the device before its next launch, so then the device waited for the host."""
    once, waited = _once_a_step(facts), facts.idle.host_sync_ns
    saved = facts.saved(_sooner(facts) if once else _without_waits(facts))
    holds_up = waited if once else max(waited, saved.saving_ns)
    if facts.share(holds_up) < facts.thresholds.host_sync:
        return None
    if facts.explained_by_loss("host_sync"):
        return CannotTell("host_sync", LOST)
    rows = _waits(facts.trace)
    line = next((row["line"] for row in rows if row["line"]), None)
    return Finding(
        code="host_sync",
        title="The host waits for the GPU, then the GPU for the host",
        severity=facts.severity(saved),
        affected_ns=holds_up,
        **saved.fields,
        evidence=_told(facts, waited) + worst_place(facts, "host_sync") + _longest(rows) + (f", at {line}" if line else ""),
        action="Take .item(), .cpu(), print(tensor), boolean masks and torch.cuda.synchronize() out of the loop; keep flags "
        "and positions on the device and copy with non_blocking=True from pinned memory.",
        snippet="history.append(loss.detach())  # on the device, not loss.item()\n"
        "if step % 100 == 0:\n    print(torch.stack(history).mean().item())",
        reasoning=(
            "The host waits once a step, as for its result. The program is played again without the idle time in these waits."
            if once
            else "The program is played again without these waits, and without what only serves them: the operators and copies "
            "that fetch the values, and the checks (norm, max, comparison) right before them. The host then runs ahead as far "
            "as its own work lets it."
        )
        + " Rows are the blocking calls by operator and, where stacks are recorded, Python line.",
        rows=rows,
    )


def _sooner(facts: Facts) -> Change:
    """Without the idle time inside the waits."""
    share = facts.shares(Reason.WAITING)
    return lambda program: program.without_share(share)


def _without_waits(facts: Facts) -> Change:
    """Without the waits for the device, and without the operators, kernels and copies that only serve them.

    The last wait, after which nothing is launched, stays.
    """
    trace, played = facts.trace, facts.played
    last = int(played.item.max(initial=-1))
    blocking = np.intersect1d(waiting_calls(trace), played.row[:last])
    around = _outermost(trace, blocking)
    uploads = _uploads(trace, np.where(around >= 0, around, blocking))
    blocking, around = blocking[~uploads], around[~uploads]
    waits, fetching = np.isin(played.row, blocking), np.unique(around[around >= 0])
    serving = np.union1d(fetching, _checks(trace, fetching))
    share = facts.share_of(np.concatenate((serving, blocking)))
    inside = merge(trace.start_ns[serving], trace.end_ns[serving])
    call = trace.call_of_gpu
    moment = trace.start_ns[call]
    gone = (call >= 0) & (inside.within(moment, moment + 1) > 0)
    saving = np.where(gone, trace.events["duration_ns"][trace.gpu["event"]], 0).astype(np.float64)
    return lambda program: program.without_waits(waits).without_share(share).faster(saving)


def _outermost(trace: Trace, blocking: Int64s) -> Int64s:
    """For each blocking call the outermost operator around it that only fetches a value, as `aten::item` does, or -1."""
    forest, found = trace.operator_forest, trace.enclosing(trace.operator_forest, blocking)
    fetching = np.append(trace.strings_that(FETCH.fullmatch)[trace.events["name"]], False)
    current = np.where(fetching[found], found, -1)
    parent = np.full(len(trace) + 1, -1, dtype=np.int64)
    parent[forest.rows] = forest.parent
    while (outer := fetching[parent[current]] & (current >= 0)).any():
        current = np.where(outer, parent[current], current)
    return current


def _uploads(trace: Trace, rows: Int64s) -> Bools:
    """Which of these operators and calls copy something to the device: it is needed there."""
    copies = trace.gpu["event"]
    to_device = np.append(trace.strings_that(UPLOAD.search), False)[trace.events["name"][copies]] & (trace.call_of_gpu >= 0)
    call = trace.call_of_gpu[to_device]
    thread = trace.events["thread"]
    order = np.lexsort((trace.start_ns[call], thread[call]))
    found = np.zeros(len(rows), dtype=np.bool_)
    for one in np.unique(thread[rows]).tolist():
        mine = thread[rows] == one
        starts = trace.start_ns[call[order][thread[call[order]] == one]]
        first = np.searchsorted(starts, trace.start_ns[rows[mine]], side="left")
        found[mine] = np.searchsorted(starts, trace.end_ns[rows[mine]], side="left") > first
    return found


def _checks(trace: Trace, fetches: Int64s) -> Int64s:
    """The operators right before these on the same thread that reduce or compare, and so make what is fetched."""
    forest = trace.operator_forest
    outermost = forest.rows[forest.parent < 0]
    thread = trace.events["thread"][outermost]
    order = np.lexsort((trace.start_ns[outermost], thread))
    rows, thread = outermost[order], thread[order]
    is_check = trace.strings_that(CHECK.fullmatch)[trace.events["name"][rows]]
    serves = np.isin(rows, fetches)
    following = np.append(thread[1:] == thread[:-1], False)
    while True:
        more = is_check & following & np.append(serves[1:], False) & ~serves
        if not more.any():
            return rows[serves & ~np.isin(rows, fetches)]
        serves |= more


def _told(facts: Facts, waited: int) -> str:
    """How often the host waits, and how much of the GPU's idle time lies in the waits themselves."""
    played, steps = facts.played, len(facts.steps.table)
    waits = int((np.isin(played.row, waiting_calls(facts.trace)) & (played.waits_for >= 0)).sum())
    each = f", {number(waits / steps)} a step" if steps > 1 else ""
    return (
        f"The host waits for the GPU {counted(waits, 'time')}{each}, and each time the GPU's queue runs dry; "
        f"{percent(facts.share(waited))} of the span is idle in the waits themselves"
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
    rows = waiting_calls(trace)
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
    played = facts.played
    waits = int((np.isin(played.row, waiting_calls(facts.trace)) & (played.waits_for >= 0)).sum())
    return 2 * waits <= 3 * (len(facts.steps.table) or facts.launches.graph_launches)
