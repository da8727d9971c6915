"""What does a person at a terminal need to see of an analysis?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tracekit.names import shorten
from tracekit.schema import WAITING
from tracekit.table import Table
from tracekit.vocabulary import CAUSES, FLAGS, PATH_SEGMENTS, ROOFS, WITHOUT_OPERATOR, label, limited_by, term
from tracekit.wording import MISSING, counted, duration, number, percent, quantity, shapes, size, three_digits

from ..analysis import Analysis
from ..path.critical_path import CriticalPath, NoCriticalPath
from ..ranks.distributed_run import DistributedRun
from ..structure.layers import OUTSIDE
from ..structure.phases import Phases
from ..work.projection import DecodeProjection, Projection
from ..work.roofline import Roofline
from .terminal_findings import findings, undecided
from .terminal_text import name_cell as _name
from .terminal_text import printable as _printable

ROWS = 10
NO_WORK_KNOWN = "nothing can be told: no kernel's work is known, as no shapes are recorded or graphs hide the operators"
GAP_HEADS = ("next kernel", "operator", "idle", "gaps", "mostly")
ROOFLINE_ROWS = 6
RANK_ROWS = 16
LAYER_ROWS = 20
MAX_INDENT = 8
HOW_TO_LAYER = "wrap parts of the model in torch.profiler.record_function(name), or profile with_stack=True for its nn.Modules"
WIDE = 80
NUMBER_WIDTH = 12
OVERLAP = 0.99
"""A layer's kernels count as overlapping only if its busy time is below this share of their summed time.

Kernels of one stream may seem to overlap by a microsecond only because times were rounded.
"""


def show(analysis: Analysis, console: Console) -> None:
    """Print one trace's figures as tables. Names from the trace are printed as plain text, never as markup."""
    console.print(_header(analysis))
    for warning in analysis.warnings:
        console.print(Text(f"! {_printable(warning.message)}", style="yellow"))
    parts = _gpu_parts(analysis, console.width) if analysis.gpu else _host_parts(analysis, console.width)
    console.print(Group(*parts))


def show_run(run: DistributedRun, console: Console) -> None:
    """Print what the ranks of a run do to each other. Prints nothing for a single rank: its own figures already say it all."""
    if len(run.ranks) > 1:
        console.print(Group(*_run_parts(run)))


def _run_parts(run: DistributedRun) -> Iterable[RenderableType]:
    of = f" of {number(run.world_size)}" if run.world_size else ""
    found = f"\n{counted(len(run.ranks), 'rank')}{of} (by {run.grouped_by})"
    how = f" by {run.matched_by}" if run.matched_by else ""
    yield Text.assemble((found, "bold"), f": {counted(run.collectives, 'collective')} matched{how}")
    for note in run.notes:
        yield Text(f"! {_printable(note)}", style="yellow")
    if run.straggler is not None and run.straggler_share is not None:
        told = f"rank {run.straggler} comes last at {percent(run.straggler_share)} of {counted(run.decided, 'collective')}"
        yield Text.assemble(("Straggler: ", "bold"), told)
    rows = sorted(run.ranks.records(), key=lambda row: (-row["last"], row["rank"]))
    title = "Ranks" if len(rows) <= RANK_ROWS else f"Ranks (the {RANK_ROWS} that come last most often, of {number(len(rows))})"
    table = _table(title, "rank", "busy", "compute", "comm.", "overlap", "exposed", "wait", "last")
    for row in sorted(rows[:RANK_ROWS], key=lambda row: row["rank"]):
        figures = ("busy_ns", "compute_ns", "communication_ns", "overlap_ns", "exposed_ns")
        cells = (duration(row[key]) for key in figures)
        table.add_row(str(row["rank"]), *cells, duration(row["wait_ns"]), number(row["last"]))
    yield table


def _header(analysis: Analysis) -> Text:
    trace = analysis.trace
    about = [counted(trace.entries, "event")]
    if trace.device:
        about.insert(0, trace.device.name)
    if trace.rank is not None:
        about.append(f"rank {trace.rank}")
    if chosen := analysis.selection:
        about.append(f"{number(chosen.count)} of {counted(chosen.of, 'step')} ({chosen.numbers}) alone")
    return Text.assemble("\n", (_printable(trace.name), "bold"), "\n", (_printable(", ".join(about)), "dim"))


