"""Several traces of one program: which ones they may be, and the medians of their figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.comparison import compare, compare_repeats
from tracekit.analyze.compare.open_side import open_repeats, open_side, open_sides
from tracekit.analyze.compare.repeats import checked_repeats, repeated, typical
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.output.comparison_document import comparison_document
from tracekit.analyze.trace.loader import load
from tracekit.errors import TracekitError
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def builder(kernel_ns: int, steps: int = 2, name: str = "ProfilerStep#{}") -> TraceBuilder:
    made = TraceBuilder()
    for step in range(steps):
        at = 10_000 * step
        made.annotation(at, 9_000, name.format(step))
        made.launch(call=(at + 10, 5), kernel=(at + 100, kernel_ns), name="volta_sgemm_64x64_nn")
    return made


def side(kernel_ns: int, steps: int = 2, **changes: object) -> Side:
    return replace(analysed(Analysis(builder(kernel_ns, steps).trace(), TAXONOMY)), name=f"t{kernel_ns}", **changes)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for program, first in (("old", 100), ("new", 200)):
        for number in range(3):
            builder(first + number).write(tmp_path / f"{program}-{number}.json")
    return tmp_path


def test_a_directory_and_a_bundle_and_the_beginnings_of_names(directory):
    bundle = write_bundle([Analysis(load(path), TAXONOMY) for path in sorted(directory.glob("*.json"))], [], directory / "out")

    for where in (directory, bundle):
        times = [[one.figures["gpu.kernel_time_ns"] // 2 for one in open_repeats(f"{where}{name}", TAXONOMY)] for name in (":old", ":new-1", "")]  # fmt: skip
        assert sorted(times[0]) == [100, 101, 102]
        assert times[1] == [201]
        assert sorted(times[2]) == [100, 101, 102, 200, 201, 202]
        with pytest.raises(TracekitError, match="'x' does not choose one of its 6 traces"):
            open_repeats(f"{where}:x", TAXONOMY)
        with pytest.raises(TracekitError, match=r"holds 6 traces: .*choose one, as in .* with --repeat"):
            open_side(str(where), TAXONOMY)
    assert len(open_sides(str(directory / "old-1.json"), TAXONOMY, repeat=True)) == 1
    assert len(open_sides(str(directory / "old-1.json"), TAXONOMY, repeat=False)) == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"device": "Tesla T4"}, "device is not said and Tesla T4"),
        ({"manifest": {"dtype": "float16"}}, "dtype is float32 and float16"),
        ({"rank": 1}, "they are ranks None and 1 of a run"),
        ({"figures": {"host.span_ns": 7}}, "only one has GPU events"),
    ],
)
def test_traces_of_different_programs_are_refused(other, words):
    one = side(100, manifest={"dtype": "float32"})
    with pytest.raises(
        TracekitError, match=re.escape(f"here: t100 and t101 are not repeats of one program: {words}")
    ) as caught:
        checked_repeats([one, side(101, **{"manifest": {"dtype": "float32"}} | other)], "here")
    assert "without" not in str(caught.value)
    assert "\n" not in str(caught.value)
    train = analysed(Analysis(builder(100, name="train").trace(), TAXONOMY))
    with pytest.raises(TracekitError, match="their steps are not of the same kinds"):
        checked_repeats([side(100), train], "here")


def test_the_typical_trace_has_the_lower_median_span():
    sides = [side(ns) for ns in (300, 100, 400, 200)]

    assert typical(sides, "gpu").name == "t200"
    assert typical(sides[:3], "gpu").name == "t300"


def test_figures_are_medians_with_intervals_and_those_that_are_0_are_left_out():
    found = {
        one.metric.name: one for one in repeated([side(100), side(120), side(110)], [side(121), side(130), side(140)], "gpu")
    }

    assert {"gpu.span_ns", "gpu.busy_ns", "gpu.kernel_time_ns", "launches.kernel_launches"} <= found.keys()
    assert not {"copies.count", "communication.exposed_ns", "unprofiled.step_ns", "idle.host_sync_ns"} & found.keys()
    time = found["gpu.kernel_time_ns"]
    assert (time.a.low, time.a.median, time.a.high, time.b.low, time.b.median, time.b.high) == (200, 220, 240, 242, 260, 280)
    assert time.exceeds_noise
    assert not found["launches.kernel_launches"].exceeds_noise


def test_of_unequal_steps_a_figure_is_one_of_a_step():
    (time,) = [
        one for one in repeated([side(100), side(120, steps=4)], [side(110)], "gpu") if one.metric.name == "gpu.kernel_time_ns"
    ]

    assert (time.a.low, time.a.high, time.b.median) == (100, 120, 110)


def test_the_tables_are_those_of_the_typical_traces_and_single_ones_compare_as_ever():
    a, b = [side(ns) for ns in (100, 110, 120)], [side(ns) for ns in (130, 140)]
    whole = compare_repeats(a, b)

    assert (whole.a.name, whole.b.name, whole.traces) == ("t110", "t130", (3, 2))
    assert whole.waterfall == compare(a[1], b[0]).waterfall
    document = comparison_document(whole)
    assert document["traces"] == {"a": 3, "b": 2}
    (time,) = [one for one in document["repeats"] if one["metric"] == "gpu.kernel_time_ns"]
    assert time == {"metric": "gpu.kernel_time_ns", "match": None, "a": 220, "a_low": 200, "a_high": 240, "b": 270, "b_low": 260, "b_high": 280, "exceeds_noise": True}  # fmt: skip
    single = comparison_document(compare_repeats(a[:1], b[:1]))
    assert single == comparison_document(compare(a[0], b[0]))
    assert single["repeats"] == []
