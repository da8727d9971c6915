"""What makes a trace incomplete, and what is merely worth knowing."""

from __future__ import annotations

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.taxonomy import Taxonomy


def analysis(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), Taxonomy([]))


def whole() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))
    builder.graph(call=(20, 5), kernels=[(300, 10), (400, 10)])
    builder.call(30, 5, "cudaMalloc")
    return builder


def test_a_whole_trace_has_no_warning():
    found = analysis(whole())

    assert found.complete
    assert found.warnings == ()


def add_launch_without_kernel(builder: TraceBuilder) -> None:
    builder.call(50, 5, correlation=100)


def add_kernel_without_launch(builder: TraceBuilder) -> None:
    builder.kernel(500, 5, correlation=100)


def add_event_without_time(builder: TraceBuilder) -> None:
    del builder.operator(50, 5)["ts"]


def add_event_without_duration(builder: TraceBuilder) -> None:
    del builder.operator(50, 5)["dur"]


def add_negative_duration(builder: TraceBuilder) -> None:
    builder.operator(50, -5)


def add_ill_typed(builder: TraceBuilder) -> None:
    builder.entries.append("an event")


@pytest.mark.parametrize(
    ("add", "code"),
    [
        (add_launch_without_kernel, "launches_without_kernel"),
        (add_kernel_without_launch, "kernels_without_launch"),
        (add_event_without_time, "events_without_time"),
        (add_event_without_duration, "events_without_duration"),
        (add_negative_duration, "negative_durations"),
        (add_ill_typed, "ill_typed_events"),
    ],
)
def test_what_makes_a_trace_incomplete(add, code):
    builder = whole()
    add(builder)
    add(builder)
    found = analysis(builder)

    assert not found.complete
    assert [warning.code for warning in found.warnings] == [code]
    if code == "launches_without_kernel":  # both have one correlation, so they are one launch
        assert (found.warnings[0].count, found.warnings[0].message.split(":")[0]) == (1, "1 of 2 launches has no kernel")
    else:
        assert found.warnings[0].count == 2
        assert found.warnings[0].message.startswith("2 ")


def test_a_trace_of_the_host_alone_is_complete_but_says_so():
    builder = TraceBuilder()
    builder.operator(0, 100)
    found = analysis(builder)

    assert found.complete
    assert [warning.code for warning in found.warnings] == ["no_gpu_events"]