def _gpu_parts(analysis: Analysis, width: int) -> Iterable[RenderableType]:
    gpu = analysis.gpu
    assert gpu is not None
    yield Text.assemble(
        "GPU busy ",
        (percent(gpu.busy_ns / max(gpu.span_ns, 1)), "bold"),
        f" of {duration(gpu.span_ns)}: {counted(gpu.kernels, 'kernel')} ({duration(gpu.kernel_time_ns)}), "
        f"{counted(gpu.memcpys, 'copy', 'copies')}, {counted(gpu.memsets, 'fill')}",
    )
    yield from _devices(analysis)
    yield from _unattributed(analysis)
    yield from _communication(analysis)
    yield from findings(analysis.findings, analysis.facts.window_ns)
    yield from undecided(analysis.undecided)
    yield _families(analysis)
    yield _idle(analysis)
    yield _kernels(analysis, width)
    if analysis.roofline:
        yield from _roofline(analysis.roofline, width)
    if analysis.projection:
        yield from _projection(analysis.projection, width)
    if analysis.critical_path:
        yield from _critical_path(analysis.critical_path, width)
    if len(analysis.gap_groups):
        yield _gaps(analysis, width)
    yield _layers(analysis, width)
    yield from _phases(analysis.phases, analysis.gpu is not None)
    launches = analysis.launches
    latency = launches.latency
    if latency.p50 is not None and latency.p99 is not None:
        yield Text(
            f"{counted(launches.kernel_launches, 'kernel launch', 'kernel launches')}, "
            f"{counted(launches.graph_launches, 'graph launch', 'graph launches')}; from call to start: "
            f"p50 {duration(latency.p50)}, p99 {duration(latency.p99)}",
            style="dim",
        )
    yield from _graphs(analysis)
    yield from _compiled(analysis)


def _host_parts(analysis: Analysis, width: int) -> Iterable[RenderableType]:
    host = analysis.host
    if host is None:
        yield Text("The trace has neither GPU nor host events.")
        return
    yield Text.assemble(
        "Host operators ",
        (duration(host.operator_self_ns), "bold"),
        f" (self time) in a span of {duration(host.span_ns)}: {counted(host.operators, 'operator')} "
        f"on {counted(host.threads, 'thread')}",
    )
    yield from findings(analysis.findings, host.span_ns)
    yield _operators(analysis.operators, host.operator_self_ns, width)
    yield _layers(analysis, width)
    yield from _phases(analysis.phases, on_gpu=False)


def _unattributed(analysis: Analysis) -> Iterable[RenderableType]:
    """How much of the kernel time no operator launched, and why. Yields nothing if every kernel has an operator."""
    alone = analysis.without_operator
    if alone is None or not alone.kernels:
        return
    times = {reason: getattr(alone, f"{reason}_ns") for reason in WITHOUT_OPERATOR}
    told = ", ".join(f"{WITHOUT_OPERATOR[reason]} {duration(ns)}" for reason, ns in times.items() if ns)
    yield Text.assemble("No operator for ", (percent(alone.share), "bold"), f" of the kernel time: {told}")


def _communication(analysis: Analysis) -> Iterable[RenderableType]:
    """How long communication runs, and how much of it no computing hides."""
    found = analysis.communication
    if found is None or not found.communication_ns:
        return
    yield Text.assemble(
        "Communication ",
        (percent(found.communication_ns / max(found.span_ns, 1)), "bold"),
        f" of the span, {duration(found.communication_ns)}: {duration(found.overlap_ns)} while computing, ",
        (f"{duration(found.exposed_ns)} exposed", "bold"),
    )


def _phases(phases: Phases, on_gpu: bool) -> Iterable[RenderableType]:
    """The medians of the steps, by phase and state, or the reason why there are no steps."""
    if phases.source is None:
        yield Text(f"No steps: {_printable(phases.told)}", style="dim")
        return
    labels = {"device": "GPU time", "busy": "busy", "idle": "idle", "host": "host time"} if on_gpu else {"host": "host time"}
    table = _table("Steps, medians", "steps", "state", "count", *labels.values(), "unlike")
    for row in phases.groups.records():
        table.add_row(
            row["phase"] or "all",
            row["state"] or MISSING,
            number(row["steps"]),
            *(duration(row[f"{measure}_median_ns"]) for measure in labels),
            number(row["outliers"]) if row["outliers"] else "",
        )
    table.caption, table.caption_justify = Text(f"told by {_printable(phases.told)}", style="dim"), "left"
    yield table


