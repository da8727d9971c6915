"""How does a check report what it found?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tracekit import __version__
from tracekit.wording import counted, number

from ..compare.conditions import differing
from ..compare.gates import Gate
from ..compare.interval import Interval
from ..compare.side import Side
from .comparison_document import number as json_number
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


def cautions(new: Sequence[Side], old: Sequence[Side] | None, notes: Sequence[str] = ()) -> Iterator[str]:
    """Reasons to trust the check less: different conditions, an incomplete old trace, gates left out. One line for each."""
    if old is None:
        return
    for condition in differing(old[0], new[0]):
        before, now = (printable(value) if value is not None else "not said" for value in (condition.a, condition.b))
        yield f"conditions differ: {condition.name}: {before} → {now}"
    for missing in dict.fromkeys(text for side in old for text in side.missing):
        yield f"the old trace is incomplete: {printable(missing)}"
    yield from map(printable, notes)


def document(new: Sequence[Side], old: Sequence[Side] | None, gates: Sequence[Gate]) -> dict[str, Any]:
    """What `check --json` prints, as docs/diff.md describes it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tracekit_version": __version__,
        "new": new[0].name,
        "old": old[0].name if old else None,
        "traces": {"new": [side.name for side in new], "old": [side.name for side in old or ()]},
        "passed": all(gate.passed for gate in gates),
        "gates": [
            {
                "metric": gate.metric.name,
                "match": gate.metric.match,
                "limit": gate.limit,
                "passed": gate.passed,
                **_ends("old", gate.old),
                **_ends("new", gate.new),
                "allowed": json_number(gate.allowed),
                "reason": gate.reason,
            }
            for gate in gates
        ],
    }


def _ends(name: str, found: Interval | None) -> dict[str, int | float | None]:
    """The median and the ends of its interval; null for what a gate has no value of."""
    ends = (found.median, found.low, found.high) if found else (None, None, None)
    return {f"{name}{end}": json_number(value) for end, value in zip(("", "_low", "_high"), ends, strict=True)}
