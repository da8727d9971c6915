"""Single gaps, and gaps that have something in common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gaps import LONGEST, gap_groups, longest_gaps
from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import idle
from tracekit.schema import CAUSES, TABLES


def scene() -> TraceBuilder:
    """Three gaps: 60 after a late launch, then 10 and 30 before the same kernel."""
    builder = TraceBuilder()
    builder.operator(-20, 4, "warm up")
    builder.launch(call=(-20, 3), kernel=(0, 40), name="a")
    builder.operator(50, 40, "aten::mm")
    builder.launch(call=(80, 5), kernel=(100, 20), name="b")
    builder.launch(call=(82, 5), kernel=(130, 20), name="c")
    builder.launch(call=(84, 5), kernel=(180, 20), name="c")
    return builder


def test_no_gaps():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    trace = builder.trace()

    for table, name in ((longest_gaps(trace), "gaps"), (gap_groups(trace), "gap_groups")):
        assert len(table) == 0
        assert tuple(table.columns) == TABLES[name].names


def test_the_longest_gap_first_with_all_that_is_known_about_it():
    first, second, third = longest_gaps(scene().trace()).records()

    assert first == {
        "start_ns": 60,  # from the trace's first event
        "duration_ns": 60,
        "cause": "dispatch",
        "host_sync_ns": 0,
        "dispatch_ns": 30,
        "host_other_ns": 10,
        "launch_latency_ns": 20,
        "device_wait_ns": 0,
        "unattributed_ns": 0,
        "stream_wait_ns": 0,
        "copy_wait_ns": 0,
        "device_dispatch_ns": 0,
        "profiler_ns": 0,
        "waits_for": None,
        "before": "a",
        "after": "b",
        "operator": "aten::mm",
        "call": "cudaLaunchKernel",
        "thread": "100/1",
    }
    assert [second["duration_ns"], third["duration_ns"]] == [30, 10]


def test_what_is_not_known_is_none():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(30, 10)
    trace = builder.trace()
    gap = longest_gaps(trace).records()[0]

    assert (gap["cause"], gap["operator"], gap["call"], gap["thread"]) == ("unattributed", None, None, None)
    assert gap_groups(trace)["operator"].tolist() == [None]


def test_groups_by_kernel_operator_and_call():
    groups = gap_groups(scene().trace()).records()

    assert [(g["after"], g["operator"], g["call"], g["count"], g["idle_ns"], g["cause"]) for g in groups] == [
        ("b", "aten::mm", "cudaLaunchKernel", 1, 60, "dispatch"),
        ("c", "aten::mm", "cudaLaunchKernel", 2, 40, "device_wait"),
    ]


def test_one_kernel_from_two_operators_is_two_groups():
    builder = TraceBuilder()
    builder.kernel(0, 10, "first")
    for place, operator in enumerate(("aten::add", "aten::mul", "aten::add")):
        at = 100 * (place + 1)
        builder.operator(at, 30, operator)
        builder.launch(call=(at + 10, 5), kernel=(at + 50, 10), name="k")

    assert [(g["operator"], g["count"]) for g in gap_groups(builder.trace()).records()] == [("aten::add", 2), ("aten::mul", 1)]


def test_only_so_many_single_gaps_but_all_in_the_groups():
    builder = TraceBuilder()
    for place in range(LONGEST + 50):
        builder.kernel(place * 10, 5)
    trace = builder.trace()

    assert len(longest_gaps(trace)) == LONGEST
    assert gap_groups(trace)["count"].sum() == LONGEST + 49


def test_of_equal_gaps_the_earlier_comes_first():
    builder = TraceBuilder()
    for place in range(60):
        builder.kernel(place * 10 + place // 2, 5)  # gaps of 5 and of 6
    found = longest_gaps(builder.trace())

    assert found["duration_ns"].tolist() == [6] * 29 + [5] * 30
    assert found["start_ns"].tolist() == sorted(found["start_ns"][:29]) + sorted(found["start_ns"][29:])


def test_the_group_with_most_idle_time_comes_first():
    builder = TraceBuilder()
    builder.kernel(0, 10, "first")
    for start, name in ((20, "little"), (130, "much"), (180, "some")):
        builder.kernel(start, 10, name)

    assert [(g["after"], g["idle_ns"]) for g in gap_groups(builder.trace()).records()] == [
        ("much", 100),
        ("some", 40),
        ("little", 10),
    ]


kernels = st.tuples(st.integers(0, 300), st.integers(0, 20), st.sampled_from("abc"), st.integers(0, 300), st.booleans())


@given(
    st.lists(kernels, min_size=1, max_size=15),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40), st.sampled_from("xyz")), max_size=6),
)
@examples(150)
def test_both_tables_add_up_to_the_idle_time(launched, operators):
    builder = TraceBuilder()
    for start, duration, name, call_start, known in launched:
        if known:
            builder.launch(call=(call_start, 10), kernel=(start, duration), name=name)
        else:
            builder.kernel(start, duration, name)
    for start, duration, name in operators:
        builder.operator(start, duration, name)
    trace = builder.trace()
    gaps, groups, total = longest_gaps(trace), gap_groups(trace), idle(trace)

    assert gaps["duration_ns"].sum() == groups["idle_ns"].sum() == gpu(trace).idle_ns
    assert groups["count"].sum() == len(gaps)
    for cause in CAUSES:
        assert gaps[f"{cause}_ns"].sum() == groups[f"{cause}_ns"].sum() == getattr(total, f"{cause}_ns")
    for row in gaps.records() + groups.records():
        assert row[f"{row['cause']}_ns"] == max(row[f"{cause}_ns"] for cause in CAUSES)
    keys = [(g["after"], g["operator"], g["call"]) for g in groups.records()]
    assert len(set(keys)) == len(keys)
