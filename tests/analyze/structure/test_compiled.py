"""Compiled code: its regions, and what its generated kernels were made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
POINTWISE, REDUCTION, GEMM = "triton_poi_fused_add_gelu_0", "triton_red_fused_native_layer_norm_1", "nvjet_hsh_64x8_TNT"


def analysed(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), TAXONOMY)


def region(builder: TraceBuilder, at: int, number: str, key: str | None = "fabc", thread: int = 1) -> None:
    """A call of compiled code, 100 ns long, and of the graph inside, 80 ns."""
    builder.operator(at, 100, f"Torch-Compiled Region: {number}", thread=thread)
    if key is not None:
        builder.annotation(at + 10, 80, f"## Call CompiledFxGraph {key} ##", thread=thread)


def test_without_a_compiler_there_is_none():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::add")
    builder.launch(call=(10, 5), kernel=(200, 10))
    analysis = analysed(builder)

    assert len(analysis.compiled_regions) == len(analysis.generated_kernels) == 0
    assert "fx_graph" in analysis.compiled_regions.columns


def test_a_worked_example():
    """Two calls of one graph with a generated and a library kernel each, and a kernel of the region outside the graph."""
    builder = TraceBuilder()
    for at in (0, 1000):
        region(builder, at, "0/1")
        builder.launch(call=(at + 20, 5), kernel=(at + 200, 10), name=POINTWISE)
        builder.launch(call=(at + 40, 5), kernel=(at + 300, 30), name=GEMM)
    builder.launch(call=(1092, 5), kernel=(1400, 7), name="copy")
    builder.launch(call=(1200, 5), kernel=(1500, 13), name="copy")
    analysis = analysed(builder)

    assert analysis.compiled_regions.records() == [
        {
            "region": "0/1",
            "fx_graph": "fabc",
            "calls": 2,
            "host_ns": 160,
            "kernels": 4,
            "time_ns": 80,
            "share": 0.8,
            "generated": 2,
            "generated_ns": 20,
        },
        {
            "region": "0/1",
            "fx_graph": None,
            "calls": 0,
            "host_ns": 0,
            "kernels": 1,
            "time_ns": 7,
            "share": 0.07,
            "generated": 0,
            "generated_ns": 0,
        },
    ]
    assert analysis.generated_kernels.records() == [
        {
            "name": POINTWISE,
            "source": "add, gelu",
            "region": "0/1",
            "fx_graph": "fabc",
            "count": 2,
            "time_ns": 20,
            "share": 0.2,
        }
    ]


def keys(analysis: Analysis) -> list[tuple[str | None, str | None, int, int]]:
    return [(row["region"], row["fx_graph"], row["calls"], row["time_ns"]) for row in analysis.compiled_regions.records()]


def test_a_region_without_a_graph_is_one_too():
    """As of a backend that is not Inductor."""
    builder = TraceBuilder()
    region(builder, 0, "3/0", key=None)
    builder.launch(call=(20, 5), kernel=(200, 10), name=GEMM)
    assert keys(analysed(builder)) == [("3/0", None, 1, 10)]


def test_a_backward_pass_has_no_region():
    builder = TraceBuilder()
    builder.annotation(10, 80, "## Call CompiledFxGraph fback ##", thread=2)
    builder.launch(call=(20, 5), kernel=(200, 10), name=REDUCTION, thread=2)
    analysis = analysed(builder)

    assert keys(analysis) == [(None, "fback", 1, 10)]
    assert analysis.generated_kernels["fx_graph"].tolist() == ["fback"]


def test_marks_of_older_releases_are_operators():
    builder = TraceBuilder()
    builder.operator(0, 80, "## Call CompiledFxGraph fold ##")
    builder.launch(call=(20, 5), kernel=(200, 10))
    assert keys(analysed(builder)) == [(None, "fold", 1, 10)]


def test_a_replay_belongs_to_where_its_launch_lies():
    builder = TraceBuilder()
    region(builder, 0, "0/0")
    builder.graph(call=(20, 5), kernels=[(200, 10), (220, 20)], names=[POINTWISE, GEMM])
    builder.graph(call=(500, 5), kernels=[(600, 4)], names=[REDUCTION])
    analysis = analysed(builder)

    assert keys(analysis) == [("0/0", "fabc", 1, 30)]
    assert [(row["name"], row["region"]) for row in analysis.generated_kernels.records()] == [
        (POINTWISE, "0/0"),
        (REDUCTION, None),
    ]


def test_a_kernel_of_two_regions_names_the_one_with_most_of_its_time():
    builder = TraceBuilder()
    for at, number, duration in ((0, "0/0", 10), (1000, "0/1", 30), (2000, "0/0", 10)):
        region(builder, at, number, key=f"f{number[-1]}")
        builder.launch(call=(at + 20, 5), kernel=(at + 200, duration), name=POINTWISE)
    assert [(row["region"], row["fx_graph"]) for row in analysed(builder).generated_kernels.records()] == [("0/1", "f1")]


def test_marks_of_another_thread_enclose_nothing():
    builder = TraceBuilder()
    region(builder, 0, "0/0", thread=2)
    builder.launch(call=(20, 5), kernel=(200, 10), name=POINTWISE, thread=1)
    analysis = analysed(builder)

    assert keys(analysis) == [("0/0", "fabc", 1, 0)]
    assert analysis.generated_kernels["region"].tolist() == [None]


def test_anonymous_kernels_list_no_operators():
    builder = TraceBuilder()
    builder.launch(call=(20, 5), kernel=(200, 10), name="triton__0d1d2d")
    assert analysed(builder).generated_kernels["source"].tolist() == [None]


NAMES = st.sampled_from([POINTWISE, REDUCTION, GEMM, "copy"])


@given(
    st.lists(st.tuples(st.sampled_from(["0/0", "1/0"]), st.sampled_from([None, "fa", "fb"])), max_size=4),
    st.lists(st.tuples(st.integers(0, 550), NAMES, st.integers(1, 50)), max_size=8),
)
@examples(100)
def test_nothing_is_counted_twice(regions, launches):
    builder = TraceBuilder()
    builder.operator(0, 1)
    for number, (name, key) in enumerate(regions):
        region(builder, 120 * number, name, key)
    for number, (at, name, duration) in enumerate(launches):
        builder.launch(call=(at, 1), kernel=(1000 + 100 * number, duration), name=name)
    analysis = analysed(builder)
    inside = [(at, name, ns) for at, name, ns in launches if at < 120 * len(regions) and at % 120 < 100]

    found = analysis.compiled_regions
    assert found["time_ns"].sum() == sum(ns for _, _, ns in inside)
    assert found["calls"].sum() == len(regions)
    assert found["generated_ns"].sum() == sum(ns for _, name, ns in inside if name.startswith("triton"))
    assert found["host_ns"].sum() == sum(100 if key is None else 80 for _, key in regions)
    assert analysis.generated_kernels["time_ns"].sum() == sum(ns for _, name, ns in launches if name.startswith("triton"))
