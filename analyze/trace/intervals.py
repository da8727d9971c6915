"""Which interval encloses a moment, and how much of a span do intervals cover?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Int64s


@dataclass(frozen=True)
class Union:
    """Intervals [start, end) merged: sorted and disjoint, with what they cover."""

    start: Int64s
    end: Int64s

    @property
    def total(self) -> int:
        """What the intervals cover together."""
        return int((self.end - self.start).sum())

    def before(self, times: Int64s) -> Int64s:
        """How much of the union lies before each of `times`."""
        covered = np.concatenate(([0], np.cumsum(self.end - self.start)))
        last = np.searchsorted(self.start, times, side="right")
        beyond = np.zeros(len(times), dtype=np.int64)
        inside = last > 0
        beyond[inside] = np.maximum(self.end[last[inside] - 1] - times[inside], 0)
        result: Int64s = covered[last] - beyond
        return result

    def within(self, start: Int64s, end: Int64s) -> Int64s:
        """How much of the union lies in each span [start, end)."""
        return self.before(end) - self.before(start)


def exclusive(start: Int64s, end: Int64s) -> Int64s:
    """What each interval adds to the union of those before it; intervals are given in the order of their starts.

    Each moment counts once, for the interval that began first of those that are open then. So the parts add up to the union.
    """
    if not len(start):
        return np.zeros(0, dtype=np.int64)
    # Some interval that began before is open until `taken`, so all that comes earlier is taken.
    taken = np.maximum.accumulate(np.concatenate((start[:1], end[:-1])))
    return np.maximum(end - np.maximum(start, taken), 0)


def merge(start: Int64s, end: Int64s) -> Union:
    """Merge intervals that overlap or touch."""
    if not len(start):
        return Union(np.empty(0, np.int64), np.empty(0, np.int64))
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order])
    opens = np.concatenate(([True], start[1:] > end[:-1]))
    closes = np.concatenate((opens[1:], [True]))
    return Union(start[opens], end[closes])


@dataclass(frozen=True)
class Tree:
    """The intervals of one thread that have a length, sorted by start and, of equal starts, the longest first."""

    rows: Int64s
    start: Int64s
    end: Int64s
    parent: Int64s
    """For each interval the place of the one that is open when it starts and started last, or -1."""

    def innermost(self, times: Int64s) -> Int64s:
        """For each time the row of the interval that is open then and started last, or -1."""
        if not len(self.rows):
            return np.full(len(times), -1, dtype=np.int64)
        place = np.searchsorted(self.start, times, side="right") - 1
        # The last to start, or, where it has ended, the nearest around it that has not: true of crossing intervals as well.
        ended = np.flatnonzero(place >= 0)
        while len(ended):
            ended = ended[self.end[place[ended]] <= times[ended]]
            place[ended] = self.parent[place[ended]]
            ended = ended[place[ended] >= 0]
        return np.where(place >= 0, self.rows[place], -1)

    def parents(self) -> Int64s:
        """For each interval the row of the one around it, or -1."""
        return np.where(self.parent >= 0, self.rows[self.parent], -1)


@dataclass(frozen=True)
class Forest:
    """Intervals nested by time, a tree a thread."""

    trees: Mapping[int, Tree]
    rows: Int64s
    """All intervals, those without a length included."""
    parent: Int64s
    """For each of `rows` the row of the innermost interval around it, or -1."""

    def innermost(self, threads: npt.NDArray[np.int32], times: Int64s) -> Int64s:
        """For each moment on a thread the row of the innermost interval that is open then, or -1."""
        found = np.full(len(times), -1, dtype=np.int64)
        for thread in np.unique(threads).tolist():
            if thread in self.trees:
                here = threads == thread
                found[here] = self.trees[thread].innermost(times[here])
        return found


def nest(rows: Int64s, threads: npt.NDArray[np.int32], start: Int64s, end: Int64s) -> Forest:
    """Nest intervals, given as rows with their thread, start and end."""
    trees = {}
    parent = np.full(len(rows), -1, dtype=np.int64)
    by_thread = np.argsort(threads, kind="stable")
    distinct, first = np.unique(threads[by_thread], return_index=True)
    for thread, here in zip(distinct.tolist(), np.split(by_thread, first[1:]), strict=False):
        tree, order = _tree(rows[here], start[here], end[here])
        trees[thread] = tree
        parent[here[order]] = tree.parents()
        pointlike = here[end[here] <= start[here]]
        parent[pointlike] = tree.innermost(start[pointlike])
    return Forest(trees, rows, parent)


def _tree(rows: Int64s, start: Int64s, end: Int64s) -> tuple[Tree, Int64s]:
    order = np.lexsort((-end, start))
    order = order[end[order] > start[order]]
    start, end = start[order], end[order]
    return Tree(rows[order], start, end, _open_at_start(start, end)), order


def _open_at_start(start: Int64s, end: Int64s) -> Int64s:
    """For each of the sorted intervals the place of the last one before it that is still open when it starts, or -1."""
    ends, parent, opened = end.tolist(), [], [-1]
    for place, time in enumerate(start.tolist()):
        while (last := opened[-1]) >= 0 and ends[last] <= time:
            opened.pop()
        parent.append(last)
        opened.append(place)
    return np.array(parent, dtype=np.int64)
