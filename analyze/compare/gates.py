"""Does a trace keep within its budgets, and where several repeats tell the noise, do they say so beyond it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tracekit.errors import TracekitError
from tracekit.wording import exact_percent, number, signed_percent, with_interval

from .budgets import Budget
from .interval import Interval, interval
from .metrics import KEYS, UNPROFILED, Metric, value
from .per_step import of_a_step, step_kind, step_noun, steps_of
from .side import EXPOSED, Side
from .unprofiled import unprofiled_value

WITHIN = "within the noise"


@dataclass(frozen=True)
class Gate:
    """One limit that a trace was checked against: `max`, `max_regression` or `complete`, with the reason in words.

    `old` and `new` are the metric's values, of one step where `reason` says so: the medians of the repeats and their intervals.
    `allowed` is the largest new value that passes in any case. A larger one passes if it may be noise.
    """

    metric: Metric
    limit: str
    passed: bool
    reason: str
    old: Interval | None = None
    new: Interval | None = None
    allowed: Fraction | None = None


def complete(new: Sequence[Side]) -> Gate:
    """The gate that fails if a trace lost events. A trace with too few events would pass all other gates."""
    missing = [text if len(new) == 1 else f"{side.name}: {text}" for side in new for text in side.missing]
    reason = f"complete: {'; '.join(missing)}" if missing else "complete: nothing is known to be missing"
    return Gate(Metric("complete"), "complete", not missing, reason)


def hold(new: Sequence[Side], old: Sequence[Side] | None, budgets: Sequence[Budget]) -> tuple[Gate, ...]:
    """Check a program against budgets, in their order. `new` and `old` are the repeats of each one, or a single trace.

    A gate fails only if the noise does not explain it. A maximum fails if the whole interval of the new median lies above it. A
    regression fails if the new median is above what is allowed, and its whole interval lies above the old one's. Of a single
    trace the interval is its value, except for a time without the profiler: there the timed runs tell it.

    Raises TracekitError if a trace cannot be checked against one of the budgets.
    """
    return tuple(gate for budget in budgets for gate in _gates(new, old, budget))


def _gates(new: Sequence[Side], old: Sequence[Side] | None, budget: Budget) -> Iterator[Gate]:
    if budget.maximum is not None:
        yield _maximum(new, old or (), budget, budget.maximum)
    if budget.regression is not None:
        if old is None:
            raise TracekitError(f"max_regression of {budget.metric} needs an old trace", mend="name it with --against")
        yield _regression(new, old, budget, budget.regression)


def _maximum(new: Sequence[Side], old: Sequence[Side], budget: Budget, maximum: Fraction) -> Gate:
    steps = steps_of(new[0]) if budget.per_step else None
    if budget.per_step and steps is None:
        raise TracekitError(f"has no steps to hold {budget.metric} against", where=new[0].name, mend='leave out per = "step"')
    kind = steps[0] if steps else None
    now = measured(new, old, budget.metric, kind)
    passed = now.low <= maximum
    text = f"{budget.metric}: {_shown(now, budget.metric)}{_unit(kind)}, at most {_plain(maximum, budget.metric)}"
    return Gate(budget.metric, "max", passed, text + _noise(passed and now.median > maximum), None, now, maximum)


def _regression(new: Sequence[Side], old: Sequence[Side], budget: Budget, regression: Fraction) -> Gate:
    metric, base = budget.metric, budget.of or budget.metric
    kind = step_kind(old, new) if metric.name not in UNPROFILED else None
    now, before, whole = (
        measured(new, old, metric, kind),
        measured(old, new, metric, kind),
        measured(old, new, base, kind).median,
    )
    allowed = before.median + regression * whole
    is_more = now.median > allowed
    passed = not is_more or now.low <= before.high
    growth = signed_percent(float((now.median - before.median) / whole)) if whole else "none before"
    of = f" of {budget.of}" if budget.of else ""
    text = (
        f"{metric}: {_shown(before, metric)} → {_shown(now, metric)}{_unit(kind)}, {growth}{of}, "
        f"at most +{exact_percent(float(regression))}"
    )
    return Gate(metric, "max_regression", passed, text + _noise(passed and is_more), before, now, allowed)


def _noise(excused: bool) -> str:
    """Said of a value above its limit that passes."""
    return f", but {WITHIN}" if excused else ""


def measured(sides: Sequence[Side], others: Sequence[Side], metric: Metric, kind: str | None) -> Interval:
    """The metric in the repeats of one program: of the whole trace, or of one step of the given kind."""
    if metric.name in UNPROFILED and len(sides) == 1 and (told := unprofiled_value(sides[0], metric.name)) is not None:
        return told
    return interval([_figure(side, (*sides, *others), metric, kind) for side in sides])


def _figure(side: Side, all_sides: Sequence[Side], metric: Metric, kind: str | None) -> Fraction:
    known = _known(side, all_sides, metric)
    if kind is None:
        return Fraction(known)
    return of_a_step(side, metric.name, kind) if metric.match is None else Fraction(known, side.step_counts[kind])


def _known(side: Side, all_sides: Sequence[Side], metric: Metric) -> int:
    """The metric's value in `side`; 0 where only another trace has rows that match.

    Raises TracekitError if the trace lacks the figure, or if no trace has such rows.
    """
    found = value(side, metric)
    if found is not None:
        return found
    if metric.match is None:
        raise _lacks(side, metric)
    if all(value(other, metric) is None for other in all_sides):
        where = " and ".join(dict.fromkeys(other.name for other in (all_sides[0], all_sides[-1])))
        rows = metric.name.split(".")[0]
        raise TracekitError(f"no {KEYS[rows]} in {rows} is like {metric.match!r}", where=where, mend="check the pattern")
    return 0


def _lacks(side: Side, metric: Metric) -> TracekitError:
    """The error that says why a trace has no such figure."""
    if metric.name in UNPROFILED:
        what = f"has no time without the profiler: {metric} cannot be checked"
        return TracekitError(what, where=side.name, mend="keep the run manifest of `tracekit collect` beside the trace")
    if metric.name == EXPOSED and side.has("gpu"):
        return TracekitError(f"did not record {metric}", where=side.name, mend="run `tracekit analyze` on its trace again")
    section = metric.name.split(".")[0]
    events = "GPU" if section in ("gpu", "idle", "communication") else "host"
    return TracekitError(f"has no {events} events: {metric} cannot be checked", where=side.name, mend="record both activities")


def _unit(kind: str | None) -> str:
    return f" a {step_noun(kind)}" if kind else ""


def _shown(figure: Interval, metric: Metric) -> str:
    """The median, and its interval if there is one. Times are whole ns, so that they are shown exactly."""
    if metric.is_time:
        return with_interval(round(figure.median), round(figure.low), round(figure.high))
    return with_interval(float(figure.median), float(figure.low), float(figure.high), number)


def _plain(figure: Fraction, metric: Metric) -> str:
    return _shown(Interval(figure, figure, figure), metric)
