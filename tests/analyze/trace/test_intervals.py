"""Interval arithmetic against a reading of it one moment at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from tracekit.analyze.trace.intervals import Forest, exclusive, merge, nest

PROPERTY = examples(300)

spans = st.lists(st.tuples(st.integers(-5, 40), st.integers(0, 15)).map(lambda s: (s[0], s[0] + s[1])), max_size=10)
Spans = list[tuple[int, int]]


def ints(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def columns(intervals: Spans) -> tuple[np.ndarray, np.ndarray]:
    return ints(s for s, _ in intervals), ints(e for _, e in intervals)


def covered(intervals: Spans) -> set[int]:
    return {moment for start, end in intervals for moment in range(start, end)}


# --- Unions ------------------------------------------------------------------------------------------------------------


def test_touching_intervals_are_one():
    union = merge(*columns([(10, 20), (0, 5), (5, 8), (12, 15), (19, 22)]))

    assert list(zip(union.start.tolist(), union.end.tolist(), strict=True)) == [(0, 8), (10, 22)]
    assert union.total == 20


def test_nothing_covers_nothing():
    union = merge(*columns([]))

    assert union.total == 0
    assert union.within(ints([0]), ints([10])).tolist() == [0]


@given(spans)
@PROPERTY
def test_a_union_is_sorted_disjoint_and_covers_the_same(intervals):
    union = merge(*columns(intervals))

    assert covered(list(zip(union.start.tolist(), union.end.tolist(), strict=True))) == covered(intervals)
    assert union.total == len(covered(intervals))
    assert (union.start[1:] > union.end[:-1]).all()


@given(spans, spans)
@PROPERTY
def test_cover_within_spans(intervals, asked):
    found = merge(*columns(intervals)).within(*columns(asked))

    assert found.tolist() == [len(covered(intervals) & set(range(start, end))) for start, end in asked]


@given(spans)
@PROPERTY
def test_what_each_interval_adds_to_those_before_it(intervals):
    intervals = sorted(intervals)
    found = exclusive(*columns(intervals))

    assert found.tolist() == [len(covered([one]) - covered(intervals[:place])) for place, one in enumerate(intervals)]
    assert found.dtype == np.int64


def test_lengths_are_exact_where_doubles_are_not():
    large = 2**60 + 1
    union = merge(ints([0, large + 1]), ints([large, large + 3]))

    assert union.before(ints([large - 1, large, large + 2, large + 9])).tolist() == [large - 1, large, large + 1, large + 2]
    assert exclusive(ints([0, 5]), ints([7, large])).tolist() == [7, large - 7]


def test_without_intervals_the_columns_still_hold_whole_numbers():
    nothing = columns([])

    assert merge(*nothing).start.dtype == merge(*nothing).end.dtype == exclusive(*nothing).dtype == np.int64
    assert exclusive(*nothing).tolist() == []


# --- Nesting -----------------------------------------------------------------------------------------------------------


def plain_innermost(intervals: Spans, moment: int, before: int | None = None) -> int:
    """The interval with a length that is open and started last; of equal starts the shortest, then the last listed."""
    order = sorted((p for p, (s, e) in enumerate(intervals) if e > s), key=lambda p: (intervals[p][0], -intervals[p][1], p))
    if before is not None:
        order = order[: order.index(before)]
    return next((p for p in reversed(order) if intervals[p][0] <= moment < intervals[p][1]), -1)


def forest(intervals: Spans, threads: list[int] | None = None) -> Forest:
    """Rows are 100 and up, so that a place is not taken for a row."""
    start, end = columns(intervals)
    on = np.zeros(len(intervals), np.int32) if threads is None else np.array(threads, np.int32)
    return nest(100 + np.arange(len(intervals)), on, start, end)


def row(place: int) -> int:
    return place + 100 if place >= 0 else -1


def innermost(found: Forest, moments, thread: int = 0) -> list[int]:
    times = ints(moments)
    return found.innermost(np.full(len(times), thread, np.int32), times).tolist()


def test_nested_calls():
    found = forest([(0, 100), (10, 50), (20, 30), (60, 70), (200, 210)])

    assert found.parent.tolist() == [-1, 100, 101, 100, -1]
    assert innermost(found, [0, 10, 25, 30, 49, 50, 65, 99, 100, 205, -1]) == [
        100,
        101,
        102,
        101,
        101,
        100,
        103,
        100,
        -1,
        104,
        -1,
    ]


def test_an_interval_is_closed_at_its_end_and_open_at_its_start():
    found = forest([(0, 10), (10, 20)])

    assert innermost(found, [9, 10, 19, 20]) == [100, 101, 101, -1]


def test_crossing_intervals():
    # The first is over when the third starts within the second: depth alone would not find the second again.
    found = forest([(0, 10), (5, 100), (8, 90), (12, 14)])

    assert found.parent.tolist() == [-1, 100, 101, 102]
    assert innermost(found, [9, 13, 20, 95]) == [102, 103, 102, 101]


def test_intervals_without_a_length_have_parents_but_are_none():
    found = forest([(0, 10), (5, 5), (5, 8), (10, 10), (0, 0)])

    assert found.parent.tolist() == [-1, 102, 100, -1, 100]
    assert innermost(found, [5]) == [102]


def test_a_thread_of_nothing_but_moments():
    found = forest([(5, 5), (7, 7)])

    assert found.parent.tolist() == [-1, -1]
    assert innermost(found, [5, 6]) == [-1, -1]


def test_threads_do_not_mix():
    found = forest([(0, 100), (10, 20), (12, 15)], threads=[1, 2, 1])

    assert found.parent.tolist() == [-1, -1, 100]
    assert innermost(found, [11], thread=1) == [100]
    assert innermost(found, [11], thread=2) == [101]
    assert innermost(found, [11], thread=3) == [-1]


@given(spans, st.lists(st.integers(-6, 60), max_size=10))
@PROPERTY
def test_innermost_of_any_intervals(intervals, moments):
    assert innermost(forest(intervals), moments) == [row(plain_innermost(intervals, moment)) for moment in moments]


@given(spans)
@PROPERTY
def test_parents_of_any_intervals(intervals):
    expected = [
        plain_innermost(intervals, start, before=place if end > start else None) for place, (start, end) in enumerate(intervals)
    ]

    assert forest(intervals).parent.tolist() == list(map(row, expected))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 9)), max_size=12))
@PROPERTY
def test_threads_are_nested_each_for_itself(placed):
    intervals, threads = [(start, start + length) for _, start, length in placed], [thread for thread, _, _ in placed]
    together = forest(intervals, threads)
    for thread in set(threads):
        mine = [place for place, other in enumerate(threads) if other == thread]
        alone = forest([intervals[place] for place in mine]).parent.tolist()
        parents = [row(mine[parent - 100]) if parent >= 0 else -1 for parent in alone]
        assert together.parent[mine].tolist() == parents


# --- Nesting with ends that are cut ------------------------------------------------------------------------------------


def cut(intervals: Spans) -> Forest:
    start, end = columns(intervals)
    return nest(100 + np.arange(len(intervals)), np.zeros(len(intervals), np.int32), start, end, cut=True)


def test_an_interval_that_outlives_the_one_around_it_is_cut():
    found = cut([(0, 10), (8, 20), (12, 15), (9, 30), (3, 10)])

    assert found.end.tolist() == [10, 10, 15, 10, 10]
    assert found.parent.tolist() == [-1, 104, -1, 101, 100]
    assert found.rows.tolist() == [100, 101, 102, 103, 104]


def test_an_overlap_that_is_a_matter_of_rounding_ends_the_one_before():
    """A step of 1,000 that begins 1 before the one before it ends is no part of that."""
    found = cut([(0, 1_001), (1_000, 2_001), (2_000, 3_000), (400, 1_001)])

    assert found.end.tolist() == [1_000, 2_000, 3_000, 1_000]
    assert found.parent.tolist() == [-1, -1, -1, 100]
    assert cut([(0, 1_021), (1_000, 2_000)]).end.tolist() == [1_021, 1_021]  # 2.1 % of it are no rounding
    assert cut([(0, 1_019), (1_000, 2_000)]).end.tolist() == [1_000, 2_000]


def test_steps_that_overlap_a_little_do_not_nest_step_in_step():
    steps = [(10 * number, 10 * number + 11) for number in range(5)]

    assert forest(steps).parent.tolist() == [-1, 100, 101, 102, 103]
    assert cut(steps).parent.tolist() == [-1, 100, -1, 102, -1]
    assert forest(steps).end.tolist() == [end for _, end in steps]


def test_a_tree_holds_the_intervals_that_have_a_length_by_their_start():
    found = forest([(5, 5), (5, 8), (0, 10), (5, 9)])

    assert found.trees[0].rows.tolist() == [102, 103, 101]
    assert found.rows.tolist() == [100, 101, 102, 103]
