from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.path import hta_graph
from tracekit.analyze.path.critical_path import CriticalPath, NoCriticalPath, Scope, critical_path
from tracekit.analyze.path.hta_feed import feed
from tracekit.analyze.trace.trace import Trace
from tracekit.errors import MissingExtraError

pytest.importorskip("hta")


def path_of(trace: Trace, window: Scope | None = None, **families: str) -> CriticalPath:
    found = critical_path(trace, families, window or Scope())
    assert isinstance(found, CriticalPath), found
    return found


def parts(found: CriticalPath) -> list[tuple[str, str | None, int]]:
    """Kind, name and duration, in the order of time."""
    return [(row["kind"], row["name"], row["duration_ns"]) for row in found.segments.records()]


def waiting(kernel_ns: int = 500) -> TraceBuilder:
    """An operator launches a kernel, and a synchronisation waits for it."""
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::mm")
    builder.launch(call=(20, 50), kernel=(90, kernel_ns), name="gemm")
    builder.call(150, kernel_ns, "cudaDeviceSynchronize")
    return builder


def test_of_work_that_nothing_waits_for_the_path_is_the_hosts() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::mm")
    builder.launch(call=(20, 50), kernel=(60, 10), name="gemm")
    builder.operator(130, 40, "aten::add")
    found = path_of(builder.trace())
    assert parts(found) == [
        ("operator", "aten::mm", 20),
        ("call", "cudaLaunchKernel", 50),
        ("operator", "aten::mm", 30),
        ("outside", None, 30),
        ("operator", "aten::add", 40),
    ]
    assert [note.code for note in found.notes] == ["hta_unweighed", "no_wait"]
    assert (found.hta_own_ns, found.hta_own_elapsed_ns) == (140, 170)


def test_a_wait_leads_through_the_kernel_to_its_launch() -> None:
    found = path_of(waiting().trace())
    assert parts(found) == [
        ("operator", "aten::mm", 20),
        ("launch", "gemm", 70),
        ("kernel", "gemm", 500),
        ("return", "cudaDeviceSynchronize", 60),
    ]
    assert found.bounds.records() == [
        {"bound": "kernel", "kind": "kernel", "count": 1, "time_ns": 500, "share": 500 / 650},
        {"bound": "launch_latency", "kind": "launch", "count": 1, "time_ns": 70, "share": 70 / 650},
        {"bound": "sync", "kind": "return", "count": 1, "time_ns": 60, "share": 60 / 650},
        {"bound": "host", "kind": "operator", "count": 1, "time_ns": 20, "share": 20 / 650},
    ]
    assert found.segments["lane"].tolist() == ["thread 1", "thread 1", "stream 7", "stream 7"]


def test_a_synchronisation_that_finds_the_gpu_done_is_the_hosts() -> None:
    builder = waiting(kernel_ns=40)
    assert parts(path_of(builder.trace()))[-1] == ("call", "cudaDeviceSynchronize", 40)


def test_communication_and_copies_are_told_from_kernels() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 100), name="nccl")
    correlation = 77
    builder.call(130, 100, "cudaMemcpyAsync", correlation=correlation)
    builder.memcpy(140, 80, "Memcpy DtoH (Device -> Pageable)", correlation=correlation)
    found = path_of(builder.trace(), nccl="communication")
    assert [row["kind"] for row in found.segments.records()][-2:] == ["copy", "return"]
    builder.call(240, 500, "cudaStreamSynchronize")
    builder.launch(call=(232, 5), kernel=(300, 400), name="nccl")
    assert ("communication", "nccl", 400) in parts(path_of(builder.trace(), nccl="communication"))


def test_the_kernels_of_a_graph_are_all_on_the_path() -> None:
    """HTA itself keeps one of each graph launch."""
    builder = TraceBuilder()
    builder.graph(call=(0, 30), kernels=[(50, 100), (160, 100), (270, 100)])
    builder.call(40, 340, "cudaStreamSynchronize")
    assert parts(path_of(builder.trace())) == [
        ("launch", "node0", 50),
        ("kernel", "node0", 100),
        ("delay", "node1", 10),
        ("kernel", "node1", 100),
        ("delay", "node2", 10),
        ("kernel", "node2", 100),
        ("return", "cudaStreamSynchronize", 10),
    ]


def test_a_launch_after_the_gpu_went_idle_is_the_reason_even_if_more_is_queued_at_once() -> None:
    """HTA takes the kernel before for the reason, unless the next launch comes after the start."""
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 30), name="before")
    builder.operator(100, 50, "aten::mm")
    builder.launch(call=(110, 10), kernel=(200, 100), name="first")
    builder.launch(call=(125, 10), kernel=(310, 100), name="second")
    builder.call(150, 300, "cudaDeviceSynchronize")
    found = parts(path_of(builder.trace()))
    assert found[-5:-3] == [("launch", "first", 90), ("kernel", "first", 100)]
    assert "before" not in [name for _, name, _ in found]


