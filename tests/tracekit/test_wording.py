"""Does every quantity show three right digits and the unit that fits, and is there one way only to show it?"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import ROOT

from tracekit import wording

TIMES = {"ns": 1, "µs": 10**3, "ms": 10**6, "s": 10**9}
SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
WORK = {"FLOP": 1, "kFLOP": 10**3, "MFLOP": 10**6, "GFLOP": 10**9, "TFLOP": 10**12}
SCALED = [
    (wording.duration, TIMES),
    (wording.size, SIZES),
    (wording.binary_size, BINARY),
    (wording.operations, WORK),
]


def read(text: str, units: dict[str, int]) -> float:
    figure, unit = text.split(" ")
    return float(figure.replace(",", "").replace(wording.MINUS, "-")) * units[unit]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (0.0, "0 ns"),
        (1, "1 ns"),
        (640, "640 ns"),
        (999, "999 ns"),
        (999.6, "1.00 µs"),
        (1_000, "1.00 µs"),
        (1_234, "1.23 µs"),
        (12_345, "12.3 µs"),
        (99_960, "100 µs"),
        (999_499, "999 µs"),
        (999_600, "1.00 ms"),
        (999_600_000, "1.00 s"),
        (84_312_000, "84.3 ms"),
        (1_730_000_000, "1.73 s"),
        (5_432_100_000_000, "5,430 s"),
        (12.5, "12.5 ns"),
        (-1_500, "−1.50 µs"),
        (-999_600, "−1.00 ms"),
        (Fraction(1_500), "1.50 µs"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_durations(nanoseconds: float | None, text: str) -> None:
    assert wording.duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(1_500, "+1.50 µs"), (-1_500, "−1.50 µs"), (0, "0 ns"), (0.0, "0 ns"), (None, "–")]
)
def test_changes_in_time_have_a_sign(nanoseconds: float | None, text: str) -> None:
    assert wording.signed_duration(nanoseconds) == text


def test_two_durations_share_a_unit_where_they_can() -> None:
    assert wording.durations(588_000_000, 624_000_000, "to") == "588 to 624 ms"
    assert wording.durations(400_000_000, 84_100, "±") == "400 ms ± 84.1 µs"
    assert wording.durations(0, 84_100, "±") == "0 ns ± 84.1 µs"
    assert wording.durations(1_500_000_000, 624_000_000, "to") == "1.50 s to 624 ms"
    assert wording.durations(None, None, "to") == "– to –"


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((4_611_123, 4_539_227, 4_948_172), "4.61 [4.54, 4.95] ms"),
        ((1_020_000, 998_000, 1_100_000), "1.02 ms [998 µs, 1.10 ms]"),
        ((5_000, 5_000, 5_000), "5.00 µs"),
        ((5_000, 4_999.9, 5_000.1), "5.00 µs"),
    ],
)
def test_a_median_with_its_interval(ends: tuple[float, float, float], text: str) -> None:
    assert wording.with_interval(*ends) == text
    assert wording.with_interval(1477, 1400, 1500, wording.number) == "1,477 [1,400, 1,500]"


@pytest.mark.parametrize(("show", "units"), SCALED)
@given(value=st.one_of(st.integers(-(10**17), 10**17), st.floats(0.001, 1e17)))
def test_a_figure_reads_back_within_half_of_its_last_digit(
    show: Callable[[float], str], units: dict[str, int], value: float
) -> None:
    assert abs(read(show(value), units) - value) <= abs(value) * 0.005000001


@pytest.mark.parametrize(("show", "units"), SCALED)
@given(value=st.one_of(st.integers(1, 10**17), st.floats(0.001, 1e17)))
def test_no_unit_is_shown_so_often_that_a_larger_one_fits(
    show: Callable[[float], str], units: dict[str, int], value: float
) -> None:
    text = show(value)
    larger = [factor for factor in units.values() if factor > units[text.split(" ")[1]]]
    assert not larger or read(text, units) < larger[0]


@pytest.mark.parametrize(("show", "units"), SCALED[:2])
@given(value=st.integers(1_000, 10**12))
def test_there_are_three_digits(show: Callable[[float], str], units: dict[str, int], value: int) -> None:
    text = show(value)
    assert len(re.sub(r"\D", "", text)) == 3 or text.endswith(" s")


@given(st.integers(min_value=1, max_value=10**12), st.integers(min_value=1, max_value=10**12))
def test_no_unit_goes_backwards(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert read(wording.duration(low), TIMES) <= read(wording.duration(high), TIMES) * (1 + 1e-9)


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=0, max_value=2))
def test_only_nothing_is_zero_and_only_all_is_a_hundred(share: float, digits: int) -> None:
    text = wording.percent(share, digits)
    assert (text == "0 %") == (share == 0)
    assert (text == "100 %") == (share == 1)
    assert share == 0 or re.search("[1-9]", text)


@given(st.floats(min_value=-50, max_value=50, allow_nan=False))
def test_a_change_never_reads_as_none(share: float) -> None:
    text = wording.signed_percent(share)
    assert text[0] == ("+" if share > 0 else "−" if share < 0 else "0")
    assert share == 0 or re.search("[1-9]", text)


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
        (12.345, "1,234.5 %"),
        (-0.082, "−8.2 %"),
        (-0.0004, "−<0.1 %"),
    ],
)
def test_percents(share: float | None, text: str) -> None:
    assert wording.percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.0567, "5.7 %"), (0.714, "71 %"), (0.9987, "99.9 %"), (None, "–")])
def test_rough_percents(share: float | None, text: str) -> None:
    assert wording.rough_percent(share) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.1234, "+12.3 %"), (-1.0, "−100 %"), (0.0, "0 %"), (-0.0001, "−<0.1 %"), (0.0001, "+<0.1 %")]
)
def test_changes_in_per_cent_have_a_sign(share: float, text: str) -> None:
    assert wording.signed_percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.05, "5 %"), (0.0025, "0.25 %"), (1.5, "150 %")])
def test_a_limit_is_shown_as_it_was_written(share: float, text: str) -> None:
    assert wording.exact_percent(share) == text


def test_sizes_rates_and_factors() -> None:
    assert wording.size(6_300_000) == "6.30 MB"
    assert wording.size(999_600) == "1.00 MB"
    assert wording.size(21_263_900_000) == "21.3 GB"
    assert wording.binary_size(49_152) == "48.0 KiB"
    assert wording.binary_size(1_023) == "1,023 B"
    assert wording.binary_size(1_024) == "1.00 KiB"
    assert wording.binary_size(2**20 - 1) == "1,020 KiB"
    assert wording.rate(600_000, 60_000) == "10.0 GB/s"
    assert wording.rate(None, 60_000) == wording.rate(600, 0) == wording.MISSING
    assert wording.operations(42_467_328) == "42.5 MFLOP"
    assert wording.quantity(1_655.3, "tokens/s") == "1,660 tokens/s"
    assert wording.quantity(None, "tokens/s") == wording.MISSING
    assert wording.ratio(1.8) == "1.80×"
    assert wording.millions(124_439_808) == "124 M"
    assert wording.duration_unit(999_600) == (1e6, "ms")
    assert wording.duration_unit(0) == (1, "ns")


@pytest.mark.parametrize(
    ("value", "text"), [(1.2e-7, "1.2e-7"), (1e-3, "1e-3"), (0, "0"), (0.0096, "9.6e-3"), (None, "–"), (9.96e-4, "1e-3")]
)
def test_small_numbers(value: float | None, text: str) -> None:
    assert wording.scientific(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0344, "0.0344"),
        (0.00003, "3.00e-5"),
        (0.000999_9, "0.00100"),
        (-2.83e-7, "−2.83e-7"),
        (99.96, "100"),
        (1_655.3, "1,660"),
        (-2, "−2.00"),
        (None, "–"),
        (True, "–"),
    ],
)
def test_three_digits(value: float | None, text: str) -> None:
    assert wording.three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (216_092, "216,092"),
        (3.0, "3"),
        (-1_200, "−1,200"),
        (10**30 + 1, "1" + ",000" * 9 + ",001"),
        (140.25, "140.2"),
        (1_381.5, "1,381.5"),
        (2.5, "2.5"),
        (0.3333, "0.333"),
        (0.05, "0.05"),
        (None, "–"),
    ],
)
def test_counts_are_not_rounded_and_averages_little(value: float | None, text: str) -> None:
    assert wording.number(value) == text


def test_a_noun_goes_with_its_count() -> None:
    assert wording.counted(1, "copy", "copies") == "1 copy"
    assert wording.counted(0, "copy", "copies") == "0 copies"
    assert wording.counted(1_208, "copy", "copies") == "1,208 copies"
    assert wording.counted(2, "kernel") == "2 kernels"
    assert wording.counted(0.5, "kernel") == "0.5 kernels"
    assert wording.counted(None, "kernel") == "– kernels"
    assert wording.form(1, "has", "have") == "has"


@given(st.one_of(st.integers(0, 10**9), st.floats(0, 1e9)))
def test_one_and_only_one_is_singular(count: float) -> None:
    figure, noun = wording.counted(count, "launch", "launches").split(" ")
    assert (noun == "launch") == (figure == "1")


# --- Shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "text"),
    [
        ("[9, 768], [768]", "9×768, 768"),
        ("[], [1, 4096]", "scalar, 1×4096"),
        ("[2, 3], [], [4]", "2×3, scalar, 4"),
        ("[1, 1, 3072], []", "1×1×3072, scalar"),
        ("[]", "scalar"),
        ("[], []", "scalar, scalar"),
        ("", ""),
        ("[[2, 3], [], [4]], [5]", "2×3, scalar, 4, 5"),
        ("[[]]", "scalar"),
        ("[0, 3]", "0×3"),
    ],
)
def test_shapes(recorded: str, text: str) -> None:
    assert wording.shapes(recorded) == text


@pytest.mark.parametrize(
    "junk",
    ["[9, 768", "9, 768", "no list", "[1, [2]]", '["a"]', "[1.5]", "[true]", "{}", "]", "[" * 100_000, '[1], "x"', "[1]]"],
)
def test_what_is_no_shape_is_shown_as_it_is(junk: str) -> None:
    assert wording.shapes(junk) == junk


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=5), max_size=6))
def test_every_size_is_shown_and_no_bracket(sizes: list[list[int]]) -> None:
    text = wording.shapes(json.dumps(sizes)[1:-1])
    assert not set("[]") & set(text)
    assert text.split(", ") == [("×".join(map(str, shape)) or "scalar") for shape in sizes] or not sizes


# --- One way only -----------------------------------------------------------------------------------------------------

# What rounds or groups digits by itself, and why it may. All else would be a second way to show a figure.
OWN_FORMATS = {
    ("collect/terminal.py", ",.1f"): "columns of one unit and so many decimals",
    ("collect/terminal.py", ",.0f"): "as above",
    ("collect/terminal.py", ".2f"): "as above",
    ("report/render.py", ".6g"): "numbers for Plotly, not text",
    ("report/render.py", ".9g"): "what a column is sorted by, not text",
    ("report/results.py", ".2f"): "quoted: with the study's own decimals",
    ("report/results.py", ".4f"): "as above",
}
ROUNDS = re.compile(r",|,?\.\w+[eEfFgG%]|.*%")


def formats(source: str) -> Iterator[str]:
    """What stands behind the colon in a source's f-strings and in its calls of `format`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            parts = node.format_spec.values
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "format":
            yield from (str(given.value) for given in node.args[1:] if isinstance(given, ast.Constant))


