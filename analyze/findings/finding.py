"""What may a rule answer?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing to act on. Times are in ns.

    `saving_ns` is an estimate of what the profiled window would lose; it is None where the trace gives no basis for one.
    `step_saving_ns` is what a step without the profiler would lose, and `step_after_ns` what is left of it; both are None where
    nobody told how long such a step takes. `reasoning` says how it was computed and from
    what. `evidence` is a sentence; `rows` are the figures behind it, as plain values, the worst first.
    `unlimited_saving_ns` is what the window would lose if launches were no limit: what only the device gains.
    `snippet` is code to copy, of one to three lines; empty if no code does it.
    """

    code: str
    title: str
    severity: str
    affected_ns: int
    saving_ns: int | None
    evidence: str
    action: str
    reasoning: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()
    step_saving_ns: int | None = None
    step_after_ns: int | None = None
    unlimited_saving_ns: int | None = None
    snippet: str = ""


@dataclass(frozen=True)
class CannotTell:
    """A rule that could not decide: its code, and the reason."""

    code: str
    because: str


Answer = Finding | tuple[Finding, ...] | CannotTell | None
"""What a rule returns. None means that it looked and found nothing. Several findings of one rule are of different kinds."""
