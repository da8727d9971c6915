"""Are times that cannot be left out or cut and said, and all others left as they are?"""

from __future__ import annotations

import pytest
from repository import TRACES
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.launches import launches
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.plausible import FAR_NS, OVERLAP_NS, SKEW_NS
from tracekit.taxonomy import Taxonomy

MS = 1_000_000
BASE = 10**13


def loop(kernels: int = 6) -> TraceBuilder:
    """Kernels of 60 µs, one every 100 µs."""
    builder = TraceBuilder(base_ns=BASE)
    for number in range(kernels):
        at = 100_000 * number
        builder.launch(call=(at + 5_000, 5_000), kernel=(at + 15_000, 60_000))
    return builder


def analysis(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), Taxonomy([]))


def codes(builder: TraceBuilder) -> list[str]:
    return [warning.code for warning in analysis(builder).warnings]


def figures(builder: TraceBuilder) -> tuple[int, int]:
    found = gpu(builder.trace())
    return found.span_ns, found.busy_ns


def test_plausible_times_stay():
    assert codes(loop()) == []
    assert figures(loop()) == (560_000, 360_000)


@pytest.mark.parametrize(("early", "expected"), [(SKEW_NS + 1, ["impossible_times"]), (SKEW_NS, ["clock_skew"])])
def test_a_kernel_long_before_its_call_is_left_out(early, expected):
    builder = loop()
    builder.launch(call=(700_000, 5_000), kernel=(700_000 - early, 10_000), stream=8, name="time traveller")
    found = analysis(builder)
    assert [warning.code for warning in found.warnings] == expected  # its launch has not lost it
    if expected == ["impossible_times"]:
        assert figures(builder) == (560_000, 360_000)
        assert "time traveller (1.00 ms)" in found.warnings[0].message
        assert not found.complete
    else:
        assert found.complete


def test_clocks_that_differ_are_one_warning_and_no_negative_latency():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(6):
        builder.launch(call=(10_000 * number, 4_000), kernel=(10_000 * number - 2_500, 3_000))
    found = analysis(builder)
    (warning,) = found.warnings
    assert (warning.code, warning.count) == ("clock_skew", 6)
    assert "2.50 µs" in warning.message
    assert launches(builder.trace()).latency.p50 is None
    assert found.complete


@pytest.mark.parametrize(("at", "gone"), [(-FAR_NS - MS, True), (60 * FAR_NS, True), (-FAR_NS // 2, False)])
def test_a_lone_event_without_a_call_far_from_all_others_sets_no_span(at, gone):
    builder = loop()
    builder.kernel(at, 1_000, "lone", correlation=999)
    found = analysis(builder)
    assert ("impossible_times" in codes(builder)) is gone
    assert (figures(builder)[0] == 560_000) is gone
    assert not found.complete


def test_a_lone_event_with_its_call_is_a_pause():
    builder = loop()
    builder.launch(call=(60 * FAR_NS, 5_000), kernel=(60 * FAR_NS + 9_000, 1_000))
    assert codes(builder) == []


def test_a_kernel_that_outlasts_later_ones_of_its_stream_is_cut_to_the_next():
    builder = loop()
    builder.entries[3]["dur"] = type(builder.entries[3]["dur"])(3_000 * MS)  # the second kernel
    found = analysis(builder)
    assert codes(builder) == ["impossible_times"]
    assert figures(builder) == (560_000, 400_000)  # it ends where the third begins
    assert found.gpu.kernel_time_ns == 400_000
    assert not found.complete


@pytest.mark.parametrize(("over", "inside", "flagged"), [(0, 1, False), (OVERLAP_NS, 2, False), (OVERLAP_NS + 1, 2, True)])
def test_overlaps_that_may_be(over, inside, flagged):
    """One later kernel inside, or an overlap of microseconds, may be a programmatic dependent launch."""
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 50_000 + (over or 10 * MS), "long")
    for number in range(inside):
        builder.kernel(50_000 + 10 * number, 5)
    assert ("impossible_times" in codes(builder)) is flagged


def test_streams_and_graph_branches_may_overlap():
    builder = loop()
    builder.launch(call=(0, 5_000), kernel=(15_000, 500_000), stream=8)
    builder.graph(call=(600_000, 5_000), kernels=[(700_000, 900_000), (710_000, 10_000), (730_000, 10_000), (750_000, 9_000)])
    assert codes(builder) == []


def test_a_kernel_ends_before_the_wait_for_the_device_returns():
    builder = loop()
    builder.call(560_000, 40_000, "cudaDeviceSynchronize")
    assert codes(builder) == []
    builder.entries[-2]["dur"] = type(builder.entries[-2]["dur"])(50 * MS)  # the last kernel
    assert codes(builder) == ["impossible_times"]
    assert figures(builder) == (585_000, 385_000)


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.trace.json.gz")), ids=lambda path: path.name.split(".")[0])
def test_real_traces_have_no_such_times(path):
    assert not {"impossible_times", "clock_skew"} & {warning.code for warning in load(path).warnings}
