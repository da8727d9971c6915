"""What a graph would take instead of launches, and layers that a stopwatch misjudges are in test_findings."""

from __future__ import annotations

import pytest
from rule_traces import asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.launching import graph_launch_cost, launch_overhead, layer_launch_cost
from tracekit.analyze.work.predict import GRAPH_GAP_NS


def decode(steps: int, kernels: int = 4, late: int = 4_000, length: int = 1_000) -> TraceBuilder:
    """Steps of kernels of `length` ns, each `late` ns after the one before it: dispatched for all of that."""
    builder, begin = TraceBuilder(), 0
    for _ in range(steps):
        builder.annotation(begin, kernels * (late + length) - 1, "decode")
        for _ in range(kernels):
            builder.operator(begin, late + length - 100, "aten::mm")
            builder.launch(call=(begin + late - 10, 10), kernel=(begin + late, length))
            begin += late + length
    return builder


def test_a_graph_would_take_the_busy_time_and_a_gap_between_each_two():
    finding = told(launch_overhead, decode(steps=3, late=40_000, length=20_000))
    late = 11 * 40_000  # before the first kernel the span has not begun

    assert finding.affected_ns == late
    assert finding.saving_ns == late - 11 * GRAPH_GAP_NS
    assert finding.rows[0] == {
        "step": "decode",
        "calls": 3,
        "gpu_events": 4.0,
        "busy_ns": 80_000,
        "predicted_ns": 80_000 + 3 * GRAPH_GAP_NS,
        "unprofiled_ns": None,
    }
    assert [(row["name"], row["steps"]) for row in finding.rows[1:]] == [("aten::mm", 3), ("cudaLaunchKernel", 3)]
    assert "Predicted for one decode as a graph" in finding.reasoning
    assert "500 ns (quoted: NVIDIA, V100)" in finding.reasoning


def test_where_a_graphs_own_gaps_are_no_shorter_nothing_is_promised():
    # A quarter of the time is idle, as much as a graph's gaps would be.
    finding = told(launch_overhead, decode(steps=1, late=400))

    assert finding.saving_ns == 0


def test_the_profilers_own_time_is_not_the_programs():
    builder = decode(steps=3)
    builder.overhead(5_000, 10_000, "Buffer Flush")  # in two gaps, beside one kernel
    finding = told(launch_overhead, builder)
    assert finding.affected_ns == 11 * 4_000 - 8_000

    builder.overhead(0, 60_000)
    assert asked(launch_overhead, builder) is None


def test_kernels_that_follow_each_other_closely():
    assert asked(launch_overhead, decode(steps=1, late=200)) is None


def test_what_these_rules_cannot_tell():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    assert "no runtime calls" in reason(launch_overhead, builder)
    assert "no annotation" in reason(layer_launch_cost, builder)


def replayed(first: int, others: int) -> TraceBuilder:
    """Six launches of a graph of 100 µs, with so many µs in the first call and in each of the others."""
    builder, now = TraceBuilder(), 0
    for number in range(6):
        call = (first if number == 1 else others) * 1_000
        builder.graph(call=(now, call), kernels=[(now + call, 50_000), (now + call + 50_000, 50_000)])
        now += call + 100_000
    return builder


def test_each_launch_of_a_graph_that_the_device_waits_for():
    finding = told(graph_launch_cost, replayed(50, 50))
    assert finding.saving_ns == pytest.approx(5 * 50_000, rel=0.03)
    assert asked(graph_launch_cost, replayed(5, 5)) is None


def test_a_graph_that_is_uploaded_once_is_no_habit():
    assert asked(graph_launch_cost, replayed(500, 5)) is None


def test_a_capture_is_no_reason_for_a_graph():
    builder = TraceBuilder()
    builder.call(0, 5, "cudaStreamBeginCapture")
    for number in range(20):
        at = 100 + 40_000 * number
        builder.operator(at, 30_000, "aten::add")
        builder.launch(call=(at + 5_000, 5_000), kernel=(at + 15_000, 5_000))
    assert "a graph is captured" in reason(launch_overhead, builder)


def cold(launches: int, first: int) -> TraceBuilder:
    """So many launches, 10 µs apart and each with a kernel of 9 µs; before the second the host is so many µs in an operator."""
    builder, now = TraceBuilder(), 0
    for number in range(launches):
        wait = first * 1_000 if number == 1 else 0
        builder.operator(now, 5_000 + wait, "aten::add")
        builder.launch(call=(now + 1_000 + wait, 2_000), kernel=(now + 4_000 + wait, 9_000))
        now += 10_000 + wait
    return builder


def test_one_cold_launch_among_many_is_no_overhead():
    assert asked(launch_overhead, cold(300, 5_000)) is None
    assert told(launch_overhead, cold(40, 5_000))
