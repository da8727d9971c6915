"""Makes up traces for the rules: kernels of known operators, in order, that were all queued before the first one began.

The GPU is never late for the host's sake in them, so what kernels take less shortens the whole by as much.

    queued(K("gemm", 5_000, "aten::mm", (t(1, 64), t(64, 64))), K("add", 1_000)).trace()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from operator_calls import recorded
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.findings.facts import Facts
from tracekit.analyze.findings.finding import CannotTell, Finding
from tracekit.analyze.findings.rules.needs import Rule
from tracekit.analyze.trace.trace import Trace
from tracekit.devices import Datasheet
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
SHEET = Datasheet(
    name="Test GPU",
    match="Test GPU",
    architecture="none",
    compute_capability="9.0",
    memory_gb_s=1_000,
    source="none",
    cache_mb=1,
    tflops={"fp32": 10, "tf32": 100, "fp16": 200, "bf16": 200},
)
"""A byte takes a picosecond; a FLOP 0.1 ps in FP32, 0.01 ps in TF32, 0.005 ps in FP16."""


@dataclass(frozen=True)
class K:
    """A kernel: name, duration in ns, and the operator and its inputs that launched it."""

    name: str
    duration: int = 1_000
    operator: str = "aten::unknown"
    inputs: tuple[Any, ...] = ()
    stream: int = 7


def device(capability: tuple[int, int] | None = (9, 0), name: str = "Test GPU") -> list[dict[str, Any]]:
    """The metadata of a device."""
    known = {} if capability is None else {"computeMajor": capability[0], "computeMinor": capability[1]}
    return [{"id": 0, "name": name, **known}]


def queued(*kernels: K, capability: tuple[int, int] | None = (9, 0), name: str = "Test GPU", **metadata: Any) -> TraceBuilder:
    """The trace of these kernels, back to back, after all were launched."""
    builder = TraceBuilder(deviceProperties=device(capability, name), **metadata)
    begin = 100 * len(kernels)
    for place, kernel in enumerate(kernels):
        builder.operator(100 * place, 90, kernel.operator, **(recorded(*kernel.inputs) if kernel.inputs else {}))
        builder.launch(call=(100 * place + 10, 20), kernel=(begin, kernel.duration), name=kernel.name, stream=kernel.stream)
        begin += kernel.duration
    return builder


def analysed(builder: TraceBuilder | Trace, sheet: Datasheet = SHEET) -> Analysis:
    """The trace's analysis, with this datasheet alone."""
    return Analysis(builder if isinstance(builder, Trace) else builder.trace(), TAXONOMY, (sheet,))


def asked(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> Finding | CannotTell | None:
    """What one rule answers."""
    return rule(analysed(builder, sheet).facts)


def told(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> Finding:
    """The finding of one rule."""
    answer = asked(rule, builder, sheet)
    assert isinstance(answer, Finding), answer
    assert answer.code == rule.__name__
    return answer


def reason(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> str:
    """Why one rule cannot tell."""
    answer = asked(rule, builder, sheet)
    assert isinstance(answer, CannotTell), answer
    assert answer.code == rule.__name__
    return answer.because


def evidence(builder: TraceBuilder) -> Facts:
    return analysed(builder).facts
