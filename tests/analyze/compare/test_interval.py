"""The interval of a median: what it covers, and how seldom it tells two equal programs apart."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from tracekit.analyze.compare.interval import interval

VALUES = st.lists(st.integers(0, 50).map(Fraction), min_size=1, max_size=40)


def ends(count: int) -> tuple[int, int]:
    """The places, from 1 on, of the ends of the interval of so many values."""
    found = interval([Fraction(value) for value in range(1, count + 1)])
    return int(found.low), int(found.high)


@pytest.mark.parametrize(
    ("count", "places"),
    [(1, (1, 1)), (2, (1, 2)), (5, (1, 5)), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (11, (2, 10)), (12, (3, 10)), (20, (6, 15)), (25, (8, 18))],
)  # fmt: skip
def test_the_places_are_those_of_the_tables_of_statistics(count, places):
    assert ends(count) == places


@pytest.mark.parametrize("count", range(6, 60))
def test_the_interval_holds_the_true_median_in_95_of_100_cases_and_no_narrower_one_does(count):
    def coverage(low: int) -> Fraction:
        """The chance that at least `low` values lie on each side of the true median."""
        return Fraction(sum(comb(count, below) for below in range(low, count - low + 1)), 2**count)

    low, high = ends(count)
    assert low + high == count + 1
    assert coverage(low) >= Fraction(95, 100)
    assert coverage(low + 1) < Fraction(95, 100)


@given(VALUES, st.randoms())
@examples(100)
def test_the_median_lies_within_and_the_order_does_not_matter(values, random):
    found = interval(values)

    assert found.median == median(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    random.shuffle(values)
    assert interval(values) == found


@pytest.mark.parametrize(("count", "one_in"), [(2, 3), (3, 10), (4, 35), (5, 126)])
def test_how_often_equal_programs_are_told_apart_is_what_the_page_says(count, one_in):
    ranks = range(2 * count)
    splits = list(itertools.combinations(ranks, count))
    apart = 0
    for chosen in splits:
        a, b = (interval([Fraction(rank) for rank in side]) for side in (chosen, sorted({*ranks} - {*chosen})))
        apart += not a.overlaps(b)

    assert Fraction(apart, len(splits)) == Fraction(1, one_in)


def test_intervals_that_touch_overlap():
    one, other = (interval([Fraction(value) for value in values]) for values in ((1, 2, 3), (3, 4, 5)))

    assert one.overlaps(other)
    assert other.overlaps(one)
    assert not one.overlaps(interval([Fraction(31, 10), Fraction(4)]))
