"""Kernels of two names that do the same work are one row; those that may not are two. The sums stay exact in any case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from repository import ROOT, TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.kernel_changes import kernel_changes
from tracekit.analyze.compare.open_side import open_side
from tracekit.analyze.compare.pairs import ELSEWHERE, EVIDENCE, FLOAT_TYPE, GRADES, pairs
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.trace.loader import load
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
CUBLAS, NVJET, TRITON = "volta_sgemm_64x64_nn", "nvjet_hsh_64x8_bias_TNT", "triton_tem_fused_mm_0"
ADD = "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::Half>, std::array<char*, 3ul> >(int)"
ADD_BF16 = ADD.replace("Half", "BFloat16")
GELU = ADD.replace("CUDAFunctor_add", "GeluCUDAKernelImpl")

Launch = tuple[str, dict[str, Any]]


def launch(
    kernel: str,
    *operators: str,
    dims: Any = ((4, 4),),
    outer: Any = None,
    layer: str | None = "block",
    ns: int = 10,
    times: int = 1,
) -> Launch:
    """A kernel and what launched it, the outermost operator first. `dims` None: no shapes were recorded."""
    return kernel, {"operators": operators, "dims": dims, "outer": outer, "layer": layer, "ns": ns, "times": times}


def built(*launches: Launch) -> TraceBuilder:
    builder, at = TraceBuilder(), 0
    for kernel, told in launches:
        for _ in range(told["times"]):
            if told["layer"]:
                builder.annotation(at, 90_000, told["layer"])
            for depth, operator in enumerate(told["operators"]):
                is_inner = depth == len(told["operators"]) - 1
                dims = told["dims"] if is_inner or told["outer"] is None else told["outer"]
                shapes = {} if dims is None else {"Input Dims": [list(one) for one in dims]}
                builder.operator(at + 10 + depth, 1_000 - 2 * depth, operator, **shapes)
            builder.launch(call=(at + 100, 5), kernel=(at + 2_000, told["ns"]), name=kernel)
            at += 100_000
    return builder


def side(*launches: Launch) -> Side:
    return analysed(Analysis(built(*launches).trace(), TAXONOMY))


def found(a: Side, b: Side) -> list[tuple[str, str, str]]:
    there = [(pair.a_name, pair.b_name, pair.evidence) for pair in pairs(a, b)]
    back = [(pair.b_name, pair.a_name, pair.evidence) for pair in pairs(b, a)]
    assert sorted(there) == sorted(back)
    return there


STRONGEST = "operators, shapes, layer"


# --- What is a pair ---------------------------------------------------------------------------------------------------


def test_kernels_of_two_dtypes_and_of_two_libraries_are_pairs():
    a = side(launch(ADD, "aten::add"), launch(CUBLAS, "aten::linear", "aten::addmm", dims=[[4], [1, 4], [4, 4]]))
    b = side(launch(ADD_BF16, "aten::add"), launch(TRITON, "aten::linear", "aten::addmm", dims=[[4], [1, 4], [4, 4]]))

    assert found(a, b) == [(ADD, ADD_BF16, STRONGEST), (CUBLAS, TRITON, STRONGEST)]


def test_a_pair_is_one_row_with_both_names_and_both_times():
    a, b = side(launch(CUBLAS, "aten::mm", ns=50, times=3)), side(launch(TRITON, "aten::mm", ns=40, times=3))
    (row,) = kernel_changes(a, b, (1, 1)).records()

    assert (row["name"], row["a_name"], row["b_name"], row["paired_by"]) == (CUBLAS, CUBLAS, TRITON, STRONGEST)
    assert (row["change"], row["a_time_ns"], row["b_time_ns"], row["delta_time_ns"]) == ("faster", 150, 120, -30)
    assert (row["a_count"], row["b_count"], row["delta_count"], row["a_family"], row["b_family"]) == (3, 3, 0, "gemm", "gemm")


def test_a_pair_of_equal_times_is_a_difference_all_the_same():
    (row,) = kernel_changes(side(launch(CUBLAS, "aten::mm")), side(launch(TRITON, "aten::mm")), (1, 1)).records()

    assert (row["change"], row["delta_time_ns"]) == ("same", 0)


@pytest.mark.parametrize(
    ("a", "b", "evidence"),
    [
        (launch(CUBLAS, "x::y", "aten::mm"), launch(NVJET, "x::y", "aten::mm", layer=None), "operators, shapes"),
        (launch(CUBLAS, "aten::mm"), launch(NVJET, "region", "aten::mm"), "operator, shapes"),
        (launch(CUBLAS, "aten::linear", "aten::addmm", outer=[[9]]), launch(NVJET, "aten::linear", "own::mm", outer=[[9]], dims=[[1]]), "outer operator, shapes, layer"),
        (launch(CUBLAS, "aten::linear", "aten::addmm", outer=[[9]]), launch(NVJET, "aten::linear", "own::mm", outer=[[9]], dims=[[1]], layer="x"), "outer operator, shapes"),
        (launch(CUBLAS, "aten::mm"), launch("triton_red_fused_sum_1", "aten::mm"), "only kernel of operators, shapes, layer"),
        (launch(CUBLAS, "aten::mm", dims=[[1, 4], [4, 2]]), launch(TRITON, TRITON, dims=[[4, 2], [1, 4], []]), "operator in the generated name, shapes, layer"),
        (launch(ADD, "aten::add", dims=None), launch(ADD_BF16, "aten::add", dims=None), "operators, layer, name without dtype"),
        (launch(ADD, "aten::add", dims=[[3]]), launch(ADD_BF16, "x::y", "aten::add", layer=None), "operator, name without dtype"),
    ],
)  # fmt: skip
def test_every_grade_of_evidence(a, b, evidence):
    assert found(side(a), side(b)) == [(a[0], b[0], evidence)]


def test_every_grade_has_its_row_in_the_docs():
    page = (ROOT / "docs" / "diff.md").read_text()
    assert all(f"| `{evidence}` |" in page for evidence in GRADES)
    assert page.count("| `op") + page.count("| `outer op") + page.count("| `only k") >= len(EVIDENCE) + 1


def test_names_that_are_a_pair_elsewhere_are_one_here():
    a = side(launch(CUBLAS, "aten::mm"), launch(CUBLAS, "aten::mm", dims=[[5, 5]], ns=7))
    b = side(launch(NVJET, "aten::mm"), launch(NVJET, "aten::mm", dims=[[6, 6]], ns=9))
    (row,) = kernel_changes(a, b, (1, 1)).records()

    assert found(a, b) == [(CUBLAS, NVJET, ELSEWHERE)]
    assert (row["a_time_ns"], row["b_time_ns"], row["paired_by"]) == (17, 19, ELSEWHERE)


# --- What is left -----------------------------------------------------------------------------------------------------


def test_of_several_kernels_of_an_operator_each_family_is_paired_and_the_rest_is_left():
    reduce = "void cublasLt::splitKreduce_kernel<32, 16, int, float>(int)"
    a = side(
        launch(CUBLAS, "aten::mm", ns=90),
        launch("cutlass_80_simt_sgemm_64x64", "aten::mm", ns=20),
        launch(reduce, "aten::mm", ns=60),
    )
    b = side(launch(NVJET, "aten::mm", ns=70))

    assert found(a, b) == [(CUBLAS, NVJET, STRONGEST)]
    table = kernel_changes(a, b, (1, 1)).records()
    assert [(row["name"], row["change"]) for row in table] == [
        (reduce, "vanished"),
        ("cutlass_80_simt_sgemm_64x64", "vanished"),
        (CUBLAS, "faster"),
    ]


def test_names_that_differ_in_types_alone_come_before_times():
    a = side(launch(ADD, "own::op", ns=90), launch(GELU, "own::op", ns=10))
    b = side(launch(ADD_BF16, "own::op", ns=10), launch(GELU.replace("Half", "BFloat16"), "own::op", ns=90))

    assert {one: other.replace("BFloat16", "Half") for one, other, _ in found(a, b)} == {ADD: ADD, GELU: GELU}


def test_a_kernel_may_be_in_several_pairs_and_its_time_is_counted_once():
    a = side(
        launch(CUBLAS, "aten::mm", ns=90),
        launch(CUBLAS, "aten::mm", dims=[[5, 5]], ns=7),
        launch(CUBLAS, "aten::bmm", dims=[[8, 8]], ns=3),
    )
    b = side(launch(NVJET, "aten::mm", ns=70), launch("gemmSN_TN_kernel", "aten::mm", dims=[[5, 5]], ns=9))
    table = kernel_changes(a, b, (1, 1)).records()

    assert {(row["a_name"], row["b_name"]): (row["a_time_ns"], row["b_time_ns"]) for row in table} == {
        (CUBLAS, NVJET): (90, 70),
        (CUBLAS, "gemmSN_TN_kernel"): (7, 9),
        (CUBLAS, None): (3, 0),
    }


# --- Near misses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (launch(CUBLAS, "aten::mm"), launch(NVJET, "aten::bmm")),  # another operator
        (launch(CUBLAS, "aten::mm"), launch(NVJET, "aten::mm", dims=[[5, 5]])),  # other shapes and another name
        (launch(CUBLAS, "aten::mm", dims=None), launch(NVJET, "aten::mm", dims=None)),  # no shapes, another name
        (launch(ADD, "aten::add", dims=None), launch(GELU.replace("Half", "float"), "aten::add", dims=None)),
        (launch(CUBLAS), launch(NVJET)),  # no operator
        (launch(ADD), launch(ADD_BF16)),
        (launch(CUBLAS, "aten::mm", layer="x"), launch("triton_red_fused_sum_1", "aten::mm", layer="y")),  # another family
        (launch(CUBLAS, "aten::mm"), launch("triton_tem_fused_add_mm_0", "triton_tem_fused_add_mm_0")),  # two source operators
        (launch(CUBLAS, "aten::mm"), launch("triton_poi_fused_mm_0", "triton_poi_fused_mm_0")),  # only its bias, or the like
        (launch(CUBLAS, "aten::mm"), launch(TRITON, TRITON, layer="other")),
    ],
)  # fmt: skip
def test_what_is_no_pair(a, b):
    assert found(side(a), side(b)) == []


def test_an_only_kernel_is_the_only_one_of_all_and_not_of_those_that_changed():
    both = launch("splitKreduce_kernel", "aten::mm")
    a, b = side(launch(CUBLAS, "aten::mm"), both), side(launch("triton_red_fused_sum_1", "aten::mm"), both)

    assert found(a, b) == []


def test_kernels_of_a_graphs_replay_are_not_paired():
    def replay(name: str) -> Side:
        builder = TraceBuilder()
        builder.operator(0, 100, "CompiledFunction", **{"Input Dims": [[4, 4]]})
        builder.graph(call=(10, 5), kernels=[(200, 50)], names=[name])
        return analysed(Analysis(builder.trace(), TAXONOMY))

    assert found(replay(ADD), replay(ADD_BF16)) == []


def test_a_name_that_both_have_is_never_paired():
    a, b = side(launch(CUBLAS, "aten::mm"), launch(NVJET, "aten::bmm")), side(launch(NVJET, "aten::mm"))

    assert found(a, b) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ADD, ADD_BF16),
        ("ampere_s16816gemm_fp16_64x64_ldg8_tn", "ampere_s16816gemm_bf16_64x64_ldg8_tn"),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n", "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n"),
        ("gemv2T_kernel_val<int, int, __half, float>", "gemv2T_kernel_val<int, int, __nv_bfloat16, float>"),
        ("flash_fwd<64, cutlass::half_t, false>", "flash_fwd<64, cutlass::bfloat16_t, false>"),
        ("f<float, double>", "f<c10::Half, c10::Half>"),
    ],
)
def test_types_in_names(one, other):
    assert one != other
    assert FLOAT_TYPE.sub("T", one) == FLOAT_TYPE.sub("T", other)


@pytest.mark.parametrize(
    "name", ["s16816gemm_64x64", "float4_copy", "halfway_kernel", "k_f160", "doubled", "nvjet_hsh_64x8_f16x2"]
)
def test_what_is_no_type_in_a_name(name):
    assert FLOAT_TYPE.sub("T", name) == name


# --- Sums and mirrors -------------------------------------------------------------------------------------------------

KERNELS = st.sampled_from((CUBLAS, NVJET, TRITON, ADD, ADD_BF16, GELU, "splitKreduce_kernel", "triton_red_fused_mm_1"))
LAUNCHES = st.lists(
    st.builds(
        lambda kernel, operators, dims, layer, ns: launch(kernel, *operators, dims=dims, layer=layer, ns=ns),
        KERNELS,
        st.lists(st.sampled_from(("aten::mm", "aten::add", "aten::linear")), max_size=2),
        st.sampled_from((None, [[4, 4]], [[5, 5]])),
        st.sampled_from((None, "x", "y")),
        st.integers(0, 50),
    ),
    min_size=1,
    max_size=8,
)


@given(LAUNCHES, LAUNCHES)
@examples(150)
def test_whatever_is_paired_the_sums_are_exact_and_mirrored(launches_a, launches_b):
    a, b = side(*launches_a), side(*launches_b)
    there, back = kernel_changes(a, b, (1, 1)), kernel_changes(b, a, (1, 1))

    for figure, whole in (("time_ns", "gpu.kernel_time_ns"), ("count", "gpu.kernels")):
        assert there[f"delta_{figure}"].sum() == b.figures[whole] - a.figures[whole]
        for letter in "ab":
            assert (there[f"{letter}_{figure}"] >= 0).all()
    mirror = {"a": "b", "b": "a"}
    for column in ("name", "family", "time_ns", "count"):
        for letter in "ab":
            assert there[f"{letter}_{column}"].tolist() == back[f"{mirror[letter]}_{column}"].tolist()
    assert there["paired_by"].tolist() == back["paired_by"].tolist()
    assert len(kernel_changes(a, a, (1, 1))) == 0
    for row in there.records():
        assert (row["a_name"] is not None and row["b_name"] is not None) or row["paired_by"] is None


# --- Real traces ------------------------------------------------------------------------------------------------------


def shipped(name: str) -> Side:
    return open_side(f"{TRACES}:gpt2-{name}-h100-80gb-hbm3", TAXONOMY)


def test_from_half_to_brain_floats_every_kernel_has_its_partner():
    table = kernel_changes(shipped("fp16"), shipped("bf16"), (1, 1))

    assert not {"vanished", "appeared"} & set(table["change"].tolist())
    assert (table["a_count"] == table["b_count"]).all()
    assert set(table["paired_by"].tolist()) == {STRONGEST, None}


def test_from_single_to_half_precision_only_the_split_k_reduction_is_new():
    table = kernel_changes(shipped("baseline"), shipped("fp16"), (1, 1)).records()

    assert [row["b_name"][:34] for row in table if row["a_name"] is None] == ["void cublasLt::splitKreduce_kernel"]
    assert not [row for row in table if row["b_name"] is None]
    attention = [row for row in table if row["a_family"] == "attention"]
    assert {row["paired_by"] for row in attention} == {"outer operator, shapes, layer"}  # another operator launches it


def test_what_a_compiler_fused_is_no_pair():
    table = kernel_changes(shipped("fp16"), shipped("fp16-compiled"), (1, 1))

    assert set(table["paired_by"].tolist()) == {None}


def test_a_bundle_pairs_as_its_trace_does(tmp_path: Path):
    names = [next(TRACES.glob(f"gpt2-{name}-h100*.gz")) for name in ("baseline", "fp16")]
    bundle = write_bundle([Analysis(load(path), TAXONOMY) for path in names], [], tmp_path / "out")
    a, b = (open_side(f"{bundle}:{path.name}", TAXONOMY) for path in names)

    assert pairs(a, b) == pairs(shipped("baseline"), shipped("fp16"))
