"""What should one do next, and how much would it bring?

The rules are in `rules`, by subject. This module asks them in a fixed order and ranks their answers by the time they save. The
same trace always gives the same answers in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts import Facts
from .finding import CannotTell, Finding
from .rules import RULES

HEALTHY = "near_roof"
SEVERITIES = ("high", "medium", "low")


@dataclass(frozen=True)
class Findings:
    """What the rules found, ranked, and what they could not decide, in the order of the rules."""

    found: tuple[Finding, ...]
    undecided: tuple[CannotTell, ...]


def findings(facts: Facts) -> Findings:
    """Ask every rule and rank what they find.

    A finding that says the trace is incomplete comes first. The others follow by saving, the largest first: by that of a step
    without the profiler where it is known, then by that of the window. Those without an estimate come last, the most severe
    first. That the kernels are healthy is told only where nothing else saves much.
    """
    answers = [rule(facts) for rule in RULES]
    each = [one for answer in answers for one in (answer if isinstance(answer, tuple) else (answer,))]
    found = [one for one in each if isinstance(one, Finding)]
    if any(facts.share(one.saving_ns or 0) > facts.thresholds.healthy for one in found):
        found = [one for one in found if one.code != HEALTHY]
    return Findings(
        found=tuple(sorted(found, key=_rank)),
        undecided=tuple(answer for answer in answers if isinstance(answer, CannotTell)),
    )


def _rank(finding: Finding) -> tuple[bool, bool, bool, int, int, int, str]:
    step, window = finding.step_saving_ns, finding.saving_ns
    least = SEVERITIES.index(finding.severity) if window is None else 0
    return (
        *(finding.code != "incomplete_trace", window is None, step is None),
        *(-(step or 0), -(window or 0), least, finding.code),
    )
