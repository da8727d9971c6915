"""An operator is said to be fused only where nothing else can have become of its kernels."""

from __future__ import annotations

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.fusions import Fusion, fusions
from tracekit.analyze.compare.side import Side, analysed
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
NORM = "vectorized_layer_norm_kernel"
FUSED = "triton_per_fused_add_native_layer_norm_3"
UNKNOWN_NORM = "my_layer_norm_kernel"


def side(*kernels: tuple[str | None, str]) -> Side:
    """A trace of kernels of 10 ns, each launched by an operator, or by a graph."""
    builder = TraceBuilder()
    for number, (operator, name) in enumerate(kernels):
        at = 1000 * number
        if operator is None:
            builder.graph(call=(at + 5, 5), kernels=[(at + 100, 10)], names=[name])
        else:
            builder.operator(at, 50, operator)
            builder.launch(call=(at + 5, 5), kernel=(at + 100, 10), name=name)
    return analysed(Analysis(builder.trace(), TAXONOMY))


EAGER = (("aten::native_layer_norm", NORM), ("aten::native_layer_norm", NORM), ("aten::mm", "volta_sgemm_64x64_nn"))


def test_all_kernels_of_an_operator_gone_and_it_is_named_by_new_ones():
    a, b = side(*EAGER), side(("CompiledFunction", FUSED), ("aten::mm", "volta_sgemm_64x64_nn"))

    assert fusions(a, b) == (Fusion("aten::native_layer_norm", 2, 20, (FUSED,), 10),)
    assert fusions(b, a) == ()
    assert fusions(a, a) == fusions(b, b) == ()


def test_within_a_graph_too():
    a = side(*EAGER)

    assert [found.operator for found in fusions(a, side((None, FUSED), (None, "nvjet_hsh_64x8_TNT")))] == [
        "aten::native_layer_norm"
    ]


@pytest.mark.parametrize("operator", ["aten::add", "aten::add_", "add"])
def test_names_list_an_operator_without_its_namespace_or_underscore(operator):
    assert fusions(side((operator, "elementwise_add")), side(("x", FUSED)))


NOT = {
    "its kernel still runs": [("x", FUSED), (None, NORM)],
    "it launches another kernel": [("x", FUSED), ("aten::native_layer_norm", "layer_norm_v2_kernel")],
    "a new kernel of the family may be its own": [("x", FUSED), (None, UNKNOWN_NORM)],
    "nothing lists it": [("x", "triton_per_fused_add_mul_3")],
    "nothing is generated": [("x", "something_add_native_layer_norm")],
    "a longer operator is listed": [("x", "triton_per_fused_native_layer_norm_backward_3")],
}


@pytest.mark.parametrize("kernels", NOT.values(), ids=NOT)
def test_what_is_not_certain_is_not_said(kernels):
    assert fusions(side(*EAGER[:2]), side(*kernels)) == ()


def test_a_kernel_of_several_operators_tells_nothing():
    a = side(*EAGER[:2], ("aten::layer_norm_too", NORM))

    assert fusions(a, side(("x", FUSED))) == ()


def test_a_generated_kernel_that_was_there_before_took_over_nothing():
    assert fusions(side(*EAGER, ("x", FUSED)), side(("x", FUSED))) == ()


def test_a_bias_in_a_generated_kernel_is_not_the_matrix_multiply():
    a = side(("aten::addmm", "volta_sgemm_64x64_nn"))

    assert fusions(a, side(("x", "triton_poi_fused_addmm_0"))) == ()
    assert fusions(a, side(("x", "triton_tem_fused_addmm_0")))


def test_the_largest_first():
    eager = side(("aten::gelu", "gelu_kernel"), ("aten::add", "add_kernel"), ("aten::add", "add_kernel"))

    assert [found.operator for found in fusions(eager, side(("x", "triton_poi_fused_add_gelu_0")))] == [
        "aten::add",
        "aten::gelu",
    ]
