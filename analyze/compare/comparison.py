"""What got faster or slower from one trace, A, to another, B, and what explains the difference?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tracekit.errors import TraceError
from tracekit.table import Table

from .changes import changes
from .conditions import Condition, differing, unknown
from .fusions import Fusion, fusions
from .kernel_changes import kernel_changes
from .per_step import CommonSteps, common_steps, of_a_step
from .repeats import Repeated, repeated, typical
from .side import Side
from .unprofiled import RUN, Timing, Unprofiled, same_workload, timing, unprofiled
from .waterfall import REST, SpanPart, Waterfall, waterfall

NO_OPERATOR = "(no operator)"
"""The name of a row for the kernels that no operator launched. With it, the operators' kernel times add up to all kernel time.
"""


@dataclass(frozen=True)
class Comparison:
    """How B differs from A. The tables hold the rows that differ, as `changes` describes them, the largest change first.

    `section` says what is compared: the `gpu`, or the `host` if one of the traces has no GPU events. `fused` are operators of A
    whose work generated kernels of B took over; `unfused` is the reverse. `unprofiled` is how long a step, or
    else the whole run, took without the profiler, and `runs` how long the whole run took.

    If several repeats of each program are compared, `a` and `b` are the ones with the median span, `traces` says how many there
    are of each, and `repeats` holds the medians and intervals of the figures.
    """

    a: Side
    b: Side
    section: str
    conditions: tuple[Condition, ...]
    unknown_conditions: str | None
    unprofiled: Unprofiled | None
    runs: tuple[Timing, Timing] | None
    steps: CommonSteps | None
    waterfall: Waterfall
    families: Table
    operators: Table
    layers: Table
    kernels: Table
    copies: Table
    fused: tuple[Fusion, ...]
    unfused: tuple[Fusion, ...]
    traces: tuple[int, int] = (1, 1)
    repeats: tuple[Repeated, ...] = ()

    @property
    def counts(self) -> tuple[int, int]:
        """By how many steps the figures of A and of B are divided where their numbers of steps differ.

        Both are 1 where nothing tells the steps.
        """
        return (self.steps.a, self.steps.b) if self.steps else (1, 1)

    def of_a_step(self, figure: str) -> tuple[Fraction, Fraction]:
        """A figure in A and in B: of the whole trace, or of one step where their numbers of steps differ."""
        a, b, steps = self.a, self.b, self.steps
        if steps is None or steps.a == steps.b:
            return Fraction(a.figures[figure]), Fraction(b.figures[figure])
        return of_a_step(a, figure, steps.kind), of_a_step(b, figure, steps.kind)

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """The span of the whole trace, or of one step, in A and in B."""
        return self.of_a_step(f"{self.section}.span_ns")

    @property
    def typical_span(self) -> tuple[Fraction, Fraction]:
        """The medians of the span over the repeats of A and of B, or the `span` where there are none."""
        metric = f"{self.section}.span_ns"
        found = next((one for one in self.repeats if one.metric.name == metric), None)
        return (found.a.median, found.b.median) if found else self.span

    def part(self, part: SpanPart) -> tuple[Fraction, Fraction]:
        """A part of the span in A and in B: of the whole trace, or of one step. All parts add up to the `span`."""
        if part.kind == "idle":
            return self.of_a_step(f"idle.{part.name}_ns")
        if part.name == REST:
            spans, operators = self.span, self.of_a_step("host.operator_self_ns")
            return spans[0] - operators[0], spans[1] - operators[1]
        a, b = self.counts if self.steps and self.steps.a != self.steps.b else (1, 1)
        return Fraction(part.a_ns, a), Fraction(part.b_ns, b)

    @property
    def idle(self) -> tuple[SpanPart, ...]:
        """The causes of idle time that differ, the largest difference first."""
        found = [part for part in self.waterfall.parts if part.kind == "idle" and part.delta_ns]
        return tuple(sorted(found, key=lambda part: -abs(self.part(part)[1] - self.part(part)[0])))

    @property
    def is_contradicted(self) -> bool:
        """Whether the profiled span says the opposite of the times without the profiler.

        One of them is shorter in B and the other one longer.
        """
        told, (a, b) = self.unprofiled, self.typical_span
        return told is not None and (told.b.median.median - told.a.median.median) * (b - a) < 0

    @property
    def is_empty(self) -> bool:
        """Whether the two traces do not differ in anything that is compared."""
        tables = (self.families, self.operators, self.layers, self.kernels, self.copies)
        return not any(map(len, tables)) and not any(part.delta_ns for part in self.waterfall.parts)


def compare_repeats(a: Sequence[Side], b: Sequence[Side]) -> Comparison:
    """Compare two programs by the repeats of each one. Raises TraceError as `compare` does."""
    section = _section(a[0], b[0])
    whole = compare(typical(a, section), typical(b, section))
    repeats = repeated(a, b, section) if len(a) > 1 or len(b) > 1 else ()
    return replace(whole, unprofiled=unprofiled(a, b), runs=_runs(a, b), traces=(len(a), len(b)), repeats=repeats)


def compare(a: Side, b: Side) -> Comparison:
    """Compare two traces. Raises TraceError if one of them has only GPU events and the other none."""
    section = _section(a, b)
    steps = common_steps(a, b)
    counts = (steps.a, steps.b) if steps else (1, 1)
    gpu = section == "gpu"
    figures = ("kernel_time_ns", "kernels", "host_self_ns", "count") if gpu else ("host_self_ns", "count")
    operators_a, operators_b = (_with_rest(side) if gpu else side.tables["operators"] for side in (a, b))
    times = ("time_ns", "host_ns") if gpu else ("host_ns", "time_ns")
    return Comparison(
        a=a,
        b=b,
        section=section,
        conditions=differing(a, b),
        unknown_conditions=unknown(a, b),
        unprofiled=unprofiled((a,), (b,)),
        runs=_runs((a,), (b,)),
        steps=steps,
        waterfall=waterfall(a, b, section),
        families=changes(a.tables["kernels"], b.tables["kernels"], "family", ("time_ns", "count"), counts),
        operators=changes(operators_a, operators_b, "name", figures, counts),
        layers=changes(a.tables["layers"], b.tables["layers"], "path", (*times, "count", "calls"), counts),
        kernels=kernel_changes(a, b, counts),
        copies=changes(a.tables["copies"], b.tables["copies"], "name", ("time_ns", "count"), counts),
        fused=fusions(a, b),
        unfused=fusions(b, a),
    )


def _section(a: Side, b: Side) -> str:
    """Whose time is compared: the GPU's, or the host's if one of the traces has no GPU events."""
    section = next((name for name in ("gpu", "host") if a.has(name) and b.has(name)), None)
    if section is None:
        raise TraceError(
            f"has nothing to compare with {b.name}: one has no GPU events and the other no host events",
            where=a.name,
            mend="record both with the same ProfilerActivity",
        )
    return section


def _runs(a: Sequence[Side], b: Sequence[Side]) -> tuple[Timing, Timing] | None:
    """How long the whole run took without the profiler; None unless both know it for the same workload."""
    of_a, of_b = timing(a, RUN), timing(b, RUN)
    return (of_a, of_b) if of_a and of_b and same_workload((*a, *b)) else None


def _with_rest(side: Side) -> Table:
    """The operators, with one more row for the kernels that none of them launched, if there are any."""
    operators = side.tables["operators"]
    rest = {
        "name": NO_OPERATOR,
        "count": 0,
        "host_self_ns": 0,
        "kernel_time_ns": side.figures["gpu.kernel_time_ns"] - int(operators["kernel_time_ns"].sum()),
        "kernels": side.figures["gpu.kernels"] - int(operators["kernels"].sum()),
    }
    if not rest["kernels"]:
        return operators
    return Table({name: np.append(column, np.array([rest[name]], column.dtype)) for name, column in operators.columns.items()})