def own_formats(name: str, source: str) -> set[tuple[str, str]]:
    return {(name, spec) for spec in formats(source) if ROUNDS.fullmatch(spec)}


def test_no_stage_shows_figures_its_own_way() -> None:
    for stage in ("analyze", "report", "collect"):
        for path in (ROOT / stage).rglob("*.py"):
            found = own_formats(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
            assert found <= OWN_FORMATS.keys()


@pytest.mark.parametrize(
    "line",
    [
        'f"{ns / 1e6:,.2f} ms"',
        'f"{100 * share:.1f} %"',
        'f"{share:.1%}"',
        'f"{count:,} kernels"',
        'f"{value:.3g}"',
        'f"{value:,.{digits}f}"',
        'format(ns / 1e6, ".2f")',
    ],
)
def test_a_second_formatter_would_be_found(line: str) -> None:
    assert own_formats("report/new.py", line)
    assert not own_formats("report/new.py", 'f"{capability:g} {name!r} {text:>10}"')


def test_the_page_draws_the_timeline_with_the_same_units() -> None:
    script = (ROOT / "templates" / "dossier.js").read_text(encoding="utf-8")
    assert re.findall(r'\[(1e?\d*), "(\S+)"\]', script) == [("1e9", "s"), ("1e6", "ms"), ("1e3", "µs"), ("1", "ns")]
