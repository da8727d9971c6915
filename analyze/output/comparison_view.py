"""What of a comparison is worth showing, and in which words?

A terminal and a pull request show the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tracekit.table import Table
from tracekit.vocabulary import label
from tracekit.wording import (
    MISSING,
    counted,
    duration,
    durations,
    form,
    number,
    percent,
    ratio,
    signed_duration,
    signed_percent,
    with_interval,
)

from ..compare.changes import APPEARED, VANISHED
from ..compare.comparison import Comparison
from ..compare.conditions import Condition
from ..compare.fusions import Fusion
from ..compare.interval import Interval
from ..compare.per_step import step_noun
from ..compare.repeats import Repeated
from ..compare.side import EXPOSED
from ..compare.unprofiled import RUN, STEP_METRIC, Unprofiled

ROWS = 8
COUNTED = {
    "gpu.kernels": ("kernel", "kernels"),
    "launches.kernel_launches": ("kernel launch", "kernel launches"),
    "launches.graph_launches": ("graph launch", "graph launches"),
}
REPEATED = {
    "gpu.span_ns": "GPU span",
    "gpu.busy_ns": "busy",
    "gpu.idle_ns": "idle",
    "gpu.kernel_time_ns": "kernel time",
    "launches.kernel_launches": "kernel launches",
    "copies.count": "copies and fills",
    "copies.time_ns": "time of copies",
    EXPOSED: "exposed comm.",
    "host.span_ns": "host span",
    "host.operator_self_ns": "operators' self time",
    "host.operators": "operators",
}


@dataclass(frozen=True)
class Name:
    """Text from a trace, which must be escaped. For a path of layers the end tells most, so it is shortened from the front.

    `renamed` is the name in B of a kernel that has another name there.
    """

    text: str
    is_path: bool = False
    renamed: str | None = None


Cell = Name | str


@dataclass(frozen=True)
class Section:
    """A table. Each row has its names first, then its numbers.

    `shares` are shares of A's span that may be drawn as bars. `left_out` is how many rows are not shown. The columns in `wide`
    may be left out where space is short. A table that is not `open` may be folded.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shares: tuple[float, ...] = ()
    left_out: int = 0
    wide: frozenset[str] = frozenset()
    open: bool = False

    @property
    def some(self) -> str:
        """If not all changes are shown, a clause that says how many there are; else an empty text."""
        whole = len(self.rows) + self.left_out
        return f" (the {len(self.rows)} largest of {counted(whole, 'change')})" if self.left_out else ""


