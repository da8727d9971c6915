"""Attention that is not fused, or cannot be."""

from __future__ import annotations

import pytest
from operator_calls import t
from rule_traces import K, asked, queued, reason, told

from tracekit.analyze.findings.rules.attention import flash_unavailable, unfused_attention

HALF = "c10::Half"
BMM = K("sgemm_batched", 4_000, "aten::bmm")
SCALE = K("vectorized_elementwise_kernel", 300, "aten::mul")
MASK = K("masked_fill_kernel", 300, "aten::masked_fill_")
SOFTMAX = K("softmax_warp_forward", 400, "aten::_softmax")


def test_what_lies_between_the_two_products():
    finding = told(unfused_attention, queued(SCALE, BMM, SCALE, MASK, SOFTMAX, BMM, SCALE))

    assert finding.affected_ns == finding.saving_ns == 1_000
    assert finding.rows[0]["chains"] == 1
    assert finding.rows[0]["kernels"] == 3
    assert "scaled_dot_product_attention" in finding.action


def test_each_attention_counts_once():
    assert told(unfused_attention, queued(BMM, SCALE, SOFTMAX, BMM, BMM, SCALE, SOFTMAX, BMM)).rows[0]["chains"] == 2
    assert told(unfused_attention, queued(BMM, SOFTMAX, SOFTMAX, BMM)).saving_ns == 800


@pytest.mark.parametrize(
    "kernels",
    [
        (BMM, SCALE, SOFTMAX, K("fmha_cutlassF", 4_000)),
        (SCALE, SOFTMAX, BMM),
        (BMM, MASK, SCALE, BMM),
        (BMM, *[SCALE] * 8, SOFTMAX, BMM),
        (BMM, K("softmax_warp_forward", 50, "aten::_softmax"), BMM),
        (BMM, SOFTMAX, K("sgemm_batched", 4_000, "aten::bmm", stream=8)),
    ],
    ids=["no second product", "no first one", "no softmax", "too far apart", "too little", "another stream"],
)
def test_near_misses(kernels):
    assert asked(unfused_attention, queued(*kernels)) is None


def test_a_graph_hides_the_operators():
    builder = queued(K("vectorized_elementwise_kernel", 100, "aten::add"))
    builder.graph(
        call=(200, 20),
        kernels=[(400, 4_000), (4_400, 500), (4_900, 4_000)],
        names=["sgemm_batched", "softmax_warp_forward", "sgemm_batched"],
    )

    assert "a graph hides them" in reason(unfused_attention, builder)


EFFICIENT = K("fmha_cutlassF_f16_aligned_64x64_rf_sm75", 5_000, "aten::_efficient_attention_forward")


def test_no_flash_before_ampere():
    finding = told(flash_unavailable, queued(EFFICIENT, SCALE, capability=(7, 5)))

    assert (finding.affected_ns, finding.saving_ns) == (5_000, None)
    assert "7.5" in finding.evidence
    assert "No estimate" in finding.reasoning


def test_flash_from_ampere_on_or_hardly_any_attention():
    assert asked(flash_unavailable, queued(EFFICIENT, capability=(8, 0))) is None
    assert asked(flash_unavailable, queued(K("fmha", 10, EFFICIENT.operator), SCALE, capability=(7, 5))) is None
    assert asked(flash_unavailable, queued(SCALE, capability=(7, 5))) is None


def test_what_flash_unavailable_cannot_tell():
    assert "capability" in reason(flash_unavailable, queued(EFFICIENT, capability=None))
    builder = queued()
    builder.kernel(0, 10)
    assert reason(flash_unavailable, builder) == reason(unfused_attention, builder) == "no operator launched a kernel"


def test_products_that_no_longer_write_the_scores_are_faster():
    """A product of 2e9 FLOPs takes 10 µs at the FP16 peak of 200 TFLOP/s, and 25 µs in a fused kernel; here it takes 60."""
    product = K("nvjet_hsh_batched", 60_000, "aten::bmm", (t(1, 1_000, 1_000, dtype=HALF), t(1, 1_000, 1_000, dtype=HALF)))
    softmax = K(SOFTMAX.name, 4_000, SOFTMAX.operator)
    finding = told(unfused_attention, queued(product, SCALE, softmax, product))
    assert finding.saving_ns == 300 + 4_000 + 2 * (60_000 - 25_000)
    quick = K("nvjet_hsh_batched", 20_000, "aten::bmm", product.inputs)
    assert told(unfused_attention, queued(quick, SCALE, SOFTMAX, quick)).saving_ns == 700


def test_backward_of_a_softmax_lies_between_products_too():
    backward = K("softmax_warp_backward", 400, "aten::_softmax_backward_data")
    assert told(unfused_attention, queued(BMM, backward, SCALE, BMM)).saving_ns == 700
