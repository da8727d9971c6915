"""Gradients that are clipped one by one, or filled with zeros."""

from __future__ import annotations

import pytest
from rule_traces import asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.gradients import gradient_clipping, gradient_zeroing

US = 1_000


def training(
    *operators: str, annotation: str = "Optimizer.step#SGD.step", kernel_us: int = 3, product_us: int = 500
) -> TraceBuilder:
    """Two steps: a product, then these operators, each of 10 µs with a kernel, all inside the annotation. The host limits."""
    builder = TraceBuilder()
    for step in range(2):
        at = step * (product_us + 12 * len(operators) + 100) * US
        builder.operator(at, 9 * US, "autograd::engine::evaluate_function: MmBackward0")
        builder.operator(at + US, 8 * US, "aten::mm")
        builder.launch(call=(at + 2 * US, 3 * US), kernel=(at + 8 * US, product_us * US), name="sgemm")
        at += product_us * US
        builder.annotation(at, 12 * US * len(operators) + US, annotation)
        for place, name in enumerate(operators):
            begin = at + (12 * place + 1) * US
            builder.operator(begin, 10 * US, name)
            builder.launch(call=(begin + 4 * US, 4 * US), kernel=(begin + 9 * US, kernel_us * US), name=f"kernel of {name}")
    return builder


CLIP = ["aten::linalg_vector_norm"] * 20 + ["aten::stack", "aten::linalg_vector_norm", "aten::clamp"] + ["aten::mul_"] * 20


def test_norms_and_scalings_one_by_one():
    finding = told(gradient_clipping, training(*CLIP))

    assert finding.rows == ({"kernels": 80, "time_ns": 240 * US},)
    assert "foreach=True" in finding.snippet
    # Of 40 operators of 10 µs in each of two steps, a tenth of the host's work is left.
    assert finding.saving_ns == pytest.approx(2 * 40 * 9 * US, rel=0.15)


@pytest.mark.parametrize(
    "operators",
    [
        ["aten::linalg_vector_norm"] * 20,
        ["aten::mul_"] * 20,
        [*CLIP[:8], "aten::stack", *CLIP[-8:]],
        ["aten::linalg_vector_norm"] * 20 + ["aten::add"] * 30 + ["aten::mul_"] * 20,
        ["aten::_foreach_norm", "aten::stack", "aten::_foreach_mul_"],
    ],
    ids=["norms alone", "scalings alone", "few", "far apart", "lists of tensors"],
)
def test_what_is_no_clipping_one_by_one(operators):
    assert asked(gradient_clipping, training(*operators)) is None


def test_clipping_of_hardly_any_time():
    assert asked(gradient_clipping, training(*CLIP, product_us=100_000)) is None


def test_inference_has_no_gradients():
    builder = training(*CLIP, *["aten::zero_"] * 20, annotation="generate")
    builder.entries = [entry for entry in builder.entries if "autograd" not in entry["name"]]
    assert asked(gradient_clipping, builder) is None
    assert asked(gradient_zeroing, builder) is None


def test_gradients_that_are_filled_with_zeros():
    finding = told(gradient_zeroing, training(*["aten::zero_"] * 20, annotation="Optimizer.zero_grad#SGD.zero_grad"))

    assert finding.rows == ({"fills": 40, "time_ns": 120 * US},)
    assert finding.snippet == "optimizer.zero_grad(set_to_none=True)"
    assert finding.saving_ns == pytest.approx(2 * 20 * 10 * US, rel=0.15)


def test_many_fills_in_a_row_and_few():
    assert told(gradient_zeroing, training(*["aten::zero_"] * 9)).rows[0]["fills"] == 18
    assert asked(gradient_zeroing, training(*["aten::zero_"] * 8)) is None
    told_so = training("aten::_foreach_zero_", annotation="Optimizer.zero_grad#SGD.zero_grad", kernel_us=30)
    assert told(gradient_zeroing, told_so).rows[0]["fills"] == 2


def test_what_gradients_need():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    for rule in (gradient_clipping, gradient_zeroing):
        assert "no runtime calls" in reason(rule, builder)


def test_the_additions_to_zero_vanish_with_the_fills():
    zeroed = training(*["aten::zero_"] * 20, annotation="Optimizer.zero_grad#SGD.zero_grad")
    added = training(*["aten::zero_"] * 20, annotation="Optimizer.zero_grad#SGD.zero_grad")
    begin = 2 * (500 + 12 * 20 + 100) * US
    for number in range(40):
        at = begin + 100_000 * number
        added.operator(at, 50_000, "torch::autograd::AccumulateGrad")
        added.operator(at + 5_000, 40_000, "aten::add_")
        added.launch(call=(at + 10_000, 5_000), kernel=(at + 20_000, 10_000))
    plain, more = told(gradient_zeroing, zeroed), told(gradient_zeroing, added)
    assert more.saving_ns > plain.saving_ns
    assert more.rows == plain.rows
