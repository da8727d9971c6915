"""Which functions, operators and calls took the idle time that a finding is about?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.names import shorten
from tracekit.wording import counted, duration, percent

from ...activity.idle_activity import around, idle_paths, idle_pieces
from ...trace.arrays import Bools, Int64s
from ...trace.trace import Category
from ..facts import Facts
from ..reasons import Reason, reasons

ROWS = 8
"""How many rows of figures a finding has at most."""
ALL_OF_IT = 0.98
"""A function around so much of the time says nothing: the program itself is around all of it."""
LIBRARY = re.compile(r"nn\.Module: |(?:.*/)?(?:site-packages|dist-packages|python3\.\d+)/|torch/|<|contextlib|threading")
"""Matches the paths of Python files of libraries and of the interpreter, which are not the user's own code."""

ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")
"""An object's address in a function's name: each object would be a function of its own."""
WORTH = 0.1
"""The user's own functions are told first if they are around so much of the time."""

Rows = tuple[Mapping[str, Any], ...]


def of_reasons(facts: Facts, *wanted: Reason) -> Bools:
    """Which of `idle_pieces` have one of these reasons."""
    return np.isin(reasons(facts.trace), wanted)


def innermost(facts: Facts, chosen: Bools) -> Rows:
    """What the launching thread was in, innermost, with the most time first: name, path, idle time, times and steps."""
    trace, pieces = facts.trace, idle_pieces(facts.trace)
    path, paths = idle_paths(trace)
    length = pieces["end_ns"] - pieces["start_ns"]
    total = np.zeros(len(paths), dtype=np.int64)
    np.add.at(total, path[chosen], length[chosen])
    return tuple(
        {
            "name": str(paths["name"][row]),
            "path": str(paths["path"][row]),
            "idle_ns": int(total[row]),
            "times": len(np.unique(pieces["gap"][chosen & (path == row)])),
            "steps": _steps(facts, pieces["start_ns"][chosen & (path == row)]),
        }
        for row in np.lexsort((np.arange(len(total)), -total))[:ROWS].tolist()
        if total[row]
    )


def functions(facts: Facts, chosen: Bools) -> Rows:
    """The Python functions around this idle time, with all that is inside them, the most time first.

    Those that are around all of it are left out, because they are the program itself.
    """
    trace, pieces = facts.trace, idle_pieces(facts.trace)
    length, activity = (pieces["end_ns"] - pieces["start_ns"])[chosen], pieces["activity"][chosen]
    by_name: dict[str, int] = {}
    texts: dict[int, str] = {}
    current, seen = activity.copy(), []
    while (current >= 0).any():
        here = current >= 0
        code = np.where(here & (trace.events["category"][current] == Category.PYTHON), trace.events["name"][current], -1)
        seen.append(code)
        current = np.where(here, around(trace)[current], -1)
    if not seen:
        return ()
    names = np.sort(np.stack(seen, axis=1), axis=1)
    first = np.concatenate((np.ones((len(names), 1), dtype=np.bool_), names[:, 1:] != names[:, :-1]), axis=1)
    rows, columns = np.nonzero((names >= 0) & first)
    for code, ns in zip(names[rows, columns].tolist(), length[rows].tolist(), strict=True):
        name = texts.setdefault(code, ADDRESS.sub("", str(trace.strings[code])))
        by_name[name] = by_name.get(name, 0) + ns
    program, whole = _around_launches(facts), int(length.sum())
    found = [(ns, name) for name, ns in by_name.items() if ns < ALL_OF_IT * whole or name not in program]
    found.sort(key=lambda one: (-one[0], one[1]))
    own = [one for one in found if not LIBRARY.match(one[1]) and one[0] >= WORTH * whole]
    rest = [one for one in found if one not in own]
    return tuple({"function": name, "idle_ns": ns} for ns, name in (*own, *rest)[:ROWS])


def _around_launches(facts: Facts) -> set[str]:
    """The Python functions in which the host also launches work while the GPU is idle: the program itself."""
    trace, launching = facts.trace, of_reasons(facts, Reason.LAUNCHING, Reason.LAUNCHING_GRAPHS)
    current, seen = np.unique(idle_pieces(trace)["activity"][launching]), np.zeros(len(trace), dtype=np.bool_)
    current = current[current >= 0]
    while len(current):
        seen[current] = True
        current = np.unique(around(trace)[current])
        current = current[current >= 0]
    rows = np.flatnonzero(seen & (trace.events["category"] == Category.PYTHON))
    return {ADDRESS.sub("", str(name)) for name in trace.names(rows).tolist()}


def named(rows: Rows) -> str:
    """The first rows as a clause: `cudaFree in aten::resize_ (70.0 ms, 5 times)`."""
    places: dict[str, tuple[int, int]] = {}
    for row in rows:
        idle, times = places.get(_place(row), (0, 0))
        places[_place(row)] = idle + row["idle_ns"], times + row["times"]
    first = sorted(places.items(), key=lambda one: -one[1][0])[:3]
    return "; ".join(f"{place} ({duration(idle)}, {counted(times, 'time')})" for place, (idle, times) in first)


def spread(facts: Facts, rows: Rows) -> str:
    """How the time spreads over the steps, as a clause; empty where there are no steps."""
    steps = len(facts.steps.table)
    if not rows or steps < 2:
        return ""
    found = rows[0]["steps"]
    return ", once a step" if found == steps else f", in {found} of {counted(steps, 'step')}"


def share_of(facts: Facts, ns: int) -> str:
    """The time and its share of the span."""
    return f"{duration(ns)}, {percent(facts.share(ns))} of the span"


def _place(row: Mapping[str, Any]) -> str:
    parts = re.split(r"(?<!\\)/", str(row["path"]))
    outer = parts[-2].replace("\\/", "/") if len(parts) > 1 else ""
    return f"{shorten(str(row['name']))}{f' in {shorten(outer)}' if outer else ''}"


def _steps(facts: Facts, moments: Int64s) -> int:
    place = facts.steps.of_moments(moments)
    return len(np.unique(place[place >= 0]))
