"""The forward that a checkpoint computes again."""

from __future__ import annotations

import pytest
from rule_traces import asked, reason, told
from synthetic import THREAD, TraceBuilder

from tracekit.analyze.findings.rules.recomputing import recomputation


def backward(node: str, *, python: str | None = None, again: int = 300) -> TraceBuilder:
    """A node of the backward with a product that takes so long, and another node inside it with one of 1,000 ns."""
    builder = TraceBuilder()
    builder.operator(0, 900, f"autograd::engine::evaluate_function: {node}")
    if python is not None:
        builder.event(10, 300, cat="python_function", name=python, pid=100, tid=THREAD)
    builder.operator(20, 200, "aten::mm")
    builder.launch(call=(50, 10), kernel=(1_000, again), name="sgemm")
    builder.operator(500, 300, "autograd::engine::evaluate_function: MmBackward0")
    builder.operator(520, 200, "aten::mm")
    builder.launch(call=(550, 10), kernel=(1_000 + again, 1_000), name="sgemm")
    return builder


@pytest.mark.parametrize(
    ("node", "python"),
    [
        ("CheckpointFunctionBackward", None),
        ("GeluBackward0", "torch/utils/checkpoint.py(1100): unpack_hook"),
    ],
)
def test_a_checkpoint_computes_its_forward_again(node, python):
    finding = told(recomputation, backward(node, python=python))
    assert finding.affected_ns == finding.saving_ns == 300  # not the backward inside it
    assert "23.1 % of the kernel time" in finding.evidence


def test_a_backward_without_checkpoints_or_of_hardly_any_time():
    assert asked(recomputation, backward("GeluBackward0")) is None
    assert asked(recomputation, backward("GeluBackward0", python="torch/utils/checkpoint.py(480): checkpoint")) is None
    assert asked(recomputation, backward("CheckpointFunctionBackward", again=50)) is None


def test_without_operators_nobody_knows():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    assert reason(recomputation, builder) == "no operator launched a kernel"
