"""Where idle time goes: DESIGN's rules by worked examples, and against a slow and plain reading of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import gaps, idle
from tracekit.analyze.trace.trace import Trace
from tracekit.schema import CAUSES


def causes(trace: Trace) -> dict[str, int]:
    """The causes that are not zero."""
    found = idle(trace)
    named = {cause: getattr(found, f"{cause}_ns") for cause in CAUSES}
    return {cause: ns for cause, ns in named.items() if ns}


def warm() -> TraceBuilder:
    """A GPU that was busy until 100; the gap begins there."""
    builder = TraceBuilder()
    builder.kernel(0, 100, "first")
    return builder


# --- One cause each ----------------------------------------------------------------------------------------------------


def test_no_gpu_event_no_idle_time():
    builder = TraceBuilder()
    builder.operator(0, 100)

    assert causes(builder.trace()) == {}


def test_a_kernel_that_was_queued_in_time_waits_for_the_device():
    builder = warm()
    builder.launch(call=(50, 50), kernel=(130, 10))  # the call returns in the very moment

    assert causes(builder.trace()) == {"device_wait": 30}


def test_a_launch_under_way_when_the_gap_begins():
    builder = warm()
    builder.launch(call=(50, 51), kernel=(130, 10))

    assert causes(builder.trace()) == {"launch_latency": 30}


def test_a_launch_that_starts_with_the_gap():
    builder = warm()
    builder.launch(call=(100, 5), kernel=(130, 10))

    assert causes(builder.trace()) == {"launch_latency": 30}


def test_a_late_launch_splits_the_gap():
    builder = warm()
    builder.call(90, 30, "cudaStreamSynchronize")  # 20 of the gap
    builder.operator(125, 50, "aten::add")  # 15 of it before the launch
    builder.launch(call=(140, 5), kernel=(160, 10))

    assert causes(builder.trace()) == {"host_sync": 20, "host_other": 5, "dispatch": 15, "launch_latency": 20}


def test_a_kernel_without_a_launch_is_unattributed():
    builder = warm()
    builder.kernel(130, 10, correlation=5)
    builder.kernel(150, 10)

    assert causes(builder.trace()) == {"unattributed": 40}


def test_a_launch_without_a_kernel_explains_nothing():
    builder = warm()
    builder.call(50, 10, correlation=77)
    builder.kernel(130, 10)

    assert causes(builder.trace()) == {"unattributed": 30}


def test_launching_costs_the_dispatch_and_the_latency():
    builder = warm()
    builder.operator(100, 15)
    builder.launch(call=(115, 5), kernel=(125, 10))

    assert idle(builder.trace()).launch_overhead_ns == 15 + 10


# --- Synchronisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("cudaStreamSynchronize", True),
        ("cudaDeviceSynchronize", True),
        ("cudaEventSynchronize", True),
        ("cuCtxSynchronize", True),
        ("cuStreamSynchronize", True),
        ("hipStreamSynchronize", True),
        ("hipDeviceSynchronize", True),
        ("hipEventSynchronize", True),
        ("cudaMemcpy", True),
        ("cudaMemcpy2D", True),
        ("cuMemcpyDtoH_v2", True),
        ("hipMemcpyWithStream", True),
        ("cudaMemcpyAsync", False),
        ("cudaMemcpy2DAsync", False),
        ("cuMemcpyHtoDAsync_v2", False),
        ("hipMemcpyAsync", False),
        ("cudaStreamWaitEvent", False),
        ("cudaEventQuery", False),
        ("cudaEventRecord", False),
        ("cudaMalloc", False),
        ("cudaLaunchKernel", False),
    ],
)
def test_what_counts_as_blocking(name, blocks):
    builder = warm()
    builder.call(100, 20, name)
    builder.launch(call=(120, 5), kernel=(130, 10))

    assert causes(builder.trace()) == {"host_sync" if blocks else "host_other": 20, "launch_latency": 10}


def test_a_sync_inside_an_operator_is_a_sync():
    builder = warm()
    builder.operator(100, 30, "aten::item")
    builder.call(105, 15, "cudaStreamSynchronize")
    builder.launch(call=(130, 5), kernel=(140, 10))

    assert causes(builder.trace()) == {"host_sync": 15, "dispatch": 15, "launch_latency": 10}


def test_only_the_launching_thread_matters():
    builder = warm()
    builder.operator(100, 30, thread=2)
    builder.call(100, 30, "cudaDeviceSynchronize", thread=2)
    builder.launch(call=(130, 5), kernel=(140, 10), thread=1)

    assert causes(builder.trace()) == {"host_other": 30, "launch_latency": 10}


def test_an_operator_named_like_a_sync_is_none():
    builder = warm()
    builder.operator(100, 30, "cudaDeviceSynchronize")
    builder.launch(call=(130, 5), kernel=(140, 10))

    assert causes(builder.trace()) == {"dispatch": 30, "launch_latency": 10}


def test_overlapping_and_nested_operators_count_once():
    builder = warm()
    builder.operator(100, 20)
    builder.operator(100, 20)
    builder.operator(105, 5)
    builder.operator(115, 10)
    builder.launch(call=(130, 5), kernel=(140, 10))

    assert causes(builder.trace()) == {"dispatch": 25, "host_other": 5, "launch_latency": 10}


# --- Which launch ------------------------------------------------------------------------------------------------------


def test_of_several_calls_with_the_correlation_the_first_launched():
    builder = warm()
    builder.call(118, 2, "cuLaunchKernel", correlation=9, driver=True)
    builder.call(110, 20, "cudaLaunchKernel", correlation=9)
    builder.kernel(130, 10, correlation=9)

    assert causes(builder.trace()) == {"host_other": 10, "launch_latency": 20}


def test_later_nodes_of_a_graph_wait_for_the_device():
    builder = warm()
    builder.graph(call=(110, 5), kernels=[(130, 10), (150, 10), (165, 10)])

    assert causes(builder.trace()) == {"host_other": 10, "launch_latency": 20, "device_wait": 10 + 5}


def test_later_nodes_wait_even_where_the_graph_launch_was_not_recorded():
    builder = TraceBuilder()
    builder.kernel(0, 10, correlation=4)
    builder.kernel(30, 10, correlation=4)

    assert causes(builder.trace()) == {"device_wait": 20}


def test_later_nodes_wait_even_while_their_launch_is_still_running():
    builder = TraceBuilder()
    builder.graph(call=(0, 500), kernels=[(100, 10), (150, 10)])

    assert causes(builder.trace()) == {"device_wait": 40}


def test_a_kernel_that_starts_before_its_launch():
    """The clocks of device and host differ: the host is late for the whole gap, and no more."""
    builder = warm()
    builder.operator(100, 500)
    builder.launch(call=(400, 5), kernel=(130, 10))

    assert causes(builder.trace()) == {"dispatch": 30}


def test_copies_end_gaps_like_kernels():
    builder = warm()
    builder.call(110, 40, "cudaMemcpyAsync", correlation=9)
    builder.memcpy(130, 10, correlation=9)
    builder.memset(150, 10)

    assert causes(builder.trace()) == {"host_other": 10, "launch_latency": 20, "unattributed": 10}


# --- Which gap ---------------------------------------------------------------------------------------------------------


def test_of_kernels_that_start_together_the_lowest_stream_ends_the_gap():
    builder = warm()
    builder.launch(call=(120, 5), kernel=(150, 10), name="high", stream=20)
    builder.launch(call=(50, 5), kernel=(150, 10), name="low", stream=3)
    trace = builder.trace()

    assert causes(trace) == {"device_wait": 50}
    assert trace.names(trace.gpu["event"][gaps(trace)["after"]]).tolist() == ["low"]


def test_a_gap_is_one_of_all_streams_together():
    builder = TraceBuilder()
    builder.kernel(0, 100, "long", stream=1)
    builder.kernel(10, 20, "short", stream=2)
    builder.kernel(80, 40, "overlapping", stream=3)
    builder.kernel(120, 10, "adjoining", stream=2)
    builder.kernel(150, 10, "next", stream=2)
    trace = builder.trace()
    found = gaps(trace)

    assert (found["start_ns"].tolist(), found["end_ns"].tolist()) == ([130], [150])
    assert trace.names(trace.gpu["event"][found["before"]]).tolist() == ["adjoining"]


def test_the_event_before_a_gap_is_the_one_that_ended_last_not_the_one_that_started_last():
    builder = TraceBuilder()
    builder.kernel(0, 100, "long", stream=1)
    builder.kernel(50, 10, "short", stream=2)
    builder.kernel(130, 10, "next", stream=1)
    trace = builder.trace()

    assert trace.names(trace.gpu["event"][gaps(trace)["before"]]).tolist() == ["long"]


def test_the_span_is_not_extended_by_the_host():
    builder = TraceBuilder()
    builder.operator(0, 1000)
    builder.launch(call=(10, 5), kernel=(100, 10))
    builder.launch(call=(20, 5), kernel=(110, 10))
    trace = builder.trace()

    assert causes(trace) == {}
    assert gpu(trace).span_ns == 20


def test_gaps_of_one_nanosecond_are_not_rounded_away():
    builder = TraceBuilder(base_ns=1_700_000_000_123_456_789)
    for number in range(1000):
        builder.launch(call=(number * 3 - 100, 1), kernel=(number * 3, 2))

    assert causes(builder.trace()) == {"device_wait": 999}


# --- Against a plain reading of the rules ------------------------------------------------------------------------------

CALL_NAMES = {
    "cudaLaunchKernel": False,
    "cudaMemcpyAsync": False,
    "cudaEventQuery": False,
    "cudaStreamSynchronize": True,
    "cuMemcpyDtoH_v2": True,
    "hipDeviceSynchronize": True,
}


@dataclass(frozen=True)
class Gpu:
    start: int
    end: int
    stream: int
    correlation: int | None
    kind: str


@dataclass(frozen=True)
class Host:
    start: int
    end: int
    thread: int
    name: str = "operator"
    correlation: int | None = None
    driver: bool = False


@dataclass(frozen=True)
class Scene:
    """A trace in the plainest form."""

    gpu: list[Gpu]
    calls: list[Host]
    operators: list[Host]

    def trace(self) -> Trace:
        builder = TraceBuilder()
        for e in self.gpu:
            add = {"kernel": builder.kernel, "memcpy": builder.memcpy, "memset": builder.memset}[e.kind]
            add(e.start, e.end - e.start, stream=e.stream, correlation=e.correlation)
        for c in self.calls:
            builder.call(c.start, c.end - c.start, c.name, thread=c.thread, correlation=c.correlation, driver=c.driver)
        for o in self.operators:
            builder.operator(o.start, o.end - o.start, thread=o.thread)
        return builder.trace()


def reference(scene: Scene) -> dict[str, int]:
    """DESIGN section 5, a nanosecond at a time."""
    total = dict.fromkeys(CAUSES, 0)
    events = sorted(scene.gpu, key=lambda e: (e.start, e.stream))
    for place, event in enumerate(events[1:], 1):
        earlier = events[:place]
        gap_start = max(e.end for e in earlier)
        # 0 is no correlation, unless a call has it.
        is_known = event.correlation is not None and (event.correlation or any(c.correlation == 0 for c in scene.calls))
        is_known = is_known and not stands_for_none(scene, event.correlation)
        launching = [c for c in scene.calls if is_known and c.correlation == event.correlation]
        launch = min(launching, key=lambda c: c.start, default=None)
        later_node = bool(is_known and event.correlation in {e.correlation for e in earlier})
        if later_node and launch is not None and "GraphLaunch" not in launch.name:
            later_node, launch = False, None  # a plain call launches one thing, and that was another
        for moment in range(gap_start, event.start):
            total[_cause(scene, moment, gap_start, launch, later_node)] += 1
    return total


def stands_for_none(scene: Scene, number: int | None) -> bool:
    """Whether calls at more than two moments carry a number, and several GPU events: then it is no id."""
    begins = {call.start for call in scene.calls if call.correlation == number}
    return len(begins) > 2 and sum(event.correlation == number for event in scene.gpu) > 1


def _cause(scene: Scene, moment: int, gap_start: int, launch: Host | None, later_node: bool) -> str:
    def inside(host: Host) -> bool:
        return launch is not None and host.thread == launch.thread and host.start <= moment < host.end

    if later_node or (launch is not None and launch.end <= gap_start):
        return "device_wait"
    if launch is None:
        return "unattributed"
    if moment >= launch.start:
        return "launch_latency"
    if any(CALL_NAMES[call.name] and inside(call) for call in scene.calls):
        return "host_sync"
    if any(inside(operator) for operator in scene.operators):
        return "dispatch"
    return "host_other"


moments = st.integers(0, 120)
lengths = st.integers(0, 25)
threads = st.integers(1, 2)
correlations = st.none() | st.integers(0, 6)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Several streams and threads, overlaps, crossings, ties, syncs, graphs, and halves that lack the other."""

    def span(longest: st.SearchStrategy[int] = lengths) -> dict[str, int]:
        start = draw(moments)
        return {"start": start, "end": start + draw(longest)}

    kinds = st.sampled_from(["kernel", "kernel", "memcpy", "memset"])
    gpu_events = [
        Gpu(**span(st.integers(0, 12)), stream=draw(st.integers(1, 3)), correlation=draw(correlations), kind=draw(kinds))
        for _ in range(draw(st.integers(1, 9)))
    ]
    calls = [
        Host(
            **span(),
            thread=draw(threads),
            name=draw(st.sampled_from(sorted(CALL_NAMES))),
            correlation=draw(correlations),
            driver=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(0, 9)))
    ]
    operators = [Host(**span(st.integers(0, 60)), thread=draw(threads)) for _ in range(draw(st.integers(0, 5)))]
    return Scene(gpu_events, calls, operators)


