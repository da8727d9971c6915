"""Launching calls whose work is missing from the trace, and those that only look like it."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.activity.lost import copy_calls, lost, lost_within

KINDS = ("kernels", "graphs", "copies", "captured")


def found(builder: TraceBuilder) -> dict[str, list[int] | int]:
    """When the calls of each kind began, and how many are unlinked; only what is not empty."""
    trace = builder.trace()
    result = lost(trace)
    starts = {kind: trace.start_ns[getattr(result, kind)].tolist() for kind in KINDS}
    return {kind: value for kind, value in {**starts, "unlinked": result.unlinked}.items() if value}


def whole() -> TraceBuilder:
    """A launch, a graph and a copy, each with its GPU event."""
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(1000, 10))
    builder.graph(call=(10, 5), kernels=[(1100, 10), (1120, 10)])
    builder.call(20, 5, "cudaMemcpyAsync", correlation=90)
    builder.memcpy(1200, 10, correlation=90)
    return builder


def test_nothing_is_missing_from_a_whole_trace():
    assert found(whole()) == {}
    assert lost(whole().trace()).calls.tolist() == []


def test_without_gpu_events_every_launch_is_missing():
    builder = TraceBuilder()
    builder.call(0, 5, "cudaMemcpyAsync", correlation=3)
    builder.call(10, 5, "cudaGraphLaunch", correlation=2)
    builder.call(20, 5, correlation=1)
    builder.call(30, 5, "cudaMalloc", correlation=4)

    assert found(builder) == {"kernels": [20], "graphs": [10], "copies": [0]}
    assert lost(builder.trace()).calls.tolist() == [2, 1, 0]


def test_each_kind_of_call_beside_calls_that_have_their_event():
    builder = whole()
    builder.call(30, 5, correlation=101)
    builder.call(40, 5, correlation=102)
    builder.call(50, 5, "hipGraphLaunch", correlation=103)
    builder.call(60, 5, "cudaMemsetAsync", correlation=104)

    assert found(builder) == {"kernels": [30, 40], "graphs": [50], "copies": [60]}


def test_a_runtime_call_and_the_driver_call_inside_are_one_launch():
    builder = whole()
    builder.call(52, 3, "cuLaunchKernel", correlation=100, driver=True)
    builder.call(50, 9, correlation=100)

    assert found(builder) == {"kernels": [52]}  # the first in the file


def test_a_call_that_records_no_correlation_is_not_known_to_have_launched():
    builder = whole()
    builder.call(50, 5)
    builder.call(60, 5, "cudaMemcpyAsync")
    builder.call(70, 5, "cudaGraphLaunch")

    assert found(builder) == {}


def test_a_call_inside_another_is_no_launch_of_its_own_whatever_its_id():
    """Newer drivers number the driver call inside a runtime call anew."""
    builder = TraceBuilder()
    builder.call(50, 9, correlation=100)
    builder.call(52, 3, "cuLaunchKernel", correlation=101, driver=True)
    builder.operator(0, 1)  # times count from the first event
    assert found(builder) == {"kernels": [50]}


def test_an_event_with_the_id_of_the_inner_call_is_the_outer_ones_too():
    builder = whole()
    builder.call(50, 9, correlation=100)
    builder.call(52, 3, "cuLaunchKernel", correlation=101, driver=True)
    builder.kernel(2000, 10, correlation=101)
    assert found(builder) == {}


@pytest.mark.parametrize(
    ("launch", "copy", "is_lost"), [(4_000, 1_000, True), (4_000, 999, False), (1_000, 249, False), (999, 1, True)]
)
def test_a_copy_that_returns_at_once_has_copied_nothing(launch, copy, is_lost):
    """Unless the trace's times are too short to be real."""
    builder = TraceBuilder()
    builder.launch(call=(0, launch), kernel=(10_000, 10))
    builder.call(5_000, copy, "cudaMemcpyAsync", correlation=100)
    assert found(builder) == ({"copies": [5_000]} if is_lost else {})


# --- Capture -----------------------------------------------------------------------------------------------------------


def capture(begin: int, end: int | None, thread: int = 1) -> TraceBuilder:
    """A whole trace in which a thread captures from `begin` to `end`."""
    builder = whole()
    builder.call(begin, 5, "cudaStreamBeginCapture", thread=thread)
    if end is not None:
        builder.call(end - 5, 5, "cudaStreamEndCapture", thread=thread)
    return builder


