"""Which values count as numbers: those of a time, and those of a size or an id."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tracekit.analyze.trace.events import LARGEST_US, finite_number, small_int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (0, 0),
        (-5, -5),
        (2.5, Decimal("2.5")),
        ("2.50", Decimal("2.50")),
        (Decimal("1e-3"), Decimal("0.001")),
        (LARGEST_US - 1, LARGEST_US - 1),
        (1 - LARGEST_US, 1 - LARGEST_US),
        (f"{LARGEST_US - 1}.999", Decimal(f"{LARGEST_US - 1}.999")),
        (LARGEST_US, None),
        (-LARGEST_US, None),
        (str(LARGEST_US), None),
        (float("nan"), None),
        (float("inf"), None),
        ("NaN", None),
        ("soon", None),
        ("1e999999999999999999", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_finite_number(value, expected):
    assert finite_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (-5, -5),
        ("5", 5),
        (5.0, 5),
        (Decimal("5.000"), 5),
        (LARGEST_US - 1, LARGEST_US - 1),
        (1 - LARGEST_US, 1 - LARGEST_US),
        (str(LARGEST_US - 1), LARGEST_US - 1),
        (LARGEST_US, None),
        (-LARGEST_US, None),
        (str(LARGEST_US), None),
        (5.5, None),
        ("5.5", None),
        ("five", None),
        (True, None),
        (None, None),
        ({}, None),
    ],
)
def test_a_small_integer(value, expected):
    found = small_int(value)
    assert found == expected
    assert found is None or type(found) is int
