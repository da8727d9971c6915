"""Who launched what, what ran inside what, and when: the columns that a trace derives from its own."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.trace.trace import Category, Trace


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def names_or_none(trace: Trace, rows: np.ndarray) -> list[str | None]:
    return [None if row < 0 else str(trace.names(ints(row))[0]) for row in rows.tolist()]


def test_the_window_is_that_of_the_gpu():
    builder = TraceBuilder()
    builder.operator(0, 1000)
    assert builder.trace().window == (0, 0)
    builder.kernel(30, 50, stream=1)
    builder.kernel(20, 10, stream=2)
    builder.kernel(60, 5, stream=2)
    assert builder.trace().window == (20, 80)


def test_rows_by_their_kind():
    builder = TraceBuilder()
    builder.memcpy(0, 10)
    builder.kernel(30, 10, stream=1)
    builder.operator(0, 5)
    builder.kernel(20, 10, stream=3)
    builder.memset(20, 10, stream=2)
    builder.call(5, 1)
    builder.call(6, 1, driver=True)
    trace = builder.trace()

    assert (trace.kernels.tolist(), trace.operators.tolist(), trace.calls.tolist()) == ([1, 3], [2], [5, 6])
    assert trace.where(Category.MEMSET, Category.MEMCPY).tolist() == [0, 4]
    assert trace.gpu_order.tolist() == [0, 3, 2, 1]  # of equal starts the lowest stream comes first
    assert (trace.gpu_kernels.tolist(), trace.kernels_in_order.tolist()) == ([1, 2], [2, 1])
    assert trace.is_kernel.tolist() == [False, True, True, False]


def test_rows_by_device():
    builder = TraceBuilder()
    for start, device in ((30, 1), (20, 0), (10, 1)):
        builder.kernel(start, 5, device=device)

    assert {device: rows.tolist() for device, rows in builder.trace().by_device.items()} == {0: [1], 1: [2, 0]}


def test_names_are_tested_once_and_found_everywhere():
    builder = TraceBuilder()
    for place, name in enumerate(("a", "b", "a", "ab")):
        builder.operator(10 * place, 5, name)
    trace = builder.trace()
    asked: list[str] = []

    def has_a(name: str) -> bool:
        asked.append(name)
        return "a" in name

    assert trace.named(ints(1, 2, 3), has_a).tolist() == [2, 3]
    assert asked == ["a", "b", "ab"]


# --- Launches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls_first", [True, False])
def test_the_first_call_with_the_correlation_launched(calls_first):
    builder = TraceBuilder()
    builder.call(10, 20, "runtime", correlation=5)
    builder.call(12, 8, "driver", correlation=5, driver=True)
    builder.call(0, 5, "other", correlation=6)
    builder.kernel(50, 10, correlation=5)
    builder.kernel(70, 10, correlation=7)
    builder.kernel(90, 10)
    if not calls_first:
        builder.entries.reverse()
    trace = builder.trace()
    launched = dict(zip(trace.start_ns[trace.gpu["event"]].tolist(), names_or_none(trace, trace.call_of_gpu), strict=True))

    assert launched == {50: "runtime", 70: None, 90: None}


def test_a_graphs_launch_has_many_kernels_any_other_call_one():
    builder = TraceBuilder()
    builder.graph(call=(0, 5), kernels=[(60, 5), (50, 5)])
    builder.call(10, 5, correlation=77)
    builder.kernel(80, 5, correlation=77)
    builder.kernel(70, 5, correlation=77)
    for start in (100, 110):
        builder.kernel(start, 5, correlation=78)  # the call was not recorded
        builder.kernel(start + 20, 5)
    trace = builder.trace()

    assert trace.is_replayed.tolist() == [True, True, *[False] * 6]
    assert trace.call_of_gpu.tolist() == [0, 0, -1, 3, -1, -1, -1, -1]
    assert trace.first_of_launch.tolist() == [False, True, True, True, True, True, False, True]


@pytest.mark.parametrize("first", range(6))
def test_which_gpu_events_belong_to_the_launch_whose_id_they_carry(first):
    """All but the second event of a plain call, whichever event is the first in the file."""
    builder = TraceBuilder()
    builder.call(0, 5, correlation=1)
    builder.kernel(10, 5, correlation=1)
    builder.kernel(20, 5, correlation=1)
    builder.kernel(30, 5, correlation=2)  # the call was not recorded
    builder.kernel(40, 5, correlation=2)
    builder.kernel(50, 5)
    builder.call(60, 5, "cudaGraphLaunch", correlation=9)
    builder.kernel(70, 5, correlation=9)
    builder.kernel(80, 5, correlation=9)
    builder.entries = builder.entries[first:] + builder.entries[:first]
    trace = builder.trace()
    own = dict(zip(trace.start_ns[trace.gpu["event"]].tolist(), trace.is_own_of_launch.tolist(), strict=True))

    first_of_launch = dict(zip(own, trace.first_of_launch.tolist(), strict=True))

    assert own == {10: True, 20: False, 30: True, 40: True, 50: True, 70: True, 80: True}
    assert first_of_launch == {10: True, 20: True, 30: True, 40: False, 50: True, 70: True, 80: False}


# --- Operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(6))
def test_the_operator_of_a_kernel_is_around_its_call_or_named_by_its_id(first):
    """Whichever event is the first in the file."""
    builder = TraceBuilder()
    builder.operator(0, 100, "outer")
    builder.operator(10, 50, "inner", **{"External id": 3})
    builder.call(20, 5, correlation=1)
    builder.kernel(200, 10, correlation=1)
    builder.kernel(300, 10, **{"External id": 3})
    builder.kernel(400, 10)
    builder.entries = builder.entries[first:] + builder.entries[:first]
    trace = builder.trace()
    operators = zip(trace.start_ns[trace.gpu["event"]].tolist(), names_or_none(trace, trace.operator_of_gpu), strict=True)

    assert dict(operators) == {200: "inner", 300: "inner", 400: None}


def test_what_encloses_a_row():
    builder = TraceBuilder()
    builder.call(20, 5)
    builder.operator(0, 100, "outer")
    builder.operator(10, 50, "inner")
    builder.call(70, 5)
    builder.call(20, 5, thread=2)
    trace = builder.trace()

    assert trace.enclosing(trace.operator_forest, ints(0, 3, 4, 2, -1)).tolist() == [2, 1, -1, 2, -1]


def test_nesting_cuts_only_if_asked_to():
    builder = TraceBuilder()
    builder.annotation(0, 100, "first")
    builder.annotation(90, 100, "second")
    builder.annotation(120, 10, "third")
    trace = builder.trace()
    rows = trace.where(Category.ANNOTATION)

    assert (trace.nested(rows).end.tolist(), trace.nested(rows).parent.tolist()) == ([100, 190, 130], [-1, 0, 1])
    assert (trace.nested(rows, cut=True).end.tolist(), trace.nested(rows, cut=True).parent.tolist()) == (
        [100, 100, 130],
        [-1, 0, -1],
    )


def test_how_much_of_a_span_its_thread_spends_inside_some_rows():
    builder = TraceBuilder()
    builder.operator(0, 50)
    builder.operator(40, 20)
    builder.operator(70, 30, thread=2)
    builder.operator(0, 1000)
    trace = builder.trace()
    found = trace.covered(ints(0, 1, 2), ints(0, 1, 0, -1, 0), ints(30, 30, 55, 0, 0), ints(80, 80, 70, 90, 100))

    assert found.tolist() == [30, 10, 5, 0, 60]
    assert found.dtype == np.int64
