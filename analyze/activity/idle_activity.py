"""What was the launching thread doing while the GPU was idle?

The six causes say whose turn it was. Beneath them, each nanosecond of a gap that the host causes belongs to the innermost thing
in which the launching thread was then: a call (`cudaMalloc`, `cudaGraphLaunch`), an operator, an annotation, a Python function,
a garbage collection. While the profiler itself is at work, it belongs to that.
"""

from __future__ import annotations

import re

import numpy as np

from tracekit.schema import CAUSES, TABLES
from tracekit.table import Table

from ..trace.arrays import Bools, Int64s, objects
from ..trace.group import group
from ..trace.intervals import Forest, merge
from ..trace.once import once
from ..trace.trace import CALLS, Category, Trace
from .idle import blocking_calls, gaps
from .profiler import profiler_work

HOST = (*CALLS, Category.OPERATOR, Category.ANNOTATION, Category.PYTHON)
"""What a thread can be in."""
HOST_SYNC, DISPATCH, HOST_OTHER, LAUNCH_LATENCY, DEVICE_WAIT, UNATTRIBUTED = range(len(CAUSES))

Columns = dict[str, Int64s]
COLUMNS = TABLES["idle_activity"].columns
KINDS = {
    Category.RUNTIME: "call",
    Category.DRIVER: "call",
    Category.OPERATOR: "operator",
    Category.ANNOTATION: "annotation",
    Category.PYTHON: "python",
    Category.OVERHEAD: "profiler",
    Category.OTHER: "none",
}

STEP_NUMBER = re.compile(r"#\d+\Z")
"""The number of a step in its name: `ProfilerStep#12`. The same step every time is one thing."""

# What a piece belongs to if it is no event: a negative number in the place of an event's row.
NOTHING_RECORDED, UNDER_WAY, QUEUED, NO_LAUNCH = -1, -2, -3, -4
WORDS = {
    NOTHING_RECORDED: "(nothing recorded)",
    UNDER_WAY: "(launch under way)",
    QUEUED: "(queued)",
    NO_LAUNCH: "(no launch recorded)",
}


@once
def idle_pieces(trace: Trace) -> Table:
    """All idle time in pieces, each within one gap, of one cause, and belonging to one thing. They add up to the idle time.

    Columns (int64): `gap` (row of `gaps`), `start_ns`, `end_ns`, `cause` (place in CAUSES) and `activity`: the row of `events`
    to which it belongs, or a key of WORDS.
    """
    found = gaps(trace)
    host, launch, way = _spans_of_launches(trace, found)
    waiting, calling = _by_activity(trace, host), _by_activity(trace, launch)
    parts = [
        _of_device(found),
        {**waiting, "cause": _host_causes(trace, waiting)},
        {**calling, "cause": np.full(len(calling["gap"]), LAUNCH_LATENCY)},
        {**way, "cause": np.full(len(way["gap"]), LAUNCH_LATENCY), "activity": np.full(len(way["gap"]), UNDER_WAY)},
    ]
    columns = ("gap", "start_ns", "end_ns", "cause", "activity")
    joined = Table({name: np.concatenate([part[name] for part in parts]).astype(np.int64) for name in columns})
    pieces = _profiled(trace, joined)
    return pieces.take(pieces["end_ns"] > pieces["start_ns"])


def _of_device(found: Table) -> Columns:
    """The gaps that the host has no part in, each as one piece."""
    rows = np.flatnonzero(~_is_late(found))
    queued = found["queued"][rows]
    return {
        "gap": rows,
        "start_ns": found["start_ns"][rows],
        "end_ns": found["end_ns"][rows],
        "cause": np.where(queued, DEVICE_WAIT, UNATTRIBUTED),
        "activity": np.where(queued, QUEUED, NO_LAUNCH),
    }


def _is_late(found: Table) -> Bools:
    """Which gaps end with an event that was launched only after they began."""
    late: Bools = ~found["queued"] & (found["call"] >= 0)
    return late


def _spans_of_launches(trace: Trace, found: Table) -> tuple[Columns, Columns, Columns]:
    """The three parts of each gap that a late launch ends: before the call, inside it, and after it returned."""
    gap = np.flatnonzero(_is_late(found))
    call, start, end = found["call"][gap], found["start_ns"][gap], found["end_ns"][gap]
    thread = trace.events["thread"][call]
    launched = np.clip(trace.start_ns[call], start, end)
    returned = np.clip(trace.end_ns[call], launched, end)
    bounds = ((start, launched), (launched, returned), (returned, end))
    before, inside, after = ({"gap": gap, "start_ns": a, "end_ns": b, "thread": thread} for a, b in bounds)
    return before, inside, after