@given(scenes())
@examples(600)
def test_causes_equal_the_plain_reading(scene):
    found = idle(scene.trace())

    assert {cause: getattr(found, f"{cause}_ns") for cause in CAUSES} == reference(scene)


@given(scenes())
@examples(300)
def test_nothing_is_lost_and_nothing_invented(scene):
    trace = scene.trace()
    summary, found, table = gpu(trace), idle(trace), gaps(trace)
    busy = {moment for event in scene.gpu for moment in range(event.start, event.end)}

    assert summary.busy_ns == len(busy)
    assert summary.span_ns == max(e.end for e in scene.gpu) - min(e.start for e in scene.gpu)
    assert summary.busy_ns + summary.idle_ns == summary.span_ns
    assert found.total_ns == summary.idle_ns
    for cause in CAUSES:
        assert (table[f"{cause}_ns"] >= 0).all()
    each = sum(table[f"{cause}_ns"] for cause in CAUSES)
    assert each.tolist() == (table["end_ns"] - table["start_ns"]).tolist()


@given(scenes(), st.integers(-(10**18), 10**18))
@examples(50)
def test_when_it_happened_does_not_matter(scene, base):
    def moved(host: Host) -> Host:
        return Host(host.start + base, host.end + base, host.thread, host.name, host.correlation, host.driver)

    shifted = Scene(
        [Gpu(e.start + base, e.end + base, e.stream, e.correlation, e.kind) for e in scene.gpu],
        [moved(c) for c in scene.calls],
        [moved(o) for o in scene.operators],
    )

    assert idle(shifted.trace()) == idle(scene.trace())
