"""Does each nanosecond of idle time belong to the innermost thing in which the launching thread was?"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.activity.idle import gaps, idle
from tracekit.analyze.activity.idle_activity import cut_at, idle_activity, idle_pieces
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace
from tracekit.schema import CAUSES, TABLES


def rows(trace: Trace) -> dict[tuple[str, str], tuple[int, int]]:
    """For each path and cause, its idle time and its gaps."""
    table = idle_activity(trace)
    assert tuple(table.columns) == TABLES["idle_activity"].names
    return {(row["path"], row["cause"]): (row["idle_ns"], row["gaps"]) for row in table.records()}


def loop(steps: int = 1) -> TraceBuilder:
    """Steps that begin at 0, 1,000, …: a kernel until 100, a wait until 120, Python, an operator that allocates, a launch at 300."""
    builder = TraceBuilder()
    builder.launch(call=(-60, 5), kernel=(-50, 10))
    for number in range(steps):
        at = 1_000 * number
        builder.launch(call=(at - 50, 5), kernel=(at - 30, 130))
        builder.annotation(at + 50, 400, f"step#{number}")
        builder.call(at + 60, 60, "cudaStreamSynchronize")
        builder.module(at + 130, 310, "Net_0")
        builder.operator(at + 150, 200, "aten::resize_")
        builder.call(at + 160, 90, "cudaMalloc")
        builder.launch(call=(at + 300, 10), kernel=(at + 340, 500), name="last")
    return builder


def test_a_worked_example():
    assert rows(loop().trace()) == {
        ("(queued)", "device_wait"): (10, 1),
        ("step/cudaStreamSynchronize", "host_sync"): (20, 1),
        ("step", "host_other"): (10, 1),
        ("step/nn.Module: Net_0", "host_other"): (20, 1),
        ("step/nn.Module: Net_0/aten::resize_", "dispatch"): (60, 1),
        ("step/nn.Module: Net_0/aten::resize_/cudaMalloc", "dispatch"): (90, 1),
        ("step/nn.Module: Net_0/aten::resize_/cudaLaunchKernel", "launch_latency"): (10, 1),
        ("(launch under way)", "launch_latency"): (30, 1),
    }


def test_the_most_time_comes_first():
    times = idle_activity(loop().trace())["idle_ns"].tolist()
    assert times == sorted(times, reverse=True)
    assert len(set(times)) > 1


def test_the_same_thing_at_every_step_is_one_row():
    found = rows(loop(steps=3).trace())
    assert found["step/nn.Module: Net_0/aten::resize_/cudaMalloc", "dispatch"] == (270, 3)
    table = idle_activity(loop(steps=3).trace())
    longest = dict(zip(table["name"].tolist(), table["longest_ns"].tolist(), strict=True))
    assert longest["cudaMalloc"] == 90
    kinds = dict(zip(table["name"].tolist(), table["kind"].tolist(), strict=True))
    assert [kinds[name] for name in ("cudaMalloc", "aten::resize_", "step", "nn.Module: Net_0", "(queued)")] == [
        "call",
        "operator",
        "annotation",
        "python",
        "none",
    ]


def test_the_profilers_own_work_is_what_it_was_in():
    builder = loop()
    builder.overhead(200, 80, "Buffer Flush")
    found = rows(builder.trace())
    assert found["Buffer Flush", "dispatch"] == (80, 1)
    assert found["step/nn.Module: Net_0/aten::resize_/cudaMalloc", "dispatch"] == (40, 1)
    assert found["step/nn.Module: Net_0/aten::resize_", "dispatch"] == (30, 1)


def test_without_a_launch_or_an_event_it_says_so():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    builder.kernel(30, 10, correlation=99)
    builder.launch(call=(60, 5), kernel=(70, 10))
    assert rows(builder.trace()) == {
        ("(no launch recorded)", "unattributed"): (20, 1),
        ("(nothing recorded)", "host_other"): (20, 1),
        ("cudaLaunchKernel", "launch_latency"): (5, 1),
        ("(launch under way)", "launch_latency"): (5, 1),
    }


def test_a_call_later_than_its_kernel_leaves_the_gap_to_the_host():
    """The clocks of host and device differ, and the thread records nothing else in the gap."""
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 10))
    builder.launch(call=(100, 5), kernel=(98, 10))
    assert rows(builder.trace()) == {("(nothing recorded)", "host_other"): (78, 1)}


def test_a_call_that_returns_after_its_kernel_began_has_the_gap_until_then():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 10))
    builder.launch(call=(90, 30), kernel=(100, 10))
    assert rows(builder.trace()) == {
        ("(nothing recorded)", "host_other"): (70, 1),
        ("cudaLaunchKernel", "launch_latency"): (10, 1),
    }


def around_a_gap(*spans: tuple[int, int]) -> dict[tuple[str, str], tuple[int, int]]:
    """The rows of a trace whose first events are annotations over these spans. The GPU is idle from 100 to 300."""
    builder = TraceBuilder()
    for name, (start, end) in zip("abc", spans, strict=False):
        builder.annotation(start, end - start, name)
    builder.launch(call=(-60, 5), kernel=(0, 100))
    builder.launch(call=(250, 50), kernel=(300, 10))
    return rows(builder.trace())


def test_the_files_first_event_is_around_others_as_any_is():
    assert around_a_gap((50, 400)) == {("a", "host_other"): (150, 1), ("a/cudaLaunchKernel", "launch_latency"): (50, 1)}


def test_what_ends_earlier_is_not_around_what_crosses_it():
    launch = ("b/cudaLaunchKernel", "launch_latency")
    assert around_a_gap((50, 160), (120, 400)) == {("a", "host_other"): (20, 1), ("b", "host_other"): (130, 1), launch: (50, 1)}
    found = around_a_gap((50, 170), (60, 160), (110, 400))
    assert found == {
        ("a/b", "host_other"): (10, 1),
        ("c", "host_other"): (140, 1),
        ("c/cudaLaunchKernel", "launch_latency"): (50, 1),
    }


def test_what_ends_together_is_around():
    found = around_a_gap((50, 400), (60, 400))
    assert found == {("a/b", "host_other"): (150, 1), ("a/b/cudaLaunchKernel", "launch_latency"): (50, 1)}


def test_the_profilers_work_may_be_the_files_first_event():
    builder = loop()
    builder.overhead(200, 80, "Buffer Flush")
    builder.entries.insert(0, builder.entries.pop())
    assert rows(builder.trace())["Buffer Flush", "dispatch"] == (80, 1)


def test_a_slash_in_a_name_does_not_part_it():
    builder = loop()
    builder.entries[4]["name"] = "a/b#7"
    assert ("a\\/b", "host_other") in rows(builder.trace())


def test_spans_are_cut_at_the_bounds_inside_them():
    place, start, end = (
        part.tolist() for part in cut_at(np.array([5, 10, 10, 20]), np.array([0, 10, 12]), np.array([10, 25, 15]))
    )
    assert [piece for piece in zip(place, start, end, strict=True) if piece[1] < piece[2]] == [
        (0, 0, 5),
        (0, 5, 10),
        (1, 10, 20),
        (1, 20, 25),
        (2, 12, 15),
    ]


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 120), st.integers(1, 2)), max_size=7)


@given(SPANS, SPANS, SPANS, SPANS, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=3))
@examples(150)
def test_it_is_the_plain_reading_nanosecond_by_nanosecond(launches, operators, waits, frames, overheads):
    builder = TraceBuilder()
    builder.launch(call=(0, 2), kernel=(5, 5))
    for start, length, thread in launches:
        builder.launch(call=(start, 4), kernel=(start + 20, length), thread=thread)
    for start, length, thread in operators:
        builder.operator(start, length, "aten::op", thread=thread)
    for start, length, thread in waits:
        builder.call(start, length, "cudaDeviceSynchronize", thread=thread)
    for start, length, thread in frames:
        builder.module(start, length, "M", thread=thread)
    for start, length in overheads:
        builder.overhead(start, length)
    trace = builder.trace()
    found, pieces = gaps(trace), idle_pieces(trace)

    causes = {
        cause: int((pieces["end_ns"] - pieces["start_ns"])[pieces["cause"] == at].sum()) for at, cause in enumerate(CAUSES)
    }
    assert causes == {cause: getattr(idle(trace), f"{cause}_ns") for cause in CAUSES}
    by_cause = idle_activity(trace)
    assert {cause: int(by_cause["idle_ns"][by_cause["cause"] == cause].sum()) for cause in CAUSES} == causes
    for piece in pieces.records():
        for moment in {piece["start_ns"], piece["end_ns"] - 1}:
            assert piece["activity"] in plain_reading(trace, found.records()[piece["gap"]], moment), (piece, moment)


def plain_reading(trace: Trace, gap: dict[str, Any], moment: int) -> set[int]:
    """What the moment of a gap may belong to. Of events that start together and are as long, either may be the inner one."""
    profiler = [
        row for row in range(len(trace)) if "Request" in str(trace.names(np.array([row]))[0]) and is_open(trace, row, moment)
    ]
    if profiler:
        return set(profiler)
    if gap["queued"]:
        return {-3}
    call = gap["call"]
    if call < 0:
        return {-4}
    if moment >= max(trace.end_ns[call], trace.start_ns[call]) and moment >= trace.start_ns[call]:
        return {-2}
    thread = trace.events["thread"][call]
    open_then = [
        row
        for row in range(len(trace))
        if trace.events["thread"][row] == thread
        and trace.events["category"][row] in (4, 5, 6, 7, 8)
        and is_open(trace, row, moment)
    ]
    if not open_then:
        return {-1}
    latest = max((int(trace.start_ns[row]), -int(trace.end_ns[row])) for row in open_then)
    return {row for row in open_then if (int(trace.start_ns[row]), -int(trace.end_ns[row])) == latest}


def is_open(trace: Trace, row: int, moment: int) -> bool:
    return bool(trace.start_ns[row] <= moment < trace.end_ns[row])


def test_steps_that_cross_do_not_nest_without_end():
    """`Optimizer.step` outlives its step, as it does where it runs in a hook."""
    builder = TraceBuilder()
    builder.launch(call=(-60, 5), kernel=(-50, 10))
    for step in range(50):
        at = 1_000 * step
        builder.annotation(at, 1_000, f"ProfilerStep#{step}")
        builder.annotation(at + 800, 300, "Optimizer.step#Adam.step")
        builder.launch(call=(at + 900, 10), kernel=(at + 950, 10))
    paths = set(idle_activity(builder.trace())["path"].tolist())
    assert max(path.count("/") for path in paths) == 1
    assert len(paths) < 10


def test_a_program_whose_idle_time_is_in_the_allocator():
    table = idle_activity(load(needed("cases/cudamalloc_retry.json.gz")))
    first, second = table.records()[:2]
    assert (first["name"], first["idle_ns"], second["name"], second["idle_ns"]) == (
        "cudaFree",
        70_000_000,
        "cudaMalloc",
        7_500_000,
    )
    assert first["path"] == "ProfilerStep/FullyShardedDataParallel.forward/aten::resize_/cudaFree"
