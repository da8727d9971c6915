"""Does a file of several ranks become a trace for each, whose ids do not mix?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze import analyze
from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import idle
from tracekit.analyze.activity.operators import operators
from tracekit.analyze.trace.loader import load, load_ranks, parse
from tracekit.analyze.trace.trace import Trace
from tracekit.errors import TraceError


def rank(kernels: int, kernel_ns: int) -> TraceBuilder:
    """A rank whose correlations begin at 1, as those of every process do."""
    builder = TraceBuilder(distributedInfo={"backend": "nccl", "rank": 0, "world_size": 2})
    for number in range(kernels):
        at = 10_000 * number
        builder.operator(at, 2_000, "aten::mm")
        builder.launch(call=(at + 500, 500), kernel=(at + 3_000, kernel_ns))
    return builder


def merged(path: Path, ranks: dict[str, TraceBuilder]) -> Path:
    """One file of all these, as merging tools write it: a label before each process."""
    whole = TraceBuilder(**next(iter(ranks.values())).metadata)
    for label, builder in ranks.items():
        whole.entries += [{**entry, "pid": f"[{label}] {entry['pid']}"} for entry in builder.entries]
    return whole.write(path)


def figures(trace):
    return gpu(trace), idle(trace), operators(trace).records()


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9_000)), min_size=2, max_size=4))
@examples(40)
def test_each_rank_is_what_its_own_file_would_be(tmp_path_factory, shapes):
    folder = tmp_path_factory.mktemp("merged")
    ranks = {f"TP{number:02d}": rank(*shape) for number, shape in enumerate(shapes)}
    found = load_ranks(merged(folder / "merged.json", ranks))

    assert [trace.rank for trace in found] == list(range(len(shapes)))
    assert [trace.name for trace in found] == [f"merged.json [{label}]" for label in ranks]
    for trace, builder in zip(found, ranks.values(), strict=True):
        assert figures(trace) == figures(builder.trace())


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (("TP00", "TP01"), [0, 1]),
        (("TP03", "TP07"), [3, 7]),
        (("rank 1", "rank 0"), [0, 1]),
        (("DP0-TP0", "DP0-TP1", "DP1-TP0", "DP1-TP1"), [0, 1, 2, 3]),
        (("TP00-PP00", "TP00-PP01"), [0, 1]),
        (("0", "10", "2"), [0, 2, 10]),
        (("TP00-PP02", "TP00-PP05"), [2, 5]),  # a place that all share says nothing
        (("TP5", "TP3-PP0"), [0, 1]),  # not of one kind, so by their order
        (("PP1-TP10", "PP1-TP9", "PP0-TP3", "PP0-TP4"), [0, 1, 2, 3]),
        (("a1", "b1"), [0, 1]),
    ],
)
def test_labels_tell_the_rank(tmp_path, labels, places):
    path = merged(tmp_path / "merged.json", {label: rank(1, 1_000) for label in labels})
    assert [trace.rank for trace in load_ranks(path)] == places


@pytest.mark.parametrize(
    ("process", "device"),
    [
        ("3", 3),
        ("0", 0),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("9" * 400, None),
        ("gpu", None),
        ("\u00b2", None),
        ("-1", None),
        ("", None),
    ],
)
def test_a_process_is_a_number_again_if_it_was_one(tmp_path, process, device):
    """Kernels without arguments ran on the device with the number of their process."""
    ranks = {}
    for label in ("TP00", "TP01"):
        ranks[label] = TraceBuilder()
        ranks[label].kernel(0, 5).update(pid=process, args=None)
    for trace in load_ranks(merged(tmp_path / "merged.json", ranks)):
        (found,) = trace.gpu["device"].tolist()
        assert found == device if device is not None else found < 0


def test_places_are_ordered_as_numbers(tmp_path):
    labels = ("PP1-TP10", "PP1-TP9", "PP0-TP3", "PP0-TP4")
    path = merged(tmp_path / "merged.json", {label: rank(1, 1_000) for label in labels})
    order = ["PP0-TP3", "PP0-TP4", "PP1-TP9", "PP1-TP10"]
    assert [trace.name for trace in load_ranks(path)] == [f"merged.json [{label}]" for label in order]


@pytest.mark.parametrize("labels", [("TP00",), ("no number", "nor here")])
def test_one_rank_or_labels_without_a_number_are_one_trace(tmp_path, labels):
    (trace,) = load_ranks(merged(tmp_path / "merged.json", {label: rank(1, 1_000) for label in labels}))
    assert trace.name == "merged.json"


def test_several_ranks_are_one_run(tmp_path):
    found = analyze([merged(tmp_path / "merged.json.gz", {"TP00": rank(4, 1_000), "TP01": rank(4, 2_000)})])
    (run,) = found.runs
    assert run.grouped_by == "labels of processes"
    assert run.ranks["rank"].tolist() == [0, 1]
    assert run.traces == (0, 1)
    assert [entry["rank"] for entry in json.loads(json.dumps(found.document()))["traces"]] == [0, 1]


def test_each_rank_knows_its_file_and_how_many_there_are(tmp_path):
    path = merged(tmp_path / "merged.json", {"TP00": rank(1, 9), "TP01": rank(4, 9)})
    found = load_ranks(path)
    assert [trace.entries for trace in found] == [3, 12]
    info = {"backend": "nccl", "rank": 0, "world_size": 2}
    assert [trace.metadata for trace in found] == [{"distributed": info, "merged_ranks": 2}] * 2
    assert [trace.path for trace in found] == [str(path)] * 2


def test_load_names_what_reads_such_a_file(tmp_path):
    path = merged(tmp_path / "merged.json", {"TP00": rank(1, 9), "TP01": rank(1, 9)})
    with pytest.raises(TraceError) as caught:
        load(path)
    assert caught.value.what == "holds the merged traces of 2 ranks"
    assert (caught.value.where, caught.value.mend) == (path, "use load_ranks, or tracekit analyze")


def ranks(builder: TraceBuilder) -> tuple[Trace, ...]:
    """The traces that a file is read as."""
    return parse(builder.json(), Path("merged.json"))


@pytest.mark.parametrize("label", ["TP{}-PP1 {}", "Rank {}: {}", "rank{}_{}", "[rank={}] {}", "[tp-{}-dp-1] {}", "TP{}, {}"])
def test_labels_are_written_in_many_ways(label):
    builder = TraceBuilder()
    for rank in range(2):
        for entry in (
            builder.operator(0, 90, "aten::mm"),
            builder.call(10, 5, correlation=1),
            builder.kernel(30, 20 + rank, correlation=1),
        ):
            entry["pid"] = label.format(rank, 83)
    found = ranks(builder)
    assert [int(trace.events["duration_ns"].min()) for trace in found] == [5, 5]
    assert [int(trace.events["duration_ns"][trace.kernels].sum()) for trace in found] == [20, 21]


@pytest.mark.parametrize(
    ("label", "told"), [("TP{}, {}", "TP{}"), ("Rank {}: {}", "Rank {}"), ("rank{}_{}", "rank{}"), ("[ X-{}- ] {}", "X-{}")]
)
def test_a_label_is_told_without_what_parts_it_from_the_process(label, told):
    builder = TraceBuilder()
    for rank in range(2):
        builder.operator(0, 90, "aten::mm")["pid"] = label.format(rank, 83)
    assert [trace.name for trace in ranks(builder)] == [f"merged.json [{told.format(rank)}]" for rank in range(2)]


@pytest.mark.parametrize("pid", ["python 83", "python3", "TP0", "rank 3", "tpu worker 5", "sp 4", "12"])
def test_names_of_processes_are_no_labels(pid):
    builder = TraceBuilder()
    builder.operator(0, 90, "aten::mm")["pid"] = pid
    builder.operator(0, 90, "aten::add")["pid"] = f"{pid}1"
    assert len(ranks(builder)) == 1


def test_labels_of_host_and_device_tell_no_ranks():
    builder = TraceBuilder()
    for number in range(4):
        builder.call(100 * number, 5, correlation=number + 1)["pid"] = "[CPU 1] 900"
        builder.kernel(100 * number + 20, 10, correlation=number + 1)["pid"] = "[GPU 0] 0"
    (trace,) = ranks(builder)
    assert (trace.call_of_gpu >= 0).all()


def test_where_only_the_host_is_labelled_nothing_is_lost():
    builder = TraceBuilder()
    for rank in range(2):
        for number in range(4):
            builder.call(100 * number + 40 * rank, 5, correlation=number + 1)["pid"] = f"[TP0{rank}] 90{rank}"
            builder.kernel(100 * number + 40 * rank + 10, 10, correlation=number + 1, device=rank)
    (trace,) = ranks(builder)
    assert len(trace.gpu) == 8
    assert [warning.code for warning in trace.warnings] == ["shared_ids"]


def test_ranks_of_which_only_the_host_was_recorded_are_ranks():
    builder = TraceBuilder()
    for rank in range(2):
        builder.call(100 * rank, 5, correlation=1)["pid"] = f"[TP0{rank}] 900"
    assert len(ranks(builder)) == 2


def test_a_process_without_a_label_that_only_calls_hinders_nothing():
    builder = TraceBuilder()
    for rank in range(2):
        builder.call(100 * rank, 5, correlation=1)["pid"] = f"[TP0{rank}] 900"
        builder.kernel(100 * rank + 10, 5, correlation=1)["pid"] = f"[TP0{rank}] 0"
    builder.call(500, 5, "cudaMalloc")
    assert len(ranks(builder)) == 2


@pytest.mark.parametrize(("with_its_call", "ranks_found"), [(1, 1), (2, 1), (3, 2), (5, 2)])
def test_most_work_must_have_the_label_of_its_call(with_its_call, ranks_found):
    """Of the five kernels of a file."""
    builder = TraceBuilder()
    for number in range(5):
        builder.call(100 * number, 5, correlation=number)["pid"] = f"[TP0{number % 2}] 900"
        label = number % 2 if number < with_its_call else (number + 1) % 2
        builder.kernel(100 * number + 10, 5, correlation=number)["pid"] = f"[TP0{label}] 0"
    assert len(ranks(builder)) == ranks_found
