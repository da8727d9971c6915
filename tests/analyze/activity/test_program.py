"""Is a program that is played as it was recorded what it was?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from repository import ROOT
from synthetic import TraceBuilder, queue

from tracekit.analyze.activity.program import CALL_COST, FULL_QUEUE, LONG_CALL_NS, item_work, program, waiting_calls
from tracekit.analyze.activity.whatif import Program
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace

REAL = [*sorted((ROOT / "traces").glob("*h100*.gz")), *shared_data.traces()]


def recorded_ns(trace: Trace) -> int:
    """From the first launch or wait, or GPU event if there is none, until host and device are done."""
    played, event = program(trace), trace.gpu["event"]
    ends = [int(trace.end_ns[rows].max()) for rows in (played.row, event) if len(rows)]
    return max(ends) - int(trace.start_ns[played.row[0]] if len(played.row) else trace.start_ns[event].min())


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name.split(".")[0])
def test_a_real_program_takes_as_long_as_it_took(path: Path) -> None:
    trace = load(path)
    if len(trace.gpu):
        assert program(trace).total_ns == pytest.approx(recorded_ns(trace), rel=1e-6)


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 90), st.integers(0, 300)), min_size=1, max_size=12
    ),
    st.lists(st.integers(0, 11), max_size=3),
)
@examples(150)
def test_whatever_the_host_launches_in_order_is_played_as_it_ran(launches, waits):
    builder, host, device = TraceBuilder(), 0, 0
    for number, (pause, call, delay, length) in enumerate(launches):
        host += pause
        start = max(host + call + delay, device)
        builder.launch(call=(host, call), kernel=(start, length))
        host, device = host + call, start + length
        if number in waits:
            builder.call(host, max(device - host, 0) + 7, "cudaDeviceSynchronize")
            host = max(device, host) + 7
    trace = builder.trace()
    assert program(trace).total_ns == pytest.approx(recorded_ns(trace), abs=1e-6)


# --- What is recorded, as a program ------------------------------------------------------------------------------------

US = 1_000


def device(played: Program) -> list[tuple[float, ...]]:
    """Of each device event: item, latency, duration, offset and own time, in µs."""
    columns = (played.latency_ns, played.duration_ns, played.offset_ns, played.own_ns)
    return list(zip(played.item.tolist(), *((column / US).tolist() for column in columns), strict=True))


def test_what_each_device_event_depends_on():
    builder = TraceBuilder()
    builder.launch(call=(0, 10 * US), kernel=(20 * US, 100 * US))
    builder.launch(call=(30 * US, 10 * US), kernel=(125 * US, 100 * US))  # was queued: starts 5 after the one before
    builder.launch(call=(300 * US, 10 * US), kernel=(330 * US, 70 * US))  # late: starts 30 after its launch
    builder.kernel(450 * US, 50 * US)  # nobody knows its launch
    builder.launch(call=(350 * US, 10 * US), kernel=(480 * US, 120 * US), stream=8)  # beside the one before
    assert device(program(builder.trace())) == [
        (0, 20, 100, 0, 100),
        (1, 30, 100, 105, 100),
        (2, 30, 70, 105, 70),
        (-1, -np.inf, 50, 120, 0),
        (3, 30, 120, 30, 120),
    ]


def test_an_event_inside_another_has_no_time_of_its_own():
    builder = TraceBuilder()
    builder.launch(call=(0, US), kernel=(5 * US, 100 * US))
    builder.launch(call=(2 * US, US), kernel=(20 * US, 30 * US), stream=8)
    builder.launch(call=(4 * US, US), kernel=(110 * US, 10 * US))
    assert [row[-1] for row in device(program(builder.trace()))] == [0, 0, 10]


def test_a_nanosecond_between_two_events_is_a_dispatch():
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 100))
    builder.launch(call=(10, 10), kernel=(121, 100))
    builder.launch(call=(1_000, 10), kernel=(1_020, 100))
    assert program(builder.trace()).offset_ns.tolist() == [0, 101, 101]


def test_an_event_without_a_launch_before_all_others_stays_before_them():
    builder = TraceBuilder()
    builder.launch(call=(50 * US, 5 * US), kernel=(80 * US, 10 * US))
    builder.kernel(0, 10 * US)
    assert device(program(builder.trace())) == [(-1, -np.inf, 10, -50, 10), (0, 30, 10, 11, 10)]
    builder.launch(call=(95 * US, 5 * US), kernel=(120 * US, 10 * US))
    assert program(builder.trace()).total_ns == 80 * US


def test_an_event_without_a_launch_after_the_first_launch_stays_there():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(900, 10))
    builder.kernel(30, 50)
    _, ends, total = program(builder.trace()).played()
    assert (ends.tolist(), total) == ([80, 910], 910)


def test_a_program_without_a_host_or_a_device_or_both():
    builder = TraceBuilder()
    builder.kernel(50, 10)
    builder.kernel(100, 30)
    played = program(builder.trace())
    assert (played.offset_ns.tolist(), played.total_ns) == ([0, 50], 80)

    builder = TraceBuilder()
    builder.call(50, 10, "cudaDeviceSynchronize")
    builder.call(80, 10, "cudaDeviceSynchronize")
    assert program(builder.trace()).total_ns == 40

    builder = TraceBuilder()
    builder.operator(0, 10)
    assert program(builder.trace()).total_ns == 0


def awaited(builder: TraceBuilder) -> list[tuple[int, float]]:
    """For each item, the place of the device event that it waits for, and how long it takes without waiting."""
    played = program(builder.trace())
    return list(zip(played.waits_for.tolist(), played.call_ns.tolist(), strict=True))


@pytest.mark.parametrize(("returns", "expected"), [(519, (0, 409)), (520, (1, 0)), (530, (1, 10)), (900, (1, 380))])
def test_a_wait_is_for_the_last_event_that_ended_before_it_returned(returns, expected):
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(10, 100))
    builder.launch(call=(20, 10), kernel=(500, 20))
    builder.call(50, returns - 50, "cudaDeviceSynchronize")
    assert awaited(builder) == [(-1, 10), (-1, 10), expected]


@pytest.mark.parametrize(("begins", "expected"), [(109, (0, 11)), (110, (-1, 11)), (111, (-1, 10))])
def test_a_wait_that_begins_when_all_is_done_is_for_nothing(begins, expected):
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(10, 100))
    builder.call(begins, 121 - begins, "cudaDeviceSynchronize")
    builder.launch(call=(200, 10), kernel=(210, 100))
    builder.call(220, 100, "cudaDeviceSynchronize")
    assert awaited(builder) == [(-1, 10), expected, (-1, 10), (1, 10)]


def test_a_copy_may_wait_for_itself_and_no_wait_is_for_what_was_launched_after_it():
    builder = TraceBuilder()
    builder.call(0, 100, "cudaMemcpy", correlation=77)
    builder.memcpy(20, 60, correlation=77)
    assert awaited(builder) == [(0, 20)]

    builder = TraceBuilder()
    builder.call(100, 900, "cudaDeviceSynchronize")
    builder.graph(call=(200, 10), kernels=[(300, 10), (320, 10)], thread=2)
    assert awaited(builder) == [(-1, 10)]  # a thread that launches nothing keeps no launch back


def test_an_item_has_the_events_recorded_since_the_one_before():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(50, 10), kernel=(100, 10))
    builder.operator(60, 5)  # begins as the call returns
    builder.operator(70, 5)
    builder.overhead(72, 1)  # the profiler records none of its own work
    builder.launch(call=(80, 10), kernel=(120, 10))
    builder.operator(200, 5)
    assert program(builder.trace()).events.tolist() == pytest.approx([2 + CALL_COST, 1 + CALL_COST])


def test_a_nodes_wait_and_a_launch_after_it():
    """A graph's later nodes have no item, and are played with their graph."""
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(10, 100))
    builder.call(20, 100, "cudaDeviceSynchronize")
    builder.graph(call=(150, 10), kernels=[(200 + 20 * node, 10) for node in range(5)])
    starts, ends, total = program(builder.trace()).played()
    assert (starts.tolist(), ends.tolist(), total) == ([0, 20, 150], [110, 210, 230, 250, 270, 290], 290)


