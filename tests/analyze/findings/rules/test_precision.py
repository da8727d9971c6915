"""Wider types than needed, and those that the hardware lacks."""

from __future__ import annotations

import dataclasses

import pytest
from operator_calls import T, t
from rule_traces import SHEET, K, asked, queued, reason, told

from tracekit.analyze.findings.rules.precision import bf16_emulated, fp32_gemm, tf32_off

HALF, BRAIN = "c10::Half", "c10::BFloat16"


def mm(rows: int, duration: int, dtype: str = "float", name: str = "sgemm_128x64", size: int = 1_000) -> K:
    """A product of `rows` by a square of weights: 2e6 FLOPs a row, 4e6 bytes of weights in FP32."""
    return K(name, duration, "aten::mm", (t(rows, size, dtype=dtype), t(size, size, dtype=dtype)))


def add(duration: int, operand: T | None = None) -> K:
    return K("vectorized_elementwise_kernel", duration, "aten::add", (operand or t(10), t(10), 1))


# --- FP32 on matrix cores --------------------------------------------------------------------------------------------


def test_where_memory_binds_half_the_bytes_halve_the_time():
    # 4,008,000 bytes take 4,008 ns and 2e6 FLOPs 200 ns: memory. The shortest kernel takes 1,000 ns.
    finding = told(fp32_gemm, queued(mm(1, 9_000), add(1_000)))

    assert finding.affected_ns == 9_000
    assert finding.saving_ns == (9_000 - 1_000) // 2
    assert "Together 4.00 µs." in finding.reasoning
    assert finding.rows[0] == {
        "kernel": "sgemm_128x64",
        "count": 1,
        "time_ns": 9_000,
        "bytes": 4_008_000,
        "faster_ns": 4_000,
    }


def test_where_arithmetic_binds_the_peaks_tell():
    # 2e9 FLOPs take 200,000 ns at 10 TFLOP/s and 10,000 at 200; 12e6 bytes take 12,000 ns, and 6,000 in half precision.
    finding = told(fp32_gemm, queued(mm(1_000, 301_000), add(1_000)))

    assert finding.saving_ns == 300_000 - 300_000 * 10_000 // 200_000


def test_where_the_host_launches_late_faster_kernels_bring_nothing():
    builder = queued(mm(1, 9_000), add(1_000))
    builder.launch(call=(50_000, 10), kernel=(50_020, 1_000), name="vectorized_elementwise_kernel")

    finding = told(fp32_gemm, builder)
    assert finding.saving_ns == 0
    assert "of which the span gets 0 ns shorter" in finding.reasoning
    assert finding.rows[0]["faster_ns"] == 4_000


@pytest.mark.parametrize("kernel", [mm(1, 9_000, HALF), mm(1, 52)], ids=["half", "below a twentieth"])
def test_half_precision_or_hardly_any_is_fine(kernel):
    assert asked(fp32_gemm, queued(kernel, add(1_000))) is None


def test_from_a_twentieth_of_the_kernel_time_on():
    assert told(fp32_gemm, queued(mm(1, 53), add(1_000)))


def test_what_fp32_gemm_cannot_tell():
    bare = K("sgemm_128x64", 9_000)
    assert "most matrix products are not known" in reason(fp32_gemm, queued(bare, add(1_000)))
    assert "not recorded" in reason(fp32_gemm, queued(bare))
    assert "not in the table" in reason(fp32_gemm, queued(mm(1, 9_000), name="Another"))
    slow = dataclasses.replace(SHEET, tflops={"fp32": 10})
    assert "no FP16 peak" in reason(fp32_gemm, queued(mm(1, 9_000)), slow)


# --- TF32 ------------------------------------------------------------------------------------------------------------


def test_tf32_helps_where_arithmetic_binds():
    # 2e9 FLOPs: 200,000 ns in FP32, 20,000 in TF32; 12e6 bytes take 12,000 in both.
    finding = told(tf32_off, queued(mm(1_000, 301_000), add(1_000)))

    assert finding.saving_ns == 300_000 - 30_000
    assert "set_float32_matmul_precision('high')" in finding.action


def test_tf32_does_not_where_memory_binds_nor_twice_nor_before_ampere():
    assert asked(tf32_off, queued(mm(1, 9_000), add(1_000))) is None
    assert asked(tf32_off, queued(mm(1_000, 301_000, name="ampere_tf32_s1688gemm"), add(1_000))) is None
    assert asked(tf32_off, queued(mm(1_000, 301_000), add(1_000), capability=(7, 5))) is None


def test_what_tf32_off_cannot_tell():
    assert "capability" in reason(tf32_off, queued(mm(1_000, 301_000), capability=None))
    assert "most matrix products" in reason(tf32_off, queued(K("sgemm", 9_000), add(1_000)))


# --- BF16 ------------------------------------------------------------------------------------------------------------


def test_bf16_before_ampere():
    # Emulated at FP32's peak: 200,000 ns for 2e9 FLOPs, 10,000 in FP16; 6e6 bytes take 6,000 in both.
    turing = dataclasses.replace(SHEET, tflops={"fp32": 10, "fp16": 200})
    builder = queued(mm(1_000, 301_000, BRAIN, "gemm_bf16"), add(1_000), capability=(7, 5))

    finding = told(bf16_emulated, builder, turing)
    assert finding.saving_ns == 300_000 - 15_000
    assert "compute capability 7.5 has no BF16" in finding.evidence


def test_bf16_without_shapes_promises_nothing():
    finding = told(bf16_emulated, queued(K("void add<c10::BFloat16>", 9_000), capability=(7, 5)))

    assert finding.saving_ns is None
    assert "No estimate" in finding.reasoning


def test_bf16_from_ampere_on_or_hardly_any():
    assert asked(bf16_emulated, queued(K("void add<c10::BFloat16>", 9_000), capability=(8, 0))) is None
    assert asked(bf16_emulated, queued(K("void add<c10::BFloat16>", 9), add(1_000), capability=(7, 5))) is None
    assert asked(bf16_emulated, queued(K("void add<c10::Half>", 9_000), capability=(7, 5))) is None


def test_what_bf16_emulated_cannot_tell():
    assert "capability" in reason(bf16_emulated, queued(K("void add<c10::BFloat16>"), capability=None))
    assert "capability" in reason(bf16_emulated, queued(K("void add<c10::BFloat16>"), name="AMD Instinct MI300X"))


def test_convolutions_and_attention_in_fp32_count_too():
    attention = K("fmha_cutlassF_f32", 9_000, "aten::_efficient_attention_forward")
    assert told(fp32_gemm, queued(mm(1, 9_000), attention, add(1_000))).affected_ns == 9_000
    image, weight = t(8, 64, 56, 56), t(64, 64, 3, 3)
    convolution = K("implicit_convolve_sgemm", 301_000, "aten::cudnn_convolution", (image, weight, [1, 1], [1, 1], [1, 1], 1))
    assert told(fp32_gemm, queued(convolution, add(1_000))).affected_ns == 301_000


def test_in_training_autocast_casts_and_launches_more():
    inference = told(fp32_gemm, queued(mm(1_000, 301_000), add(1_000)))
    builder = queued(mm(1_000, 301_000), add(1_000))
    builder.operator(5_000, 10, "autograd::engine::evaluate_function: MmBackward0")
    training = told(fp32_gemm, builder)
    assert inference.saving_ns - training.saving_ns == pytest.approx(12_000, rel=0.1)  # 12e6 bytes at 1,000 GB/s
    assert "2 casts for each product" in training.reasoning
    assert "autocast" in training.snippet
    assert "half" in inference.snippet
