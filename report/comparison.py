"""How do several traces differ?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.names import elide, shorten
from tracekit.wording import MISSING, number

from . import figures, results, run
from .budget import budget, figure
from .bundle import TraceBundle
from .legend import family
from .nonbreaking import duration, percent
from .tables import Cell, Column, TableView
from .verdict import compare

_TOP_KERNELS = 20


@dataclass(frozen=True)
class Comparison:
    """The first section of a dossier of several traces. `caution` says why their times must not be compared, if so."""

    lead: str
    results: results.Results | None
    overview: TableView
    kernels: TableView
    spans: dict[str, Any] | None
    families: dict[str, Any] | None
    absolute: bool
    caution: str


def compare_traces(traces: Sequence[TraceBundle], labels: Sequence[str]) -> Comparison:
    """Compare several traces: busy, idle and kernel time, families, and the kernels with the most time."""
    known = any(parts is not None and parts.span_ns for parts in map(budget, traces))
    comparable = len(_devices(traces)) == 1
    return Comparison(
        lead=" ".join(filter(None, (results.fastest(traces), compare(traces, labels, comparable=comparable)))),
        results=results.results(traces, labels),
        overview=_overview(traces, labels),
        kernels=_kernels(traces, labels),
        spans=figures.spans(traces, labels, absolute=comparable) if known else None,
        families=figures.families(traces, labels) if known else None,
        absolute=comparable,
        caution=_caution(traces),
    )


def _devices(traces: Sequence[TraceBundle]) -> set[str]:
    """The names of the devices that did GPU work."""
    return {run.device_name(trace) for trace in traces if trace.gpu}


def _caution(traces: Sequence[TraceBundle]) -> str:
    notes = []
    devices = _devices(traces)
    if len(devices) > 1:
        notes.append(f"These traces come from {number(len(devices))} different devices: compare their shares, not their times.")
    if any(not run.conditions(trace) for trace in traces):
        notes.append("Not every trace has a run manifest, so whether they ran the same workload is not known.")
    return " ".join(notes)


def _overview(traces: Sequence[TraceBundle], labels: Sequence[str]) -> TableView:
    columns = [
        Column("Trace", "link"),
        Column("Device", "text"),
        Column("Conditions", "note", "from the run manifest"),
        Column("GPU span", "number", "first to last GPU event"),
        Column("Busy", "bar", "of the span"),
        Column("Busy time", "number"),
        Column("Idle time", "number"),
        Column("Launch overhead", "number", "idle by dispatch and launch latency"),
        Column("Kernel time", "number", "over all streams"),
        Column("Kernels", "number"),
        Column("Complete", "text", "whether every launch has its kernel"),
    ]
    rows = [_overview_row(trace, label, f"t{at}") for at, (trace, label) in enumerate(zip(traces, labels, strict=True))]
    # Leave out columns in which no trace has a value.
    kept = [at for at in range(len(columns)) if any(row[at].text not in ("", MISSING) for row in rows)]
    return TableView(
        key="overview",
        title="Traces",
        columns=tuple(columns[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in rows),
        total=len(rows),
        source="bundle.json",
    )


def _overview_row(trace: TraceBundle, label: str, key: str) -> list[Cell]:
    parts, idle = budget(trace), trace.document.get("idle") or {}
    overhead = figure(idle, "dispatch_ns") + figure(idle, "launch_latency_ns")
    head = [Cell(label, full=key), Cell(run.device_name(trace)), Cell(run.conditions(trace) or MISSING)]
    complete = Cell("yes" if trace.document.get("complete", True) else "no")
    if parts is None:
        return [*head, *[Cell(MISSING)] * 7, complete]
    busy = parts.share(parts.busy_ns)
    return [
        *head,
        _time(parts.span_ns),
        Cell(percent(busy), busy, bar=min(1.0, busy)),
        _time(parts.busy_ns),
        _time(parts.idle_ns),
        _time(overhead),
        _time(figure(trace.gpu, "kernel_time_ns")),
        Cell(number(figure(trace.gpu, "kernels")), float(figure(trace.gpu, "kernels"))),
        complete,
    ]


def _kernels(traces: Sequence[TraceBundle], labels: Sequence[str]) -> TableView:
    """The kernels with the most time over all traces, with one column for each trace that has kernels."""
    shown = [at for at, trace in enumerate(traces) if trace.tables["kernels"].num_rows]
    times: dict[str, dict[int, int]] = defaultdict(dict)
    families: dict[str, str] = {}
    totals: Counter[str] = Counter()
    for at, trace in enumerate(traces):
        for name, kind, time_ns in zip(*(trace.column("kernels", key) for key in ("name", "family", "time_ns")), strict=True):
            times[name][at] = int(time_ns or 0)
            totals[name] += int(time_ns or 0)
            families[name] = kind
    rows = [
        (_name(name), _chip(families[name]), *(_time(times[name].get(at)) for at in shown))
        for name, _ in sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))[:_TOP_KERNELS]
    ]
    columns = (Column("Kernel", "name"), Column("Family", "term"), *(Column(elide(labels[at], 30), "number") for at in shown))
    return TableView(
        "top-kernels",
        "Top kernels",
        columns,
        tuple(rows),
        len(totals),
        "each trace's kernels.parquet",
        "By time over all traces.",
    )


def _name(name: str) -> Cell:
    short = shorten(str(name))
    return Cell(short, full=str(name) if short != name else None)


def _chip(key: str) -> Cell:
    return Cell(family(key).label, term=family(key))


def _time(value: int | None) -> Cell:
    return Cell(duration(value), float(value) if value is not None else None)
