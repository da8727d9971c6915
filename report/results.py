"""How fast was each variant without the profiler, and how accurate was it?

A table holds runs of one device under the same conditions only. What others measured is quoted below, in a table of its own. No
bar, no axis and no difference compares it with a measurement on another device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.manifest import RunManifest, Statistics
from tracekit.quoted import quoted
from tracekit.wording import MISSING, counted, number, ratio, scientific, three_digits

from . import run
from .bundle import TraceBundle
from .nonbreaking import NBSP, binary_size, durations, percent, quantity
from .tables import Cell, Column, TableView, time_cell

_BASELINE = "baseline"


@dataclass(frozen=True)
class MeasuredRun:
    """A run: its manifest, the label of its trace on the page, and the id to link to."""

    label: str
    key: str
    manifest: RunManifest


@dataclass(frozen=True)
class Results:
    """One table for each device and set of conditions.

    The quoted table is added if a run has the model of the quoted study; else it is None.
    """

    measured: tuple[TableView, ...]
    quoted: TableView | None


def results(traces: Sequence[TraceBundle], labels: Sequence[str]) -> Results | None:
    """The results of all runs that have a manifest. None if no run has one."""
    groups: dict[tuple[str, ...], list[MeasuredRun]] = defaultdict(list)
    for at, (trace, label) in enumerate(zip(traces, labels, strict=True)):
        manifest = trace.manifest
        if manifest is not None:
            groups[_conditions(trace, manifest)].append(MeasuredRun(label, f"t{at}", manifest))
    if not groups:
        return None
    same_model = any(one.manifest.model.name == quoted().source.model for runs in groups.values() for one in runs)
    measured = tuple(_measured(f"results-{at}", *group) for at, group in enumerate(groups.items()))
    return Results(measured, _quoted() if same_model else None)


def fastest(traces: Sequence[TraceBundle]) -> str:
    """A sentence about the fastest run that was timed against a baseline; empty if there is no such run."""
    runs = [(trace, manifest) for trace in traces if (manifest := trace.manifest) is not None]
    against = [(trace, manifest) for trace, manifest in runs if manifest.timings.reduction_percent is not None]
    if not against:
        return ""
    trace, best = max(against, key=lambda one: one[1].timings.tokens_per_second)
    reduction = best.timings.reduction_percent
    assert reduction is not None
    if reduction <= 0:
        return f"On {run.device_name(trace)} no variant is faster than the baseline."
    return (
        f"On {run.device_name(trace)}, {best.variant} is fastest: {quantity(best.timings.tokens_per_second, 'tokens/s')}, "
        f"{percent(reduction / 100)} less time than the baseline."
    )


def _conditions(trace: TraceBundle, manifest: RunManifest) -> tuple[str, ...]:
    """The device, and then everything that must be equal so that times can be compared."""
    workload = manifest.workload
    return (
        run.device_name(trace),
        manifest.model.name,
        workload.kind,
        f"batch {number(workload.batch)}",
        f"{number(workload.prompt_tokens)} + {counted(workload.new_tokens, 'token')}",
        workload.decoding,
        f"{manifest.weights.source} weights",
    )


def _measured(key: str, conditions: tuple[str, ...], runs: Sequence[MeasuredRun]) -> TableView:
    best = max(one.manifest.timings.tokens_per_second for one in runs)
    bases = [one for one in runs if one.manifest.variant == _BASELINE]
    base = bases[0] if len(bases) == 1 else None
    columns = [
        Column("Variant", "link"),
        Column("Tokens/s", "bar", "of the whole batch, prefill included; the bar is against the fastest here"),
        Column("Median", "number", "time of a run, and the standard deviation of the runs"),
        Column("p10 to p90", "number"),
        Column("Reduction", "number", "how much less time than the baseline's median"),
        Column("First token", "number", "median time until the first token is there"),
        Column("Per token", "number", "median time from one token to the next on the GPU, by CUDA events"),
        Column("Peak memory", "number", "the most that the allocator held"),
        Column("Profiled", "number", "time with the profiler over time without"),
        Column("Error", "number", "norm of the logits' difference from the baseline's, over theirs; and what it may be"),
        Column("Same tokens", "number", "of which the baseline would have chosen the same"),
    ]
    rows = [_row(one, best, base) for one in sorted(runs, key=lambda one: one.manifest.timings.tokens_per_second)]
    kept = [at for at in range(len(columns)) if any(row[at].text not in ("", MISSING) for row in rows)]
    return TableView(
        key=key,
        title=f"Measured on {conditions[0]}",
        columns=tuple(columns[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in rows),
        total=len(rows),
        source="bundle.json",
        note=f"{', '.join(conditions[1:])}; without the profiler, {_repetitions(runs)}. {_turns(runs)}",
    )


def _row(one: MeasuredRun, best: float, base: MeasuredRun | None) -> tuple[Cell, ...]:
    manifest, timings = one.manifest, one.manifest.timings
    name = manifest.variant
    name += "" if manifest.attention == "sdpa" else f", {manifest.attention} attention"
    name += ", layers annotated" if manifest.profile and manifest.profile.layers else ""
    name += ", TF32" if manifest.tf32.matmul and manifest.dtype == "float32" else ""
    speed = timings.tokens_per_second
    memory = timings.peak_memory_bytes
    inflation = manifest.profile.inflation if manifest.profile else None
    return (
        Cell(name, full=one.key),
        Cell(three_digits(speed), speed, bar=speed / best if best else 0.0),
        _spread(timings.total),
        Cell(durations(timings.total.p10_ns, timings.total.p90_ns, "to"), float(timings.total.p10_ns)),
        _reduction(one, base),
        time_cell(timings.first_token.median_ns),
        time_cell(timings.event_token.median_ns if timings.event_token else None),
        Cell(binary_size(memory), float(memory)) if memory else Cell(MISSING),
        Cell(ratio(inflation), inflation) if inflation else Cell(MISSING),
        _error(manifest),
        _tokens(manifest),
    )


def _spread(statistics: Statistics) -> Cell:
    return Cell(durations(statistics.median_ns, statistics.std_ns, "±"), float(statistics.median_ns))


def _reduction(one: MeasuredRun, base: MeasuredRun | None) -> Cell:
    """How much less time the run takes than the baseline of the same collection.

    If the manifest names no baseline, the baseline of this table is used, provided that there is exactly one.
    """
    if one.manifest.variant == _BASELINE:
        return Cell(_BASELINE, 0.0)
    reduction = one.manifest.timings.reduction_percent
    if reduction is None and base is not None and base.manifest.timings.total.median_ns:
        reduction = 100 * (1 - one.manifest.timings.total.median_ns / base.manifest.timings.total.median_ns)
    if reduction is None:
        return Cell(MISSING)
    return Cell(percent(reduction / 100), float(reduction))


def _error(manifest: RunManifest) -> Cell:
    accuracy = manifest.accuracy
    if accuracy is None:
        return Cell(MISSING)
    over = "" if accuracy.relative_error <= accuracy.bound else ": too far off"
    return Cell(f"{scientific(accuracy.relative_error)} of {scientific(accuracy.bound)}{over}", accuracy.relative_error)


def _tokens(manifest: RunManifest) -> Cell:
    accuracy = manifest.accuracy
    if accuracy is None or not accuracy.tokens:
        return Cell(MISSING)
    return Cell(f"{number(accuracy.equal_tokens)} of {number(accuracy.tokens)}", accuracy.equal_tokens / accuracy.tokens)


def _repetitions(runs: Sequence[MeasuredRun]) -> str:
    counts = sorted({len(one.manifest.timings.runs) for one in runs})
    least = "" if len(counts) == 1 else f"{number(counts[0])} to "
    return f"{least}{counted(counts[-1], 'run')} each"


def _turns(runs: Sequence[MeasuredRun]) -> str:
    """A sentence that says whether the runs took turns; empty for a single run.

    If they did, a drift of the machine cannot favour one of them.
    """
    if len(runs) < 2:
        return ""
    variants = {one.manifest.variant for one in runs}
    if all(variants - {one.manifest.variant} <= set(one.manifest.timings.interleaved_with) for one in runs):
        return "The variants took turns."
    return "Not all of them took turns, so drift of the machine may be in the differences."


def _quoted() -> TableView:
    """The study's table, with as many decimals as the study gives, because a quotation is not rounded."""
    source = quoted().source
    columns = (
        Column("Method", "layer"),
        Column("Here", "text", "the variant that does the same"),
        Column("Tokens/s", "quoted"),
        Column("Mean", "quoted", "time of a run, and its standard deviation"),
        Column("Reduction", "quoted", "of the time without optimizations"),
    )
    rows = tuple(
        (
            Cell(method.name),
            Cell(method.variant),
            Cell(f"{method.tokens_per_second:.2f}", method.tokens_per_second),
            Cell(f"{method.seconds:.4f} ± {method.std_seconds:.4f}{NBSP}s", method.seconds),
            Cell("NIL", 0.0)
            if method.reduction_percent is None
            else Cell(f"{method.reduction_percent:.2f}{NBSP}%", method.reduction_percent),
        )
        for method in quoted().methods
    )
    return TableView(
        key="results-quoted",
        title=f"Quoted: {source.line}",
        columns=columns,
        rows=rows,
        total=len(rows),
        source="the study",
        note=f"{source.title}. Another device: for reference, not to be set against the times above.",
    )
