"""Host operators by self time, and runtime calls."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.operators import HostSummary, calls, host, operators


def by_name(builder: TraceBuilder) -> dict[str, dict]:
    return {row.pop("name"): row for row in operators(builder.trace()).records()}


def test_no_host_events():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    trace = builder.trace()

    assert host(trace) is None
    assert len(operators(trace)) == len(calls(trace)) == 0


def test_self_time_is_without_what_is_inside():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::linear")
    builder.operator(10, 60, "aten::addmm")
    builder.operator(20, 10, "aten::expand")
    builder.operator(80, 5, "aten::expand")
    builder.call(40, 20)  # a call is the operator's own time
    found = by_name(builder)

    assert {name: (row["count"], row["host_total_ns"], row["host_self_ns"]) for name, row in found.items()} == {
        "aten::addmm": (1, 60, 50),
        "aten::linear": (1, 100, 35),
        "aten::expand": (2, 15, 15),
    }
    assert list(found) == ["aten::addmm", "aten::linear", "aten::expand"]


def test_recursion_is_counted_once_in_the_total():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::to")
    builder.operator(10, 80, "aten::_to_copy")
    builder.operator(20, 50, "aten::to")
    builder.operator(30, 10, "aten::to")
    found = by_name(builder)["aten::to"]

    assert found == {"count": 3, "host_total_ns": 100, "host_self_ns": 20 + 40 + 10, "kernel_time_ns": 0, "kernels": 0}


def test_an_operator_directly_inside_one_of_its_name_is_not_counted_again():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::to")
    builder.operator(10, 50, "aten::to")

    assert by_name(builder)["aten::to"]["host_total_ns"] == 100


def test_what_lies_around_both_does_not_matter():
    builder = TraceBuilder()
    for start, duration, name in ((0, 100, "outer"), (10, 80, "aten::to"), (20, 50, "between"), (30, 10, "aten::to")):
        builder.operator(start, duration, name)

    assert by_name(builder)["aten::to"]["host_total_ns"] == 80


def test_of_equal_self_times_the_larger_total_comes_first():
    builder = TraceBuilder()
    for start, duration, name in ((0, 10, "alone"), (20, 25, "around"), (25, 15, "inside"), (50, 20, "aside")):
        builder.operator(start, duration, name)

    assert list(by_name(builder)) == ["aside", "inside", "around", "alone"]


def test_the_same_operator_on_two_threads():
    builder = TraceBuilder()
    builder.operator(0, 100, thread=1)
    builder.operator(10, 50, thread=2)

    assert by_name(builder)["aten::add"]["host_self_ns"] == 150


def test_kernels_belong_to_the_innermost_operator():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::linear")
    builder.operator(10, 60, "aten::addmm")
    builder.launch(call=(20, 5), kernel=(300, 40))
    builder.launch(call=(80, 5), kernel=(400, 2))
    builder.call(30, 5, "cudaMemcpyAsync", correlation=900)
    builder.memcpy(500, 1000, correlation=900)
    found = by_name(builder)

    assert (found["aten::addmm"]["kernel_time_ns"], found["aten::addmm"]["kernels"]) == (40, 1)
    assert (found["aten::linear"]["kernel_time_ns"], found["aten::linear"]["kernels"]) == (2, 1)


def test_crossing_operators_lose_only_what_they_share():
    builder = TraceBuilder()
    builder.operator(0, 10, "first")
    builder.operator(6, 10, "second")
    found = by_name(builder)

    assert (found["first"]["host_self_ns"], found["second"]["host_self_ns"]) == (6, 10)


def test_operators_without_a_length():
    builder = TraceBuilder()
    builder.operator(5, 0, "moment")
    builder.operator(5, 0, "moment")

    assert by_name(builder)["moment"]["host_total_ns"] == 0


def test_calls_by_time():
    builder = TraceBuilder()
    builder.call(0, 5)
    builder.call(10, 7)
    builder.call(20, 100, "cudaDeviceSynchronize")
    builder.call(200, 1, "cuLaunchKernel", driver=True)

    assert calls(builder.trace()).records() == [
        {"name": "cudaDeviceSynchronize", "count": 1, "time_ns": 100, "max_ns": 100},
        {"name": "cudaLaunchKernel", "count": 2, "time_ns": 12, "max_ns": 7},
        {"name": "cuLaunchKernel", "count": 1, "time_ns": 1, "max_ns": 1},
    ]


def test_host_summary():
    builder = TraceBuilder()
    builder.annotation(100, 10)
    builder.operator(120, 50, thread=2)
    builder.operator(130, 20, thread=2)
    builder.call(200, 5)
    builder.kernel(0, 9000)

    assert host(builder.trace()) == HostSummary(span_ns=105, threads=2, operator_self_ns=50, operators=2, calls=1)


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.sampled_from("abc"), st.integers(1, 2)), max_size=14)


@given(spans)
@examples(200)
def test_self_times_of_nested_operators_by_the_nanosecond(drawn):
    nested: list[tuple[int, int, str, int]] = []
    for start, length, name, thread in drawn:
        end = start + length
        if not any(t == thread and (s < start < e < end or start < s < end < e) for s, e, _, t in nested):
            nested.append((start, end, name, thread))
    builder = TraceBuilder()
    builder.annotation(0, 1)
    for start, end, name, thread in nested:
        builder.operator(start, end - start, name, thread=thread)
    found = by_name(builder)

    expected: Counter[str] = Counter()
    for thread in (1, 2):
        mine = [one for one in nested if one[3] == thread]
        for moment in range(80):
            # Of those open the last to start; of equal starts the shortest; of equals the last.
            is_open = [(start, -end, place) for place, (start, end, _, _) in enumerate(mine) if start <= moment < end]
            if is_open:
                expected[mine[max(is_open)[2]][2]] += 1
    assert {name: row["host_self_ns"] for name, row in found.items() if row["host_self_ns"]} == dict(expected)
    cover = {(thread, moment) for start, end, _, thread in nested for moment in range(start, end)}
    assert sum(row["host_self_ns"] for row in found.values()) == len(cover)
