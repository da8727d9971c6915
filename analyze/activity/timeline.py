"""What happened around the worst gaps?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.schema import TABLES
from tracekit.table import Table

from ..trace.arrays import Bools, Int64s, Objects
from ..trace.trace import GPU, Category, Trace
from .idle import gaps

WINDOWS = 3
"""How many windows are shown, each around one of the longest gaps."""
MARGIN = 0.35
"""How far a window reaches beyond its gap on each side, as a share of the gap, but at least MIN_MARGIN_NS."""
MIN_MARGIN_NS = 25_000
MAX_EVENTS = 1_500
"""How many events of a window are kept, the longest ones, so that a page can draw them."""

LANES = {
    Category.ANNOTATION: "annotation",
    Category.OPERATOR: "operator",
    Category.RUNTIME: "call",
    Category.DRIVER: "call",
}
SCHEMA = TABLES["timeline"]


@dataclass(frozen=True)
class Excerpt:
    """A span of time around a gap, in ns, and the host thread that launched the event after the gap (-1: unknown)."""

    start_ns: int
    end_ns: int
    thread: int


def timeline(trace: Trace, family_of: dict[str, str]) -> Table:
    """The events of the GPU's streams and of the launching thread, in windows around the longest gaps.

    Columns: `window` (0 is around the longest gap), `lane`, `lane_kind` (gpu, annotation, operator or call), `depth` (of
    nesting), `name`, `family` (`family_of` a kernel's name, `memory` for copies and fills, else the lane's kind), `start_ns`
    and `duration_ns` (of the whole event, also beyond the window).
    """
    parts = [_events(trace, number, window, family_of) for number, window in enumerate(excerpts(trace))]
    if not parts:
        return Table.empty(SCHEMA.columns)
    return Table({column: np.concatenate([part[column] for part in parts]) for column in SCHEMA.names})


def excerpts(trace: Trace) -> list[Excerpt]:
    """Windows around the longest gaps. No window overlaps another."""
    found = gaps(trace)
    chosen: list[Excerpt] = []
    for row in np.argsort(found["start_ns"] - found["end_ns"], kind="stable").tolist():
        start, end, call = (int(found[column][row]) for column in ("start_ns", "end_ns", "call"))
        margin = max(int((end - start) * MARGIN), MIN_MARGIN_NS)
        window = Excerpt(start - margin, end + margin, int(trace.events["thread"][call]) if call >= 0 else -1)
        if all(window.end_ns <= other.start_ns or window.start_ns >= other.end_ns for other in chosen):
            chosen.append(window)
        if len(chosen) == WINDOWS:
            break
    return chosen


def _events(trace: Trace, number: int, window: Excerpt, family_of: dict[str, str]) -> Table:
    """The rows of one window."""
    inside = (trace.start_ns < window.end_ns) & (trace.end_ns > window.start_ns)
    on_gpu = np.flatnonzero(inside & np.isin(trace.events["category"], GPU))
    thread = window.thread if window.thread >= 0 else _busiest_thread(trace, inside)
    host = inside & (trace.events["thread"] == thread)
    on_host = np.flatnonzero(host & np.isin(trace.events["category"], list(LANES)))
    rows = np.concatenate((on_gpu, on_host))
    if len(rows) > MAX_EVENTS:
        rows = rows[np.argsort(-trace.events["duration_ns"][rows], kind="stable")[:MAX_EVENTS]]
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    kinds = _lane_kinds(trace, rows)
    names = trace.names(rows)
    return Table(
        {
            "window": np.full(len(rows), number, dtype=np.int64),
            "lane": _lanes(trace, rows, kinds),
            "lane_kind": kinds,
            "depth": _depths(trace, rows, kinds),
            "name": names,
            "family": _families(trace, rows, kinds, names, family_of),
            "start_ns": trace.start_ns[rows],
            "duration_ns": trace.events["duration_ns"][rows],
        }
    )


def _busiest_thread(trace: Trace, inside: Bools) -> int:
    """The thread with most annotations, operators and calls among these events, or -1 if there are none."""
    host = inside & np.isin(trace.events["category"], list(LANES))
    threads = trace.events["thread"][host]
    return int(np.bincount(threads).argmax()) if len(threads) else -1


def _lane_kinds(trace: Trace, rows: Int64s) -> Objects:
    return np.array([LANES.get(c, "gpu") for c in trace.events["category"][rows].tolist()], dtype=object)


def _lanes(trace: Trace, rows: Int64s, kinds: Objects) -> Objects:
    place = np.full(len(trace), -1, dtype=np.int64)
    place[trace.gpu["event"]] = np.arange(len(trace.gpu))
    labels = []
    for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True):
        if kind == "gpu":
            gpu = place[row]
            labels.append(f"GPU {trace.gpu['device'][gpu]} stream {trace.gpu['stream'][gpu]}")
        else:
            labels.append(f"thread {trace.threads[trace.events['thread'][row]][1]}")
    return np.array(labels, dtype=object)


def _depths(trace: Trace, rows: Int64s, kinds: Objects) -> Int64s:
    """For each event, how many of the shown events of its lane enclose it."""
    depth = np.zeros(len(rows), dtype=np.int64)
    for kind in set(LANES.values()):
        mine = np.flatnonzero(kinds == kind)
        parent = trace.nested(rows[mine]).parent
        depth_of = {-1: -1}
        by_start = np.lexsort((-trace.end_ns[rows[mine]], trace.start_ns[rows[mine]]))
        for i in by_start.tolist():
            depth_of[int(rows[mine][i])] = depth[mine[i]] = depth_of.get(int(parent[i]), -1) + 1
    return depth


def _families(trace: Trace, rows: Int64s, kinds: Objects, names: Objects, family_of: dict[str, str]) -> Objects:
    is_kernel = trace.events["category"][rows] == Category.KERNEL
    families = [
        family_of.get(name, "other") if kernel else "memory" if kind == "gpu" else kind
        for name, kernel, kind in zip(names.tolist(), is_kernel.tolist(), kinds.tolist(), strict=True)
    ]
    return np.array(families, dtype=object)