@pytest.mark.parametrize(("start", "kind"), [(99, "kernels"), (100, "captured"), (199, "captured"), (200, "kernels")])
def test_a_capture_lasts_from_the_start_of_its_begin_to_the_end_of_its_end(start, kind):
    builder = capture(100, 200)
    builder.call(start, 1, correlation=100)

    assert found(builder) == {kind: [start]}


def test_a_capture_may_end_in_the_moment_in_which_it_begins():
    builder = capture(100, 105)
    builder.call(150, 1, correlation=100)

    assert found(builder) == {"kernels": [150]}


def test_launches_and_copies_of_every_thread_are_captured_but_no_launch_of_a_graph():
    builder = capture(100, 200)
    builder.call(110, 1, correlation=100)
    builder.call(120, 1, "cudaMemcpyAsync", correlation=101)
    builder.call(130, 1, correlation=102, thread=2)  # a backward pass
    builder.call(140, 1, "cudaGraphLaunch", correlation=103)

    assert found(builder) == {"graphs": [140], "captured": [110, 130, 120]}


def test_a_capture_ends_with_the_first_end_on_its_own_thread():
    builder = capture(100, 300, thread=2)
    builder.call(50, 5, "cudaStreamEndCapture", thread=2)  # of an earlier capture
    builder.call(150, 5, "cudaStreamEndCapture", thread=1)
    builder.call(400, 5, "cudaStreamEndCapture", thread=2)
    builder.call(200, 1, correlation=100)
    builder.call(350, 1, correlation=101)

    assert found(builder) == {"kernels": [350], "captured": [200]}


def test_captures_of_several_threads_count_together():
    builder = capture(100, 200)
    builder.call(300, 5, "cudaStreamBeginCapture", thread=2)
    builder.call(395, 5, "cudaStreamEndCapture", thread=2)
    for number, start in enumerate((150, 250, 350)):
        builder.call(start, 1, correlation=100 + number)

    assert found(builder) == {"kernels": [250], "captured": [150, 350]}


def test_a_capture_without_an_end_lasts_to_the_end_of_the_trace():
    builder = capture(1300, None)
    builder.call(1400, 0, correlation=100)

    assert found(builder) == {"captured": [1400]}


def test_a_capture_that_another_thread_ends_lasts_until_then():
    builder = capture(100, None, thread=2)
    builder.call(190, 10, "cudaStreamEndCapture", thread=3)
    for number, start in enumerate((50, 150, 250)):
        builder.call(start, 1, correlation=100 + number)
    assert found(builder) == {"kernels": [50, 250], "captured": [150]}


def test_a_capture_may_end_on_another_thread_in_the_moment_in_which_it_begins():
    builder = capture(100, None, thread=2)
    builder.call(100, 10, "cudaStreamEndCapture", thread=3)
    builder.call(105, 1, correlation=100)
    builder.call(250, 1, correlation=101)
    assert found(builder) == {"kernels": [250], "captured": [105]}


def test_an_end_alone_is_of_a_capture_that_began_before_the_trace():
    builder = TraceBuilder()
    for number, start in enumerate((0, 150, 250)):
        builder.call(start, 1, correlation=100 + number)
    builder.call(190, 10, "cudaStreamEndCapture")
    assert found(builder) == {"kernels": [250], "captured": [0, 150]}


@pytest.mark.parametrize(("end", "kind"), [(299, "captured"), (300, "captured"), (301, "kernels")])
def test_an_end_after_captures_that_are_over_says_nothing(end, kind):
    builder = capture(300, 400)
    builder.call(end, 5, "cudaStreamEndCapture", thread=2)
    builder.call(50, 1, correlation=100, thread=5)
    assert found(builder) == {kind: [50]}


def test_an_end_that_says_nothing_hinders_none_after_it():
    builder = capture(100, 200)
    builder.call(300, 5, "cudaStreamEndCapture", thread=2)
    builder.call(500, 5, "cudaStreamBeginCapture", thread=3)
    builder.call(600, 5, "cudaStreamEndCapture", thread=4)
    builder.call(550, 1, correlation=100)
    builder.call(700, 1, correlation=101)
    assert found(builder) == {"kernels": [700], "captured": [550]}


def launched(builder: TraceBuilder, start: int, thread: int) -> None:
    """Launch a kernel whose event was recorded."""
    builder.launch(call=(start, 1), kernel=(5_000 + start, 1), thread=thread)


def test_another_threads_end_belongs_to_the_capture_that_began_last():
    """So the thread that launched before and after it captured while it lasted."""
    builder = TraceBuilder()
    builder.operator(0, 1)
    builder.call(300, 5, "cudaStreamBeginCapture", thread=3)
    builder.call(100, 5, "cudaStreamBeginCapture", thread=2)
    builder.call(395, 5, "cudaStreamEndCapture", thread=4)
    launched(builder, 200, thread=1)
    launched(builder, 500, thread=1)
    builder.call(350, 1, correlation=100, thread=1)
    assert found(builder) == {"captured": [350]}


