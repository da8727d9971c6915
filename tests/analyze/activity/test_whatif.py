"""Does a change to a program do what it can, and no more?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder, queue

from tracekit.analyze.activity.program import DISPATCH_NS, item_work, program
from tracekit.analyze.activity.whatif import Program


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
        events=np.array([2.0, 50.0]),
        waits_for=np.array([0, 1]),
        gpu=np.array([1, 0]),
        item=np.array([0, 1]),
        latency_ns=np.array([5.0, 5.0]),
        recorded_ns=np.array([50.0, 60.0]),
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


def test_a_devices_clock_may_be_ahead():
    early = replace(two_items(), work_ns=np.array([0.0, 10.0]), latency_ns=np.array([-5.0, 5.0]))
    assert early.played()[1][0] == 45


def test_a_wait_for_what_is_done_takes_no_time():
    done = replace(two_items(), waits_for=np.array([-1, 0]))
    assert done.total_ns == 255  # the second item begins at 130, waits until 155 and takes 100
    assert replace(done, work_ns=np.array([100.0, 90.0])).total_ns == 310  # it begins at 210


def test_all_of_a_slower_program_takes_longer_by_the_same_factor():
    assert two_items().slower(3).total_ns == 3 * two_items().total_ns


def test_a_faster_device_lets_the_next_event_start_sooner():
    found = two_items().device_faster(0.5)
    assert found.duration_ns.tolist() == [25, 30]
    assert found.offset_ns.tolist() == [0, 30]  # what the first saves: 25, less than its own 40
    # A kernel that a change makes shorter is shorter by the same share of what it takes now.
    assert found.faster(np.array([30.0, 25.0])).duration_ns.tolist() == [12.5, 15]


def test_a_host_that_takes_no_time_leaves_the_device_alone():
    found = two_items().host_free()
    assert (found.waits_for.tolist(), found.work_ns.tolist(), found.call_ns.tolist()) == ([-1, -1], [0, 0], [0, 0])
    assert found.total_ns == 115  # the second starts 55 after the first


def test_a_share_of_a_call_is_taken_from_the_call_first():
    found = two_items().without_call_share(np.array([0.5, 0.0]))
    assert (found.work_ns.tolist(), found.call_ns.tolist()) == ([60, 10], [0, 100])


def test_items_that_are_gone_cost_nothing_and_wait_for_nothing():
    found = two_items().without_items(np.array([True, False]))
    assert (found.work_ns.tolist(), found.call_ns.tolist(), found.waits_for.tolist()) == ([0, 10], [0, 100], [-1, 1])


def test_a_launch_more_costs_what_one_usually_does():
    found = two_items().with_launches(np.array([0.0, 2.0]))
    assert found.work_ns.tolist() == [100, 10 + 2 * 115]  # the median of 120 and 110


@pytest.mark.parametrize(("kernel", "round_ns"), [(5, 110), (5_000, 10_000)])
def test_a_second_round_costs_what_limits_a_loop(kernel, round_ns):
    """The host needs 110 for a round of two launches; the device needs its two kernels, if these take longer."""
    played = program(queue(*[(45, 10, kernel)] * 5).trace())
    rounds = played.twice((1, 3), (1, 3), 45.0)
    assert len(rounds.row) == len(rounds.gpu) == 4
    starts, ends, total = rounds.played()
    assert total - max(starts[1] + rounds.call_ns[1], ends[1]) == pytest.approx(round_ns, rel=0.01)


def test_a_wait_of_the_round_before_is_one_in_the_second_round_only():
    builder = queue((0, 10, 100), (0, 10, 100))
    builder.call(20, 95, "cudaDeviceSynchronize")  # for the first kernel, as the second item of a round
    builder.launch(call=(300, 10), kernel=(320, 10))
    played = program(builder.trace())
    assert played.waits_for.tolist() == [-1, -1, 0, -1]
    assert played.twice((1, 4), (1, 3), 0.0).waits_for.tolist() == [-1, -1, -1, -1, 1, -1]
