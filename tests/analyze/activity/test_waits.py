"""Is what a gap waited for what the recording says, and nothing else?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.activity.gaps import SUMS, gap_groups, longest_gaps
from tracekit.analyze.activity.idle import gaps
from tracekit.analyze.activity.waits import LONGEST_DISPATCH_NS, told, waits
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace

OTHER = 20
"""A stream beside the usual one."""


def parts(trace: Trace) -> list[tuple[int, int, int, str | None]]:
    """For each gap in the order of time: stream wait, copy wait, device dispatch, and what for."""
    found = waits(trace)
    columns = (found.stream_wait_ns, found.copy_wait_ns, found.device_dispatch_ns, told(found.target))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def two_streams(told_at: int | None, on: int | None = None) -> TraceBuilder:
    """A kernel on each of two streams, the second queued and 10 later; its stream is told at a time to wait, or is not.

    The stream of the second runs something before, launched at 20; the second is launched at 60.
    """
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 900), name="first", stream=OTHER)
    builder.launch(call=(20, 5), kernel=(110, 10), name="lead")
    builder.launch(call=(60, 5), kernel=(1_010, 50), name="second")
    if told_at is not None:
        builder.wait(told_at, 2, on=on)
    return builder


@pytest.mark.parametrize(
    ("told_at", "on", "expected"),
    [
        (40, None, (10, 0, 0, "stream 20")),  # which stream is not recorded: it is that of what ended last
        (40, 33, (10, 0, 0, "stream 33")),
        (40, 0, (10, 0, 0, "stream 0")),
        (60, None, (10, 0, 0, "stream 20")),
        (61, None, (0, 0, 10, None)),  # after the launch
        (20, None, (0, 0, 10, None)),  # before the launch of what ran before on the stream
        (None, None, (0, 0, 0, None)),  # no wait is recorded at all: nobody knows
    ],
)
def test_a_kernel_waits_for_a_stream_if_it_was_told_before_its_launch(told_at, on, expected):
    assert parts(two_streams(told_at, on).trace()) == [expected]


def test_a_wait_of_another_stream_or_device_is_not_its_own():
    for place in ({"stream": 99}, {"device": 1}):
        builder = two_streams(None)
        builder.wait(40, 2, **place)
        assert parts(builder.trace()) == [(0, 0, 10, None)]


def in_order(first: str, gap: int) -> TraceBuilder:
    builder = TraceBuilder()
    builder.call(0, 5, correlation=1)
    getattr(builder, first)(100, 50, correlation=1)
    builder.launch(call=(10, 5), kernel=(150 + gap, 10))
    builder.entries[-1]["args"]["correlation"] = builder.entries[-2]["args"]["correlation"] = 2
    return builder


@pytest.mark.parametrize(
    ("first", "gap", "expected"),
    [
        ("kernel", 7, (0, 0, 7, None)),
        ("kernel", 1, (0, 0, 1, None)),
        ("memcpy", 7, (0, 7, 0, "a copy")),
        ("memset", LONGEST_DISPATCH_NS, (0, LONGEST_DISPATCH_NS, 0, "a copy")),
        ("kernel", LONGEST_DISPATCH_NS, (0, 0, LONGEST_DISPATCH_NS, None)),
        ("memset", LONGEST_DISPATCH_NS + 1, (0, 0, 0, None)),  # no device takes so long
        ("kernel", LONGEST_DISPATCH_NS + 1, (0, 0, 0, None)),
    ],
)
def test_what_follows_on_its_stream_waits_for_a_copy_or_for_the_device(first, gap, expected):
    assert parts(in_order(first, gap).trace()) == [expected]


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize(("told_at", "expected"), [(40, (10, 0, 0, "stream 20")), (61, (0, 0, 10, None))])
def test_the_order_of_the_file_does_not_matter(first, told_at, expected):
    builder = two_streams(told_at)
    builder.entries = builder.entries[first:] + builder.entries[:first]
    assert parts(builder.trace()) == [expected]


def test_each_stream_waits_for_itself():
    builder = two_streams(40)
    builder.launch(call=(21, 5), kernel=(112, 10), name="lead", stream=8)
    builder.launch(call=(62, 5), kernel=(1_070, 50), name="third", stream=8)
    builder.launch(call=(63, 5), kernel=(1_125, 20), name="fourth")
    builder.wait(41, 2, stream=8, on=33)
    trace = builder.trace()

    # The third waits as its own stream was told to, the fourth was not told anything after the second.
    assert parts(trace) == [(10, 0, 0, "stream 20"), (10, 0, 0, "stream 33"), (0, 0, 5, None)]


def test_what_was_launched_too_late_waited_for_the_host_alone():
    builder = two_streams(40)
    builder.wait(1_100, 2)
    builder.launch(call=(1_200, 5), kernel=(1_300, 50), name="late")
    assert parts(builder.trace()) == [(10, 0, 0, "stream 20"), (0, 0, 0, None)]


@pytest.mark.parametrize(("told_at", "expected"), [(115, (10, 0, 0, "stream 20")), (105, (0, 0, 10, None))])
def test_an_event_without_a_call_was_launched_when_it_started(told_at, expected):
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 900), name="first", stream=OTHER)
    builder.kernel(110, 10, "lead")
    builder.launch(call=(120, 5), kernel=(1_010, 50), name="second")
    builder.wait(told_at, 2)
    assert parts(builder.trace()) == [expected]


def test_a_long_wait_on_its_own_stream_needs_a_record_of_what_for():
    builder = in_order("kernel", LONGEST_DISPATCH_NS + 1)
    builder.wait(7, 1, on=OTHER)
    assert parts(builder.trace()) == [(LONGEST_DISPATCH_NS + 1, 0, 0, "stream 20")]

    builder = in_order("kernel", LONGEST_DISPATCH_NS + 1)
    builder.wait(7, 1)  # it does not say for which stream, and none ran
    assert parts(builder.trace()) == [(0, 0, 0, None)]


def test_waits_between_the_branches_of_a_graph_are_not_recorded():
    builder = TraceBuilder()
    builder.wait(0, 1, stream=77)
    builder.graph(call=(10, 5), kernels=[(100, 50), (160, 10)])
    builder.entries[-1]["args"]["stream"] = OTHER
    assert parts(builder.trace()) == [(0, 0, 0, None)]


HOST_WAITS = [
    ("cudaStreamSynchronize", {"kind": "Stream Sync", "stream": 7}, "stream 7"),
    ("cudaStreamSynchronize", {"kind": "Stream Sync", "stream": 0}, "stream 0"),
    ("cudaStreamSynchronize", {"kind": "Stream Sync", "stream": -1}, None),
    ("cudaEventSynchronize", {"kind": "Event Sync", "on": 20}, "an event of stream 20"),
    ("cudaEventSynchronize", {"kind": "Event Sync", "on": 0}, "an event of stream 0"),
    ("cudaEventSynchronize", {"kind": "Event Sync"}, "an event"),
    ("cudaStreamSynchronize", {"kind": "Context Sync", "stream": -1}, "the whole device"),
    ("cudaStreamSynchronize", None, None),
    ("cudaDeviceSynchronize", None, "the whole device"),
    ("hipDeviceSynchronize", None, "the whole device"),
    ("cuCtxSynchronize", None, "the whole device"),
]


@pytest.mark.parametrize(("call", "wait", "expected"), HOST_WAITS)
def test_what_the_host_waits_for_is_in_the_record_or_in_the_calls_name(call: str, wait: dict[str, Any] | None, expected):
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 100))
    builder.call(10, 5, "cudaStreamSynchronize", correlation=50)  # an earlier one, of another stream
    builder.wait(11, 3, "Stream Sync", stream=99, correlation=50)
    builder.call(20, 190, call, correlation=51)
    if wait is not None:
        builder.wait(21, 188, wait["kind"], stream=wait.get("stream", 7), on=wait.get("on"), correlation=51)
    builder.launch(call=(220, 5), kernel=(300, 10))
    builder.call(400, 5, "cudaDeviceSynchronize", correlation=52)

    (gap,) = longest_gaps(builder.trace()).records()
    assert (gap["host_sync_ns"], gap["host_other_ns"], gap["waits_for"]) == (10, 10, expected)


def test_each_launch_waited_on_its_own_thread():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 100))
    builder.call(20, 190, "cudaStreamSynchronize", correlation=51)
    builder.wait(21, 188, "Stream Sync", stream=7, correlation=51)
    builder.launch(call=(220, 5), kernel=(300, 100))
    builder.call(230, 171, "cudaDeviceSynchronize", thread=2)
    builder.launch(call=(420, 5), kernel=(500, 10), thread=2)
    found = longest_gaps(builder.trace())
    assert dict(zip(found["start_ns"].tolist(), found["waits_for"].tolist(), strict=True)) == {
        200: "stream 7",
        400: "the whole device",
    }
    assert sorted(found["host_sync_ns"].tolist()) == [1, 10]


def test_records_without_an_id_belong_to_no_call():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 100))
    builder.call(20, 190, "cudaStreamSynchronize")
    builder.wait(21, 188, "Stream Sync", stream=7)
    builder.launch(call=(220, 5), kernel=(300, 10))
    assert longest_gaps(builder.trace())["waits_for"].tolist() == [None]


def test_what_another_thread_waits_for_does_not_count():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 100))
    builder.call(20, 190, "cudaDeviceSynchronize", thread=2)
    builder.launch(call=(220, 5), kernel=(300, 10))
    assert longest_gaps(builder.trace())["waits_for"].tolist() == [None]


def test_a_group_tells_what_most_of_its_time_waited_for():
    builder = TraceBuilder()
    ends = 0
    for stream, gap in ((20, 10), (21, 30), (20, 25), (22, 90)):
        if stream != 22:  # nothing is told for the last
            builder.wait(ends + 7, 1, on=stream)
        builder.launch(call=(ends, 2), kernel=(ends + 10, 1_000), name="lead", stream=stream)
        builder.launch(call=(ends + 8, 2), kernel=(ends + 1_010 + gap, 50), name="held up")
        ends += 1_060 + gap
    groups = {row["after"]: row for row in gap_groups(builder.trace()).records()}
    held = groups["held up"]
    assert (held["count"], held["idle_ns"], held["waits_for"]) == (4, 155, "stream 20")
    assert (held["stream_wait_ns"], held["device_dispatch_ns"]) == (65, 90)


@st.composite
def scenes(draw: st.DrawFn) -> TraceBuilder:
    """Launches on three streams and waits between them, at any time."""
    builder = TraceBuilder()
    for call, wait, length, stream in draw(
        st.lists(
            st.tuples(st.integers(0, 300), st.integers(0, 200), st.integers(0, 60), st.integers(7, 9)), min_size=1, max_size=12
        )
    ):
        builder.launch(call=(call, 3), kernel=(call + wait, length), stream=stream)
    for at, stream, on in draw(st.lists(st.tuples(st.integers(0, 500), st.integers(7, 9), st.integers(-1, 9)), max_size=6)):
        builder.wait(at, 1, stream=stream, on=on)
    return builder


@given(scenes())
@examples(100)
def test_the_parts_are_at_most_the_wait_and_the_groups_hold_the_same_sums(builder):
    trace = builder.trace()
    found, whole = waits(trace), gaps(trace)["device_wait_ns"]
    together = found.stream_wait_ns + found.copy_wait_ns + found.device_dispatch_ns
    assert ((together == whole) | (together == 0)).all()
    single, groups = longest_gaps(trace), gap_groups(trace)
    assert [int(single[column].sum()) for column in SUMS] == [int(groups[column].sum()) for column in SUMS]


def test_a_real_trace_of_streams_that_wait_for_each_other():
    rows = gap_groups(load(needed("h200/streams_cuda_sync_events.json.gz"))).records()
    told_of = {row["after"].split("<")[0].split("_")[0]: row for row in rows}
    assert told_of["nvjet"]["waits_for"] == "stream 7"  # the host: Stream Sync of each iteration
    memset = told_of["Memset (Device)"]
    assert (memset["waits_for"], memset["stream_wait_ns"]) == ("stream 63", memset["device_wait_ns"])
    copies = next(row for row in rows if row["after"].startswith("Memcpy DtoH"))
    assert copies["device_dispatch_ns"] == copies["device_wait_ns"]
