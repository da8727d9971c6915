"""How do the steps of a trace differ, and what is left when some are chosen?"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from step_traces import STEP_KERNELS, Loop, decode_names, generation
from synthetic import TraceBuilder

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import idle
from tracekit.analyze.structure.phases import OUTSIDE, Phases, per_step, phases
from tracekit.analyze.structure.selection import select
from tracekit.analyze.structure.steps import find_steps
from tracekit.analyze.trace.trace import Trace
from tracekit.errors import TracekitError
from tracekit.schema import CAUSES
from tracekit.table import Table

TAXONOMY = Taxonomy.default()


def told(trace: Trace) -> Phases:
    return phases(trace, find_steps(trace))


def check_sums(trace: Trace, found: Phases) -> None:
    """Steps and the rest are the whole."""
    steps, whole = found.steps, gpu(trace)
    assert steps["name"][-1] == OUTSIDE
    sums = {name: int(steps[name].sum()) for name in ("busy_ns", "idle_ns", "device_ns", "kernel_time_ns", "kernels", "copies")}
    if whole is None:
        assert not any(sums.values())
        return
    assert sums == {
        "busy_ns": whole.busy_ns,
        "idle_ns": whole.idle_ns,
        "device_ns": whole.span_ns,
        "kernel_time_ns": whole.kernel_time_ns,
        "kernels": whole.kernels,
        "copies": whole.memcpys + whole.memsets,
    }
    assert {f"{cause}_ns": int(steps[f"{cause}_ns"].sum()) for cause in CAUSES} == asdict(idle(trace))
    causes = sum(steps[f"{cause}_ns"] for cause in CAUSES)
    assert np.array_equal(causes, steps["idle_ns"])


def test_steps_and_the_rest_are_the_whole() -> None:
    loop = generation(4)
    loop.step(["after"])  # in no step
    trace = loop.builder.trace()
    found = told(trace)
    check_sums(trace, found)
    assert found.steps["kernels"].tolist() == [STEP_KERNELS] * 5 + [1]
    assert found.steps["number"].tolist() == [0, 1, 2, 3, 4, None]


EVENT = st.tuples(
    st.integers(0, 2_000), st.integers(0, 200), st.integers(0, 2_500), st.integers(0, 300), st.integers(0, 2), st.booleans()
)


@examples(60)
@given(st.lists(EVENT, max_size=25), st.lists(st.integers(1, 500), min_size=0, max_size=5))
def test_they_are_the_whole_whatever_overlaps(events: list[tuple[int, int, int, int, int, bool]], lengths: list[int]) -> None:
    builder = TraceBuilder()
    builder.operator(0, 5_000, thread=2)
    for start, duration, gpu_start, gpu_duration, stream, launched in events:
        if launched:
            builder.launch(call=(start, duration), kernel=(gpu_start, gpu_duration), stream=stream)
        else:
            builder.memcpy(gpu_start, gpu_duration, stream=stream)
    at = 0
    for number, length in enumerate(lengths):
        builder.annotation(at, length, f"ProfilerStep#{number}")
        at += length
    trace = builder.trace()
    check_sums(trace, told(trace))


def test_a_gap_belongs_to_the_step_that_ends_it_and_an_overlap_to_the_first() -> None:
    builder = TraceBuilder()
    builder.annotation(0, 50, "ProfilerStep#0")
    builder.launch(call=(10, 5), kernel=(100, 100), name="a")
    builder.annotation(50, 50, "ProfilerStep#1")
    builder.launch(call=(60, 5), kernel=(150, 100), name="b", stream=8)
    builder.launch(call=(70, 5), kernel=(300, 10), name="c", stream=8)
    builder.annotation(200, 50, "ProfilerStep#2")
    builder.launch(call=(210, 5), kernel=(330, 10), name="d")
    steps = told(builder.trace()).steps
    assert steps["busy_ns"].tolist() == [100, 60, 10, 0]
    assert steps["idle_ns"].tolist() == [0, 50, 20, 0]
    assert steps["kernel_time_ns"].tolist() == [100, 110, 10, 0]
    assert steps["gpu_start_ns"].tolist() == [100, 150, 330, None]
    assert steps["gpu_end_ns"].tolist() == [200, 310, 340, None]


def test_kernels_launched_by_other_threads_belong_to_the_step() -> None:
    builder = TraceBuilder()
    builder.annotation(0, 100, "ProfilerStep#0")
    builder.launch(call=(10, 5), kernel=(20, 5), thread=9)
    assert told(builder.trace()).steps["kernels"].tolist() == [1, 0]


def training(slow: dict[int, int], steps: int = 8) -> Trace:
    loop = Loop()
    for number in range(steps):
        loop.step(decode_names(), f"ProfilerStep#{number}", slow.get(number, 2))
    return loop.builder.trace()


def test_warm_up_is_what_takes_longer_at_the_beginning() -> None:
    found = told(training({0: 10, 1: 6}))
    assert found.steps["state"].tolist() == [*["warmup"] * 2, *["steady"] * 6, None]
    assert found.groups["state"].tolist() == ["warmup", "steady"]
    assert found.groups["steps"].tolist() == [2, 6]


def test_a_slow_step_later_is_unlike_the_others_and_no_warm_up() -> None:
    found = told(training({5: 6}))
    assert set(found.steps["state"].tolist()[:-1]) == {"steady"}
    assert found.steps["flag"].tolist() == [None] * 5 + ["outlier"] + [None] * 3
    row = found.groups.records()[0]
    assert row["outliers"] == 1
    assert row["device_min_ns"] <= row["device_median_ns"] < row["device_max_ns"]


def test_two_steps_cannot_tell_a_warm_up() -> None:
    assert told(training({0: 10}, steps=2)).steps["state"].tolist() == [None, None, None]


def test_prefill_is_judged_apart() -> None:
    found = told(generation(5).builder.trace())
    rows = [(row["phase"], row["state"], row["steps"]) for row in found.groups.records()]
    assert rows == [("prefill", None, 1), ("decode", "steady", 5)]


def test_without_a_gpu_the_host_tells_the_length() -> None:
    builder = TraceBuilder()
    at = 0
    for number, length in enumerate((900, 100, 105, 100, 101, 99)):
        builder.annotation(at, length, f"ProfilerStep#{number}")
        builder.operator(at + 1, length - 2)
        at += length
    found = told(builder.trace())
    assert found.steps["state"].tolist() == ["warmup", *["steady"] * 5, None]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ("0-2", "0-2"),
        ("1", "1"),
        ("0,2-3,6", "0, 2-3, 6"),
        ("first:2", "0-1"),
        ("last:3", "4-6"),
        ("last:99", "0-6"),
        ("prefill", "0"),
        ("decode", "1-6"),
        (" Steady ", "1-6"),
    ],
)
def test_steps_are_chosen_by_number_place_phase_or_state(asked: str, numbers: str) -> None:
    trace, selection = select(generation(6).builder.trace(), asked)
    assert (selection.numbers, selection.of) == (numbers, 7)
    assert selection.count == len(selection.steps.table)
    assert len(trace.kernels) == selection.count * STEP_KERNELS


@pytest.mark.parametrize("asked", ["7", "3-1", "warmup", "mixed", "last:0", "first", "", "1,,2", "-1", "x", "9" * 30])
def test_what_chooses_nothing_says_what_there_is(asked: str) -> None:
    with pytest.raises(TracekitError, match=r"has 7 steps, 0-6; write 3-8") as error:
        select(generation(6).builder.trace(), asked)
    assert "\n" not in str(error.value)


def test_a_trace_without_steps_says_so() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    with pytest.raises(TracekitError, match="the trace has no steps"):
        select(builder.trace(), "steady")


def test_a_chosen_step_is_its_host_events_and_what_it_launched() -> None:
    builder = TraceBuilder()
    for number in range(3):
        at = number * 1_000
        builder.annotation(at, 900, f"ProfilerStep#{number}")
        builder.operator(at + 10, 100, "aten::mm")
        builder.launch(call=(at + 20, 5), kernel=(at + 1_500, 400), name=f"k{number}")  # runs during the next step
    whole = builder.trace()
    trace, _ = select(whole, "1")
    assert trace.names(trace.gpu["event"]).tolist() == ["k1"]
    assert trace.names(trace.operators).tolist() == ["aten::mm"]
    summary = gpu(trace)
    assert summary is not None
    assert (summary.span_ns, summary.busy_ns, summary.kernels) == (400, 400, 1)
    assert trace.start_ns[trace.gpu["event"]].tolist() == [2_500]  # on the whole trace's clock
    assert trace.names(trace.operator_of_gpu).tolist() == ["aten::mm"]
    assert trace.entries == whole.entries


@given(st.sets(st.integers(0, 6), min_size=1))
def test_chosen_steps_have_the_figures_that_they_had(chosen: set[int]) -> None:
    whole = generation(6).builder.trace()
    before = told(whole).steps
    trace, selection = select(whole, ",".join(map(str, sorted(chosen))))
    after = phases(trace, selection.steps).steps
    rows = sorted(chosen)
    for name in ("host_ns", "kernels", "kernel_time_ns", "busy_ns", "gpu_start_ns", "gpu_end_ns"):
        assert after[name].tolist()[:-1] == before[name][rows].tolist()
    check_sums(trace, phases(trace, selection.steps))
    apart = any(warning.code == "steps_apart" for warning in trace.warnings)
    assert apart == (max(chosen) - min(chosen) + 1 != len(chosen))


def test_all_steps_are_the_trace_without_the_rest() -> None:
    trace = generation(6).builder.trace()
    chosen, _ = select(trace, "0-6")
    assert gpu(chosen) == gpu(trace)
    assert idle(chosen) == idle(trace)


def test_per_step_divides_what_it_is_told_to_and_nothing_else() -> None:
    table = Table(
        {
            "name": np.array(["a", "b"], dtype=object),
            "count": np.array([10, 4]),
            "time_ns": np.array([100, 50]),
            "median_ns": np.array([9, 9]),
            "share": np.array([0.6, 0.4]),
            "bytes": np.array([None, 8], dtype=object),
        }
    )
    divided = per_step(table, ("count", "time_ns", "bytes"), 4)
    assert [name for name in divided.columns if name.endswith("_per_step")] == [
        "count_per_step",
        "time_ns_per_step",
        "bytes_per_step",
    ]
    assert divided["time_ns_per_step"].tolist() == [25.0, 12.5]
    assert divided["bytes_per_step"].tolist() == [None, 2.0]
    assert list(per_step(table, ("count",), 0).columns) == list(table.columns)


def test_an_analysis_is_of_the_chosen_steps() -> None:
    trace, selection = select(generation(6).builder.trace(), "decode")
    analysis = Analysis(trace, TAXONOMY, selection=selection, divided=True)
    assert analysis.phases.steps["phase"].tolist() == [*["decode"] * 6, None]
    row = next(row for row in analysis.table("kernels").records() if row["name"] == "sampling")
    assert (row["count"], row["count_per_step"]) == (6, 1.0)
    assert "time_ns_per_step" in analysis.tables()["layers"].columns


@pytest.mark.parametrize("path", shared_data.traces(), ids=lambda path: path.name)
def test_real_steps_add_up(path: object) -> None:
    trace = load(path)  # type: ignore[arg-type]
    check_sums(trace, told(trace))
