"""Which rows answer each question, and how is each cell shown, sorted and searched?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.names import shorten
from tracekit.schema import CAUSES, WAITING
from tracekit.wording import MISSING, is_number, number

from .budget import Budget, figure
from .bundle import TraceBundle
from .legend import Term, cause, family
from .nonbreaking import binary_size, duration, percent, rate, size

Row = Mapping[str, Any]

# How many rows of each table the page shows. The Parquet tables hold all rows.
LIMITS = {
    "kernels": 200,
    "operators": 100,
    "gap_groups": 100,
    "gaps": 100,
    "calls": 40,
    "copies": 40,
    "devices": 64,
    "streams": 64,
    "launches": 20,
    "graphs": 20,
    "graph_nodes": 60,
    "compiled_regions": 20,
    "generated_kernels": 40,
}


@dataclass(frozen=True)
class Cell:
    """A cell. `text` is shown, and `sort` gives its place when the table is sorted (None is last).

    `full` is the whole name if `text` is a shortened one. `term` gives the colour, `bar` the length of a bar as a share of 1.
    """

    text: str
    sort: float | None = None
    full: str | None = None
    term: Term | None = None
    bar: float | None = None


@dataclass(frozen=True)
class Column:
    """The heading of a column, an explanation, and the kind of its cells.

    `kind` is `name`, `layer`, `term`, `number`, `bar`, `quoted` (a number that others measured), `words` (what they wrote),
    `link`, `text` or `note`.
    """

    label: str
    kind: str
    help: str = ""


@dataclass(frozen=True)
class TableView:
    """A table of the page. `total` is how many rows there are in all, and `source` says where all of them are."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int
    source: str
    note: str = ""

    @property
    def narrow(self) -> bool:
        """Whether the table has so few columns that the page's full width would tear them apart."""
        return len(self.columns) <= 6 and self.key not in ("top-kernels", "overview", "generated_kernels")


@dataclass(frozen=True)
class _Spec:
    """A column and the function that makes its cells. An `optional` column is left out if no row has a value."""

    column: Column
    cell: Callable[[Row], Cell]
    optional: bool = False


def kernels(trace: TraceBundle) -> TableView:
    """Which kernels does the GPU spend its time in?"""
    specs = (
        _name("Kernel", "name"),
        _family(),
        _share("Share", "share", "of kernel time"),
        _ns("Time", "time_ns", "sum over all runs"),
        _Spec(own_column(), own_cell, optional=True),
        _count("Count", "count"),
        _Spec(Column("Mean", "number", "time a run"), lambda row: time_cell(_mean(row))),
        _ns("Median", "median_ns"),
        _ns("Max", "max_ns"),
        _name("Launched by", "operator", "the operator with most of its time", optional=True),
        _text("Grid", "grid", "blocks of the longest run"),
        _text("Block", "block", "threads a block"),
        _count("Regs", "registers", "registers a thread", optional=True),
        _Spec(
            Column("Shared", "number", "shared memory a block"),
            lambda row: _cell(binary_size, row.get("shared_memory_bytes")),
            optional=True,
        ),
        _Spec(
            Column("Occ.", "number", "estimated achieved occupancy"),
            lambda row: _occupancy(row.get("occupancy_percent")),
            optional=True,
        ),
    )
    return _table(trace, "kernels", "Kernels", specs)


def families(trace: TraceBundle, parts: Budget) -> TableView:
    """Which kind of work does the GPU spend its time on?"""
    total = figure(trace.gpu, "kernel_time_ns")
    rows = [
        {
            "family": part.term.key,
            "time_ns": part.raw_ns,
            "count": part.count,
            "share": part.raw_ns / total if total else None,
        }
        for part in sorted(parts.busy, key=lambda part: -part.raw_ns)
    ]
    specs = (
        _family(),
        _share("Share", "share", "of kernel time; memory is set against it"),
        _ns("Time", "time_ns"),
        _count("Runs", "count"),
        _Spec(Column("Mean", "number", "time a run"), lambda row: time_cell(_mean(row))),
    )
    return _view("families", "Families", specs, rows, len(rows), "bundle.json")


