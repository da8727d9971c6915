"""How busy the GPU and its streams were, and its copy engines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import GpuSummary, copies, gpu, streams


def test_no_gpu_events():
    builder = TraceBuilder()
    builder.operator(0, 10)
    trace = builder.trace()

    assert gpu(trace) is None
    assert len(streams(trace)) == len(copies(trace)) == 0


def test_overlap_is_busy_once_but_kernel_time_twice():
    builder = TraceBuilder()
    builder.operator(0, 5000)
    builder.kernel(100, 50, "a", stream=1)
    builder.kernel(120, 50, "b", stream=2)
    builder.kernel(200, 10, "a", stream=2)
    builder.memcpy(205, 20)
    builder.memset(300, 1)

    assert gpu(builder.trace()) == GpuSummary(
        span_ns=201, busy_ns=70 + 25 + 1, idle_ns=30 + 75, kernel_time_ns=110, kernels=3, unique_kernels=2, memcpys=1, memsets=1
    )


def test_the_span_ends_with_the_last_end_not_the_last_start():
    builder = TraceBuilder()
    builder.kernel(0, 1000, stream=1)
    builder.kernel(500, 10, stream=2)

    assert gpu(builder.trace()).span_ns == 1000


def test_old_format_counts_the_same():
    builder = TraceBuilder(old_format=True)
    builder.kernel(0, 3000)
    builder.memcpy(5000, 1000)
    builder.memset(7000, 1000)
    found = gpu(builder.trace())

    assert (found.kernels, found.memcpys, found.memsets, found.idle_ns) == (1, 1, 1, 3000)


def test_streams_are_told_apart_by_device_too():
    builder = TraceBuilder()
    builder.kernel(0, 30, device=0, stream=7)
    builder.kernel(10, 30, device=0, stream=7)
    builder.kernel(0, 100, device=1, stream=7)
    builder.memcpy(50, 10, device=0, stream=8)

    assert streams(builder.trace()).records() == [
        {"device": 1, "stream": 7, "events": 1, "kernels": 1, "busy_ns": 100, "share": 1.0},
        {"device": 0, "stream": 7, "events": 2, "kernels": 2, "busy_ns": 40, "share": 0.4},
        {"device": 0, "stream": 8, "events": 1, "kernels": 0, "busy_ns": 10, "share": 0.1},
    ]


def test_streams_of_events_without_arguments_are_their_tracks():
    builder = TraceBuilder()
    del builder.kernel(0, 10, device=3, stream=5)["args"]

    found = streams(builder.trace())
    assert (found["device"].tolist(), found["stream"].tolist()) == ([3], [5])


def test_kernels_of_no_length_at_one_moment():
    builder = TraceBuilder()
    builder.kernel(5, 0)
    found = gpu(builder.trace())

    assert (found.span_ns, found.busy_ns, found.kernels) == (0, 0, 1)
    assert streams(builder.trace())["share"].tolist() == [0.0]


def test_shares_are_of_the_gpus_span_whenever_it_begins():
    builder = TraceBuilder()
    builder.operator(0, 10)
    builder.kernel(1000, 30, stream=1)
    builder.kernel(1080, 20, stream=2)

    assert streams(builder.trace())["share"].tolist() == [0.3, 0.2]


def test_even_a_span_of_one_nanosecond_has_shares():
    builder = TraceBuilder()
    builder.kernel(5, 1)

    assert streams(builder.trace())["share"].tolist() == [1.0]


def test_the_copy_with_most_time_comes_first():
    builder = TraceBuilder()
    for start, duration, name in ((0, 10, "little"), (20, 30, "much"), (60, 20, "some")):
        builder.memcpy(start, duration, name)

    assert copies(builder.trace())["name"].tolist() == ["much", "some", "little"]


def test_copies_by_time_with_their_bytes():
    builder = TraceBuilder()
    builder.memcpy(0, 10, "DtoH", bytes=100)
    builder.memcpy(20, 10, "DtoH", bytes="28")
    builder.memcpy(40, 10, "DtoH")
    builder.memset(60, 5, "fill")
    builder.kernel(80, 100)

    assert copies(builder.trace()).records() == [
        {"name": "DtoH", "count": 3, "time_ns": 30, "bytes": 128},
        {"name": "fill", "count": 1, "time_ns": 5, "bytes": None},
    ]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
@examples(150)
def test_busy_and_streams_by_the_nanosecond(events):
    builder = TraceBuilder()
    for start, duration, stream, is_kernel in events:
        (builder.kernel if is_kernel else builder.memcpy)(start, duration, stream=stream)
    trace = builder.trace()
    summary = gpu(trace)

    def busy(only: int | None = None) -> int:
        return len({t for start, duration, s, _ in events if only in (None, s) for t in range(start, start + duration)})

    assert summary.busy_ns == busy()
    assert summary.busy_ns + summary.idle_ns == summary.span_ns
    assert summary.kernel_time_ns == sum(duration for _, duration, _, is_kernel in events if is_kernel)
    found = streams(trace)
    assert dict(zip(found["stream"].tolist(), found["busy_ns"].tolist(), strict=True)) == {
        s: busy(s) for s in {e[2] for e in events}
    }
    assert found["share"].tolist() == pytest.approx([ns / max(summary.span_ns, 1) for ns in found["busy_ns"].tolist()])
