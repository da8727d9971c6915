"""What should one do next, and how much would it bring?

The rules stand in `rules`, by subject; here they are asked, in a fixed order, and their answers ranked by what they save. The
same trace gives the same answers in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts import Facts
from .finding import CannotTell, Finding
from .rules import RULES


@dataclass(frozen=True)
class Findings:
    """What the rules found, ranked, and what they could not tell, in the rules' order."""

    found: tuple[Finding, ...]
    undecided: tuple[CannotTell, ...]


def findings(facts: Facts) -> Findings:
    """Ask every rule. What makes the trace incomplete comes first, then the largest saving, last what promises none."""
    answers = [rule(facts) for rule in RULES]
    found = [answer for answer in answers if isinstance(answer, Finding)]
    return Findings(
        found=tuple(sorted(found, key=_rank)),
        undecided=tuple(answer for answer in answers if isinstance(answer, CannotTell)),
    )


def _rank(finding: Finding) -> tuple[bool, bool, int, str]:
    return (finding.code != "incomplete_trace", finding.saving_ns is None, -(finding.saving_ns or 0), finding.code)