def operators(trace: TraceBundle) -> TableView:
    """Which operators does the host spend its time in?"""
    total = sum(int(value or 0) for value in trace.column("operators", "host_self_ns"))
    specs = (
        _name("Operator", "name"),
        _Spec(
            Column("Share", "bar", "of all operators' self time"),
            lambda row: share_cell(_over(row["host_self_ns"], total)),
        ),
        _ns("Self", "host_self_ns", "host time in the operator itself, not in operators it calls"),
        _ns("Total", "host_total_ns", "host time with everything it calls"),
        _count("Count", "count"),
        _Spec(
            Column("Self, mean", "number", "self time a call"),
            lambda row: time_cell(_over(row["host_self_ns"], row["count"])),
        ),
        *(
            (_ns("Kernel time", "kernel_time_ns", "of kernels it launched itself"), _count("Kernels", "kernels"))
            if trace.gpu
            else ()
        ),
    )
    return _table(trace, "operators", "Host operators", specs)


def gap_groups(trace: TraceBundle) -> TableView:
    """Before which kernels is the GPU idle, and what causes it?"""
    idle = figure(trace.gpu, "idle_ns")
    specs = (
        _name("Before kernel", "after", "the GPU event that ends the gap"),
        _name("Launched by", "operator", optional=True),
        _text("Call", "call", "the runtime or driver call that launched it"),
        _cause(),
        _waits_for(),
        _Spec(Column("Share", "bar", "of all idle time"), lambda row: share_cell(_over(row["idle_ns"], idle))),
        _ns("Idle", "idle_ns", "sum of these gaps"),
        _count("Gaps", "count"),
        _Spec(Column("Mean", "number", "idle time a gap"), lambda row: time_cell(_over(row["idle_ns"], row["count"]))),
        *_cause_columns(),
        *_wait_columns(),
    )
    return _table(trace, "gap_groups", "Idle time by what ends it", specs)


def gaps(trace: TraceBundle) -> TableView:
    """Which single gaps are the longest?"""
    specs = (
        _ns("Gap", "duration_ns"),
        _ns("At", "start_ns", "from the trace's first event"),
        _cause(),
        _waits_for(),
        _name("After", "before", "the GPU event that ended last before it"),
        _name("Until", "after", "the GPU event that ends it"),
        _name("Launched by", "operator", optional=True),
        _text("Call", "call"),
        _text("Thread", "thread", "pid/tid of the launching thread"),
        *_cause_columns(),
        *_wait_columns(),
    )
    return _table(trace, "gaps", "Longest single gaps", specs)


def launches(trace: TraceBundle) -> TableView:
    """How long does a launch take to reach the GPU?"""
    specs = (
        _name("Launching call", "name"),
        _count("Count", "count"),
        _ns("Median", "p50_ns"),
        _ns("p90", "p90_ns"),
        _ns("p99", "p99_ns"),
        _ns("Max", "max_ns"),
    )
    return _table(
        trace, "launches", "Launch latency", specs, "From the call's start to the kernel's, time in the queue included."
    )


def graphs(trace: TraceBundle) -> TableView:
    """What do CUDA graphs replay, and how long is the GPU idle inside them?"""
    specs = (
        _name("Begins with", "first", "the first kernel or copy of a replay"),
        _share("Share", "share", "of kernel time, all launches"),
        _count("Launches", "launches"),
        _count("Kernels", "kernels", "of one launch"),
        _count("Copies", "copies", "and fills, of one launch"),
        _ns("Span", "span_ns", "from its first GPU event to its last one's end: median"),
        _ns("Busy", "busy_ns", "median"),
        _ns("Gaps", "gap_ns", "between its kernels, where no host takes part: median"),
        _ns("Latency", "latency_ns", "from the call's start to the first kernel's: median"),
        _ns("Call", "call_ns", "what launching it costs the host: median"),
    )
    return _table(
        trace, "graphs", "CUDA graphs", specs, "Launches that replay the same kernels count as launches of one graph."
    )


def graph_nodes(trace: TraceBundle) -> TableView:
    """Which nodes of the graphs take the time, and does one take longer in some replays?"""
    specs = (
        _name("Node", "name", "the kernel or copy"),
        _count("Graph", "graph"),
        _count("Number", "node", "within the graph, by first start"),
        _count("Replays", "count"),
        _ns("Time", "time_ns", "of all replays"),
        _ns("Shortest", "min_ns"),
        _ns("Median", "median_ns"),
        _ns("Longest", "max_ns"),
    )
    return _table(trace, "graph_nodes", "Nodes of CUDA graphs", specs)


def compiled_regions(trace: TraceBundle) -> TableView:
    """Which compiled code does the time go to?"""
    specs = (
        _text("Region", "region", "of torch.compile; a backward pass has none"),
        _name("Graph", "fx_graph", "Inductor's key", optional=True),
        _share("Share", "share", "of kernel time"),
        _ns("Time", "time_ns"),
        _count("Kernels", "kernels"),
        _ns("Generated", "generated_ns", "of the time: in kernels that Inductor generated"),
        _ns("Host", "host_ns", "wall clock of its calls"),
        _count("Calls", "calls"),
    )
    return _table(trace, "compiled_regions", "Compiled code", specs)