@once
def idle_forest(trace: Trace) -> Forest:
    """The events of the launching threads that lie in gaps, or around them, nested by time on each thread."""
    found = gaps(trace)
    host, launch, _ = _spans_of_launches(trace, found)
    rows = trace.where(*HOST)
    of_row, parts = trace.events["thread"][rows], [np.empty(0, dtype=np.int64)]
    for thread in np.unique(host["thread"]).tolist():
        here = host["thread"] == thread
        idle = merge(host["start_ns"][here], launch["end_ns"][here])
        mine = rows[of_row == thread]
        parts.append(mine[idle.within(trace.start_ns[mine], trace.end_ns[mine]) > 0])
    return trace.nested(np.concatenate(parts))


@once
def around(trace: Trace) -> Int64s:
    """For each event, the innermost one of `idle_forest` that is open at its start, or -1."""
    forest, found = idle_forest(trace), np.full(len(trace), -1, dtype=np.int64)
    found[forest.rows] = forest.parent
    return found


def _by_activity(trace: Trace, spans: Columns) -> Columns:
    """Spans of threads, cut where the innermost event changes, with that event or NOTHING_RECORDED."""
    forest = idle_forest(trace)
    parts = []
    for thread in np.unique(spans["thread"]).tolist():
        here = np.flatnonzero(spans["thread"] == thread)
        tree = forest.trees.get(thread)
        bounds = np.sort(np.concatenate((tree.start, tree.end))) if tree else np.empty(0, dtype=np.int64)
        place, start, end = cut_at(bounds, spans["start_ns"][here], spans["end_ns"][here])
        activity = tree.innermost(start) if tree else np.full(len(start), NOTHING_RECORDED, dtype=np.int64)
        parts.append((spans["gap"][here][place], start, end, np.full(len(start), thread), activity))
    names = ("gap", "start_ns", "end_ns", "thread", "activity")
    empty = np.empty(0, dtype=np.int64)
    return {name: np.concatenate([empty, *(part[at] for part in parts)]) for at, name in enumerate(names)}


