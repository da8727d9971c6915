"""Weights that are dequantised before every product, and casts: neither is a chain of elementwise kernels."""

from __future__ import annotations

import pytest
from operator_calls import recorded, t
from rule_traces import K, asked, queued, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.dequantising import dequantising
from tracekit.analyze.findings.rules.fusion import elementwise_chains

GEMM = K("nvjet_hsh_128x256", 10_000, "aten::mm")
DEQUANTISE = K("void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 1>(float*)", 5_000, "bitsandbytes::dequantize_4bit")


def test_kernels_that_are_named_so():
    finding = told(dequantising, queued(DEQUANTISE, GEMM, DEQUANTISE, GEMM))

    assert finding.affected_ns == finding.saving_ns == 10_000
    assert "33.3 % of the kernel time, beside 66.7 % of the products" in finding.evidence
    assert "dequantize" in finding.snippet


def test_plain_kernels_inside_an_operator_that_is_named_so():
    builder = TraceBuilder()
    for place in range(3):
        builder.operator(1_000 * place, 500, "torchao::dequantize_affine")
        builder.operator(1_000 * place + 10, 100, "aten::mul")
        builder.launch(call=(1_000 * place + 20, 10), kernel=(10_000 + 2_000 * place, 900), name="elementwise_kernel")
        builder.operator(1_000 * place + 600, 100, "aten::mm")
        builder.launch(call=(1_000 * place + 620, 10), kernel=(10_900 + 2_000 * place, 1_100), name="sgemm")
    assert told(dequantising, builder).affected_ns == 2_700


def test_a_chain_that_unpacks_bits_for_a_product():
    chain = [K("elementwise_kernel", 1_000, f"aten::{name}") for name in ("bitwise_right_shift", "bitwise_and", "sub", "mul")]
    assert told(dequantising, queued(*chain, GEMM, *chain, GEMM)).affected_ns == 8_000
    assert asked(dequantising, queued(*chain, K("softmax_warp_forward", 1_000), GEMM)) is None
    assert asked(dequantising, queued(*chain[1:], GEMM)) is None


def test_products_that_dequantise_along_the_way_and_caches_are_none():
    fused = K("fused_moe_dequant_gemm_kernel", 9_000, "vllm::dequant_gemm")
    assert asked(dequantising, queued(fused, K("gather_kv_dequant_cache_kernel", 5_000))) is None


def test_hardly_any_time_or_no_product():
    assert asked(dequantising, queued(K(DEQUANTISE.name, 500), GEMM)) is None
    assert "no product" in reason(dequantising, queued(DEQUANTISE))
    builder = TraceBuilder()
    builder.memcpy(0, 10)
    assert reason(dequantising, builder) == "the trace has no kernels"


def test_it_is_no_chain_of_elementwise_kernels():
    assert asked(elementwise_chains, queued(DEQUANTISE, DEQUANTISE, GEMM)) is None


@pytest.mark.parametrize(("outer", "is_chain"), [("aten::_to_copy", False), ("aten::to", False), ("aten::clone", True)])
def test_casts_are_no_chain_of_elementwise_kernels(outer, is_chain):
    builder = TraceBuilder()
    for place in range(4):
        builder.operator(1_000 * place, 500, outer)
        builder.operator(1_000 * place + 10, 100, "aten::copy_", **recorded(t(4, 4), t(4, 4)))
        call = (1_000 * place + 20, 10)
        builder.launch(call=call, kernel=(10_000 + 900 * place, 900), name="unrolled_elementwise_kernel<direct_copy>")
    assert (asked(elementwise_chains, builder) is not None) == is_chain
