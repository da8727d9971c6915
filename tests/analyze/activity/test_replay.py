"""What shorter kernels are worth: as much as the host was ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.replay import replay


def queue(*items: tuple[int, int, int]) -> TraceBuilder:
    """Kernels on one stream: when its call starts after the one before, how long the call takes, how long the kernel."""
    builder, host, device = TraceBuilder(), 0, 0
    for wait, call, kernel in items:
        host += wait
        start = max(host + call, device)
        builder.launch(call=(host, call), kernel=(start, kernel))
        host += call
        device = start + kernel
    return builder


def saved(builder: TraceBuilder, *savings: int) -> int:
    return replay(builder.trace()).saved_ns(np.array(savings, dtype=np.int64))


def waited(builder: TraceBuilder) -> list[bool]:
    """For each event of the only device, whether the host waited before it launched it."""
    (device,) = replay(builder.trace()).devices
    return device.waited.tolist()


def test_a_queued_kernel_brings_the_next_one_forward():
    builder = queue((0, 10, 100), (0, 10, 100), (0, 10, 100))

    assert saved(builder, 0, 0, 0) == 0
    assert saved(builder, 30, 0, 0) == 30
    assert saved(builder, 30, 20, 10) == 60


def test_no_kernel_takes_less_than_nothing():
    assert saved(queue((0, 10, 100)), 250) == 100


def test_where_the_device_waits_for_the_host_only_the_last_one_counts():
    builder = queue((0, 10, 5), (50, 10, 5), (50, 10, 5))

    assert saved(builder, 4, 4, 0) == 0
    assert saved(builder, 4, 4, 3) == 3


def test_no_further_than_the_call_that_launched_the_next_one():
    # The second call returns at 80, the second kernel starts at 110.
    assert saved(queue((0, 10, 100), (60, 10, 100)), 50, 0) == 30


def test_after_a_wait_for_the_device_the_host_goes_on_sooner():
    builder = queue((0, 10, 100), (0, 10, 100))
    builder.call(20, 190, "cudaDeviceSynchronize")  # the device is done at 210
    builder.launch(call=(230, 10), kernel=(240, 100))

    assert saved(builder, 40, 0, 0) == 40
    assert saved(builder, 40, 30, 20) == 90


def test_after_a_call_that_does_not_wait_it_does_not():
    builder = queue((0, 10, 100), (0, 10, 100))
    builder.launch(call=(230, 10), kernel=(240, 100))

    assert saved(builder, 40, 30, 20) == 20


def test_the_host_may_wait_for_the_very_first_kernel():
    builder = queue((0, 10, 100))
    builder.call(20, 90, "cudaDeviceSynchronize")
    builder.launch(call=(130, 10), kernel=(140, 100))

    assert waited(builder) == [False, True]
    assert saved(builder, 40, 0) == 40


@pytest.mark.parametrize(("end", "still"), [(109, False), (110, True), (115, True)])
def test_the_host_waited_if_it_was_still_waiting_when_the_device_was_done(end, still):
    builder = queue((0, 10, 100))  # done at 110
    builder.call(20, end - 20, "cudaDeviceSynchronize")
    builder.launch(call=(130, 10), kernel=(140, 100))

    assert saved(builder, 40, 0) == (40 if still else 0)


def test_a_wait_on_another_thread_is_not_the_launching_ones():
    builder = queue((0, 10, 100))
    builder.call(20, 90, "cudaDeviceSynchronize", thread=2)
    builder.launch(call=(130, 10), kernel=(140, 100))
    builder.kernel(300, 100)  # nobody knows who launched it
    builder.call(390, 15, "cudaDeviceSynchronize", thread=2)
    builder.entries.insert(1, builder.entries.pop())
    builder.kernel(450, 100)

    assert waited(builder) == [False] * 4


def test_a_launch_is_no_quicker_because_the_device_is_idle_sooner():
    """The kernel starts 30 after its call has returned, and would also do so if the device waited longer."""
    builder = queue((0, 10, 100))
    builder.launch(call=(150, 10), kernel=(190, 100))

    assert saved(builder, 40, 0) == 0


def test_no_kernel_starts_before_its_call_has_returned_not_even_by_a_nanosecond():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 90))
    builder.launch(call=(50, 100), kernel=(100, 20))  # it starts while its call is still running

    assert saved(builder, 40, 0) == 0


@pytest.mark.parametrize("first", range(4))
def test_the_order_of_the_file_does_not_matter(first):
    """The second call returns at 80, the second kernel starts at 110."""
    builder = queue((0, 10, 100), (60, 10, 100))
    builder.entries = builder.entries[first:] + builder.entries[:first]

    assert saved(builder, 50, 50) == 30 + 50


def test_a_kernel_whose_launch_is_not_known_follows_the_one_before_it():
    builder = queue((0, 10, 100))
    builder.kernel(110, 20)

    assert saved(builder, 40, 0) == 40


def test_nodes_of_a_graph_wait_for_no_host():
    builder = TraceBuilder()
    builder.graph(call=(0, 200), kernels=[(60, 10), (75, 10), (90, 10)])

    assert saved(builder, 4, 4, 4) == 12


def test_without_gpu_events():
    builder = TraceBuilder()
    builder.call(0, 10, "cudaFree")

    assert saved(builder) == 0


@examples(150)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(1, 80), st.integers(0, 80)), min_size=1, max_size=25)
)
def test_it_is_what_the_same_launches_of_shorter_kernels_take(items):
    """Played by the same rules with the shorter kernels, the last kernel ends sooner by exactly as much."""
    long = [(wait, call, kernel) for wait, call, kernel, _ in items]
    short = [(wait, call, kernel - min(saving, kernel)) for wait, call, kernel, saving in items]

    def end(queued: list[tuple[int, int, int]]) -> int:
        trace = queue(*queued).trace()
        return int(trace.end_ns[trace.gpu["event"]].max())

    found = saved(queue(*long), *(saving for *_, saving in items))
    assert found == end(long) - end(short)
    assert 0 <= found <= sum(min(saving, kernel) for _, _, kernel, saving in items)
    summary = gpu(queue(*long).trace())
    assert summary is not None
    assert found <= summary.busy_ns


def beside(other: int) -> TraceBuilder:
    """Two kernels on device 0 that end at 210, and one on device 1 that begins with them and takes `other`."""
    builder = queue((0, 10, 100), (0, 10, 100))
    builder.kernel(10, other, device=1)
    return builder


def test_the_window_of_several_devices_ends_with_the_last_of_them():
    """The span of `gpu` is a sum over the devices, so what the window loses counts for each."""
    assert saved(beside(200), 30, 30, 0) == 0  # device 1 is not done any sooner
    assert saved(beside(200), 30, 30, 50) == 2 * 50
    assert saved(beside(200), 30, 30, 200) == 2 * 60
    assert saved(beside(150), 30, 30, 0) == 2 * 50


def test_kernels_of_another_device_take_nothing_off_a_kernels_own_time():
    assert saved(beside(200), 100, 100, 200) == 2 * 190  # the second kernel's call returns at 20


def test_every_device_alone_is_as_it_was():
    builder = queue((0, 10, 100), (60, 10, 100))
    assert len(replay(builder.trace()).devices) == 1
    assert saved(builder, 50, 0) == 30