@dataclass(frozen=True)
class View:
    """All that is shown: the traces' names, cautions about comparing them, the answer, and tables.

    The answer is the headline and what a reader must know to understand it right. Each caution and each fact is a text in
    our own words, with the quoted text from a trace if there is one.
    """

    a: Name
    b: Name
    conditions: tuple[Condition, ...]
    cautions: tuple[tuple[str, Name | None], ...]
    headline: str
    answer: tuple[str, ...]
    facts: tuple[tuple[str, Name | None], ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class _Scale:
    """How figures are divided before they are shown.

    If `a` and `b` are 1, figures of the whole trace are shown. Else A has `a` steps and B has `b`, and figures of one step are
    shown; `unit` then says so.
    """

    a: int
    b: int
    unit: str

    def times(self, a_ns: int, b_ns: int) -> tuple[str, str, str]:
        """A time in each trace, and the change from A to B."""
        return times(Fraction(a_ns, self.a), Fraction(b_ns, self.b))

    def counts(self, a: int, b: int) -> str:
        """A count in each trace."""
        return f"{number(a / self.a)} → {number(b / self.b)}"

    def counted(self, a: int, b: int, nouns: tuple[str, str]) -> str:
        """A count in each trace and its noun, singular or plural to fit the count of B, which stands beside it."""
        return f"{self.counts(a, b)} {form(b / self.b, *nouns)}"


def view(comparison: Comparison) -> View:
    """Choose what of a comparison is shown, and in which words."""
    scale = _scale(comparison)
    return View(
        a=Name(comparison.a.name),
        b=Name(comparison.b.name),
        conditions=comparison.conditions,
        cautions=tuple(_cautions(comparison)),
        headline=_headline(comparison, scale),
        answer=tuple(_answer(comparison, scale)),
        facts=tuple(_facts(comparison, scale)),
        sections=tuple(section for section in _sections(comparison, scale) if section.rows),
    )


def times(a_ns: Fraction, b_ns: Fraction) -> tuple[str, str, str]:
    """A time in each trace, and the change from A to B."""
    return duration(round(a_ns)), duration(round(b_ns)), signed_duration(round(b_ns - a_ns))


def _scale(comparison: Comparison) -> _Scale:
    steps = comparison.steps
    if steps is None or steps.a == steps.b:
        return _Scale(1, 1, "")
    return _Scale(steps.a, steps.b, f" a {step_noun(steps.kind)}")


def _cautions(comparison: Comparison) -> Iterator[tuple[str, Name | None]]:
    if comparison.unknown_conditions:
        who = comparison.unknown_conditions
        yield f"{who} without a run manifest: whether the conditions were the same is not known", None
    sides = (("A", comparison.a), ("B", comparison.b))
    for which, side in sides:
        for missing in side.missing:
            yield f"{which} is incomplete: ", Name(missing)
        if not side.knows_origins:
            yield f"{which} is a bundle of an earlier version: kernels that have other names now are not paired", None
    if comparison.section == "host":
        lacking = " and ".join(label for label, side in sides if not side.has("gpu"))
        yield f"{lacking} without GPU events: what the host did is compared", None


def _headline(comparison: Comparison, scale: _Scale) -> str:
    """The answer in one sentence: the time without the profiler where it is known, else the profiled span."""
    told = comparison.unprofiled
    if told and not (comparison.is_empty and told.a == told.b):
        a, b = told.a.median.median, told.b.median.median
        change = "the same" if a == b else _more(a, b).replace("less", "less time").replace("more", "slower")
        return f"A {told.what} takes {durations(float(a), float(b), '→')} without the profiler ({change})"
    if comparison.is_empty and comparison.traces == (1, 1):
        return "No difference."
    spans = comparison.typical_span
    a_text, b_text, _ = times(*spans)
    return f"B takes {_more(*spans)} {_span(comparison)}{scale.unit}: {a_text} → {b_text}"


def _answer(comparison: Comparison, scale: _Scale) -> Iterator[str]:
    """What belongs to the headline: whether the difference is noise, and whether the profile says the opposite."""
    told, metric = comparison.unprofiled, f"{comparison.section}.span_ns"
    span = next((one for one in comparison.repeats if one.metric.name == metric), None)
    if told is None:
        if span:
            yield _noise(span.a, span.b)
        return
    if comparison.is_empty and told.a == told.b:
        return
    yield f"{_noise(told.a.median, told.b.median)}; standard deviations {durations(*_stds(told), 'and')}"
    spans = comparison.typical_span
    a, b, _ = times(*spans)
    if not comparison.is_contradicted:
        yield f"Under the profiler, B takes {_more(*spans)} {_span(comparison)}{scale.unit}: {a} → {b}"
        return
    yield (
        f"The profiled {_span(comparison)}{scale.unit} says the opposite: {_more(*spans)}, {a} → {b}. It holds the profiler's "
        f"own cost{_inflation(told)}, so believe the time without it"
    )


def _noise(a: Interval, b: Interval) -> str:
    """Whether two medians differ by more than the noise, and how that is told."""
    if a.median == b.median:
        return "There is no difference"
    ends = " and ".join(_ends(one) for one in (a, b))
    place, overlap = ("within", "overlap") if a.overlaps(b) else ("beyond", "do not overlap")
    return f"The difference is {place} the noise: the medians' intervals, {ends}, {overlap}"


def _ends(one: Interval) -> str:
    """The ends of an interval; one of them if they read the same."""
    low, high = duration(round(one.low)), duration(round(one.high))
    return low if low == high else durations(round(one.low), round(one.high), "to")


def _stds(told: Unprofiled) -> tuple[float, float]:
    return float(told.a.std_ns), float(told.b.std_ns)


def _inflation(told: Unprofiled) -> str:
    """How many times as long a step takes under the profiler, as a clause, where both manifests tell."""
    a, b = told.a.inflation, told.b.inflation
    return f" (a step takes {ratio(a)} as long in A, {ratio(b)} in B)" if a and b else ""


def _span(comparison: Comparison) -> str:
    return "GPU span" if comparison.section == "gpu" else "host span"


def _facts(comparison: Comparison, scale: _Scale) -> Iterator[tuple[str, Name | None]]:
    """What else a reader should know about the whole trace."""
    steps, told = comparison.steps, comparison.unprofiled
    if comparison.repeats:
        a, b = comparison.traces
        counted_a, counted_b = counted(a, "trace"), counted(b, "trace")
        yield (
            f"{counted_a} of A, {counted_b} of B; tables without medians compare the two with the median span, named above",
            None,
        )
    if steps:
        noun = step_noun(steps.kind)
        quoted = Name(steps.kind) if noun == "step" and steps.kind != noun else None
        which = "; a step is " if quoted else ""
    if steps and scale.unit:
        whole = f"{duration(comparison.waterfall.a_ns)} → {duration(comparison.waterfall.b_ns)}"
        yield (
            f"{number(steps.a)} × {noun} in A, {number(steps.b)} in B: figures are of one step, what ran outside of "
            f"steps included; in all {whole}{which}",
            quoted,
        )
    elif steps:
        yield f"{number(steps.a)} × {noun} in each{which}", quoted
    if comparison.runs and told and told.what != RUN:
        before, after = comparison.runs
        texts = [durations(float(run.median.median), float(run.std_ns), "±") for run in comparison.runs]
        yield (
            f"the whole run without the profiler: {' → '.join(texts)} (median ± standard deviation), "
            f"{_more(before.median.median, after.median.median)}",
            None,
        )
    if comparison.section == "gpu" and not comparison.is_empty:
        of_a, of_b = comparison.a.figures, comparison.b.figures
        shown = [scale.counted(of_a[key], of_b[key], nouns) for key, nouns in COUNTED.items() if of_a[key] or of_b[key]]
        yield "; ".join(shown), None


def _sections(comparison: Comparison, scale: _Scale) -> Iterator[Section]:
    """The tables: the medians of repeats and the waterfall first."""
    yield _repeats(comparison, scale)
    if not comparison.is_empty:
        yield _waterfall(comparison, scale)
    operators, layers = comparison.operators, comparison.layers
    if comparison.section == "gpu":
        yield _movers("Kernels", "kernel", comparison.kernels, scale, "time_ns", "count")
        yield _movers("Operators, by the time of their kernels", "operator", operators, scale, "kernel_time_ns", "kernels")
        yield _movers("Layers, by the time of their kernels", "layer", layers, scale, "time_ns", "count")
        yield _movers("Copies and fills", "copy or fill", comparison.copies, scale, "time_ns", "count")
        yield _fusions("Fused in B: operators whose kernels generated ones took over", comparison.fused)
        yield _fusions("Fused in A: operators that have kernels of their own in B", comparison.unfused)
    else:
        yield _movers("Operators, by self time", "operator", operators, scale, "host_self_ns", "count")
        yield _movers("Layers, by host time", "layer", layers, scale, "host_ns", "calls")


def _repeats(comparison: Comparison, scale: _Scale) -> Section:
    """The medians of several traces. A change in parentheses may be noise."""
    rows = tuple(_repeat(one) for one in comparison.repeats)
    title = f"Medians [intervals]{',' if scale.unit else ''}{scale.unit}; a change in parentheses is within the noise"
    return Section(title, ("figure", "A", "B", "change"), rows, open=True)


def _repeat(one: Repeated) -> tuple[Cell, ...]:
    show = duration if one.metric.is_time else number
    a, b = (with_interval(float(of.median), float(of.low), float(of.high), show) for of in (one.a, one.b))
    if one.a.median:
        change = signed_percent(float((one.b.median - one.a.median) / one.a.median))
    else:
        change = MISSING if one.b.median == 0 else "more"
    return Name(_figure(one)), a, b, change if one.exceeds_noise or one.a == one.b else f"({change})"


def _figure(one: Repeated) -> str:
    """What a figure of the repeats is called."""
    section, name = one.metric.name.split(".")
    if section == "idle":
        return f"idle: {label(name.removesuffix('_ns'))}"
    if one.metric.name == STEP_METRIC:
        return "unprofiled step"
    return REPEATED[one.metric.name]


def _waterfall(comparison: Comparison, scale: _Scale) -> Section:
    whole = comparison.waterfall
    span_a, span_b = comparison.span
    of = max(span_a, Fraction(1))
    parts = [part for part in whole.parts if part.a_ns or part.b_ns]
    values = [comparison.part(part) for part in parts]
    shares = [float((b - a) / of) for a, b in values]
    rows: list[tuple[Cell, ...]] = [
        (
            Name(f"{part.kind}: {label(part.name)}" if part.name != part.kind else part.name),
            *times(*value),
            signed_percent(part_share),
        )
        for part, value, part_share in zip(parts, values, shares, strict=True)
    ]
    total = float((span_b - span_a) / of)
    rows.append((Name("span"), *times(span_a, span_b), signed_percent(total)))
    title = f"Where the difference comes from{',' if scale.unit else ''}{scale.unit}"
    return Section(title, ("part", "A", "B", "change", "of A"), tuple(rows), (*shares, total), open=True)


def _movers(title: str, noun: str, table: Table, scale: _Scale, figure: str, counted: str) -> Section:
    """The rows in which a figure changed most. The table is already sorted by the change of that figure."""
    changed = table.take(np.flatnonzero(table[f"b_{figure}"] * scale.a != table[f"a_{figure}"] * scale.b))
    rows = [_mover(row, noun, scale, figure, counted) for row in changed.head(ROWS).records()]
    family = ("family",) if noun == "kernel" else ()
    columns = (noun, *family, "A", "B", "change", "count")
    return Section(title, columns, tuple(rows), left_out=len(changed) - len(rows), wide=frozenset({"count"}))


def _mover(row: dict[str, Any], noun: str, scale: _Scale, figure: str, counted: str) -> tuple[Cell, ...]:
    a, b, change = scale.times(row[f"a_{figure}"], row[f"b_{figure}"])
    families = [row[column] for column in ("a_family", "b_family") if row.get(column) is not None]
    renamed = row["b_name"] if row.get("paired_by") else None
    return (
        Name(row["name"], is_path=noun == "layer", renamed=renamed),
        *((Name(" → ".join(dict.fromkeys(map(label, families)))),) if noun == "kernel" else ()),
        MISSING if row["change"] == APPEARED else a,
        MISSING if row["change"] == VANISHED else b,
        change,
        scale.counts(row[f"a_{counted}"], row[f"b_{counted}"]),
    )


def _fusions(title: str, found: Sequence[Fusion]) -> Section:
    rows = [
        (Name(one.operator), duration(one.time_ns), duration(one.into_time_ns), Name(one.into[0]), number(len(one.into)))
        for one in found[:ROWS]
    ]
    columns = ("operator", "own kernels", "generated", "such as", "of")
    return Section(title, columns, tuple(rows), left_out=len(found) - len(rows))


def _more(a: Fraction, b: Fraction) -> str:
    """How much less or more B is than A, as a share of A."""
    if a == b:
        return "the same"
    if a == 0:
        return "more"
    return f"{percent(float(abs(b - a) / a))} {'less' if b < a else 'more'}"
