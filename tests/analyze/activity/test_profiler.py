"""Is the profiler's own time told apart from the program's?"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gaps import longest_gaps
from tracekit.analyze.activity.idle import gaps, idle
from tracekit.analyze.activity.profiler import profiler_idle, profiler_of_gaps, program_idle
from tracekit.analyze.analysis import Analysis
from tracekit.schema import CAUSES
from tracekit.taxonomy import Taxonomy


def gap() -> TraceBuilder:
    """One gap from 100 to 200: the host waits until 120, is in an operator from 130 to 160, and launches at 150."""
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(50, 50))
    builder.call(60, 60, "cudaStreamSynchronize")
    builder.operator(130, 30, "aten::mm")
    builder.launch(call=(150, 5), kernel=(200, 50))
    return builder


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1_000, {"host_sync": 20, "host_other": 10, "dispatch": 20, "launch_latency": 50}),
        (110, 125, {"host_sync": 10, "host_other": 5}),
        (135, 155, {"dispatch": 15, "launch_latency": 5}),
        (0, 100, {}),
        (200, 300, {}),
        (99, 101, {"host_sync": 1}),
    ],
)
def test_the_part_of_each_cause_in_which_the_profiler_was_at_work(start, end, expected):
    builder = gap()
    builder.overhead(start, end - start)
    found = profiler_idle(builder.trace())
    assert {cause: getattr(found, f"{cause}_ns") for cause in CAUSES if getattr(found, f"{cause}_ns")} == expected
    assert longest_gaps(builder.trace())["profiler_ns"].tolist() == [sum(expected.values())]


def test_the_programs_own_idle_time_is_the_rest():
    builder = gap()
    builder.overhead(110, 30)
    found, part, whole = program_idle(builder.trace()), profiler_idle(builder.trace()), idle(builder.trace())
    assert (part.total_ns, whole.total_ns) == (30, 100)
    assert {cause: getattr(found, f"{cause}_ns") for cause in CAUSES} == {
        "host_sync": 10,
        "dispatch": 10,
        "host_other": 0,
        "launch_latency": 50,
        "device_wait": 0,
        "unattributed": 0,
    }


def test_a_moment_of_two_overheads_counts_once():
    builder = gap()
    builder.overhead(110, 20)
    builder.overhead(115, 20, "Buffer Flush")
    assert profiler_idle(builder.trace()).total_ns == 25


def test_the_loading_of_modules_is_not_the_profilers():
    builder = gap()
    for name in ("Lazy Function Loading", "Runtime Triggered Module Loading", "Driver Compiler", "Command Buffer Full"):
        builder.overhead(100, 100, name)
    assert profiler_idle(builder.trace()).total_ns == 0


@pytest.mark.parametrize(("duration", "told"), [(30, True), (20, False)])
def test_more_than_one_per_cent_of_the_span_is_told(duration, told):
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 1_000))
    builder.launch(call=(1_020, 5), kernel=(1_110, 890))  # the span is 1,990 + 0
    builder.overhead(1_020, duration)
    builder.launch(call=(1_030, 5), kernel=(2_000, 10))
    warnings = Analysis(builder.trace(), Taxonomy([])).warnings
    assert [warning.code for warning in warnings] == (["profiler_at_work"] if told else [])
    if told:
        assert warnings[0].message.startswith(
            "in 30 ns of the GPU's idle time, 1.5 % of its span, the profiler itself was at work"
        )
        assert Analysis(builder.trace(), Taxonomy([])).complete


SPANS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 80)), max_size=8)


@given(SPANS, SPANS, SPANS)
@examples(100)
def test_it_is_the_overlap_of_idle_time_and_overhead(kernels, operators, overheads):
    builder = TraceBuilder()
    builder.launch(call=(0, 2), kernel=(5, 5))
    for start, length in kernels:
        builder.launch(call=(start, 2), kernel=(start + 20, length))
    for start, length in operators:
        builder.operator(start, length)
    for start, length in overheads:
        builder.overhead(start, length)
    trace = builder.trace()
    found, whole, gap_list = profiler_idle(trace), idle(trace), gaps(trace)

    # Nanosecond by nanosecond.
    idle_moments, profiled = np.zeros(1_000, dtype=bool), np.zeros(1_000, dtype=bool)
    for start, end in zip(gap_list["start_ns"].tolist(), gap_list["end_ns"].tolist(), strict=True):
        idle_moments[start:end] = True
    for start, length in overheads:
        profiled[start : start + length] = True
    assert found.total_ns == int((idle_moments & profiled).sum()) == int(profiler_of_gaps(trace).sum())
    assert all(part <= cause for part, cause in zip(astuple(found), astuple(whole), strict=True))


def test_if_the_profiler_is_always_at_work_every_part_is_the_whole():
    builder = gap()
    builder.overhead(0, 1_000)
    assert profiler_idle(builder.trace()) == idle(builder.trace())