def cut_at(bounds: Int64s, start: Int64s, end: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Cut spans at the bounds inside them, which are sorted: for each piece the place of its span, its start and its end."""
    first = np.searchsorted(bounds, start, side="right")
    inside = np.maximum(np.searchsorted(bounds, end, side="left") - first, 0)
    place = np.repeat(np.arange(len(start)), inside + 1)
    nth = np.arange(len(place)) - np.repeat(np.cumsum(inside + 1) - (inside + 1), inside + 1)
    padded = np.append(bounds, 0)
    before, after = first[place] + nth - 1, first[place] + nth
    begins = np.where(nth == 0, start[place], padded[np.clip(before, 0, len(bounds))])
    ends = np.where(nth == inside[place], end[place], padded[np.clip(after, 0, len(bounds))])
    return place, begins, ends


def _host_causes(trace: Trace, pieces: Columns) -> Int64s:
    """The cause of each piece of the host's time, as in `idle`: no event of its thread begins or ends inside one."""
    start, end, thread = pieces["start_ns"], pieces["end_ns"], pieces["thread"]
    waiting = trace.covered(blocking_calls(trace), thread, start, end) > 0
    dispatching = trace.covered(trace.operators, thread, start, end) > 0
    return np.where(waiting, HOST_SYNC, np.where(dispatching, DISPATCH, HOST_OTHER))


def _profiled(trace: Trace, pieces: Table) -> Table:
    """The pieces, cut where the profiler's own work begins and ends. What lies inside belongs to it."""
    rows = profiler_work(trace)
    if not len(rows):
        return pieces
    bounds = np.sort(np.concatenate((trace.start_ns[rows], trace.end_ns[rows])))
    place, start, end = cut_at(bounds, pieces["start_ns"], pieces["end_ns"])
    forest = trace.nested(rows)
    own = np.max([tree.innermost(start) for tree in forest.trees.values()], axis=0)
    columns = {name: pieces[name][place] for name in ("gap", "cause", "activity")}
    return Table({**columns, "start_ns": start, "end_ns": end, "activity": np.where(own >= 0, own, columns["activity"])})


# --- By path ----------------------------------------------------------------------------------------------------------------


def idle_activity(trace: Trace) -> Table:
    """A row for each thing in which the launching thread was, with what is around it, and each cause; the most time first.

    Columns: `path` (the names from the outermost in, joined by `/`; a `/` within a name is written `\\/`), `name` (the last of
    them), `kind` (`call`, `operator`, `annotation`, `python`, `profiler`, or `none` if it is no event), `cause`, `idle_ns`,
    `gaps` (how many gaps it is part of) and `longest_ns` (its most time in one gap).
    """
    pieces = idle_pieces(trace)
    if not len(pieces):
        return Table.empty(COLUMNS)
    path, paths = idle_paths(trace)
    length, causes = pieces["end_ns"] - pieces["start_ns"], len(CAUSES)
    by_key = group(path * causes + pieces["cause"])
    several = int(pieces["gap"].max()) + 1
    in_gap = group(by_key.code * several + pieces["gap"])
    longest = np.zeros(len(by_key.keys), dtype=np.int64)
    np.maximum.at(longest, in_gap.keys // several, in_gap.sum(length))
    at = by_key.keys // causes
    return Table(
        {
            **{name: paths[name][at] for name in ("path", "name", "kind")},
            "cause": np.array(CAUSES, dtype=object)[by_key.keys % causes],
            "idle_ns": by_key.sum(length),
            "gaps": np.bincount(in_gap.keys // several, minlength=len(by_key.keys)).astype(np.int64),
            "longest_ns": longest,
        }
    ).sorted_by("idle_ns", descending=True)


@once
def idle_paths(trace: Trace) -> tuple[Int64s, Table]:
    """For each of `idle_pieces`, the number of its path; and for each path, by number, its text, last name and kind."""
    activity = idle_pieces(trace)["activity"]
    needed, parent, depth = _ancestry(trace, activity)
    is_event = needed >= 0
    code = np.where(is_event, _one_name_a_step(trace)[trace.events["name"][needed]], needed) - min(WORDS)
    kind = np.where(is_event, trace.events["category"][needed], Category.OTHER)
    sizes = len(trace.strings) - min(WORDS), len(Category)
    number = np.full(len(needed), -1, dtype=np.int64)
    texts: list[str] = []
    told: list[tuple[str, str]] = []
    for level in range(int(depth.max(initial=-1)) + 1):
        here = np.flatnonzero(depth == level)
        around = np.where(parent[here] >= 0, number[parent[here]], -1) + 1
        distinct, which = np.unique((around * sizes[0] + code[here]) * sizes[1] + kind[here], return_inverse=True)
        number[here] = len(texts) + which
        for key in distinct.tolist():
            rest, category = divmod(key, sizes[1])
            outer, word = divmod(rest, sizes[0])
            name = _name(trace, word + min(WORDS))
            own = name.replace("/", "\\/")
            texts.append(f"{texts[outer - 1]}/{own}" if outer else own)
            told.append((name, KINDS[Category(category)]))
    paths = {"path": texts, "name": [name for name, _ in told], "kind": [one for _, one in told]}
    return number[np.searchsorted(needed, activity)], Table({column: objects(values) for column, values in paths.items()})


def _one_name_a_step(trace: Trace) -> Int64s:
    """For each of `strings`, the place of the first that is the same but for the number of a step."""
    names = [STEP_NUMBER.sub("", text) for text in trace.strings.tolist()]
    first: dict[str, int] = {}
    return np.array([first.setdefault(name, place) for place, name in enumerate(names)], dtype=np.int64)


def _name(trace: Trace, code: int) -> str:
    """The name behind a code of `strings`, or the words of a key of WORDS. The number of a step is no part of its name."""
    return STEP_NUMBER.sub("", str(trace.strings[code])) if code >= 0 else WORDS[code]


def _enclosing(trace: Trace) -> Int64s:
    """For each event, the innermost one that is open at its start and does not end before it, or -1.

    One that ends earlier crosses it. If that counted as around it, steps that cross would nest without end.
    """
    row, parent = idle_forest(trace).rows, idle_forest(trace).parent.copy()
    crossing = np.flatnonzero((parent >= 0) & (trace.end_ns[parent] < trace.end_ns[row]))
    while len(crossing):
        parent[crossing] = around(trace)[parent[crossing]]
        crossing = crossing[(parent[crossing] >= 0) & (trace.end_ns[parent[crossing]] < trace.end_ns[row[crossing]])]
    found: Int64s = around(trace).copy()
    found[row] = parent
    return found


def _ancestry(trace: Trace, activity: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """These activities and all events around them, sorted; for each the place of its parent among them or -1, and its depth."""
    outer = _enclosing(trace)
    needed = np.zeros(len(trace), dtype=np.bool_)
    frontier = activity[activity >= 0]
    while len(frontier):
        frontier = frontier[~needed[frontier]]
        needed[frontier] = True
        frontier = outer[frontier]
        frontier = frontier[frontier >= 0]
    words = np.array([word for word in sorted(WORDS) if (activity == word).any()], dtype=np.int64)
    rows = np.concatenate((words, np.flatnonzero(needed)))
    above = np.where(rows >= 0, outer[rows], -1)
    parent = np.where(above >= 0, np.searchsorted(rows, above), -1)
    depth, current = np.zeros(len(rows), dtype=np.int64), parent
    while (current >= 0).any():
        depth += current >= 0
        current = np.where(current >= 0, parent[current], -1)
    return rows, parent, depth