def test_work_is_counted_for_the_item_before_which_it_lies():
    builder = queue((0, 10, 5), (90, 10, 5), (90, 10, 5))  # calls at 0, 100 and 200
    for start, length in ((20, 30), (40, 20), (95, 40), (300, 50)):
        builder.operator(start, length)
    trace = builder.trace()
    played = program(trace)
    assert item_work(trace, played, trace.operators).tolist() == [0, 55, 25]
    assert item_work(trace, played, []).tolist() == [0, 0, 0]


def test_a_call_that_gives_memory_back_waits_for_the_device():
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(10, 100))
    builder.call(20, 95, "cudaFree")
    builder.call(130, 5, "cudaMalloc")
    builder.call(140, 5, "cudaFreeAsync")
    builder.launch(call=(150, 10), kernel=(160, 100))
    assert awaited(builder) == [(-1, 10), (0, 5), (-1, 10)]


def test_a_copy_that_returns_when_it_is_done_waits_for_itself():
    builder = TraceBuilder()
    builder.call(0, 50, "cudaMemcpyAsync", correlation=71)
    builder.memcpy(20, 20, "Memcpy DtoH (Device -> Pageable)", correlation=71)
    builder.call(60, 5, "cudaMemcpyAsync", correlation=72)
    builder.memcpy(70, 20, "Memcpy DtoH (Device -> Pinned)", correlation=72)
    assert awaited(builder) == [(0, 10), (-1, 5)]
    assert waiting_calls(builder.trace()).tolist() == [0]


