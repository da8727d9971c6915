"""Each moment of a stream's busy time counts for one kernel."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.overlap import busy_ns
from tracekit.analyze.trace.intervals import merge


def test_kernels_in_a_row_have_all_of_their_time():
    builder = TraceBuilder()
    builder.kernel(100, 10)
    builder.kernel(110, 20)
    builder.kernel(140, 5, stream=9)
    assert busy_ns(builder.trace()).tolist() == [10, 20, 5]


def test_a_kernel_that_waits_for_another_inside_has_what_is_left():
    """Chained kernels: each begins while the one before it runs, and ends after it."""
    builder = TraceBuilder()
    builder.kernel(30, 90, "third")
    builder.kernel(0, 50, "first")
    builder.kernel(10, 70, "second")
    builder.kernel(35, 20, "within")
    assert busy_ns(builder.trace()).tolist() == [40, 50, 30, 0]


def test_streams_and_devices_are_apart_and_copies_take_nothing():
    builder = TraceBuilder()
    builder.memcpy(0, 100)
    builder.kernel(10, 20)
    builder.kernel(15, 20, device=1)
    builder.kernel(15, 20, stream=9)
    assert busy_ns(builder.trace()).tolist() == [0, 20, 20, 20]


def test_times_are_whole_nanoseconds():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    assert busy_ns(builder.trace()).dtype == np.int64


def test_without_kernels_there_is_nothing():
    builder = TraceBuilder()
    builder.operator(0, 5)
    assert busy_ns(builder.trace()).tolist() == []


KERNELS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 40), st.integers(7, 9), st.integers(0, 1)), max_size=12)


@given(KERNELS)
@examples(200)
def test_it_adds_up_to_the_union(kernels):
    builder = TraceBuilder()
    builder.operator(0, 1)
    for start, duration, stream, device in kernels:
        builder.kernel(start, duration, stream=stream, device=device)
    own = busy_ns(builder.trace())

    columns = np.array(kernels, dtype=np.int64).reshape(-1, 4)
    assert (own >= 0).all()
    assert (own <= columns[:, 1]).all()
    for stream, device in itertools.product((7, 8, 9), (0, 1)):
        here = (columns[:, 2] == stream) & (columns[:, 3] == device)
        assert own[here].sum() == merge(columns[here, 0], columns[here, 0] + columns[here, 1]).total
