"""Which interval encloses a moment, and how much of a span do intervals cover?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Int64s


@dataclass(frozen=True)
class Union:
    """The union of intervals [start, end), as sorted, disjoint intervals."""

    start: Int64s
    end: Int64s

    @property
    def total(self) -> int:
        """The total length of the union."""
        return int((self.end - self.start).sum())

    def before(self, times: Int64s) -> Int64s:
        """For each of `times`, the length of the union before it."""
        covered = np.concatenate(([0], np.cumsum(self.end - self.start)))
        last = np.searchsorted(self.start, times, side="right")
        beyond = np.zeros(len(times), dtype=np.int64)
        inside = last > 0
        beyond[inside] = np.maximum(self.end[last[inside] - 1] - times[inside], 0)
        result: Int64s = covered[last] - beyond
        return result

    def within(self, start: Int64s, end: Int64s) -> Int64s:
        """For each span [start, end), the length of the union inside it."""
        return self.before(end) - self.before(start)


def exclusive(start: Int64s, end: Int64s) -> Int64s:
    """For each interval, the length that it adds to the union of the intervals before it.

    The intervals must be sorted by start. Several intervals may be open at one moment; the moment counts once, for the one
    that began first. So the results add up to the length of the union.
    """
    if not len(start):
        return np.zeros(0, dtype=np.int64)
    # An earlier interval is open until `taken`, so every moment before that is already counted.
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
    """The intervals of one thread that have a length, sorted by start. Of equal starts the longest comes first."""

    rows: Int64s
    start: Int64s
    end: Int64s
    parent: Int64s
    """For each interval, the place of the interval around it: the last to start of those open at its start, or -1."""

    def innermost(self, times: Int64s) -> Int64s:
        """For each time, the row of the last interval to start among those that are open then, or -1."""
        if not len(self.rows):
            return np.full(len(times), -1, dtype=np.int64)
        place = np.searchsorted(self.start, times, side="right") - 1
        # Begin with the last interval to start. While it has ended, go to the one around it. This also holds for intervals that
        # cross instead of nesting.
        ended = np.flatnonzero(place >= 0)
        while len(ended):
            ended = ended[self.end[place[ended]] <= times[ended]]
            place[ended] = self.parent[place[ended]]
            ended = ended[place[ended] >= 0]
        return np.where(place >= 0, self.rows[place], -1)

    def parents(self) -> Int64s:
        """For each interval, the row of the interval around it, or -1."""
        return np.where(self.parent >= 0, self.rows[self.parent], -1)


@dataclass(frozen=True)
class Forest:
    """Intervals nested by time, with one tree for each thread."""

    trees: Mapping[int, Tree]
    rows: Int64s
    """All intervals, including those without a length."""
    parent: Int64s
    """For each of `rows`, the row of the innermost interval around it, or -1."""
    end: Int64s
    """For each of `rows`, where it ends: earlier than given where it was cut to the interval around it."""

    def innermost(self, threads: npt.NDArray[np.int32], times: Int64s) -> Int64s:
        """For each moment on a thread, the row of the innermost interval that is open then, or -1."""
        found = np.full(len(times), -1, dtype=np.int64)
        for thread in np.unique(threads).tolist():
            if thread in self.trees:
                here = threads == thread
                found[here] = self.trees[thread].innermost(times[here])
        return found


def nest(rows: Int64s, threads: npt.NDArray[np.int32], start: Int64s, end: Int64s, cut: bool = False) -> Forest:
    """Nest intervals by time on each thread. They are given as rows, threads, starts and ends.

    With `cut`, an interval that outlives the one around it ends with that one before anything is nested inside it; but if it
    overlaps the end of the other only a little, the other one ends where it begins. Then a loop whose steps overlap a little
    does not nest step in step. A moment after that end still lies in the interval that was cut, if nothing else has begun.
    """
    trees = {}
    parent = np.full(len(rows), -1, dtype=np.int64)
    ends = end.copy()
    by_thread = np.argsort(threads, kind="stable")
    distinct, first = np.unique(threads[by_thread], return_index=True)
    for thread, here in zip(distinct.tolist(), np.split(by_thread, first[1:]), strict=False):
        tree, order, cut_ends = _tree(rows[here], start[here], end[here], cut)
        trees[thread] = tree
        parent[here[order]] = tree.parents()
        ends[here[order]] = cut_ends
        pointlike = here[end[here] <= start[here]]
        parent[pointlike] = tree.innermost(start[pointlike])
    return Forest(trees, rows, parent, ends)


def _tree(rows: Int64s, start: Int64s, end: Int64s, cut: bool) -> tuple[Tree, Int64s, Int64s]:
    """The tree, the places of its intervals in their order, and their ends once they are cut."""
    order = np.lexsort((-end, start))
    order = order[end[order] > start[order]]
    start, end = start[order], end[order]
    parent, ends = _open_at_start(start, end, cut)
    return Tree(rows[order], start, end, parent), order, ends


LITTLE = 50
"""An overlap of less than this part of an interval is a matter of rounding."""


def _is_next(start: int, end: int, other: int) -> bool:
    """Whether an interval that begins before another one's end follows it: the overlap is a small part of it."""
    return LITTLE * (other - start) < end - start and end > other


def _open_at_start(start: Int64s, end: Int64s, cut: bool) -> tuple[Int64s, Int64s]:
    """For each of the sorted intervals, the place of the last earlier one that is still open when it starts, or -1; its end."""
    ends, parent, opened = end.tolist(), [], [-1]
    for place, time in enumerate(start.tolist()):
        while (last := opened[-1]) >= 0 and (ends[last] <= time or (cut and _is_next(time, ends[place], ends[last]))):
            if ends[last] > time:
                ends[last] = time
            opened.pop()
        parent.append(last)
        opened.append(place)
        if cut and last >= 0 and ends[place] > ends[last]:
            ends[place] = ends[last]
    return np.array(parent, dtype=np.int64), np.array(ends, dtype=np.int64)