def _graphs(analysis: Analysis) -> Iterable[RenderableType]:
    """The number of CUDA graphs, and the one with the most kernel time."""
    graphs = analysis.graphs
    if not len(graphs):
        return
    row = graphs.head(1).records()[0]
    yield Text(
        f"{counted(len(graphs), 'CUDA graph')}; the longest: {counted(row['launches'], 'launch', 'launches')} of "
        f"{counted(row['kernels'], 'kernel')}, {duration(row['span_ns'])} each, {duration(row['gap_ns'])} of it gaps (medians)",
        style="dim",
    )


def _compiled(analysis: Analysis) -> Iterable[RenderableType]:
    """How much of the kernel time lies in compiled code, and how much in kernels that were generated for it."""
    regions, generated = analysis.compiled_regions, analysis.generated_kernels
    if not len(regions) and not len(generated):
        return
    yield Text(
        f"compiled code: {counted(len(regions), 'graph')} with {percent(float(regions['share'].sum()))} of the kernel time; "
        f"{counted(len(generated), 'generated kernel')} with {percent(float(generated['share'].sum()))}",
        style="dim",
    )


def _devices(analysis: Analysis) -> Iterable[RenderableType]:
    """Each GPU, if the process drives several: the figures above are their sums."""
    devices = analysis.whole("devices").records()
    if len(devices) < 2:
        return
    table = _table("Devices: the sums of their figures stand above", "device", "busy", "share", "idle", "kernels", "time")
    for row in devices:
        table.add_row(
            _printable(f"{row['device']} {row['name'] or ''}".strip()),
            duration(row["busy_ns"]),
            percent(row["busy_ns"] / max(row["span_ns"], 1)),
            duration(row["idle_ns"]),
            number(row["kernels"]),
            duration(row["kernel_time_ns"]),
        )
    yield table


def _families(analysis: Analysis) -> RichTable:
    table = _table("Kernel time by family", "family", "time", "share", "", "kernels")
    for row in analysis.families.records():
        table.add_row(
            label(row["family"]), duration(row["time_ns"]), percent(row["share"]), _bar(row["share"]), number(row["count"])
        )
    return table


def _idle(analysis: Analysis) -> RichTable:
    idle = analysis.idle
    table = _table("Idle time by cause", "cause", "time", "share", "", "meaning")
    for cause in sorted(CAUSES.values(), key=lambda cause: -getattr(idle, f"{cause.key}_ns")):
        ns = getattr(idle, f"{cause.key}_ns")
        if ns:
            part = ns / idle.total_ns
            table.add_row(cause.label, duration(ns), percent(part), _bar(part), Text(cause.meaning, style="dim"))
    return table


def _kernels(analysis: Analysis, width: int) -> RichTable:
    table = _table(_titled("Kernels", analysis.kernels), "kernel", "family", "time", "share", "count", "median")
    for row in analysis.kernels.head(ROWS).records():
        table.add_row(
            _name(row["name"], width - 55),
            label(row["family"]),
            duration(row["time_ns"]),
            percent(row["share"]),
            number(row["count"]),
            duration(row["median_ns"]),
        )
    return table


def _roofline(roofline: Roofline, width: int) -> Iterable[RenderableType]:
    """The share of kernel time whose work is known, and how close the most expensive operators come to the device's peaks."""
    against = f"the peaks of {_printable(roofline.device)}" if roofline.device else "no peaks: the device is not in the table"
    yield Text.assemble(
        "Work known for ",
        (percent(roofline.known_share), "bold"),
        f" of kernel time; held against {against}",
    )
    rows = [row for row in roofline.operators.records() if row["bytes"] is not None]
    if not rows:
        return
    largest = f" (the {ROOFLINE_ROWS} largest of {number(len(rows))})" if len(rows) > ROOFLINE_ROWS else ""
    wide = width >= WIDE
    table = _table(f"Roofline{largest}", "operator, shapes", "time", *(("TFLOP/s", "GB/s") if wide else ()), "of roof", "bound")
    for row in rows[:ROOFLINE_ROWS]:
        reached = max((part for part in (row["compute_share"], row["memory_share"]) if part is not None), default=None)
        table.add_row(
            _called(row["operator"], row["shapes"], width - (51 if wide else 36)),
            duration(row["known_ns"]),
            *((three_digits(row["tflops"]), three_digits(row["gb_s"])) if wide else ()),
            percent(reached),
            _bound(row["flag"], row["bound"]),
        )
    yield table


