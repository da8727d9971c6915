"""What makes a trace incomplete, and what is merely worth knowing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from step_traces import Periodic
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.taxonomy import Taxonomy


def analysis(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), Taxonomy([]))


def whole() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))
    builder.graph(call=(20, 5), kernels=[(300, 10), (400, 10)])
    builder.call(30, 5, "cudaMalloc")
    return builder


def test_a_whole_trace_has_no_warning():
    found = analysis(whole())

    assert found.complete
    assert found.warnings == ()


def add_launch_without_kernel(builder: TraceBuilder) -> None:
    builder.call(50, 5, correlation=100)


def add_kernel_without_launch(builder: TraceBuilder) -> None:
    builder.kernel(500 + len(builder.entries), 5, correlation=100)


def add_event_without_time(builder: TraceBuilder) -> None:
    del builder.operator(50, 5)["ts"]


def add_event_without_duration(builder: TraceBuilder) -> None:
    del builder.operator(50, 5)["dur"]


def add_negative_duration(builder: TraceBuilder) -> None:
    builder.operator(50, -5)


def add_ill_typed(builder: TraceBuilder) -> None:
    builder.entries.append("an event")


@pytest.mark.parametrize(
    ("add", "code"),
    [
        (add_launch_without_kernel, "launches_without_kernel"),
        (add_kernel_without_launch, "kernels_without_launch"),
        (add_event_without_time, "events_without_time"),
        (add_event_without_duration, "events_without_duration"),
        (add_negative_duration, "negative_durations"),
        (add_ill_typed, "ill_typed_events"),
    ],
)
def test_what_makes_a_trace_incomplete(add, code):
    builder = whole()
    add(builder)
    add(builder)
    found = analysis(builder)

    assert not found.complete
    assert [warning.code for warning in found.warnings] == [code]
    if code == "launches_without_kernel":  # both have one correlation, so they are one launch
        assert (found.warnings[0].count, found.warnings[0].message.split(":")[0]) == (1, "1 of 2 launches has no kernel")
    else:
        assert found.warnings[0].count == 2
        assert found.warnings[0].message.startswith("2 ")


def test_a_trace_of_the_host_alone_is_complete_but_says_so():
    builder = TraceBuilder()
    builder.operator(0, 100)
    found = analysis(builder)

    assert found.complete
    assert [warning.code for warning in found.warnings] == ["no_gpu_events"]


def test_a_kernel_with_the_id_of_another_ones_launch_makes_it_incomplete():
    builder = whole()
    builder.kernel(500, 5, correlation=1)
    builder.kernel(600, 5, correlation=1)
    found = analysis(builder)
    assert not found.complete
    assert [(warning.code, warning.count) for warning in found.warnings] == [("shared_launch_ids", 2)]

    builder = whole()
    builder.kernel(500, 5, correlation=2)  # another node of the graph
    assert analysis(builder).complete


# --- What was launched and not recorded --------------------------------------------------------------------------------


def codes(builder: TraceBuilder) -> list[str]:
    return [warning.code for warning in analysis(builder).warnings]


def test_a_graph_launch_without_any_gpu_event_is_missing_work():
    builder = whole()
    builder.call(600, 5, "hipGraphLaunch", correlation=50)
    found = analysis(builder)
    assert not found.complete
    assert [warning.code for warning in found.warnings] == ["graph_launches_without_kernels"]
    assert found.warnings[0].message.startswith("1 of 2 graph launches has no GPU event")


@pytest.mark.parametrize("name", ["cudaMemcpyAsync", "cudaMemsetAsync", "hipMemcpyWithStream", "cuMemcpyHtoDAsync_v2"])
def test_a_copy_without_its_event_is_missing_too(name):
    builder = whole()
    builder.call(600, 5, name, correlation=50)
    assert codes(builder) == ["copies_without_event"]
    builder.memcpy(650, 5, correlation=50)
    assert codes(builder) == []


@pytest.mark.parametrize("name", ["cudaMemGetInfo", "cudaMemcpyNodeParams", "cudaGraphAddMemcpyNode", "cudaStreamSynchronize"])
def test_calls_that_launch_nothing_need_no_event(name):
    builder = whole()
    builder.call(600, 5, name, correlation=50)
    assert codes(builder) == []


def captured(end: bool = True) -> TraceBuilder:
    builder = whole()
    builder.call(600, 5, "cudaStreamBeginCapture")
    builder.call(610, 5, correlation=50)
    builder.call(620, 5, "cudaMemsetAsync", correlation=51)
    builder.call(630, 5, "cuLaunchKernelEx", correlation=52, thread=2)  # a backward pass
    if end:
        builder.call(700, 5, "cudaStreamEndCapture")
    return builder


def test_what_is_captured_launches_nothing():
    assert codes(captured()) == []
    assert codes(captured(end=False)) == []
    builder = captured()
    builder.call(710, 5, correlation=53)
    assert codes(builder) == ["launches_without_kernel"]


def test_launches_and_kernels_that_lost_their_link_are_not_missing():
    builder = whole()
    for at in (600, 700):
        builder.call(at, 5, "hipExtLaunchKernel", correlation=at)
        builder.kernel(at + 20, 10, correlation=0)
    found = analysis(builder)
    assert [warning.code for warning in found.warnings] == ["lost_links"]
    assert "too low" not in found.warnings[0].message
    assert not found.complete

    builder.call(800, 5, "hipExtLaunchKernel", correlation=800)  # one too many: a kernel is missing
    assert codes(builder) == ["launches_without_kernel", "kernels_without_launch"]


def test_a_kernel_from_before_the_window_and_a_launch_at_its_end_are_no_pair():
    builder = whole()
    builder.kernel(1, 5, correlation=99)
    builder.call(900, 5, correlation=100)
    assert codes(builder) == ["launches_without_kernel", "kernels_without_launch"]


def replays(*counts: int) -> TraceBuilder:
    builder = TraceBuilder()
    for number, count in enumerate(counts):
        at = 10_000 * number
        builder.graph(call=(at, 5), kernels=[(at + 100 + 20 * node, 10) for node in range(count)])
    return builder


def test_a_graph_launch_that_is_much_shorter_than_the_others_lost_kernels():
    found = analysis(replays(166, 166, 90, 166))
    assert not found.complete
    (warning,) = found.warnings
    assert (warning.code, warning.count) == ("graph_launches_cut_short", 1)
    assert "90 instead of 166" in warning.message


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            (15, 15, 15, 12),
            ["graph_launches_uneven"],
        ),  # may be the last piece of a model, or have lost three events: nobody can tell
        ((166, 166, 166), []),
        ((166, 90), []),  # which of them is usual?
        ((166, 166, 166, 200), []),
    ],
)
def test_graph_launches_that_may_be_of_another_graph(counts, expected):
    assert codes(replays(*counts)) == expected
    assert analysis(replays(*counts)).complete == (not expected)


def numbered(*counts: int) -> TraceBuilder:
    """Launches of one graph whose number, and that of each node, the profiler wrote."""
    builder = replays(*counts)
    for entry in builder.entries:
        if entry["cat"] == "kernel":
            entry["args"] |= {"graph id": 7, "graph node id": 100 + int(entry["name"].removeprefix("node"))}
    return builder


@pytest.mark.parametrize(("counts", "expected"), [((10, 3), 1), ((166, 90), 1), ((10, 10), 0), ((3, 10, 3), 2)])
def test_launches_of_one_numbered_graph_run_the_same(counts, expected):
    found = [warning for warning in analysis(numbered(*counts)).warnings if warning.code == "graph_launches_cut_short"]
    assert [warning.count for warning in found] == ([expected] if expected else [])


def test_numbered_nodes_tell_what_every_launch_has_lost():
    """Each launch lost another one of its ten nodes, so all ran as many."""
    builder = numbered(10, 10, 10)
    kernels = [entry for entry in builder.entries if entry["cat"] == "kernel"]
    for launch in range(3):
        builder.entries.remove(kernels[10 * launch + 2 + launch])
    (warning,) = analysis(builder).warnings
    assert (warning.code, warning.count) == ("graph_launches_cut_short", 3)
    assert "9 instead of 10" in warning.message


@given(st.data())
@examples(60)
def test_whatever_event_is_dropped_is_reported_or_changes_no_figure(data):
    """Of a complete trace: kernels and copies launched one by one, and graphs that are replayed often."""
    builder = Periodic(12).builder
    assert analysis(builder).complete
    on_gpu = [entry for entry in builder.entries if entry["cat"] in ("kernel", "gpu_memcpy") and "lead" not in entry["name"]]
    for entry in data.draw(st.lists(st.sampled_from(on_gpu), min_size=1, max_size=3, unique_by=id)):
        builder.entries.remove(entry)
    assert not analysis(builder).complete
