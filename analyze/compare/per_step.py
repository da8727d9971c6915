"""What is a figure of one step, and which kind of steps do two traces have in common?

A trace of N steps has N - 1 pauses between them: the GPU has no pause before the first step, and the host none after the last
one. So where traces with different numbers of steps are compared, two figures of a step leave one step out. The idle time of a
step is computed without the first step, and the host's span of a step without the last one. Every other figure is that of the
whole trace divided by its number of steps; it includes what ran outside of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tracekit.schema import CAUSES

from ..structure.steps import PHASES
from .side import Side

IDLE = frozenset(f"idle.{cause}_ns" for cause in CAUSES)


@dataclass(frozen=True)
class CommonSteps:
    """The kind of steps that two traces have in common, and how many of them each has.

    `kind` is `prefill`, `decode`, `mixed`, `step` (told by repeating kernels), or the steps' own name without its number.
    """

    kind: str
    a: int
    b: int


def step_noun(kind: str) -> str:
    """What we call a step of this kind. The name of an annotation may be anything, so it is not used here."""
    return f"{kind} step" if kind in PHASES else kind if kind == "ProfilerStep" else "step"


def common_steps(a: Side, b: Side) -> CommonSteps | None:
    """The kind of steps that both traces have most of; None if they have none in common."""
    in_a, in_b = a.step_counts, b.step_counts
    both = [CommonSteps(kind, count, in_b[kind]) for kind, count in in_a.items() if kind in in_b]
    return max(both, key=lambda steps: (min(steps.a, steps.b), steps.a + steps.b, steps.kind), default=None)


def steps_of(side: Side) -> tuple[str, int] | None:
    """The kind of steps that a trace has most of, and how many; None if the trace has no steps."""
    return max(side.step_counts.items(), key=lambda found: (found[1], found[0]), default=None)


def step_kind(old: Sequence[Side], new: Sequence[Side]) -> str | None:
    """The kind of steps by which figures must be divided before these traces can be compared.

    None if all traces have the same number of steps, or none in common. Then the whole traces are compared.
    """
    steps = common_steps(old[0], new[0])
    counts = {side.step_counts[steps.kind] for side in (*old, *new)} if steps else set()
    return steps.kind if steps and len(counts) > 1 else None


def of_a_step(side: Side, figure: str, kind: str) -> Fraction:
    """A figure such as `gpu.span_ns` of one step of this kind, of which the trace must have at least one."""
    count, whole = side.step_counts[kind], side.figures[figure]
    if figure in IDLE and count > 1 and side.step_kinds[0] == kind:
        first = int(side.tables["steps"][figure.removeprefix("idle.")][0])
        return Fraction(whole - first, count - 1)
    if figure == "host.span_ns" and count > 1 and side.step_kinds[-1] == kind:
        last = int(side.tables["steps"]["host_ns"][-1])
        return Fraction(whole - last, count - 1)
    if figure == "gpu.span_ns":
        return of_a_step(side, "gpu.busy_ns", kind) + of_a_step(side, "gpu.idle_ns", kind)
    if figure == "gpu.idle_ns":
        return sum((of_a_step(side, cause, kind) for cause in IDLE), Fraction(0))
    return Fraction(whole, count)
