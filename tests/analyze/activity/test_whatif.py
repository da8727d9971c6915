"""Is a program that is played again what it was, and does a change do what it can and no more?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from repository import ROOT
from synthetic import TraceBuilder

from tracekit.analyze.activity.whatif import DISPATCH_NS, Program, fitted, item_work, program
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


def queue(*items: tuple[int, int, int]) -> TraceBuilder:
    """Kernels on one stream: how long the host works before, how long the call takes, how long the kernel."""
    builder, host, device = TraceBuilder(), 0, 0
    for work, call, kernel in items:
        host += work
        start = max(host + call, device)
        builder.launch(call=(host, call), kernel=(start, kernel))
        host += call
        device = start + kernel
    return builder


def saved(builder: TraceBuilder, *savings: int) -> float:
    played = program(builder.trace())
    return played.total_ns - played.faster(np.array(savings, dtype=np.float64)).total_ns


def test_a_shorter_kernel_helps_as_far_as_the_next_is_queued():
    builder = queue((0, 10, 100), (0, 10, 100), (0, 10, 100))
    assert saved(builder, 0, 0, 0) == 0
    assert saved(builder, 30, 20, 10) == 60
    assert saved(queue((0, 10, 100), (60, 10, 100)), 50, 0) == 30  # the second call starts at 70
    assert saved(queue((0, 10, 5), (50, 10, 5), (50, 10, 5)), 4, 4, 0) == 0
    assert saved(queue((0, 10, 100)), 250) == 100


def test_without_a_wait_the_host_runs_ahead():
    us = 1_000
    builder = queue((0, 10 * us, 1_000 * us))
    builder.call(10 * us, 1_005 * us, "cudaDeviceSynchronize")  # the device is done at 1,010
    builder.launch(call=(1_415 * us, 10 * us), kernel=(1_425 * us, 1_000 * us))
    played = program(builder.trace())
    assert played.total_ns == 2_425 * us
    # The second launch is ready at 15 + 400, and the first kernel runs until 1,010.
    assert played.without_waits(played.waits_for >= 0).total_ns == 1_010 * us + DISPATCH_NS + 1_000 * us


def test_a_wait_that_waited_for_nothing_is_only_a_call():
    builder = queue((0, 10, 50))
    builder.call(500, 8, "cudaStreamSynchronize")
    played = program(builder.trace())
    assert (played.waits_for.tolist(), played.call_ns.tolist(), played.total_ns) == ([-1, -1], [10, 8], 508)


def test_less_work_of_the_host_helps_where_the_device_waits_for_it():
    us = 1_000
    builder = queue((0, 10 * us, 50 * us), (400 * us, 10 * us, 50 * us))
    builder.operator(20 * us, 300 * us, "aten::cat")
    trace = builder.trace()
    played = program(trace)
    less = item_work(trace, played, trace.operators)
    assert less.tolist() == [0, 300 * us]
    assert played.total_ns - played.without_work(less).total_ns == 300 * us
    # The device's own time is left, and what it takes from one event to the next.
    assert played.without_work(np.array([0.0, 10**9])).total_ns == 60 * us + DISPATCH_NS + 50 * us


def test_an_event_whose_launch_is_not_known_stays_where_it_was():
    builder = queue((0, 10, 50))
    builder.kernel(900, 100, correlation=77)
    assert program(builder.trace()).total_ns == 1_000


def two_items() -> Program:
    """Two launches, of which the second also waits for the second event, and their events in the other order of rows."""
    return Program(
        row=np.array([0, 1]),
        work_ns=np.array([100.0, 10.0]),
        call_ns=np.array([20.0, 100.0]),
        events=np.array([2, 50]),
        waits_for=np.array([0, 1]),
        gpu=np.array([1, 0]),
        item=np.array([0, 1]),
        latency_ns=np.array([5.0, 5.0]),
        duration_ns=np.array([50.0, 60.0]),
        offset_ns=np.array([0.0, 55.0]),
        own_ns=np.array([40.0, 60.0]),
        free_ns=np.array([0.0, 5.0]),
    )


def test_the_profilers_cost_is_taken_from_the_work_first_and_leaves_a_tenth():
    found = two_items().unprofiled(10)
    assert found.work_ns.tolist() == pytest.approx([80, 1])
    assert found.call_ns.tolist() == pytest.approx([20, 10])


def test_less_work_is_taken_from_the_work_before_and_then_from_the_item():
    found = two_items().without_work(np.array([110.0, 5.0]))
    assert (found.work_ns.tolist(), found.call_ns.tolist()) == ([0, 5], [10, 100])
    found = two_items().without_work(np.array([1_000.0, 1_000.0]))
    assert (found.work_ns.tolist(), found.call_ns.tolist()) == ([0, 0], [0, 0])


def test_a_shorter_event_lets_the_next_one_start_sooner_by_what_was_its_own():
    found = two_items().faster(np.array([70.0, 45.0]))
    assert (found.duration_ns.tolist(), found.offset_ns.tolist()) == ([5, 0], [0, 15])
    found = two_items().faster(np.array([-5.0, -5.0]))
    assert (found.duration_ns.tolist(), found.offset_ns.tolist()) == ([50, 60], [0, 55])


def test_moments_that_are_cut_out_of_the_device_shorten_all_that_overlap_there():
    builder = TraceBuilder()
    builder.launch(call=(0, 1), kernel=(10, 100))
    builder.launch(call=(1, 1), kernel=(10, 40), stream=8)
    builder.launch(call=(2, 1), kernel=(110, 20))
    played = program(builder.trace())
    # From 50 to 110 only the first kernel runs. Without these 60 ns the third starts as much sooner.
    shorter, sooner = np.array([60.0, 0.0, 0.0]), np.array([0.0, 0.0, 60.0])
    assert played.total_ns - played.cut(shorter, sooner).total_ns == 60
    assert played.total_ns == played.faster(shorter).total_ns  # as if only the first got shorter, and nothing depended on it


def test_gaps_can_close_only_as_far_as_the_device_does_nothing():
    builder = TraceBuilder()
    builder.launch(call=(0, 1), kernel=(10, 100))
    builder.launch(call=(1, 1), kernel=(115, 20))
    played = program(builder.trace())
    assert played.total_ns - played.closer(np.array([0.0, 3.0])).total_ns == 3
    assert played.total_ns - played.closer(np.array([50.0, 50.0])).total_ns == 5


def test_only_the_chosen_waits_end():
    assert two_items().without_waits(np.array([True, False])).waits_for.tolist() == [-1, 1]
    assert two_items().without_waits(np.array([False, False])).waits_for.tolist() == [0, 1]


def test_when_items_start_and_events_end():
    starts, ends, total = two_items().played()
    # The first item begins at 100 and waits for its event from 105 to 155, then takes its own 20 and the work of 10. The second
    # waits for its event from 190 to 250, and then takes its own 100.
    assert (starts.tolist(), ends.tolist(), total) == ([100, 185], [155, 250], 350)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 50), st.integers(0, 400)), min_size=1, max_size=8), st.floats(0, 1)
)
@examples(60)
def test_no_change_that_takes_time_away_makes_the_program_longer(items, share):
    played = program(queue(*items).trace())
    changes: list[Program] = [
        played.faster(played.duration_ns[np.argsort(played.gpu)] * share),
        played.without_work(played.work_ns * share),
        played.unprofiled(100 * share),
        played.without_waits(np.ones(len(played.row), dtype=bool)),
    ]
    assert all(change.total_ns <= played.total_ns + 1e-6 for change in changes)


def test_the_profilers_cost_is_found_by_the_time_without_it():
    builder, host = TraceBuilder(), 0
    for _ in range(50):
        for number in range(4):
            builder.operator(host + 2_000 * number, 1_900, "aten::add")
        builder.launch(call=(host + 8_000, 1_000), kernel=(host + 9_500, 500))
        host += 10_000
    played = program(builder.trace())
    found = fitted(played, 0.7 * played.total_ns)
    assert found.total_ns == pytest.approx(0.7 * played.total_ns, rel=1e-3)
    assert fitted(played, 2 * played.total_ns) is played
    assert fitted(played, 0).total_ns >= 0.1 * played.total_ns * 0.9


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
    assert awaited(builder) == [(-1, 900), (-1, 10)]


def test_an_item_has_the_events_recorded_since_the_one_before():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(50, 10), kernel=(100, 10))
    builder.operator(60, 5)  # begins as the call returns
    builder.operator(70, 5)
    builder.overhead(72, 1)  # the profiler records none of its own work
    builder.launch(call=(80, 10), kernel=(120, 10))
    builder.operator(200, 5)
    assert program(builder.trace()).events.tolist() == [3, 2]


def test_a_nodes_wait_and_a_launch_after_it():
    """A graph's later nodes have no item, and are played with their graph."""
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(10, 100))
    builder.call(20, 100, "cudaDeviceSynchronize")
    builder.graph(call=(150, 10), kernels=[(200 + 20 * node, 10) for node in range(5)])
    starts, ends, total = program(builder.trace()).played()
    assert (starts.tolist(), ends.tolist(), total) == ([0, 20, 150], [110, 210, 230, 250, 270, 290], 290)


def test_a_devices_clock_may_be_ahead():
    early = replace(two_items(), work_ns=np.array([0.0, 10.0]), latency_ns=np.array([-5.0, 5.0]))
    assert early.played()[1][0] == 45


def test_a_wait_for_what_is_done_takes_no_time():
    done = replace(two_items(), waits_for=np.array([-1, 0]))
    assert done.total_ns == 255  # the second item begins at 130, waits until 155 and takes 100
    assert replace(done, work_ns=np.array([100.0, 90.0])).total_ns == 310  # it begins at 210


def test_a_program_that_takes_no_longer_than_it_should_is_left_as_it_is():
    played = program(queue((0, 10, 100)).trace())
    assert fitted(played, played.total_ns) is played


def test_work_is_counted_for_the_item_before_which_it_lies():
    builder = queue((0, 10, 5), (90, 10, 5), (90, 10, 5))  # calls at 0, 100 and 200
    for start, length in ((20, 30), (40, 20), (95, 40), (300, 50)):
        builder.operator(start, length)
    trace = builder.trace()
    played = program(trace)
    assert item_work(trace, played, trace.operators).tolist() == [0, 55, 25]
    assert item_work(trace, played, []).tolist() == [0, 0, 0]