@pytest.mark.parametrize(("start", "is_beside"), [(99, False), (100, True), (199, True), (200, False)])
def test_a_thread_that_launches_while_another_captures_is_not_captured(start, is_beside):
    builder = TraceBuilder()
    launched(builder, start, thread=2)
    builder.operator(0, 1)
    builder.call(100, 5, "cudaStreamBeginCapture", thread=1)
    builder.call(195, 5, "cudaStreamEndCapture", thread=1)
    builder.call(150, 1, correlation=100, thread=2)
    builder.call(160, 1, correlation=101, thread=1)
    assert found(builder) == ({"kernels": [150], "captured": [160]} if is_beside else {"captured": [150, 160]})


# --- Lost links --------------------------------------------------------------------------------------------------------


def test_as_many_events_without_a_call_mean_that_only_the_link_is_missing():
    builder = whole()
    for number in range(2):
        builder.call(50 + number, 1, correlation=100 + number)
        builder.kernel(2000 + 100 * number, 10, stream=number)
    for number in range(3):
        builder.call(60 + number, 1, "cudaMemcpyAsync", correlation=200 + number)
        builder.memcpy(3000 + 100 * number, 10)

    assert found(builder) == {"unlinked": 5}
    assert lost(builder.trace()).calls.tolist() == []


@pytest.mark.parametrize("kernels", [1, 3])
def test_more_or_fewer_events_than_calls_may_be_others(kernels):
    builder = whole()
    builder.call(50, 1, correlation=100)
    builder.call(51, 1, correlation=101)
    for number in range(kernels):
        builder.kernel(2000 + 100 * number, 10)

    assert found(builder) == {"kernels": [50, 51]}

    builder = whole()
    builder.call(50, 1, "cudaMemcpyAsync", correlation=100)
    builder.call(51, 1, "cudaMemcpyAsync", correlation=101)
    for number in range(kernels):
        builder.memcpy(2000 + 100 * number, 10)

    assert found(builder) == {"copies": [50, 51]}


def test_a_graph_has_several_events():
    builder = whole()
    builder.call(50, 1, "cudaGraphLaunch", correlation=100)
    builder.call(51, 1, correlation=101)
    for number in range(5):
        builder.kernel(2000 + 100 * number, 10)

    assert found(builder) == {"unlinked": 2}


def test_an_event_of_another_kind_is_not_the_calls():
    builder = whole()
    builder.call(50, 1, correlation=100)
    builder.memcpy(2000, 10)
    assert found(builder) == {"kernels": [50]}

    builder = whole()
    builder.call(50, 1, "cudaMemcpyAsync", correlation=100)
    builder.kernel(2000, 10)
    assert found(builder) == {"copies": [50]}


@pytest.mark.parametrize(("second", "kind"), [(69, "kernels"), (70, "unlinked"), (500, "unlinked")])
def test_no_event_begins_before_its_call(second, kind):
    """In the order of time each event must follow its call, in whatever order the file names them."""
    builder = whole()
    builder.call(70, 1, correlation=101)
    builder.call(50, 1, correlation=100)
    builder.kernel(second, 10, stream=3)
    builder.kernel(60, 5)

    assert list(found(builder)) == [kind]


def test_events_that_share_a_correlation_are_one_launch():
    builder = whole()
    builder.call(50, 1, correlation=100)
    builder.kernel(2000, 10, correlation=777)
    builder.kernel(2020, 10, correlation=777)

    assert found(builder) == {"unlinked": 1}


# --- Where, and how many -----------------------------------------------------------------------------------------------


def test_which_spans_a_lost_call_begins_in():
    builder = whole()
    for start, name in ((300, "cudaLaunchKernel"), (100, "cudaMemcpyAsync"), (200, "cudaGraphLaunch")):
        builder.call(start, 50, name, correlation=start)
    spans = np.array([(0, 100), (0, 101), (100, 101), (101, 200), (150, 400), (300, 300), (301, 2000)])

    assert lost_within(builder.trace(), spans[:, 0], spans[:, 1]).tolist() == [False, True, True, False, True, False, False]


def test_how_many_calls_launch_a_copy_or_a_fill():
    builder = whole()
    builder.call(50, 1, "cudaMemsetAsync")
    builder.call(60, 1, "cudaMemcpyNodeParams")

    assert copy_calls(builder.trace()) == 2
