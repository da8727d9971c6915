"""How many steps of one kind does each of two traces hold?"""

from __future__ import annotations

from dataclasses import dataclass

from .side import Side

KINDS = ("ProfilerStep", "decode")
"""Annotations that mark steps: the profiler's own, and those of a decoding loop such as `tracekit collect` runs."""


@dataclass(frozen=True)
class Steps:
    """So many annotations `kind` lie outermost in each trace. Figures of a step are the whole trace's over their number."""

    kind: str
    a: int
    b: int


def common_steps(a: Side, b: Side) -> Steps | None:
    """The steps that both traces have, None if they have none of one kind."""
    in_a, in_b = _calls(a), _calls(b)
    kind = next((kind for kind in KINDS if in_a.get(kind) and in_b.get(kind)), None)
    return Steps(kind, in_a[kind], in_b[kind]) if kind else None


def steps_of(side: Side) -> tuple[str, int] | None:
    """The kind and number of the steps that a trace has, None without any."""
    calls = _calls(side)
    return next(((kind, calls[kind]) for kind in KINDS if calls.get(kind)), None)


def _calls(side: Side) -> dict[str, int]:
    """How often each outermost annotation was entered."""
    outermost = side.tables["layers"].take(side.tables["layers"]["depth"] == 0)
    return dict(zip(outermost["path"].tolist(), outermost["calls"].tolist(), strict=True))
