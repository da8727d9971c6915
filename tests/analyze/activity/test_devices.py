"""Is the time of a process that drives several devices that of each of them?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gaps import WINDOW_BEGINS, WINDOW_ENDS, gap_groups, longest_gaps
from tracekit.analyze.activity.gpu import devices, gpu, streams
from tracekit.analyze.activity.idle import gaps, idle
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.trace import Trace
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
PROPERTIES = {"deviceProperties": [{"id": 0, "name": "Tesla T4"}, {"id": 1, "name": "Tesla V100"}]}


def two() -> TraceBuilder:
    """The window is 0 to 800: device 0 is busy from 0 to 300, device 1 from 400 to 800 with a gap of 100."""
    builder = TraceBuilder(**PROPERTIES)
    builder.call(5, 5, correlation=1)
    builder.kernel(0, 300, "first", device=0)
    builder.operator(320, 60, "aten::mm")
    builder.call(350, 10, correlation=2)
    builder.kernel(400, 150, "second", device=1, correlation=2)
    builder.call(360, 10, correlation=3)
    builder.kernel(650, 150, "third", device=1, correlation=3)
    return builder


def test_a_worked_example():
    trace = two().trace()
    assert devices(trace).records() == [
        {"device": 0, "name": "Tesla T4", "span_ns": 800, "busy_ns": 300, "idle_ns": 500, "kernel_time_ns": 300, "kernels": 1},
        {
            "device": 1,
            "name": "Tesla V100",
            "span_ns": 800,
            "busy_ns": 300,
            "idle_ns": 500,
            "kernel_time_ns": 300,
            "kernels": 2,
        },
    ]
    found = gpu(trace)
    assert (found.span_ns, found.busy_ns, found.idle_ns, found.kernels) == (1_600, 600, 1_000, 3)
    assert streams(trace)["share"].tolist() == [300 / 800, 300 / 800]
    causes = idle(trace)
    # Device 1 waits 350 for the host to launch, 50 for the launch, and 100 although all is queued; device 0 ends with the rest.
    assert (causes.host_other_ns, causes.dispatch_ns) == (320, 30)
    assert (causes.launch_latency_ns, causes.device_wait_ns, causes.unattributed_ns) == (50, 100, 500)


def test_the_edges_of_the_window_are_named():
    gaps = {(row["before"], row["after"]): row["duration_ns"] for row in longest_gaps(two().trace()).records()}
    assert gaps == {(WINDOW_BEGINS, "second"): 400, ("first", WINDOW_ENDS): 500, ("second", "third"): 100}
    groups = {row["after"]: (row["operator"], row["idle_ns"]) for row in gap_groups(two().trace()).records()}
    assert groups == {"second": ("aten::mm", 400), WINDOW_ENDS: (None, 500), "third": ("aten::mm", 100)}


def test_a_gap_at_the_edge_of_the_window_has_an_event_on_one_side_only():
    found = gaps(two().trace())

    assert found["start_ns"].tolist() == [0, 300, 550]
    assert found["before"].tolist() == [-1, 0, 1]
    assert found["after"].tolist() == [1, -1, 2]
    assert (found["call"] >= 0).tolist() == [True, False, True]
    assert found["call"][1] == -1


def test_gaps_that_begin_together_are_in_the_order_of_their_devices():
    builder = TraceBuilder()
    builder.kernel(0, 1000, device=0)
    for device in range(40, 0, -1):
        builder.kernel(500 + device, 499 - device, device=device)
    trace = builder.trace()
    after = gaps(trace)["after"][:40]

    assert trace.gpu["device"][after].tolist() == list(range(1, 41))


@pytest.mark.parametrize(
    ("used", "names"), [([3], ["Tesla T4"]), ([0], ["Tesla T4"]), ([0, 3], ["Tesla T4", None]), ([3, 4], [None, None])]
)
def test_a_device_that_is_not_listed_has_the_only_name_if_it_is_alone(used, names):
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Tesla T4"}])
    for device in used:
        builder.kernel(0, 10, device=device)

    assert devices(builder.trace())["name"].tolist() == names


def renumbered(builder: TraceBuilder, numbers: list[int]) -> Trace:
    for entry in builder.entries:
        if "device" in entry.get("args", {}):
            entry["args"]["device"] = entry["pid"] = numbers[entry["args"]["device"]]
    return builder.trace()


def scene(kernels: list[tuple[int, int, int, int]]) -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 40)
    for number, (start, length, device, stream) in enumerate(kernels):
        builder.call(max(start - 5, 0), 3, correlation=number + 1)
        builder.kernel(start, length, f"k{number % 3}", device=device, stream=stream, correlation=number + 1)
    return builder


KERNELS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 20), st.integers(0, 2), st.integers(7, 8)), min_size=1, max_size=12
)


@given(KERNELS, st.permutations([0, 1, 2]))
@examples(150)
def test_everything_adds_up_however_devices_are_numbered(kernels, numbers):
    trace = scene(kernels).trace()
    whole, each = gpu(trace), devices(trace)
    assert whole.span_ns == each["span_ns"].sum() == whole.busy_ns + whole.idle_ns
    assert (whole.busy_ns, whole.kernel_time_ns) == (each["busy_ns"].sum(), each["kernel_time_ns"].sum())
    assert idle(trace).total_ns == whole.idle_ns
    steps = Analysis(trace, TAXONOMY).phases.steps
    assert (steps["busy_ns"].sum(), steps["idle_ns"].sum()) == (whole.busy_ns, whole.idle_ns)

    other = renumbered(scene(kernels), numbers)
    assert (gpu(other), idle(other)) == (whole, idle(trace))


@given(KERNELS)
@examples(60)
def test_one_device_alone_is_as_it_was(kernels):
    """With one device the window has no edges of its own."""
    alone = [(start, length, 0, stream) for start, length, _, stream in kernels]
    trace = scene(alone).trace()
    assert len(devices(trace)) == 1
    assert WINDOW_ENDS not in longest_gaps(trace)["after"].tolist()
    assert gpu(trace).span_ns == trace.window[1] - trace.window[0]
