"""Does a trace keep within its budgets?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tracekit.errors import TracekitError
from tracekit.wording import duration, exact_percent, number, signed_percent

from .budgets import Budget
from .metrics import KEYS, Metric, value
from .per_step import common_steps, of_a_step, step_noun, steps_of
from .side import Side


@dataclass(frozen=True)
class Gate:
    """One limit that a trace was checked against: `max`, `max_regression` or `complete`, with the reason in words.

    `old` and `new` are the metric's values, of one step where `reason` says so. `allowed` is the largest new value that passes.
    """

    metric: Metric
    limit: str
    passed: bool
    reason: str
    old: Fraction | None = None
    new: Fraction | None = None
    allowed: Fraction | None = None


def complete(new: Side) -> Gate:
    """The gate that fails if the trace lost events. A trace with too few events would pass all other gates."""
    reason = f"complete: {'; '.join(new.missing)}" if new.missing else "complete: nothing is known to be missing"
    return Gate(Metric("complete"), "complete", not new.missing, reason)


def hold(new: Side, old: Side | None, budgets: Sequence[Budget]) -> tuple[Gate, ...]:
    """Check a trace against budgets, in their order. Raises TracekitError if it cannot be checked against one of them."""
    return tuple(gate for budget in budgets for gate in _gates(new, old, budget))


def _gates(new: Side, old: Side | None, budget: Budget) -> Iterator[Gate]:
    if budget.maximum is not None:
        yield _maximum(new, old, budget, budget.maximum)
    if budget.regression is not None:
        if old is None:
            raise TracekitError(f"max_regression of {budget.metric} needs an old trace", mend="name it with --against")
        yield _regression(new, old, budget, budget.regression)


def _maximum(new: Side, old: Side | None, budget: Budget, maximum: Fraction) -> Gate:
    steps = steps_of(new) if budget.per_step else None
    if budget.per_step and steps is None:
        raise TracekitError(f"has no steps to hold {budget.metric} against", where=new.name, mend='leave out per = "step"')
    kind = steps[0] if steps else None
    now = _figure(new, old, budget.metric, kind)
    text = f"{budget.metric}: {_shown(now, budget.metric)}{_unit(kind)}, at most {_shown(maximum, budget.metric)}"
    return Gate(budget.metric, "max", now <= maximum, text, None, now, maximum)


def _regression(new: Side, old: Side, budget: Budget, regression: Fraction) -> Gate:
    steps = common_steps(old, new)
    kind = steps.kind if steps and steps.a != steps.b else None
    metric, base = budget.metric, budget.of or budget.metric
    now, before, whole = _figure(new, old, metric, kind), _figure(old, new, metric, kind), _figure(old, new, base, kind)
    allowed = before + regression * whole
    growth = signed_percent(float((now - before) / whole)) if whole else "none before"
    of = f" of {budget.of}" if budget.of else ""
    text = (
        f"{metric}: {_shown(before, metric)} → {_shown(now, metric)}{_unit(kind)}, {growth}{of}, "
        f"at most +{exact_percent(float(regression))}"
    )
    return Gate(metric, "max_regression", now <= allowed, text, before, now, allowed)


def _figure(side: Side, other: Side | None, metric: Metric, kind: str | None) -> Fraction:
    """The metric's value in `side`: of the whole trace, or of one step of the given kind."""
    known = _known(side, other, metric)
    if kind is None:
        return Fraction(known)
    return of_a_step(side, metric.name, kind) if metric.match is None else Fraction(known, side.step_counts[kind])


def _known(side: Side, other: Side | None, metric: Metric) -> int:
    """The metric's value in `side`; 0 where only the other trace has rows that match.

    Raises TracekitError if the trace lacks the events, or if neither trace has such rows.
    """
    found = value(side, metric)
    if found is not None:
        return found
    if metric.match is None:
        section = metric.name.split(".")[0]
        events = "GPU" if section in ("gpu", "idle") else "host"
        raise TracekitError(
            f"has no {events} events: {metric} cannot be checked", where=side.name, mend="record both activities"
        )
    if other is None or value(other, metric) is None:
        where = side.name if other is None else f"{side.name} and {other.name}"
        rows = metric.name.split(".")[0]
        raise TracekitError(f"no {KEYS[rows]} in {rows} is like {metric.match!r}", where=where, mend="check the pattern")
    return 0


def _unit(kind: str | None) -> str:
    return f" a {step_noun(kind)}" if kind else ""


def _shown(figure: Fraction, metric: Metric) -> str:
    if metric.is_time:
        return duration(round(figure))
    return number(figure.numerator if figure.denominator == 1 else float(figure))
