"""CUDA graphs: what each launch replays, and the gaps inside."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.structure.graphs import graph_launches, graphs
from tracekit.analyze.trace.intervals import merge
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def replay(builder: TraceBuilder, at: int, *kernels: tuple[int, int], names: list[str] | None = None) -> int:
    """A graph launch at `at` and its kernels, with starts from there on."""
    spans = [(at + start, duration) for start, duration in kernels]
    return builder.graph(call=(at, 7), kernels=spans, names=names)


def test_without_graphs_there_are_none():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    analysis = Analysis(builder.trace(), TAXONOMY)

    assert len(analysis.graph_launches) == len(analysis.graphs) == 0
    assert "graph" in analysis.graphs.columns


def test_a_worked_example():
    """Kernels at 100–110, 130–150 and, on another stream, 140–160; a copy at 170–175: gaps of 20 and 10 ns."""
    builder = TraceBuilder()
    correlation = replay(builder, 0, (100, 10), (130, 20), names=["first", "second"])
    builder.kernel(140, 20, "side", stream=9, correlation=correlation)
    builder.memcpy(170, 5, correlation=correlation)
    builder.kernel(112, 5, "somebody else's")

    assert graph_launches(builder.trace()).records() == [
        {
            "graph": 0,
            "start_ns": 100,
            "span_ns": 75,
            "busy_ns": 45,
            "gap_ns": 30,
            "gaps": 2,
            "kernels": 3,
            "copies": 1,
            "kernel_time_ns": 50,
            "latency_ns": 100,
            "call_ns": 7,
            "first": "first",
            "graph_id": None,
        }
    ]


def test_a_long_kernel_covers_what_ends_before_it():
    builder = TraceBuilder()
    replay(builder, 0, (100, 100), (110, 5), (150, 5), (210, 5))
    assert (
        graph_launches(builder.trace()).records()[0] | {"gap_ns": 10, "gaps": 1} == graph_launches(builder.trace()).records()[0]
    )


def test_a_graph_has_the_medians_of_its_launches():
    builder = TraceBuilder()
    for at, gap in ((0, 5), (1000, 1), (2000, 9), (3000, 2)):
        replay(builder, at, (100, 10), (110 + gap, 10))
    builder.launch(call=(5000, 5), kernel=(6000, 20))
    analysis = Analysis(builder.trace(), TAXONOMY)

    assert analysis.graphs.records() == [
        {
            "graph": 0,
            "launches": 4,
            "kernels": 2,
            "copies": 0,
            "span_ns": 22,
            "busy_ns": 20,
            "gap_ns": 2,
            "latency_ns": 100,
            "call_ns": 7,
            "kernel_time_ns": 80,
            "share": 0.8,
            "first": "node0",
            "graph_id": None,
        }
    ]


def test_graphs_are_told_apart_by_what_they_replay():
    """In any order: nodes on two streams may start either way. As often: two of a kernel are not one."""
    builder = TraceBuilder()
    replay(builder, 0, (100, 10), (120, 10), names=["a", "b"])
    replay(builder, 1000, (100, 10), (120, 10), names=["b", "a"])
    replay(builder, 2000, (100, 10), (120, 10), (140, 50), names=["a", "b", "b"])
    analysis = Analysis(builder.trace(), TAXONOMY)

    assert analysis.graph_launches["graph"].tolist() == [0, 0, 1]
    assert [(row["graph"], row["launches"]) for row in analysis.graphs.records()] == [(1, 1), (0, 2)]


def test_launches_whose_events_were_lost_are_no_rows():
    builder = TraceBuilder()
    builder.call(0, 5, "cudaGraphLaunch", correlation=70)
    replay(builder, 1000, (100, 10))
    analysis = Analysis(builder.trace(), TAXONOMY)

    assert len(analysis.graph_launches) == 1
    assert analysis.launches.graph_launches == 2


def test_launches_are_in_the_order_of_their_calls():
    """Even where the second one's work starts first, on a stream of its own."""
    builder = TraceBuilder()
    builder.graph(call=(10, 5), kernels=[(500, 10)], names=["late"], stream=7)
    builder.graph(call=(20, 5), kernels=[(100, 10)], names=["early"], stream=9)
    assert graph_launches(builder.trace())["first"].tolist() == ["late", "early"]


def test_hip_graphs_are_graphs():
    builder = TraceBuilder()
    builder.call(0, 5, "hipGraphLaunch", correlation=1)
    builder.kernel(50, 10, correlation=1)
    assert graph_launches(builder.trace())["kernels"].tolist() == [1]


LAUNCH = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=6)


@given(st.lists(LAUNCH, max_size=5))
@examples(150)
def test_busy_and_gaps_make_up_each_span(launches):
    """As the union of a launch's own events says, whatever overlaps, in however many launches at once."""
    builder = TraceBuilder()
    builder.operator(0, 1)
    for number, kernels in enumerate(launches):
        replay(builder, 10 * number, *((50 + start, duration) for start, duration in kernels))
    found = graph_launches(builder.trace())

    for row, kernels, number in zip(found.records(), launches, range(len(launches)), strict=True):
        start = np.array([10 * number + 50 + start for start, _ in kernels])
        union = merge(start, start + np.array([duration for _, duration in kernels]))
        assert row["busy_ns"] + row["gap_ns"] == row["span_ns"] == union.end.max() - union.start.min()
        assert row["busy_ns"] == union.total
        assert row["gaps"] == len(union.start) - 1
        assert row["kernel_time_ns"] == sum(duration for _, duration in kernels)
    whole = graphs(found, int(found["kernel_time_ns"].sum()))
    assert whole["launches"].sum() == len(launches)
    assert whole["kernel_time_ns"].sum() == found["kernel_time_ns"].sum()


def test_the_profilers_number_tells_graphs_apart_and_together():
    builder = TraceBuilder()
    for launch, number in enumerate((3, 4, 3, 0)):
        builder.graph(call=(1_000 * launch, 5), kernels=[(1_000 * launch + 100, 10)])
        builder.entries[-1]["args"] |= {"graph id": number, "graph node id": 7}
    found = graph_launches(builder.trace())

    assert found["graph"].tolist() == [0, 1, 0, 2]
    assert found["graph_id"].tolist() == [3, 4, 3, None]
    assert builder.trace().gpu["graph_node_id"].tolist() == [7, 7, 7, 7]