def test_a_graph_has_more_nodes_than_its_launch_has_nanoseconds() -> None:
    """Launches within each other nest, and HTA walks down them by recursion."""
    builder = TraceBuilder()
    builder.graph(call=(0, 900), kernels=[(1000 + 20 * node, 10) for node in range(3000)])
    builder.call(950, 61_000, "cudaStreamSynchronize")
    found = path_of(builder.trace())
    assert {row["kind"]: row["time_ns"] for row in found.bounds.records()}["kernel"] == 3000 * 10


def test_a_wait_is_over_when_its_kernel_is_even_if_the_next_runs_on() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 80), name="awaited")
    builder.launch(call=(30, 10), kernel=(100, 900), name="next", thread=2)
    builder.call(20, 90, "cudaStreamSynchronize")
    builder.operator(200, 2000, "rest")
    found = path_of(builder.trace())
    assert parts(found)[1:3] == [("kernel", "awaited", 80), ("return", "cudaStreamSynchronize", 10)]
    assert "backward" not in [note.code for note in found.notes]


def test_kernels_of_a_stream_that_overlap_follow_each_other() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 100), name="first")
    builder.launch(call=(12, 5), kernel=(90, 100), name="second")
    builder.call(30, 170, "cudaDeviceSynchronize")
    found = path_of(builder.trace())
    assert parts(found)[1:] == [("kernel", "first", 100), ("kernel", "second", 70), ("return", "cudaDeviceSynchronize", 10)]
    assert [note.code for note in found.notes if note.code in ("moved", "backward")] == ["moved"]


def test_hip_calls_and_stream_0_are_read_as_cudas() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 300), name="Cijk", call_name="hipExtModuleLaunchKernel", stream=0)
    builder.call(15, 320, "hipDeviceSynchronize")
    assert parts(path_of(builder.trace())) == [
        ("launch", "Cijk", 20),
        ("kernel", "Cijk", 300),
        ("return", "hipDeviceSynchronize", 15),
    ]


def test_a_launch_under_way_when_its_stream_became_free_is_latency() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 30), name="first")
    builder.launch(call=(30, 40), kernel=(100, 50), name="second")  # still launching when the first ends, at 50
    builder.call(80, 80, "cudaDeviceSynchronize")
    kinds = {
        row["name"]: row["kind"] for row in path_of(builder.trace()).segments.records() if row["kind"] in ("launch", "delay")
    }
    assert kinds["second"] == "launch"


def test_what_a_second_thread_launches_while_the_first_is_silent_is_on_the_path() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "forward")
    builder.launch(call=(20, 10), kernel=(40, 10))
    builder.launch(call=(60, 10), kernel=(80, 10))
    builder.operator(150, 300, "backward", thread=2)
    builder.launch(call=(200, 10), kernel=(220, 10), thread=2)
    builder.operator(500, 50, "step")
    names = [name for _, name, _ in parts(path_of(builder.trace()))]
    assert names.index("forward") < names.index("backward") < names.index("step")


def test_what_overlaps_stays_on_its_own_thread() -> None:
    builder = TraceBuilder()
    builder.operator(0, 600, "forward")
    builder.launch(call=(20, 10), kernel=(40, 10))
    builder.launch(call=(60, 10), kernel=(80, 10))
    builder.operator(150, 300, "other", thread=2)
    builder.launch(call=(200, 10), kernel=(220, 10), thread=2)
    assert "other" not in [name for _, name, _ in parts(path_of(builder.trace()))]


def test_a_kernel_that_nothing_explains_is_behind_what_ended_last() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 10), kernel=(20, 5_000_000), name="other", stream=8)
    builder.launch(call=(10, 10), kernel=(40, 100), name="early")
    builder.launch(call=(20, 10), kernel=(5_000_100, 200), name="late")
    builder.call(40, 5_000_400, "cudaDeviceSynchronize")
    assert parts(path_of(builder.trace()))[1:] == [
        ("kernel", "other", 5_000_000),
        ("behind", "late", 80),
        ("kernel", "late", 200),
        ("return", "cudaDeviceSynchronize", 140),
    ]


def test_a_kernel_without_a_recorded_launch_is_said_to_be() -> None:
    builder = waiting()
    builder.kernel(10, 70, "orphan", correlation=999)
    found = path_of(builder.trace())
    assert "unlaunched" in [note.code for note in found.notes]
    builder.kernel(700, 50, "tail", correlation=998)
    assert ("unattributed", "tail", 110) in parts(path_of(builder.trace()))


