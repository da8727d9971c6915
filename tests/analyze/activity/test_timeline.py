"""Windows around the worst gaps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.activity.timeline import MAX_EVENTS, MIN_MARGIN_NS, WINDOWS, excerpts, timeline
from tracekit.schema import TABLES

MS = 1_000_000


def busy_with_gaps(*gaps: int) -> TraceBuilder:
    """Kernels of 10 ms with gaps of so many ms between them, launched by thread 5."""
    builder = TraceBuilder()
    at = 0
    for number, gap in enumerate((0, *gaps)):
        at += gap * MS
        builder.launch(call=(at - MS, 1000), kernel=(at, 10 * MS), name=f"k{number}", thread=5)
        at += 10 * MS
    return builder


def test_without_gaps_there_is_nothing_to_look_at():
    builder = TraceBuilder()
    builder.operator(0, 10)
    table = timeline(builder.trace(), {})

    assert len(table) == 0
    assert tuple(table.columns) == TABLES["timeline"].names


def test_the_worst_gaps_first_and_no_window_over_another():
    found = excerpts(busy_with_gaps(1, 7, 3, 5, 2).trace())

    assert len(found) == WINDOWS
    assert [window.end_ns - window.start_ns for window in found] == [7 * MS * 17 // 10, 5 * MS * 17 // 10, 3 * MS * 17 // 10]
    spans = sorted((window.start_ns, window.end_ns) for window in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_small_gaps_get_a_margin_to_see_their_surroundings():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(20, 10)
    window = excerpts(builder.trace())[0]

    assert (window.start_ns, window.end_ns) == (10 - MIN_MARGIN_NS, 20 + MIN_MARGIN_NS)


def test_of_equal_gaps_the_first_are_shown():
    starts = [window.start_ns for window in excerpts(busy_with_gaps(*[1, 2] * 20).trace())]

    assert starts == [23 * MS * place + 22 * MS - 70 * MS // 100 for place in range(WINDOWS)]


@pytest.mark.parametrize(("shorter", "longer"), [(10, 12), (12, 10)])
@pytest.mark.parametrize(("apart", "windows"), [(2 * MIN_MARGIN_NS, 2), (2 * MIN_MARGIN_NS - 1, 1)])
def test_windows_may_touch(shorter, longer, apart, windows):
    builder = TraceBuilder()
    builder.kernel(0, 100)
    builder.kernel(100 + shorter, apart)
    builder.kernel(100 + shorter + apart + longer, 100)

    assert len(excerpts(builder.trace())) == windows


def test_an_excerpt_knows_the_launching_thread_if_the_call_was_recorded():
    builder = TraceBuilder()
    builder.launch(call=(15, 2), kernel=(MS, MS), thread=5)
    builder.operator(0, 1, thread=9)
    builder.kernel(0, 10)
    builder.kernel(2 * MS, 5 * MS)
    builder.kernel(9 * MS, 10)
    trace = builder.trace()

    assert [trace.threads[window.thread][1] if window.thread >= 0 else None for window in excerpts(trace)] == [None, "5"]
    assert excerpts(trace)[0].thread == -1


def test_events_that_only_touch_the_window_are_outside():
    builder = TraceBuilder()
    builder.operator(0, 10, "just before")
    builder.operator(5, 6, "begins before")
    builder.kernel(MIN_MARGIN_NS, 10)
    builder.kernel(MIN_MARGIN_NS + 30, 10)
    end = 2 * MIN_MARGIN_NS + 30
    builder.operator(end - 1, 10, "ends after")
    builder.operator(end, 10, "just after")

    assert [name for name in timeline(builder.trace(), {})["name"].tolist() if name != "kernel"] == [
        "begins before",
        "ends after",
    ]


def test_the_launching_thread_is_shown_even_if_another_is_busier():
    builder = TraceBuilder()
    builder.launch(call=(400, 5), kernel=(1000, 10), thread=5)
    builder.kernel(0, 10)
    for start in (100, 200, 300):
        builder.operator(start, 50, thread=4)

    assert "thread 5" in timeline(builder.trace(), {})["lane"].tolist()
    assert "thread 4" not in timeline(builder.trace(), {})["lane"].tolist()


def test_without_host_events_only_the_gpu_is_shown():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(1000, 10)

    assert timeline(builder.trace(), {})["lane"].tolist() == ["GPU 0 stream 7"] * 2


def test_what_begins_together_is_nested_by_its_length():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.operator(100, 20, "inner")
    builder.operator(100, 50, "outer")
    builder.operator(100, 30, "middle")
    builder.kernel(1000, 10)
    rows = timeline(builder.trace(), {}).records()

    assert {row["name"]: row["depth"] for row in rows if row["lane_kind"] == "operator"} == {
        "outer": 0,
        "middle": 1,
        "inner": 2,
    }


def test_what_begins_together_is_in_the_order_of_the_file():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    streams = [(place * 7) % 40 for place in range(40)]
    for place, stream in enumerate(streams):
        builder.kernel(1000 - place % 2, 10, stream=stream)

    lanes = timeline(builder.trace(), {})["lane"].tolist()[1:]
    assert lanes == [f"GPU 0 stream {stream}" for stream in (*streams[1::2], *streams[::2])]


def test_of_many_events_of_one_length_the_first_are_kept():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(100_000, 10)
    for number in range(MAX_EVENTS):
        builder.operator(1000 + 10 * number, 5 + number % 2)
    starts = timeline(builder.trace(), {})["start_ns"].tolist()

    # All but two: the last ones among the shorter.
    left_out = {1000 + 10 * (MAX_EVENTS - 2), 1000 + 10 * (MAX_EVENTS - 4)}
    assert starts == sorted({0, 100_000, *range(1000, 1000 + 10 * MAX_EVENTS, 10)} - left_out)


def test_lanes_of_the_gpu_and_of_the_launching_thread():
    builder = TraceBuilder()
    builder.kernel(0, 10, "before")
    builder.annotation(20, 500, "step", thread=5)
    builder.operator(30, 400, "aten::linear", thread=5)
    builder.operator(40, 300, "aten::addmm", thread=5)
    builder.operator(50, 300, "elsewhere", thread=6)
    builder.module(
        50,
        300,
        "not shown",
    )
    builder.launch(call=(60, 50), kernel=(600, 30), name="sgemm", thread=5, stream=9)
    builder.memcpy(610, 40, "copy", device=1, stream=2)
    rows = timeline(builder.trace(), {"sgemm": "gemm"}).records()

    assert {row["window"] for row in rows} == {0}
    assert [
        (row["lane"], row["lane_kind"], row["depth"], row["name"], row["family"], row["start_ns"], row["duration_ns"])
        for row in rows
    ] == [
        ("GPU 0 stream 7", "gpu", 0, "before", "other", 0, 10),
        ("thread 5", "annotation", 0, "step", "annotation", 20, 500),
        ("thread 5", "operator", 0, "aten::linear", "operator", 30, 400),
        ("thread 5", "operator", 1, "aten::addmm", "operator", 40, 300),
        ("thread 5", "call", 0, "cudaLaunchKernel", "call", 60, 50),
        ("GPU 0 stream 9", "gpu", 0, "sgemm", "gemm", 600, 30),
        ("GPU 1 stream 2", "gpu", 0, "copy", "memory", 610, 40),
    ]


def test_without_a_launch_the_busiest_thread_is_shown():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(1000, 10)
    builder.operator(100, 50, thread=3)
    for start in (200, 300):
        builder.operator(start, 50, thread=4)

    assert {row["lane"] for row in timeline(builder.trace(), {}).records()} == {"GPU 0 stream 7", "thread 4"}


def test_crowded_windows_keep_their_longest_events():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    for number in range(MAX_EVENTS + 100):
        builder.operator(1000 + 10 * number, 3 if number < 100 else 4)
    builder.kernel(100_000, 10)
    rows = timeline(builder.trace(), {}).records()

    assert len(rows) == MAX_EVENTS
    assert [row["duration_ns"] for row in rows].count(3) == 0
    assert [row["start_ns"] for row in rows] == sorted(row["start_ns"] for row in rows)


def test_events_far_from_the_gaps_are_left_out():
    trace = busy_with_gaps(1, 7, 3, 5, 2).trace()
    names = [row["name"] for row in timeline(trace, {}).records() if row["lane_kind"] == "gpu"]

    assert names == ["k1", "k2", "k3", "k4", "k2", "k3"]
