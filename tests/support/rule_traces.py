"""Makes traces for the rules: kernels of known operators, in order, all queued before the first one began.

In these traces the GPU never waits for the host. So if a kernel takes less time, the whole gets shorter by as much.

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
"""A datasheet with simple figures: a byte takes 1 ps, a FLOP 0.1 ps in FP32, 0.01 ps in TF32 and 0.005 ps in FP16."""


@dataclass(frozen=True)
class K:
    """A kernel: its name, its duration in ns, and the operator that launched it, with the operator's inputs."""

    name: str
    duration: int = 1_000
    operator: str = "aten::unknown"
    inputs: tuple[Any, ...] = ()
    stream: int = 7


def device(capability: tuple[int, int] | None = (9, 0), name: str = "Test GPU") -> list[dict[str, Any]]:
    """The `deviceProperties` of a trace with one device."""
    known = {} if capability is None else {"computeMajor": capability[0], "computeMinor": capability[1]}
    return [{"id": 0, "name": name, **known}]


def queued(*kernels: K, capability: tuple[int, int] | None = (9, 0), name: str = "Test GPU", **metadata: Any) -> TraceBuilder:
    """A trace in which these kernels run back to back, after all of them were launched."""
    builder = TraceBuilder(deviceProperties=device(capability, name), **metadata)
    begin = 100 * len(kernels)
    for place, kernel in enumerate(kernels):
        builder.operator(100 * place, 90, kernel.operator, **(recorded(*kernel.inputs) if kernel.inputs else {}))
        builder.launch(call=(100 * place + 10, 20), kernel=(begin, kernel.duration), name=kernel.name, stream=kernel.stream)
        begin += kernel.duration
    return builder


def analysed(builder: TraceBuilder | Trace, sheet: Datasheet = SHEET) -> Analysis:
    """The analysis of the trace, with only this datasheet."""
    return Analysis(builder if isinstance(builder, Trace) else builder.trace(), TAXONOMY, (sheet,))


def asked(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> Finding | CannotTell | None:
    """The answer of one rule, which finds one thing at most."""
    answer = rule(analysed(builder, sheet).facts)
    if isinstance(answer, tuple):
        assert len(answer) == 1, answer
        return answer[0]
    return answer


def told(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> Finding:
    """The finding of one rule, which must find something."""
    answer = asked(rule, builder, sheet)
    assert isinstance(answer, Finding), answer
    assert answer.code == rule.__name__
    return answer


def reason(rule: Rule, builder: TraceBuilder, sheet: Datasheet = SHEET) -> str:
    """The reason why one rule cannot tell."""
    answer = asked(rule, builder, sheet)
    assert isinstance(answer, CannotTell), answer
    assert answer.code == rule.__name__
    return answer.because


def evidence(builder: TraceBuilder) -> Facts:
    return analysed(builder).facts