def generated_kernels(trace: TraceBundle) -> TableView:
    """Which operators of the source went into the kernels that the compiler generated?"""
    specs = (
        _name("Kernel", "name"),
        _name("Source operators", "source", "that its name lists", optional=True),
        _share("Share", "share", "of kernel time"),
        _ns("Time", "time_ns"),
        _count("Count", "count"),
        _text("Region", "region", "where most of its time was launched from"),
    )
    return _table(trace, "generated_kernels", "Generated kernels", specs)


def calls(trace: TraceBundle) -> TableView:
    """Which runtime and driver calls take the host's time?"""
    specs = (
        _name("Call", "name"),
        _ns("Time", "time_ns"),
        _count("Count", "count"),
        _Spec(Column("Mean", "number"), lambda row: time_cell(_mean(row))),
        _ns("Max", "max_ns"),
    )
    return _table(trace, "calls", "Runtime and driver calls", specs)


def copies(trace: TraceBundle) -> TableView:
    """What do the copy engines move?"""
    specs = (
        _name("Copy or fill", "name"),
        _ns("Time", "time_ns"),
        _count("Count", "count"),
        _Spec(Column("Mean", "number"), lambda row: time_cell(_mean(row))),
        _Spec(Column("Bytes", "number"), lambda row: _cell(size, row.get("bytes")), optional=True),
        _Spec(Column("Rate", "number", "bytes over time"), _rate_cell, optional=True),
    )
    return _table(trace, "copies", "Copies and fills", specs)


def devices(trace: TraceBundle) -> TableView:
    """How busy is each of the GPUs that the process drives?"""
    specs = (
        _Spec(Column("Device", "text"), lambda row: _text_cell(row.get("device"))),
        _text("Name", "name"),
        _Spec(Column("Busy", "bar", "of the span"), lambda row: share_cell(_over(row.get("busy_ns"), row.get("span_ns")))),
        _ns("Busy time", "busy_ns"),
        _ns("Idle", "idle_ns"),
        _ns("Kernel time", "kernel_time_ns"),
        _count("Kernels", "kernels"),
    )
    note = (
        "The span is common to all: from the process's first GPU event to its last one's end. The figures above are their sums."
    )
    return _table(trace, "devices", "Devices", specs, note)


def streams(trace: TraceBundle) -> TableView:
    """How is the work spread over the GPU's streams?"""
    specs = (
        _Spec(Column("Device", "text"), lambda row: _text_cell(row.get("device"))),
        _Spec(Column("Stream", "text"), lambda row: _text_cell(row.get("stream"))),
        _share("Busy", "share", "of the GPU's span"),
        _ns("Time", "busy_ns"),
        _count("Events", "events"),
        _count("Kernels", "kernels"),
    )
    return _table(trace, "streams", "Streams", specs)


def _table(trace: TraceBundle, key: str, title: str, specs: Sequence[_Spec], note: str = "") -> TableView:
    return _view(key, title, specs, trace.rows(key, LIMITS[key]), trace.tables[key].num_rows, f"{key}.parquet", note)


def _view(
    key: str, title: str, specs: Sequence[_Spec], rows: Sequence[Row], total: int, source: str, note: str = ""
) -> TableView:
    cells = [[spec.cell(row) for row in rows] for spec in specs]
    kept = [
        at for at, spec in enumerate(specs) if not spec.optional or any(cell.text not in ("", MISSING) for cell in cells[at])
    ]
    return TableView(
        key=key,
        title=title,
        columns=tuple(specs[at].column for at in kept),
        rows=tuple(zip(*(cells[at] for at in kept), strict=True)),
        total=total,
        source=source,
        note=note,
    )


def _name(label: str, key: str, help_text: str = "", *, optional: bool = False) -> _Spec:
    return _Spec(Column(label, "name", help_text), lambda row: name_cell(row.get(key)), optional)


def _family() -> _Spec:
    def chip(row: Row) -> Cell:
        term = family(row.get("family"))
        kind = str(row.get("kind") or "")
        return Cell(term.label, full=kind if kind not in ("", term.label) else None, term=term)

    return _Spec(Column("Family", "term"), chip)


def _cause() -> _Spec:
    def chip(row: Row) -> Cell:
        term = cause(row.get("cause"))
        return Cell(term.label, term=term)

    return _Spec(Column("Cause", "term", "the largest part of the idle time"), chip)


