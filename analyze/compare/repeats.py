"""Are several traces repeats of one program, and how far do their figures lie apart?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracekit.errors import TraceError
from tracekit.schema import CAUSES

from .conditions import differing
from .gates import measured
from .interval import Interval
from .metrics import ALL, Metric, value
from .per_step import step_kind
from .side import EXPOSED, Side
from .unprofiled import STEP_METRIC, same_workload

FIGURES = {
    "gpu": (
        Metric(STEP_METRIC),
        Metric("gpu.span_ns"),
        Metric("gpu.busy_ns"),
        Metric("gpu.idle_ns"),
        Metric("gpu.kernel_time_ns"),
        Metric("launches.kernel_launches"),
        Metric("copies.count", ALL),
        Metric("copies.time_ns", ALL),
        Metric(EXPOSED),
        *(Metric(f"idle.{cause}_ns") for cause in CAUSES),
    ),
    "host": (Metric(STEP_METRIC), Metric("host.span_ns"), Metric("host.operator_self_ns"), Metric("host.operators")),
}
"""What is shown of repeats as median and interval, in this order."""


@dataclass(frozen=True)
class Repeated:
    """A figure in the repeats of A and of B: the medians and their intervals, of a step if the numbers of steps differ."""

    metric: Metric
    a: Interval
    b: Interval

    @property
    def exceeds_noise(self) -> bool:
        """Whether A and B differ by more than the noise: the intervals have nothing in common."""
        return not self.a.overlaps(self.b)


def checked_repeats(sides: Sequence[Side], where: str) -> tuple[Side, ...]:
    """The same traces, if they can be repeats of one program. Raises TraceError, which names `where` and the reason."""
    first = sides[0]
    for side in sides[1:]:
        if told := next(_told_apart(first, side), None):
            raise TraceError(
                f"{first.name} and {side.name} are not repeats of one program: {told}",
                where=where,
                mend="leave out --repeat and choose one, or put the repeats of each program into a directory of their own",
            )
    return tuple(sides)


def _told_apart(one: Side, other: Side) -> Iterator[str]:
    """Why two traces cannot be repeats of one program, if they cannot."""
    for condition in differing(one, other):
        yield f"{condition.name} is {condition.a or 'not said'} and {condition.b or 'not said'}"
    for section, events in (("gpu", "GPU events"), ("host", "host events")):
        if one.has(section) != other.has(section):
            yield f"only one has {events}"
    if one.rank != other.rank:
        yield f"they are ranks {one.rank} and {other.rank} of a run"
    if one.step_counts.keys() != other.step_counts.keys():
        yield "their steps are not of the same kinds"


def typical(sides: Sequence[Side], section: str) -> Side:
    """The trace with the (lower) median span, whose tables stand for all of them."""
    ordered = sorted(sides, key=lambda side: (side.figures[f"{section}.span_ns"], side.name))
    return ordered[(len(ordered) - 1) // 2]


def repeated(a: Sequence[Side], b: Sequence[Side], section: str) -> tuple[Repeated, ...]:
    """The figures of the repeats of A and of B that all of them have, without those that are 0 everywhere."""
    both = (*a, *b)
    kind = step_kind(a, b)
    found = []
    for metric in FIGURES[section]:
        if metric.name == STEP_METRIC and not same_workload(both):
            continue
        values = [value(side, metric) for side in both]
        if None not in values and any(values):
            of = None if metric.name == STEP_METRIC else kind
            found.append(Repeated(metric, measured(a, b, metric, of), measured(b, a, metric, of)))
    return tuple(found)
