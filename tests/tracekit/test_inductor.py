"""The operators that the name of a generated kernel lists."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from tracekit.inductor import Operators, is_generated

OPERATORS = Operators()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("triton_poi_fused_add_gelu_mul_3", "add gelu mul"),
        ("triton_red_fused__unsafe_view_argmax_11", "_unsafe_view argmax"),
        ("triton_per_fused_add_addmm_native_layer_norm_view_10", "add addmm native_layer_norm view"),
        ("triton_poi_fused__to_copy_1", "_to_copy"),
        ("triton_poi_fused_add__to_copy_view_1", "add _to_copy view"),
        (
            "triton_poi_fused_add_bitwise_and_bitwise_not_bitwise_or_ge_lt_mul_sub_0",
            "add bitwise_and bitwise_not bitwise_or ge lt mul sub",
        ),
        (
            "triton_poi_fused__scaled_dot_product_efficient_attention_expand_index_select_permute_unbind_view_3",
            "_scaled_dot_product_efficient_attention expand index_select permute unbind view",
        ),
        ("triton_poi_fused_max_pool2d_with_indices_relu_7", "max_pool2d_with_indices relu"),
        ("triton_poi_fused_convert_element_type_2", "convert_element_type"),
        ("triton_tem_fused_addmm_gelu_0", "addmm gelu"),
        ("triton_per_fused_native_layer_norm_native_layer_norm_backward_5", "native_layer_norm native_layer_norm_backward"),
        ("triton_for_fused_12", ""),
        ("triton_poi_fused_0", ""),
        ("triton_fused_add_relu6_4", "add relu6"),
        ("triton_poi_fused_add_mul", "add mul"),
        # Of a library's own, between PyTorch's and at the end.
        ("triton_poi_fused_constant_pad_nd_moe_forward_0", "constant_pad_nd moe_forward"),
        ("triton_poi_fused_add_my_own_op_mul_0", "add my_own_op mul"),
        ("triton_poi_fused___and___view_0", "__and__ view"),
        # Ambiguous by itself: the longer one is meant.
        ("triton_poi_fused_index_put_view_0", "index_put view"),
    ],
)
def test_operators_are_told_apart(name: str, expected: str) -> None:
    assert OPERATORS.fused_in(name) == tuple(expected.split())
    assert is_generated(name)


@pytest.mark.parametrize("name", ["triton__0d1d2d3de", "triton__0d1d23d", "triton_", "triton_0"])
def test_anonymous_kernels_are_generated_and_list_nothing(name: str) -> None:
    assert is_generated(name)
    assert OPERATORS.fused_in(name) == ()


@pytest.mark.parametrize(
    "name",
    ["nvjet_tst_64x64", "my_triton_poi_fused_add_0", "triton_softmax_kernel", "_fused_add_kernel", "tritonpoi_fused_add", ""],
)
def test_other_kernels_are_not(name: str) -> None:
    assert not is_generated(name)
    assert OPERATORS.fused_in(name) == ()


SOME = [
    "add",
    "_to_copy",
    "native_layer_norm",
    "gelu",
    "view",
    "permute",
    "_unsafe_view",
    "embedding",
    "mm",
    "where",
    "softplus",
]


@given(st.sets(st.sampled_from(SOME)), st.sampled_from(["poi", "red", "per", "tem"]), st.integers(0, 200))
def test_what_inductor_joins_is_split_again(operators: set[str], kind: str, number: int) -> None:
    name = "_".join(["triton", kind, "fused", *sorted(operators), str(number)])
    assert OPERATORS.fused_in(name) == tuple(sorted(operators))


@given(st.text() | st.lists(st.sampled_from(["_", "add", "to", "copy", "0", "zz"])).map("".join))
@examples(300)
def test_nothing_of_a_name_is_lost(text: str) -> None:
    found = OPERATORS.fused_in(f"triton_poi_fused_{text}_0")
    if re.match(r"\D.*\Z", text):
        assert "_".join(found) == text
