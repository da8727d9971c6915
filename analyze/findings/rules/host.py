"""Does the GPU wait because the host waits, loads data or does something else?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, percent

from ...activity.idle import blocking_calls, gaps
from ...trace.arrays import Int64s
from ...trace.trace import Category, Trace
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import CALLS, DISPATCH, GPU, HOST, LOST, needs
from .wording import places, worst_place

LOADER = re.compile(r"enumerate\(DataLoader\)#")
"""The start of the name of the event in which PyTorch fetches the next batch of a DataLoader."""

PYTHON_LINE = re.compile(r"(?P<file>.+)\((?P<line>\d+)\): ")
LIBRARY = re.compile(r"(?:.*/)?(?:site-packages|dist-packages|python3\.\d+)/|torch/|<|contextlib|threading")
"""Matches the paths of Python files of libraries and of the interpreter, which are not the user's own code."""

WORST = 5


@needs(GPU, CALLS)
def host_sync(facts: Facts) -> Answer:
    """The host waited for the device before its next launch, so then the device waited for the host."""
    waited = facts.idle.host_sync_ns
    if facts.share(waited) < facts.thresholds.host_sync:
        return None
    if facts.explained_by_loss("host_sync"):
        return CannotTell("host_sync", LOST)
    rows = _waits(facts.trace)
    line = next((row["line"] for row in rows if row["line"]), None)
    return Finding(
        code="host_sync",
        title="The host waits for the GPU, then the GPU for the host",
        severity=facts.severity(waited),
        affected_ns=waited,
        saving_ns=waited,
        evidence=f"{percent(facts.share(waited))} of the span is idle inside blocking calls of the launching thread"
        + worst_place(facts, "host_sync")
        + _longest(rows)
        + (f", at {line}" if line else ""),
        action="Take .item(), .cpu(), print(tensor), boolean masks and torch.cuda.synchronize() out of the loop; keep flags "
        "and positions on the device and copy with non_blocking=True from pinned memory.",
        reasoning="The idle time that lies inside blocking calls, all of it: an upper bound, since what is launched after "
        "them still has to be dispatched. Rows are the blocking calls by operator and, with_stack=True, Python line.",
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


@needs(GPU, CALLS, DISPATCH)
def host_late(facts: Facts) -> Answer:
    """The GPU waits while the launching thread is in no operator: it runs other Python code, or nothing."""
    late = max(facts.idle.host_other_ns - _loading_ns(facts.trace), 0)
    if facts.share(late) < facts.thresholds.host_late:
        return None
    if facts.explained_by_loss("host_other"):
        return CannotTell("host_late", LOST)
    return Finding(
        code="host_late",
        title="The GPU waits while the host is outside PyTorch",
        severity=facts.severity(late),
        affected_ns=late,
        saving_ns=late,
        evidence=f"{percent(facts.share(late))} of the span is idle while the launching thread is in no operator"
        + worst_place(facts, "host_other"),
        action="Look at the Python between the operators: logging, tokenising, a Python loop over tokens, a data pipeline "
        "other than DataLoader. Profile with with_stack=True to see its lines.",
        reasoning="The idle time in which the launching thread was in no operator and in no blocking call, less what a "
        "DataLoader took of it: an upper bound, as if all of that Python went away.",
        rows=places(facts, "host_other"),
    )


@needs(GPU, CALLS, HOST)
def data_loader(facts: Facts) -> Answer:
    """The GPU waits for the next batch."""
    waited = _loading_ns(facts.trace)
    if facts.share(waited) < facts.thresholds.data_loader:
        return None
    trace = facts.trace
    rows = _loads(trace)
    host = int(trace.events["duration_ns"][rows].sum())
    return Finding(
        code="data_loader",
        title="The GPU waits for the DataLoader",
        severity=facts.severity(waited),
        affected_ns=waited,
        saving_ns=waited,
        evidence=f"{percent(facts.share(waited))} of the span is idle while the launching thread fetches a batch: "
        f"{counted(len(rows), 'fetch', 'fetches')}, {duration(host)} together",
        action="DataLoader(num_workers=8, pin_memory=True, persistent_workers=True, prefetch_factor=4), and "
        "batch.to(device, non_blocking=True); then move heavy transforms to the device or cache their results.",
        reasoning="The idle time that lies inside `enumerate(DataLoader)` on the thread that launched what ended the gap: an "
        "upper bound, as if every batch had been ready.",
        rows=({"fetches": len(rows), "host_ns": host, "idle_ns": waited},),
    )


def _loads(trace: Trace) -> Int64s:
    """The rows of the events that fetch a batch."""
    return trace.named(trace.where(Category.OPERATOR, Category.ANNOTATION), LOADER.match)


def _loading_ns(trace: Trace) -> int:
    """How long the GPU was idle, in ns, while the thread that launched next was fetching a batch."""
    rows = _loads(trace)
    if not len(rows):
        return 0
    found = gaps(trace)
    late = found["host_sync_ns"] + found["dispatch_ns"] + found["host_other_ns"]
    thread = np.where(found["call"] >= 0, trace.events["thread"][found["call"]], -1)
    return int(trace.covered(rows, thread, found["start_ns"], found["start_ns"] + late).sum())