def test_an_annotation_bounds_the_path() -> None:
    builder = TraceBuilder()
    for start in (0, 1000, 2000):
        builder.annotation(start, 800 + start // 10, f"ProfilerStep#{start // 1000}")
        builder.operator(start + 10, 100, f"op{start}")
        builder.launch(call=(start + 20, 10), kernel=(start + 50, 400), name=f"kernel{start}")
        builder.call(start + 120, 400, "cudaDeviceSynchronize")
    trace = builder.trace()
    longest = path_of(trace, Scope("ProfilerStep"))
    assert longest.window == "ProfilerStep#2 (instance 2 of 3)"
    assert (longest.start_ns, longest.length_ns) == (2010, 510)
    assert path_of(trace, Scope("ProfilerStep", 1)).start_ns == 1010
    assert path_of(trace, Scope("ProfilerStep#0")).start_ns == 10
    assert critical_path(trace, {}, Scope("decode")) == NoCriticalPath("no annotation begins with 'decode'")
    missing = critical_path(trace, {}, Scope("ProfilerStep", 3))
    assert missing == NoCriticalPath("annotation 'ProfilerStep' has 3 instances, counted from 0; none is 3")


def test_windows_are_parsed() -> None:
    assert Scope.parse("decode") == Scope("decode")
    assert Scope.parse("decode:3") == Scope("decode", 3)
    assert Scope.parse("nn.Module: Linear") == Scope("nn.Module: Linear")


def test_without_a_launch_there_is_no_path() -> None:
    builder = TraceBuilder()
    builder.operator(0, 10)
    assert critical_path(builder.trace(), {}, Scope()) == NoCriticalPath("no GPU event with a recorded launch")


def test_more_events_than_small_integers_hold() -> None:
    """HTA overflows, or fails, where a column that it made small must hold a larger number."""
    builder = TraceBuilder()
    for step in range(40):
        builder.launch(call=(step * 200_000_000, 10_000), kernel=(step * 200_000_000 + 20_000, 150_000_000))
    builder.call(39 * 200_000_000 + 15_000, 160_000_000, "cudaDeviceSynchronize")
    assert path_of(builder.trace()).length_ns == 39 * 200_000_000 + 160_015_000


def test_events_that_cross_are_cut() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "around")
    builder.operator(50, 80, "crossing")
    builder.launch(call=(10, 10), kernel=(30, 10))
    found = path_of(builder.trace())
    assert "cut" in [note.code for note in found.notes]
    assert found.length_ns == 100


spans = st.tuples(st.integers(0, 3000), st.integers(0, 400))


@examples(60)
@given(
    operators=st.lists(st.tuples(spans, st.integers(1, 2)), max_size=8),
    launches=st.lists(st.tuples(spans, spans, st.integers(1, 2), st.integers(0, 2)), min_size=1, max_size=8),
    orphans=st.lists(spans, max_size=3),
    waits=st.lists(spans, max_size=4),
)
def test_the_parts_follow_each_other_and_add_up(operators, launches, orphans, waits) -> None:  # type: ignore[no-untyped-def]
    builder = TraceBuilder()
    for span, thread in operators:
        builder.operator(*span, thread=thread)
    for call, kernel, thread, stream in launches:
        builder.launch(call=call, kernel=kernel, thread=thread, stream=stream)
    for number, span in enumerate(orphans):
        builder.kernel(*span, "orphan", correlation=1000 + number)
    for span in waits:
        builder.call(*span, "cudaStreamSynchronize")
    trace = builder.trace()
    fed = feed(trace)
    found = critical_path(trace, {}, Scope())
    if isinstance(found, NoCriticalPath):  # HTA may trip over times that no trace has
        assert found.reason.startswith("HTA fails")
        return
    start, duration = found.segments["start_ns"], found.segments["duration_ns"]
    assert (duration > 0).all()
    assert np.array_equal(start[1:], (start + duration)[:-1])
    told = {note.code: note.count for note in found.notes}
    assert told.get("missed", 0) == int(fed.end_ns.max() - fed.start_ns.min()) - found.length_ns
    assert duration.sum() == found.length_ns == found.bounds["time_ns"].sum() == found.events["time_ns"].sum()
    assert found.length_ns <= fed.end_ns.max() - fed.start_ns.min()
    assert fed.event.min() >= 0


def test_hta_leaves_no_trace_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from hta.analyzers import critical_path_analysis
    from hta.configs.env_options import HTAEnvOptions

    options = HTAEnvOptions.instance()

    def state() -> tuple[object, ...]:
        return (
            dict(os.environ),
            options.get_options_str(),
            critical_path_analysis.KERNEL_KERNEL_DELAY_THRESHOLD_US,
            logging.root.manager.disable,
            list(logging.root.handlers),
        )

    options.set_disable_ns_rounding(False)
    before = state()
    path_of(waiting().trace())
    with hta_graph.quiet_hta():
        assert options.disable_ns_rounding()
    assert state() == before
    assert capsys.readouterr() == ("", "")


def test_without_hta_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hta_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'torch-tracekit\[hta\]'"):
        path_of(waiting().trace())


def test_a_failure_of_hta_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(feed: object) -> None:
        raise AssertionError("first\nsecond")

    monkeypatch.setattr(hta_graph, "_path", fails)
    found = critical_path(waiting().trace(), {}, Scope())
    assert found == NoCriticalPath("HTA fails on this trace: AssertionError: first second")


def test_hta_is_not_imported_unless_asked_for(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = waiting().write(tmp_path / "t.json")
    code = (
        "import sys; from pathlib import Path; from tracekit.analyze.analysis import Analysis;"
        "from tracekit.analyze.trace.loader import load; from tracekit.taxonomy import Taxonomy;"
        "from tracekit.analyze.output.document import entry;"
        f"assert entry(Analysis(load(Path({str(path)!r})), Taxonomy.load(None)))['critical_path'] is None;"
        "print([name for name in ('hta', 'networkx', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
