"""Kernels by name and by family."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.kernels import families, kernels
from tracekit.taxonomy import Rule, Taxonomy

TAXONOMY = Taxonomy(
    [
        Rule("gemm", "gemm", "gemm", "dense", 0.9, "sgemm"),
        Rule("pointwise", "elementwise", "elementwise", "pointwise", 0.6, "elementwise_kernel"),
        Rule("index", "elementwise", "indexing", "gather", 0.8, "elementwise_kernel", operator="aten::index", refines=("pointwise",)),
    ]
)  # fmt: skip


def by_name(builder: TraceBuilder) -> dict[str, dict]:
    return {row["name"]: row for row in kernels(builder.trace(), TAXONOMY).records()}


def test_no_kernels():
    builder = TraceBuilder()
    builder.memcpy(0, 10)
    table = kernels(builder.trace(), TAXONOMY)

    assert len(table) == len(families(table)) == 0


def test_one_row_a_name_by_time():
    builder = TraceBuilder()
    for start, duration in ((0, 5), (10, 1), (20, 9), (40, 2)):
        builder.kernel(start, duration, "sgemm")
    builder.kernel(60, 100, "mystery")
    builder.memcpy(200, 1000)
    first, second = kernels(builder.trace(), TAXONOMY).records()

    assert (first["name"], first["family"], first["time_ns"], first["share"]) == ("mystery", "other", 100, 100 / 117)
    assert second == {
        "name": "sgemm",
        "family": "gemm",
        "kind": "dense",
        "rule": "gemm",
        "confidence": 0.9,
        "operator": None,
        "count": 4,
        "time_ns": 17,
        "share": 17 / 117,
        "busy_ns": 17,
        "min_ns": 1,
        "median_ns": 2,  # the lower one: a time that was measured
        "max_ns": 9,
        "grid": None,
        "block": None,
        "registers": None,
        "shared_memory_bytes": None,
        "occupancy_percent": None,
    }


def test_configuration_is_that_of_the_longest_run():
    builder = TraceBuilder()
    more = {"registers per thread": 40, "shared memory": 1024, "est. achieved occupancy %": 62.5}
    builder.kernel(0, 5, grid=[1, 1, 1], block=[32, 1, 1])
    builder.kernel(10, 7, grid=[80, 2, 1], block=[128, 1, 1], **more)
    builder.kernel(20, 6, grid=[2, 1, 1], block=[64, 1, 1])
    row = by_name(builder)["kernel"]

    assert (row["grid"], row["block"]) == ("80, 2, 1", "128, 1, 1")
    assert (row["registers"], row["shared_memory_bytes"], row["occupancy_percent"]) == (40, 1024, 62.5)


def test_the_operator_is_the_innermost_with_most_of_the_kernels_time():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::linear")
    builder.operator(10, 80, "aten::addmm")
    builder.launch(call=(20, 5), kernel=(1000, 30), name="sgemm")
    builder.operator(200, 100, "aten::bmm")
    builder.launch(call=(210, 5), kernel=(1100, 50), name="sgemm")
    builder.launch(call=(220, 5), kernel=(1200, 5), name="other kernel")
    builder.launch(call=(400, 5), kernel=(1300, 500), name="sgemm")  # outside any operator
    rows = by_name(builder)

    assert rows["sgemm"]["operator"] == "aten::bmm"
    assert rows["other kernel"]["operator"] == "aten::bmm"


def test_the_operator_may_be_named_last_in_the_file():
    builder = TraceBuilder()
    builder.launch(call=(20, 5), kernel=(100, 10), name="first")
    builder.launch(call=(30, 5), kernel=(120, 10), name="second")
    builder.operator(0, 50, "last")

    assert {name: row["operator"] for name, row in by_name(builder).items()} == {"first": "last", "second": "last"}


def test_an_operator_on_another_thread_launched_nothing():
    builder = TraceBuilder()
    builder.operator(0, 100, thread=2)
    builder.launch(call=(20, 5), kernel=(200, 30), thread=1)

    assert by_name(builder)["kernel"]["operator"] is None


@pytest.mark.parametrize(
    ("operator", "family"), [("aten::index", "indexing"), ("aten::add", "elementwise"), (None, "elementwise")]
)
def test_the_operator_decides_what_the_name_leaves_open(operator, family):
    builder = TraceBuilder()
    if operator:
        builder.operator(0, 100, operator)
    builder.launch(call=(20, 5), kernel=(200, 30), name="elementwise_kernel")

    assert by_name(builder)["elementwise_kernel"]["family"] == family


def test_kernels_of_a_graph_belong_to_the_operator_that_launched_it():
    builder = TraceBuilder()
    builder.operator(0, 100, "replay")
    builder.graph(call=(20, 5), kernels=[(200, 5), (210, 5)])

    assert {row["operator"] for row in by_name(builder).values()} == {"replay"}


def test_kernels_of_no_length_have_no_share():
    builder = TraceBuilder()
    builder.kernel(0, 0)

    assert by_name(builder)["kernel"]["share"] == 0


def test_one_nanosecond_is_all_of_one_nanosecond():
    builder = TraceBuilder()
    builder.kernel(0, 1)
    table = kernels(builder.trace(), TAXONOMY)

    assert table["share"].tolist() == families(table)["share"].tolist() == [1.0]


def test_kernels_that_take_equally_long_are_in_the_order_of_their_names():
    for names in (["a", "b", "c"], ["b", "c", "a"]):
        builder = TraceBuilder()
        for place, name in enumerate(names):
            builder.kernel(100 * place, 10, name)

        assert kernels(builder.trace(), TAXONOMY)["name"].tolist() == ["c", "b", "a"]


names = st.sampled_from(["sgemm", "dgemm", "elementwise_kernel", "mystery", "<script>alert(1)</script>"])


@given(st.lists(st.tuples(names, st.integers(0, 10**15)), min_size=1, max_size=15))
@examples(100)
def test_families_add_up_to_all_kernel_time(runs):
    builder = TraceBuilder()
    at = 0
    for name, duration in runs:
        builder.kernel(at, duration, name)
        at += duration
    table = kernels(builder.trace(), TAXONOMY)
    found = families(table)
    total = sum(duration for _, duration in runs)

    assert found["time_ns"].sum() == table["time_ns"].sum() == total
    assert found["count"].sum() == table["count"].sum() == len(runs)
    assert sorted(found["time_ns"].tolist(), reverse=True) == found["time_ns"].tolist()
    assert len(set(found["family"].tolist())) == len(found)
    assert found["share"].sum() == pytest.approx(1 if total else 0)
    assert table["share"].sum() == pytest.approx(1 if total else 0)
    for row in table.records():
        mine = sorted(duration for name, duration in runs if name == row["name"])
        assert (row["min_ns"], row["median_ns"], row["max_ns"]) == (mine[0], mine[(len(mine) - 1) // 2], mine[-1])


@pytest.mark.parametrize(
    "names", [("aten::a", "aten::b", "aten::c"), ("aten::c", "aten::b", "aten::a"), ("aten::b", "aten::a")]
)
def test_of_operators_with_equal_time_the_first_by_name_is_told(names):
    builder = TraceBuilder()
    for at, name in enumerate(names):
        builder.operator(100 * at, 50, name)
        builder.launch(call=(100 * at + 10, 5), kernel=(100 * at + 20, 10))
    assert by_name(builder)["kernel"]["operator"] == "aten::a"