def full(depth: int, stuck: int = 500 * US) -> TraceBuilder:
    """Kernels of 1,000 µs, so many launched at once; the next launch takes until one of them ends, or so many ns."""
    builder = TraceBuilder()
    for number in range(depth):
        builder.launch(call=(100 * number, 100), kernel=(100 * number + 100 if not number else 1_000 * US * number, 1_000 * US))
    builder.launch(call=(depth * 100, stuck), kernel=(1_000 * US * depth, 10))
    return builder


@pytest.mark.parametrize(("depth", "waits"), [(FULL_QUEUE, True), (FULL_QUEUE - 1, False)])
def test_a_launch_that_finds_the_queue_full_waits_for_the_device(depth, waits):
    played = program(full(depth, stuck=1_500 * US).trace())
    assert (played.waits_for[-1] >= 0) == waits
    if waits:  # a device that takes no time has room at once
        assert played.call_ns[-1] < 600 * US


def test_a_quick_launch_onto_a_full_queue_waits_for_nothing():
    assert program(full(FULL_QUEUE, stuck=LONG_CALL_NS).trace()).waits_for[-1] == -1


def test_calls_of_two_threads_that_overlap_take_what_they_add():
    """Played one after the other, they take no longer than they took beside each other."""
    builder, free = TraceBuilder(), 0
    for number in range(20):
        for thread in (1, 2):
            at = 100 * US * number + 10 * US * thread
            start = max(at + 50 * US, free)
            builder.launch(call=(at, 40 * US), kernel=(start, 5 * US), thread=thread)
            free = start + 5 * US
    trace = builder.trace()
    assert program(trace).total_ns == pytest.approx(recorded_ns(trace), rel=0.01)


def test_the_profiler_records_a_graphs_nodes_at_its_launch():
    builder = TraceBuilder()
    builder.graph(call=(0, 10), kernels=[(20 + 20 * node, 10) for node in range(6)])
    builder.launch(call=(200, 10), kernel=(220, 10))
    assert program(builder.trace()).events.tolist() == pytest.approx([6 * CALL_COST, CALL_COST])
