"""Does an event that stands in the file twice count once?"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from step_traces import Periodic
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import idle
from tracekit.analyze.activity.launches import launches
from tracekit.analyze.activity.operators import operators
from tracekit.analyze.trace.trace import Trace


def work() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 50, "aten::mm")
    builder.launch(call=(10, 5), kernel=(100, 20), name="gemm")
    builder.launch(call=(20, 5), kernel=(120, 20), name="gemm")
    builder.graph(call=(60, 5), kernels=[(200, 10), (210, 10)])
    builder.memcpy(300, 10)
    return builder


def doubled(builder: TraceBuilder, chosen: list[Any]) -> TraceBuilder:
    builder.entries += copy.deepcopy(chosen)
    return builder


def figures(trace: Trace) -> tuple[Any, ...]:
    return gpu(trace), idle(trace), launches(trace), operators(trace).records()


def told(trace: Trace) -> list[tuple[str, int]]:
    return [(warning.code, warning.count) for warning in trace.warnings]


def test_a_file_whose_events_all_stand_twice_is_that_of_the_events():
    builder = work()
    found = doubled(work(), builder.entries).trace()

    assert told(found) == [("doubled_events", 9)]
    assert found.warnings[0].message.startswith("9 events stand in the file more than once and count once, 5 GPU events among")
    assert figures(found) == figures(builder.trace())
    assert found.entries == 18


def test_how_many_stand_twice():
    builder = TraceBuilder()
    builder.kernel(0, 10, correlation=5)
    (warning,) = doubled(builder, builder.entries).trace().warnings
    assert warning.message == (
        "1 event stands in the file more than once and counts once, 1 GPU event among them: was it merged or exported twice?"
    )

    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 10))
    builder.kernel(30, 10, correlation=7)
    (warning,) = doubled(builder, builder.entries).trace().warnings
    assert warning.message == (
        "3 events stand in the file more than once and count once, 2 GPU events among them: was it merged or exported twice?"
    )


def test_nodes_of_a_graph_that_differ_in_their_number_alone_are_two():
    for first, second, events in ((11, 12, 2), (11, 11, 1), (1, None, 2)):
        builder = TraceBuilder()
        builder.call(0, 5, "cudaGraphLaunch", correlation=3)
        for node in (first, second):
            builder.kernel(10, 10, correlation=3, **{"graph node id": node})
        assert len(builder.trace().gpu) == events


def test_three_times_is_no_different():
    found = doubled(doubled(work(), work().entries), work().entries).trace()
    assert told(found) == [("doubled_events", 18)]
    assert figures(found) == figures(work().trace())


@given(st.data())
@examples(40)
def test_whichever_gpu_events_stand_twice_no_figure_changes(data):
    builder = Periodic(4).builder
    before = figures(builder.trace())
    on_gpu = [entry for entry in builder.entries if entry["cat"] in ("kernel", "gpu_memcpy")]
    chosen = data.draw(st.lists(st.sampled_from(on_gpu), min_size=1, max_size=5, unique_by=id))
    found = doubled(builder, chosen).trace()

    assert figures(found) == before
    assert told(found) == [("doubled_events", len(chosen))]


def test_what_differs_in_anything_is_another_event():
    for change in ({"start": 101}, {"duration": 21}, {"name": "other"}, {"stream": 8}, {"device": 1}, {"correlation": 9}):
        builder = TraceBuilder()
        first = {"start": 100, "duration": 20, "name": "gemm", "stream": 7, "device": 0, "correlation": 8}
        for one in (first, {**first, **change}):
            builder.kernel(one.pop("start"), one.pop("duration"), **one)  # type: ignore[arg-type]
        found = builder.trace()
        assert len(found.gpu) == 2, change
        assert "doubled_events" not in dict(told(found)), change


def test_operators_that_are_alike_are_two_where_no_gpu_event_stands_twice():
    """One calls the other within the same microsecond."""
    builder = doubled(work(), [work().entries[0]])
    assert told(builder.trace()) == []
    assert operators(builder.trace())["count"].tolist() == [2]
