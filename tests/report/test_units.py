"""Does every quantity show three right digits and the unit that fits?"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.report import units

FACTORS = {"ns": 1, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0"),
        (1, "1 ns"),
        (640, "640 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (1_234, "1.23 µs"),
        (12_345, "12.3 µs"),
        (999_499, "999 µs"),
        (999_600, "1.00 ms"),
        (84_312_000, "84.3 ms"),
        (1_730_000_000, "1.73 s"),
        (5_432_100_000_000, "5,430 s"),
        (12.5, "12.5 ns"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_durations(nanoseconds: float | None, text: str) -> None:
    assert units.duration(nanoseconds).replace(units.NBSP, " ") == text


@given(st.integers(min_value=1, max_value=10**13))
def test_a_duration_reads_back_within_half_of_its_last_digit(nanoseconds: int) -> None:
    text, unit = units.duration(nanoseconds).split(units.NBSP)
    back = float(text.replace(",", "")) * FACTORS[unit]
    assert abs(back - nanoseconds) <= nanoseconds * 0.005000001
    assert len(re.sub(r"\D", "", text)) == 3 or unit in ("ns", "s")
    assert float(text.replace(",", "")) < 1000 or unit == "s"


@given(st.integers(min_value=1, max_value=10**12), st.integers(min_value=1, max_value=10**12))
def test_no_unit_goes_backwards(one: int, other: int) -> None:
    def value(nanoseconds: int) -> float:
        text, unit = units.duration(nanoseconds).split(units.NBSP)
        return float(text.replace(",", "")) * FACTORS[unit]

    low, high = sorted((one, other))
    assert value(low) <= value(high) * (1 + 1e-9)


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=0, max_value=2))
def test_only_nothing_is_zero_and_only_all_is_a_hundred(share: float, digits: int) -> None:
    text = units.percent(share, digits)
    assert (text == f"0{units.NBSP}%") == (share == 0)
    assert (text == f"100{units.NBSP}%") == (share == 1)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0567, "5.7 %"),
        (0.6249, "62.5 %"),
        (0.0004, "<0.1 %"),
        (0.99999, ">99.9 %"),
        (None, "–"),
        (0, "0 %"),
        (1, "100 %"),
        (1.07, "107.0 %"),
    ],
)
def test_percents(share: float | None, text: str) -> None:
    assert units.percent(share).replace(units.NBSP, " ") == text


@pytest.mark.parametrize(("share", "text"), [(0.0567, "5.7 %"), (0.714, "71 %"), (0.9987, "99.9 %")])
def test_rough_percents(share: float, text: str) -> None:
    assert units.rough_percent(share).replace(units.NBSP, " ") == text


def test_sizes_and_rates() -> None:
    assert units.size(6_300_000) == f"6.30{units.NBSP}MB"
    assert units.binary_size(49_152) == f"48.0{units.NBSP}KiB"
    assert units.rate(600_000, 60_000) == f"10.0{units.NBSP}GB/s"
    assert units.rate(None, 60_000) == units.rate(600, 0) == units.MISSING
    assert units.number(216_092) == "216,092"
