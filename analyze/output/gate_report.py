"""How does a check report what it found?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from tracekit import __version__
from tracekit.wording import counted, number

from ..compare.conditions import differing
from ..compare.gates import Gate
from ..compare.side import Side
from .terminal_text import printable

SCHEMA_VERSION = 1


def lines(gates: Sequence[Gate]) -> Iterator[str]:
    """One line for each gate, those that failed first, and a last line with how many failed."""
    failed = [gate for gate in gates if not gate.passed]
    for gate in failed:
        yield f"FAILED  {printable(gate.reason)}"
    for gate in gates:
        if gate.passed:
            yield f"passed  {printable(gate.reason)}"
    yield f"{number(len(failed))} of {counted(len(gates), 'gate')} failed"


def cautions(new: Side, old: Side | None) -> Iterator[str]:
    """Reasons to trust the check less: different conditions, an incomplete old trace. One line for each."""
    if old is None:
        return
    for condition in differing(old, new):
        before, now = (printable(value) if value is not None else "not said" for value in (condition.a, condition.b))
        yield f"conditions differ: {condition.name}: {before} → {now}"
    for missing in old.missing:
        yield f"the old trace is incomplete: {printable(missing)}"


def document(new: Side, old: Side | None, gates: Sequence[Gate]) -> dict[str, Any]:
    """What `check --json` prints, as docs/diff.md describes it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tracekit_version": __version__,
        "new": new.name,
        "old": old.name if old else None,
        "passed": all(gate.passed for gate in gates),
        "gates": [
            {
                "metric": gate.metric.name,
                "match": gate.metric.match,
                "limit": gate.limit,
                "passed": gate.passed,
                "old": _number(gate.old),
                "new": _number(gate.new),
                "allowed": _number(gate.allowed),
                "reason": gate.reason,
            }
            for gate in gates
        ],
    }


def _number(value: Fraction | None) -> int | float | None:
    """An int if the value is whole; else a float, as for figures of one step."""
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)
