"""Launches: how many, how slow, and whose other half is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.launches import Latency, launch_latencies, launches


def test_a_trace_without_launches():
    builder = TraceBuilder()
    builder.operator(0, 10)
    found = launches(builder.trace())

    assert (found.kernel_launches, found.graph_launches, found.launches_without_kernel, found.kernels_without_launch) == (
        0,
        0,
        0,
        0,
    )
    assert found.latency == Latency(None, None, None, None)
    assert len(launch_latencies(builder.trace())) == 0


@pytest.mark.parametrize(
    ("name", "kernel", "graph"),
    [
        ("cudaLaunchKernel", 1, 0),
        ("cudaLaunchKernelExC", 1, 0),
        ("cuLaunchKernelEx", 1, 0),
        ("hipLaunchKernel", 1, 0),
        ("hipExtModuleLaunchKernel", 1, 0),
        ("cudaLaunchCooperativeKernel", 1, 0),
        ("hipExtLaunchKernel", 1, 0),
        ("hipExtLaunchMultiKernelMultiDevice", 1, 0),
        ("cuLaunchCooperativeKernel", 1, 0),
        ("cudaLaunch", 1, 0),
        ("cuLaunchGridAsync", 1, 0),
        ("urEnqueueKernelLaunch", 1, 0),
        ("zeCommandListAppendLaunchKernel", 1, 0),
        ("clEnqueueNDRangeKernel", 1, 0),
        ("cudaLaunchHostFunc", 0, 0),
        ("cudaGraphLaunch", 0, 1),
        ("hipGraphLaunch", 0, 1),
        ("cuGraphLaunch", 0, 1),
        ("cudaMemcpyAsync", 0, 0),
    ],
)
def test_what_counts_as_a_launch(name, kernel, graph):
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5), call_name=name)
    found = launches(builder.trace())

    assert (found.kernel_launches, found.graph_launches) == (kernel, graph)
    assert (found.launches_without_kernel, found.kernels_without_launch) == (0, 0)


def test_halves_without_the_other():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    builder.call(20, 5, correlation=100)  # no kernel
    builder.call(30, 5, "cudaMemcpyAsync", correlation=101)  # no copy: not a kernel launch
    builder.kernel(40, 5, correlation=102)  # no call
    builder.kernel(50, 5)  # no correlation
    builder.memcpy(60, 5, correlation=103)  # no call, but no kernel either
    found = launches(builder.trace())

    assert (found.kernel_launches, found.launches_without_kernel, found.kernels_without_launch) == (2, 1, 2)


def test_a_runtime_call_and_the_driver_call_inside_are_one_launch():
    builder = TraceBuilder()
    builder.call(0, 10, "cudaLaunchKernel", correlation=1)
    builder.call(2, 6, "cuLaunchKernel", correlation=1, driver=True)
    builder.kernel(20, 5, correlation=1)
    trace = builder.trace()

    assert launches(trace).kernel_launches == 1
    assert launches(trace).latency.max == 20


def test_any_gpu_event_is_a_launchs_other_half():
    builder = TraceBuilder()
    builder.call(0, 5, "cudaLaunchKernel", correlation=1)
    builder.memset(10, 5, correlation=1)

    assert launches(builder.trace()).launches_without_kernel == 0


def test_latency_of_a_graph_is_its_first_kernels():
    builder = TraceBuilder()
    builder.graph(call=(0, 5), kernels=[(500, 5), (40, 5), (900, 5)])
    found = launches(builder.trace())

    assert found.latency == Latency(40, 40, 40, 40)
    assert found.kernels_without_launch == 0


def test_copies_have_no_launch_latency():
    builder = TraceBuilder()
    builder.call(0, 5, "cudaMemcpyAsync", correlation=1)
    builder.memcpy(1000, 5, correlation=1)

    assert launches(builder.trace()).latency.max is None


def test_latencies_are_told_apart_by_call_the_most_frequent_first():
    builder = TraceBuilder()
    builder.graph(call=(0, 5), kernels=[(90, 5), (100, 5)])
    for number in range(10):
        builder.launch(call=(1000 * number, 5), kernel=(1000 * number + 10 * (number + 1), 5))
    table = launch_latencies(builder.trace())

    assert table.records() == [
        {"name": "cudaLaunchKernel", "count": 10, "p50_ns": 50, "p90_ns": 90, "p99_ns": 100, "max_ns": 100},
        {"name": "cudaGraphLaunch", "count": 1, "p50_ns": 90, "p90_ns": 90, "p99_ns": 90, "max_ns": 90},
    ]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 1, 1, 1)), (100, (50, 90, 99, 100)), (101, (51, 91, 100, 101)), (200, (100, 180, 198, 200))]
)
def test_percentiles_are_by_nearest_rank(count, expected):
    builder = TraceBuilder()
    for number in range(count):
        builder.launch(call=(1000 * number, 5), kernel=(1000 * number + 1 + number, 5))

    assert launches(builder.trace()).latency == Latency(*expected)


@given(st.lists(st.integers(-50, 10**6), min_size=1, max_size=250))
@examples(50)
def test_percentiles_are_latencies_that_occurred(latencies):
    builder = TraceBuilder()
    for number, latency in enumerate(latencies):
        builder.launch(call=(100 * number, 5), kernel=(100 * number + latency, 5))
    found = launches(builder.trace()).latency

    latencies = [latency for latency in latencies if latency >= 0]  # else the clocks of host and device differ
    if not latencies:
        assert found == Latency(None, None, None, None)
        return
    assert found.max == max(latencies)
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99)):
        assert value in latencies
        # The least that at least so many per cent do not exceed.
        assert 100 * sum(one <= value for one in latencies) >= percent * len(latencies)
        assert 100 * sum(one < value for one in latencies) < percent * len(latencies)
