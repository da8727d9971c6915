"""An optimizer of many kernels, and weights that are cast at every call."""

from __future__ import annotations

import pytest
from operator_calls import recorded, t
from rule_traces import asked, reason, told
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.findings.rules.conversions import weight_casts
from tracekit.analyze.findings.rules.optimizers import PASSES, unfused_optimizer
from tracekit.analyze.trace.loader import load
from tracekit.taxonomy import Taxonomy

US = 1_000


def training(
    kernels: int = 20, name: str = "AdamW", operator: str = "aten::_foreach_mul_", kernel: str = "multi_tensor_apply_kernel"
) -> TraceBuilder:
    """Three steps: a product of 100 µs, and an optimizer that launches so many kernels of 10 µs, all in time."""
    builder = TraceBuilder()
    for step in range(3):
        at = 4_000 * US * step
        builder.annotation(at, 3_900 * US, f"ProfilerStep#{step}")
        builder.operator(at + US, 20 * US, "aten::mm")
        builder.launch(call=(at + 5 * US, 5 * US), kernel=(at + 15 * US, 100 * US), name="sgemm")
        builder.annotation(at + 40 * US, 40 * US * kernels, f"Optimizer.step#{name}.step")
        for number in range(kernels):
            begin = at + (50 + 40 * number) * US
            builder.operator(begin, 20 * US, operator)
            builder.launch(
                call=(begin + 10 * US, 5 * US), kernel=(begin + max(20, 65 - 40 * number) * US, 10 * US), name=kernel
            )
    return builder


def test_many_kernels_of_one_optimizer():
    finding = told(unfused_optimizer, training())
    assert "3 optimizer steps of 20 kernels each" in finding.evidence
    assert finding.action.startswith("torch.optim.AdamW(params, fused=True)")
    # The host limits it: 20 µs of operators for each kernel, and half of the 20 µs of Python.
    assert finding.saving_ns == pytest.approx(3 * 20 * 30 * US, rel=0.1)


@pytest.mark.parametrize(
    "near_miss",
    [
        {"kernels": 8},
        {"kernel": "multi_tensor_apply_kernel<FusedAdamMathFunctor>"},
        {"name": "Shampoo"},
    ],
)
def test_what_is_fused_already_or_has_no_fused_form(near_miss):
    assert asked(unfused_optimizer, training(**near_miss)) is None


def test_inference_has_no_optimizer():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    assert asked(unfused_optimizer, builder) is None
    alone = TraceBuilder()
    alone.kernel(0, 10)
    assert "no runtime calls" in reason(unfused_optimizer, alone)


def test_a_fused_kernel_passes_over_memory_less_often():
    assert all(0 < fused < separate for separate, fused in PASSES.values())


def autocast(
    weight: tuple[int, ...] = (3072, 768), cast: tuple[int, ...] = (3072, 768), outer: str = "aten::linear"
) -> TraceBuilder:
    """Products whose operand is cast inside them, by a kernel that takes a fifth of the time."""
    builder = TraceBuilder()
    begin = 10_000
    for step in range(4):
        at = 1_000 * step
        builder.operator(at, 900, outer, **recorded(t(9, 768), t(*weight)))
        for depth, name in enumerate(("aten::to", "aten::_to_copy", "aten::copy_")):
            builder.operator(at + 10 + depth, 100 - 2 * depth, name, **recorded(t(*cast)))
        builder.launch(
            call=(at + 20, 10),
            kernel=(begin, 2_000),
            name="void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>()",
        )
        builder.operator(at + 200, 300, "aten::mm", **recorded(t(9, 768), t(768, 3072)))
        builder.launch(call=(at + 220, 10), kernel=(begin + 2_000, 8_000), name="nvjet_hsh")
        begin += 10_000
    return builder


def test_weights_that_are_cast_inside_their_product():
    finding = told(weight_casts, autocast())
    assert finding.affected_ns == finding.saving_ns == finding.unlimited_saving_ns == 8_000
    assert "20.0 % of the kernel time" in finding.evidence
    assert "once" in finding.action


@pytest.mark.parametrize("near_miss", [{"cast": (9, 768)}, {"cast": (12, 12)}, {"outer": "aten::layer_norm"}])
def test_casts_of_inputs_and_of_other_operators_are_no_casts_of_weights(near_miss):
    assert asked(weight_casts, autocast(**near_miss)) is None


def test_what_autocast_casts_is_no_chain_of_elementwise_kernels():
    codes = {finding.code for finding in Analysis(load(needed("cases/autocast_casts.json.gz")), Taxonomy.default()).findings}
    assert "weight_casts" in codes
    assert "elementwise_chains" not in codes


def test_the_measured_pair_of_a_fused_optimizer():
    """A step of 1,825 µs took 521 µs with fused=True, on an H200."""
    one = Analysis(load(needed("pairs/adamw_foreach_to_fused.json.gz")), Taxonomy.default(), step_ns=1_824_883)
    finding = one.findings[0]
    assert finding.code == "unfused_optimizer"
    assert finding.step_saving_ns == pytest.approx(1_303_000, rel=0.25)


def test_a_loop_keeps_less_python_than_operators_over_many_tensors():
    loop, many = told(unfused_optimizer, training(operator="aten::mul_")), told(unfused_optimizer, training())
    assert loop.saving_ns == pytest.approx(3 * 20 * (20 + 0.8 * 20) * US, rel=0.1)
    assert loop.saving_ns > many.saving_ns
