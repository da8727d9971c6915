"""How sure is a median of few values, and do two of them differ by more than the noise?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

COVERAGE = Fraction(95, 100)


@dataclass(frozen=True)
class Interval:
    """The median of some values, and an interval around it. Of one value alone nothing is known of its noise: low = high."""

    median: Fraction
    low: Fraction
    high: Fraction

    def overlaps(self, other: Interval) -> bool:
        """Whether a value may lie in both: then the two do not differ by more than the noise."""
        return self.low <= other.high and other.low <= self.high


def interval(values: Sequence[Fraction]) -> Interval:
    """The median of the values with its 95 % interval by order statistics, which needs no assumption on how they scatter.

    The interval runs from the k-th smallest to the k-th largest value. k is the largest number for which the interval holds the
    true median in at least 95 % of all cases. Less than six values do not suffice for that: then the interval is the smallest
    to the largest.
    """
    ordered = sorted(values)
    cut = _cut(len(ordered))
    return Interval(median(ordered), ordered[cut], ordered[-1 - cut])


def _cut(count: int) -> int:
    """How many values may be left out at each end."""
    cut, below = 0, Fraction(1, 2**count)
    # The chance that at most `cut` of `count` values lie below the true median, and the same above it.
    while 2 * (below + Fraction(math.comb(count, cut + 1), 2**count)) <= 1 - COVERAGE and 2 * (cut + 1) < count:
        cut += 1
        below += Fraction(math.comb(count, cut), 2**count)
    return cut