def _cause_columns() -> tuple[_Spec, ...]:
    """The columns for the six causes of idle time. A cause is left out if no row has any of it."""

    return tuple(_part(cause(key).label.capitalize(), f"{key}_ns", cause(key).meaning) for key in CAUSES)


def _waits_for() -> _Spec:
    """What the host or the stream waited for. It is shown where waiting is the main cause: else it would explain nothing."""
    column = Column("Waits for", "text", "what the host, or the GPU's stream, waited for, as far as recorded")
    return _Spec(column, lambda row: _text_cell(row.get("waits_for") if row.get("cause") in WAITING else None), optional=True)


def _wait_columns() -> tuple[_Spec, ...]:
    """The columns for the parts of the device's wait whose reason is known, and for the profiler's own time."""
    return (
        _part("Stream wait", "stream_wait_ns", "of device wait: for an event of another stream"),
        _part("Copy wait", "copy_wait_ns", "of device wait: after a copy or fill on the same stream"),
        _part("Device dispatch", "device_dispatch_ns", "of device wait: the device took its own time"),
        _part("Profiler", "profiler_ns", "of the idle time: the profiler was at work"),
    )


def _part(label: str, key: str, help_text: str) -> _Spec:
    """A column for a part of a time. The column is left out if no row has any of it."""

    def cell(row: Row) -> Cell:
        value = row.get(key)
        return time_cell(value) if value else Cell("", 0.0)

    return _Spec(Column(label, "number", help_text), cell, optional=True)


def _ns(label: str, key: str, help_text: str = "") -> _Spec:
    return _Spec(Column(label, "number", help_text), lambda row: time_cell(row.get(key)))


def _count(label: str, key: str, help_text: str = "", *, optional: bool = False) -> _Spec:
    return _Spec(Column(label, "number", help_text), lambda row: _cell(number, row.get(key)), optional)


def _share(label: str, key: str, help_text: str = "") -> _Spec:
    return _Spec(Column(label, "bar", help_text), lambda row: share_cell(row.get(key)))


def _text(label: str, key: str, help_text: str = "") -> _Spec:
    return _Spec(Column(label, "text", help_text), lambda row: _text_cell(row.get(key)), optional=True)


def name_cell(value: object) -> Cell:
    """A shortened name. If the whole name is longer, `full` holds it."""
    if value is None or value == "":
        return Cell(MISSING)
    name = str(value)
    short = shorten(name)
    return Cell(short, full=name if name != short else None)


def _text_cell(value: object) -> Cell:
    if value is None or value == "":
        return Cell(MISSING)
    return Cell(
        str(value).replace(", ", " × ") if isinstance(value, str) else str(value),
        float(value) if isinstance(value, int) else None,
    )


def _cell(show: Callable[[float | None], str], value: float | None) -> Cell:
    return Cell(show(value), float(value) if is_number(value) else None)


def time_cell(value: float | None) -> Cell:
    """A duration in ns."""
    return _cell(duration, value)


OVERLAP = 0.99
"""A row shows its own time only if that is below this share of its kernel time.

Kernels of one stream may seem to overlap by a microsecond only because times were rounded.
"""


def own_column() -> Column:
    """The column for the time that is left of kernels where they overlap."""
    return Column("Own", "number", "where kernels of one stream overlap, each moment counts for the one that began first")


def own_cell(row: Row) -> Cell:
    """A row's own part of its kernel time, where kernels overlap; empty if all of the time is its own."""
    own, whole = row.get("busy_ns"), row.get("time_ns")
    return time_cell(own) if is_number(own) and is_number(whole) and own < OVERLAP * whole else Cell("")


def count_cell(value: float | None) -> Cell:
    """A count."""
    return _cell(number, value)


def share_cell(value: float | None) -> Cell:
    """A share of 1 in per cent, with its bar."""
    if not is_number(value):
        return Cell(MISSING)
    return Cell(percent(value), float(value), bar=min(1.0, max(0.0, float(value))))


def _occupancy(value: float | None) -> Cell:
    return _cell(lambda shown: percent(shown / 100, 0) if is_number(shown) else MISSING, value)


def _rate_cell(row: Row) -> Cell:
    value = _over(row.get("bytes"), row.get("time_ns"))
    return Cell(rate(row.get("bytes"), row.get("time_ns")), value)


def _mean(row: Row) -> float | None:
    return _over(row.get("time_ns"), row.get("count"))


def _over(value: float | None, by: float | None) -> float | None:
    """A quotient. None if either value is not a number, or if the divisor is 0."""
    if not is_number(value) or not is_number(by) or by == 0:
        return None
    return value / by