def _bound(flag: str | None, bound: str | None) -> str:
    if flag:
        return term(FLAGS, flag).label
    return term(ROOFS, bound).label if bound else MISSING


def _called(operator: str, recorded: str | None, width: int) -> Text:
    """An operator and its tensors' shapes, as in `addmm 768, 9×3072, 3072×768`. A long text is cut at its end."""
    text = _printable(f"{operator.removeprefix('aten::')} {shapes(recorded or '')}".strip())
    width = max(width, 16)
    return Text(text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…")


def _projection(projection: Projection, width: int) -> Iterable[RenderableType]:
    """What the roofline model predicts for another device. The word `projected` stands with every figure."""
    inputs = projection.inputs
    told = (
        f"{percent(projection.known_share)} of kernel time, {duration(projection.known_ns)} here, takes at least "
        f"{duration(projection.projected_ns)} there"
    )
    yield Text.assemble(
        ("Projected", "bold"),
        f" onto {_printable(inputs.device)} at {quantity(inputs.memory_gb_s, 'GB/s')}: "
        f"{told if projection.known_ns else NO_WORK_KNOWN}",
    )
    wide = width >= WIDE
    table = _table("Projected, a call", "step", "kernels here", *(("kernels", "gaps", "host") if wide else ()), "step there")
    for row in projection.steps.records():
        kernels = duration(row["projected_ns"] if row["step_ns"] is not None else None)
        parts = (kernels, duration(row["gap_ns"]), duration(row["host_ns"]))
        table.add_row(
            _name(row["step"], width - (62 if wide else 32)),
            duration(row["time_ns"]),
            *(parts if wide else ()),
            f"{percent(row['known_share'])} known" if row["step_ns"] is None else duration(row["step_ns"]),
        )
    if len(projection.steps):
        yield table
    if projection.decode:
        yield _decode(projection.decode)


def _decode(decode: DecodeProjection) -> Text:
    return Text(
        f"Projected by the model alone: {size(decode.model.bytes)} a decode step, {duration(decode.step_ns)}, "
        f"{quantity(decode.tokens_per_second, 'tokens/s')}, limited by {limited_by(decode.bound)}"
    )


def _critical_path(path: CriticalPath | NoCriticalPath, width: int) -> Iterable[RenderableType]:
    """What bounds the time, and the events that have the most time on the critical path."""
    if isinstance(path, NoCriticalPath):
        yield Text(f"! no critical path: {_printable(path.reason)}", style="yellow")
        return
    host = float(path.bounds["share"][path.bounds["bound"] == "host"].sum())
    yield Text.assemble(
        "Critical path ",
        (duration(path.length_ns), "bold"),
        f" through {_printable(path.window) if path.window else 'the whole trace'}: ",
        (f"{percent(host)} of the host", "bold"),
    )
    table = _table(
        "Critical path by what bounds it", "bound", "kind", "time", "share", *(("meaning",) if width >= WIDE else ())
    )
    for row in path.bounds.records():
        segment = term(PATH_SEGMENTS, row["kind"])
        meaning = (Text(segment.meaning, style="dim"),) if width >= WIDE else ()
        table.add_row(label(row["bound"]), segment.label, duration(row["time_ns"]), percent(row["share"]), *meaning)
    yield table
    table = _table(_titled("On the critical path", path.events), "event", "kind", "time", "share", "count")
    for row in path.events.head(ROWS).records():
        name = _name(row["name"] or MISSING, width - 46)
        table.add_row(name, label(row["kind"]), duration(row["time_ns"]), percent(row["share"]), number(row["count"]))
    yield table
    for note in path.notes:
        yield Text(f"! {_printable(note.message)}", style="dim")


def _gaps(analysis: Analysis, width: int) -> RichTable:
    groups = analysis.gap_groups
    rows = groups.head(ROWS).records()
    waits_for = [row["waits_for"] if row["cause"] in WAITING else None for row in rows]
    waited = any(waits_for)
    table = _table(_titled("Idle before", groups), *GAP_HEADS, *(["waits for"] if waited else []))
    room = (width - (58 if waited else 40)) // 2
    for row, target in zip(rows, waits_for, strict=True):
        table.add_row(
            _name(row["after"], room),
            _name(row["operator"] or row["call"] or MISSING, room),
            duration(row["idle_ns"]),
            number(row["count"]),
            label(row["cause"]),
            *([target or ""] if waited else []),
        )
    return table


def _layers(analysis: Analysis, width: int) -> RenderableType:
    """The layers with the largest shares of GPU or host time, shown inside the layers around them.

    If no layer lies inside another one, a line that says so.
    """
    layers = analysis.layers
    if not len(layers) or not layers["depth"].max():
        return Text(f"{_unlayered(layers)}: {HOW_TO_LAYER}", style="dim")
    # No layer has a larger share than the layer around it. So the largest ones come with all the layers around them.
    worst = np.argsort(-np.maximum(layers["share"], layers["host_share"]), kind="stable")[:LAYER_ROWS]
    title = "Layers" if len(layers) <= LAYER_ROWS else f"Layers (the {LAYER_ROWS} largest of {number(len(layers))})"
    gpu, wide = analysis.gpu is not None, width >= WIDE
    overlapping = wide and bool((layers["busy_ns"] < OVERLAP * layers["time_ns"]).any())
    columns = [("GPU time", gpu and wide), ("GPU", gpu), ("busy", overlapping), ("host time", wide), ("host", True)]
    table = _table(title, "layer", *(name for name, shown in columns if shown))
    room = width - sum(NUMBER_WIDTH for _, shown in columns if shown)
    for row in layers.take(np.sort(worst)).records():
        indent = "  " * min(row["depth"], MAX_INDENT)
        cells = (
            duration(row["time_ns"]),
            percent(row["share"]),
            duration(row["busy_ns"]),
            duration(row["host_ns"]),
            percent(row["host_share"]),
        )
        name = Text(indent) + _name(row["name"], room - len(indent))
        table.add_row(name, *(cell for cell, (_, shown) in zip(cells, columns, strict=True) if shown))
    named = analysis.layer_sources.named_kernels
    notes = [f"names tell the layers of {counted(named, 'kernel')}: GPU time only"] if named else []
    notes += ["kernels of a stream overlap: busy counts each moment once"] if overlapping else []
    if notes:
        table.caption, table.caption_justify = Text("; ".join(notes), style="dim"), "left"
    return table


def _unlayered(layers: Table) -> str:
    top = [path for path in layers["path"].tolist() if path != OUTSIDE]
    if not top:
        return "No layers: the trace has no annotations and no module events"
    shown = ", ".join(shorten(_printable(path), 24) for path in top[:3])
    return f"No layers within {shown}{' …' if len(top) > 3 else ''}"


def _operators(operators: Table, total: int, width: int) -> RichTable:
    table = _table(_titled("Host operators", operators), "operator", "self", "share", "total", "count")
    for row in operators.head(ROWS).records():
        table.add_row(
            _name(row["name"], width - 44),
            duration(row["host_self_ns"]),
            percent(row["host_self_ns"] / max(total, 1)),
            duration(row["host_total_ns"]),
            number(row["count"]),
        )
    return table


def _titled(title: str, table: Table) -> str:
    return title if len(table) <= ROWS else f"{title} (the {ROWS} worst of {number(len(table))})"


NUMBERS = frozenset(
    {"time", "share", "kernels", "count", "median", "idle", "gaps", "self", "total"}
    | {"GPU time", "GPU", "busy", "host time", "host"}
    | {"rank", "compute", "comm.", "overlap", "exposed", "wait", "last", "unlike"}
    | {"TFLOP/s", "GB/s", "of roof", "kernels here", "step there"}
)


def _table(title: str, *columns: str) -> RichTable:
    table = RichTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    return table


def _bar(part: float, width: int = 8) -> Text:
    return Text("█" * round(part * width), style="cyan")
