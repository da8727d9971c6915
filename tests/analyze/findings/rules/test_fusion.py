"""Kernels that another one could do on the way."""

from __future__ import annotations

import pytest
from operator_calls import t
from rule_traces import K, asked, queued, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.fusion import elementwise_chains, layout_conversions, split_k

GEMM = K("sgemm_128x64", 10_000)
SPLIT = "void cublasLt::splitKreduce_kernel<32, 16, int>"


def add(duration: int, stream: int = 7) -> K:
    return K("vectorized_elementwise_kernel", duration, "aten::add", (t(250), t(250), 1), stream)


# --- Chains of elementwise kernels -----------------------------------------------------------------------------------


def test_a_chain_takes_as_long_as_its_longest():
    finding = told(elementwise_chains, queued(GEMM, add(1_000), add(3_000), add(2_000), GEMM, add(900), add(900)))

    assert finding.affected_ns == 7_800
    assert finding.saving_ns == 3_900
    assert finding.evidence.startswith("2 chains of 5 elementwise kernels")
    assert finding.rows[0]["faster_ns"] == 3_900


def test_one_alone_or_one_a_stream_is_no_chain():
    assert asked(elementwise_chains, queued(GEMM, add(5_000), GEMM, add(5_000))) is None
    assert asked(elementwise_chains, queued(GEMM, add(5_000), add(5_000, stream=8))) is None


def test_generated_kernels_are_fused_already():
    fused = K("triton_poi_fused_add_0", 5_000)
    assert asked(elementwise_chains, queued(GEMM, fused, fused)) is None


def test_from_a_twentieth_of_the_kernel_time_on():
    assert told(elementwise_chains, queued(K("sgemm", 19_000), add(500), add(500)))
    assert asked(elementwise_chains, queued(K("sgemm", 19_001), add(500), add(500))) is None


def test_what_rules_of_fusion_cannot_tell():
    builder = TraceBuilder()
    builder.memcpy(0, 10)

    for rule in (elementwise_chains, split_k, layout_conversions):
        assert reason(rule, builder) == "the trace has no kernels"


# --- Split-K ---------------------------------------------------------------------------------------------------------


def split(rows: int, reduce: int = 1_000, *, inputs: bool = True) -> TraceBuilder:
    """A product of 10,000 ns and the kernel that adds its parts up, both launched by one operator."""
    operands = (t(1_000, dtype="c10::Half"), t(rows, 1_000, dtype="c10::Half"), t(1_000, 1_000, dtype="c10::Half"), 1, 1)
    builder = queued(add(90), K("nvjet_hsh_64x8", 10_000, "aten::addmm", operands if inputs else ()))
    builder.launch(call=(150, 20), kernel=(10_290, reduce), name=SPLIT)
    return builder


def test_split_k_beside_few_rows():
    finding = told(split_k, split(1))
    assert finding.affected_ns > 0
    assert finding.saving_ns is None
    assert "took longer without it" in finding.action
    assert "637 µs without" in finding.reasoning


def test_split_k_beside_many_rows_or_of_hardly_any_time():
    assert asked(split_k, split(64)) is None
    assert asked(split_k, split(1, reduce=100)) is None
    assert asked(split_k, queued(GEMM)) is None


def test_split_k_of_unknown_shape():
    assert "not known" in reason(split_k, split(1, inputs=False))


# --- Layouts ---------------------------------------------------------------------------------------------------------

CONVOLUTION = K("sm80_xmma_fprop_implicit_gemm_f16", 9_900, "aten::cudnn_convolution")


@pytest.mark.parametrize("name", ["void cudnn::ops::nchwToNhwcKernel<half>", "nhwc_to_nchw", "batched_transpose_32x32_half"])
def test_conversions_around_convolutions(name):
    finding = told(layout_conversions, queued(K(name, 100), CONVOLUTION))

    assert finding.affected_ns == finding.saving_ns == finding.unlimited_saving_ns == 100
    assert "channels_last" in finding.action


def test_conversions_of_hardly_any_time_or_without_convolutions():
    assert asked(layout_conversions, queued(K("nchwToNhwcKernel", 99), CONVOLUTION)) is None
    assert asked(layout_conversions, queued(K("nchwToNhwcKernel", 100), GEMM)) is None
    assert asked(layout_conversions, queued(K("transpose_readWrite", 1_000), CONVOLUTION)) is None


NORM = "void at::native::batch_norm_transform_input_kernel<c10::Half>"


def normed(name: str, operator: str, *more: K) -> tuple[K, ...]:
    """A norm over 1e6 numbers in half precision: 4e6 bytes in and out, 4 µs at the bandwidth of 1,000 GB/s."""
    inputs = (t(1, 10, 100, 1_000, dtype="c10::Half"), t(10), t(10), t(10), t(10), False, 0.1, 1e-5)
    return (K("nchwToNhwcKernel", 1_000, "aten::cudnn_convolution"), K(name, 50_000, operator, inputs), *more, CONVOLUTION)


def test_a_batch_norm_in_nchw_takes_what_half_the_bandwidth_allows():
    finding = told(layout_conversions, queued(*normed(NORM, "aten::native_batch_norm")))
    assert finding.affected_ns == 51_000
    assert finding.saving_ns == pytest.approx(1_000 + 50_000 - 8_000, rel=0.02)
    assert "batch norms and pooling in NCHW take" in finding.evidence


def test_a_norm_that_is_in_channels_last_already_stays():
    finding = told(layout_conversions, queued(*normed(f"{NORM}_channels_last", "aten::native_batch_norm")))
    assert finding.saving_ns == 1_000


def test_a_norm_in_training_reads_its_input_twice():
    inputs = normed(NORM, "aten::native_batch_norm")[1].inputs
    statistics = K("void at::native::batch_norm_collect_statistics_kernel", 30_000, "aten::native_batch_norm", inputs)
    plain = told(layout_conversions, queued(*normed(NORM, "aten::native_batch_norm")))
    both = told(layout_conversions, queued(*normed(NORM, "aten::native_batch_norm", statistics)))
    assert both.saving_ns > plain.saving_ns
