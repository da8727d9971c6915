"""Which layers take the GPU's time, and which take the host's?

Every annotated trace is shown as a tree. If a model's annotations are named as in docs/layers.md, it is also shown level by
level, as in the study that tracekit repeats, with that study's percentages beside ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracekit.names import elide
from tracekit.quoted import Layer as QuotedLayer
from tracekit.quoted import quoted
from tracekit.wording import counted, form

from . import figures
from .budget import figure
from .bundle import TraceBundle
from .nonbreaking import duration, percent
from .tables import Cell, Column, Row, TableView, count_cell, name_cell, own_cell, own_column, share_cell, time_cell

REST = "(rest)"
OUTSIDE = "(outside)"
BLOCK = ("blocks", "block")
LEVELS = (
    ("model", "Model", ()),
    ("block", "Block", BLOCK),
    ("attention", "Attention", (*BLOCK, "attention")),
    ("mlp", "MLP", (*BLOCK, "mlp")),
)
"""The levels of a GPT-2: the key, the title, and the path below a step at which the parts of the level lie."""
MAX_ROWS = 300
MAX_MARKS = 14
_NAME_LIMIT = 48
_HOW = (
    "Wrap parts of the model in torch.profiler.record_function(name), as tracekit collect --layers does, or profile with "
    "with_stack=True for its nn.Modules: then each layer's GPU time and host time stand here."
)


@dataclass
class Layer:
    """A row of the table of layers, with the rows that lie inside it."""

    row: Row
    inner: list[Layer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.row.get("name"))

    @property
    def gpu_ns(self) -> int:
        return figure(self.row, "time_ns")

    @property
    def host_ns(self) -> int:
        return figure(self.row, "host_ns")

    def below(self, names: Sequence[str]) -> Layer | None:
        """The layer that a path of names leads to, starting inside this layer. None if there is none."""
        found: Layer | None = self
        for name in names:
            found = next((one for one in found.inner if one.name == name), None) if found else None
        return found


@dataclass(frozen=True)
class StepLevels:
    """The levels of one kind of step, such as `decode`."""

    name: str
    about: str
    levels: tuple[TableView, ...]


@dataclass(frozen=True)
class TreeRow:
    """A row of the tree: its depth, and whether other rows lie inside it."""

    depth: int
    parent: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tree:
    """All layers, each inside the layer around it. `total` also counts the layers that the page has no space for."""

    columns: tuple[Column, ...]
    rows: tuple[TreeRow, ...]
    total: int


@dataclass(frozen=True)
class LayersView:
    """What the page shows about layers: levels of steps, the tree, a chart and notes.

    If there are no layers, `missing` says so and the rest is empty.
    """

    steps: tuple[StepLevels, ...] = ()
    tree: Tree | None = None
    chart: dict[str, Any] | None = None
    caption: str = ""
    notes: tuple[str, ...] = ()
    missing: str = ""


def layers_view(trace: TraceBundle) -> LayersView:
    """Everything that the page shows about the layers of a trace."""
    everything = _nested(trace.rows("layers"))
    top = [layer for layer in everything if not _depth(layer.row)]
    if not any(layer.inner for layer in top):
        names = [layer.name for layer in top if layer.name != OUTSIDE]
        shown = ", ".join(elide(name, 40) for name in names[:3]) + (" …" if len(names) > 3 else "")
        known = f"Nothing is annotated within {shown}." if names else "The trace has no annotations and no module events."
        return LayersView(missing=f"{known} {_HOW}")
    on_gpu = any(layer.gpu_ns for layer in top)
    steps = sorted((layer for layer in everything if layer.below(BLOCK)), key=lambda step: -step.host_ns)
    whole = (
        f"the GPU time and of the host time of {elide(steps[0].name, 40)}"
        if steps
        else "all GPU time and of all layers' host time"
    )
    return LayersView(
        steps=tuple(
            StepLevels(step.name, _about(step, on_gpu), _levels(step, f"step{at}", on_gpu)) for at, step in enumerate(steps)
        ),
        tree=_tree(everything, on_gpu),
        chart=_chart(steps[:1] or top) if on_gpu else None,
        caption=f"Shares of {whole}, for layers that have none inside them.",
        notes=tuple(_notes(trace, bool(steps), on_gpu)),
    )


def _depth(row: Row) -> int:
    return figure(row, "depth")


def _nested(rows: Sequence[Row]) -> list[Layer]:
    """All layers, in the order of the table. There, each layer stands before the layers inside it."""
    found: list[Layer] = []
    around: list[Layer] = []
    for row in rows:
        layer = Layer(row)
        del around[_depth(row) :]
        if around:
            around[-1].inner.append(layer)
        around.append(layer)
        found.append(layer)
    return found


def _about(step: Layer, on_gpu: bool) -> str:
    """How often the step ran, how many blocks are added up as one, and its GPU and host time; as a text."""
    calls, block = figure(step.row, "calls"), step.below(BLOCK)
    parts = [counted(calls, "step")] if calls > 1 else []
    blocks = round(figure(block.row, "calls") / calls) if block is not None and calls else 0
    if blocks > 1:
        parts.append(f"{counted(blocks, 'block')} as one")
    if on_gpu:
        parts.append(f"GPU {duration(step.gpu_ns)}")
    return ", ".join((*parts, f"host {duration(step.host_ns)}"))


def _levels(step: Layer, key: str, on_gpu: bool) -> tuple[TableView, ...]:
    found = ((level, title, step.below(names)) for level, title, names in LEVELS)
    return tuple(
        _level(f"{key}-{level}", title, layer, quoted().level(level), on_gpu)
        for level, title, layer in found
        if layer is not None and layer.inner
    )


def _level(key: str, title: str, whole: Layer, known: Mapping[str, QuotedLayer], on_gpu: bool) -> TableView:
    """The parts of one layer as shares of it, in the order in which they run."""
    source = quoted().source
    columns = [
        Column("Layer", "layer"),
        Column("GPU", "bar", "share of the GPU time: kernels launched inside"),
        Column("Host", "bar", "share of the host time: wall clock on the launching thread"),
        Column("Quoted, T4", "quoted", f"{source.line}: {source.title}"),
        Column("GPU time", "number", "of kernels launched inside"),
        own_column(),
        Column("Host time", "number", "wall clock on the launching thread"),
    ]
    rows = [
        (
            Cell(elide(layer.name, _NAME_LIMIT)),
            share_cell(_over(layer.gpu_ns, whole.gpu_ns)),
            share_cell(_over(layer.host_ns, whole.host_ns)),
            Cell(percent(known[layer.name].percent / 100), known[layer.name].percent) if layer.name in known else Cell(""),
            time_cell(layer.gpu_ns),
            own_cell(layer.row),
            time_cell(layer.host_ns),
        )
        for layer in whole.inner
    ]
    hidden = _hidden(whole.inner, on_gpu)
    kept = [at for at, column in enumerate(columns) if column.label not in hidden]
    return TableView(
        key=key,
        title=title,
        columns=tuple(columns[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in rows),
        total=len(rows),
        source="layers.parquet",
        note=", ".join(([f"GPU {duration(whole.gpu_ns)}"] if on_gpu else []) + [f"host {duration(whole.host_ns)}"]),
    )


def _tree(everything: Sequence[Layer], on_gpu: bool) -> Tree:
    """All layers. If there are too many, those with the largest shares.

    A part never exceeds its whole, so the layers around a chosen layer are chosen as well.
    """
    columns = [
        Column("Layer", "layer"),
        Column("GPU", "bar", "of all kernel time: kernels launched inside"),
        Column("Host", "bar", "of the outermost layers' wall clock"),
        Column("GPU time", "number", "of kernels launched inside"),
        own_column(),
        Column("Host time", "number", "wall clock on the launching thread"),
        Column("Waiting", "number", "of the host time: in calls that wait for the device"),
        Column("Kernels", "number"),
        Column("Calls", "number", "how often it ran"),
    ]
    waits = any(figure(layer.row, "wait_ns") for layer in everything)
    hidden = _hidden(everything, on_gpu) | (set() if waits else {"Waiting"})
    kept = [at for at, column in enumerate(columns) if column.label not in hidden]
    order = sorted(range(len(everything)), key=lambda at: -max(_shares(everything[at])))
    rows = []
    for at in sorted(order[:MAX_ROWS]):
        layer = everything[at]
        gpu, host = _shares(layer)
        calls = figure(layer.row, "calls")
        cells = (
            name_cell(layer.name),
            share_cell(gpu),
            share_cell(host),
            time_cell(layer.gpu_ns),
            own_cell(layer.row),
            time_cell(layer.host_ns),
            time_cell(figure(layer.row, "wait_ns")),
            count_cell(figure(layer.row, "count")),
            count_cell(calls) if calls else Cell(""),
        )
        rows.append(TreeRow(_depth(layer.row), bool(layer.inner), tuple(cells[at] for at in kept)))
    return Tree(tuple(columns[at] for at in kept), tuple(rows), len(everything))


def _hidden(layers: Sequence[Layer], on_gpu: bool) -> set[str]:
    """The labels of the columns that would show nothing for these layers."""
    own = {own_column().label}
    if not on_gpu:
        return {"GPU", "GPU time", "Kernels"} | own
    return set() if any(own_cell(layer.row).text for layer in layers) else own


def _shares(layer: Layer) -> tuple[float, float]:
    """The layer's share of all kernel time, and its share of all host time."""
    return float(layer.row.get("share") or 0), float(layer.row.get("host_share") or 0)


def _chart(wholes: Sequence[Layer]) -> dict[str, Any] | None:
    """The GPU share and the host share of each layer without layers inside it, the largest first."""
    gpu, host = sum(whole.gpu_ns for whole in wholes), sum(whole.host_ns for whole in wholes)
    stack, marks = [(whole, "") for whole in reversed(wholes)], []
    while stack:
        layer, path = stack.pop()
        stack += [(one, f"{path}/{one.name}" if path else one.name) for one in reversed(layer.inner)]
        if not layer.inner and layer.name not in (REST, OUTSIDE):
            marks.append(figures.Mark(path or layer.name, _over(layer.gpu_ns, gpu) or 0, _over(layer.host_ns, host) or 0))
    marks.sort(key=lambda mark: -max(mark.gpu, mark.host))
    return figures.layers(marks[:MAX_MARKS]) if len(marks) > 1 else None


def _notes(trace: TraceBundle, has_steps: bool, on_gpu: bool) -> Iterator[str]:
    if has_steps:
        source, manifest = quoted().source, trace.manifest
        yield f"Quoted, T4: {source.line} ({source.title}). {source.method}"
        if manifest is not None and manifest.model.name != source.model:
            yield f"This model is {manifest.model.name}, the quoted one {source.model}: their shares need not agree."
    if not on_gpu:
        yield "No kernel was launched in any layer, so there is host time only."
    sources = trace.document.get("layer_sources") or {}
    replayed, labelled = figure(sources, "graph_kernels"), figure(sources, "labelled_graph_kernels")
    told = labelled + figure(sources, "named_graph_kernels")
    if named := figure(sources, "named_kernels"):
        yield (
            f"The layers of {counted(named, 'kernel')} are told by the kernels' names and their order, and have GPU time only. "
            "What a kernel fuses is joined by +, and all of its time counts where that stands."
        )
    if replayed > told:
        yield (
            f"{_replayed(replayed - told)}, and neither a label nor a name tells a layer: such kernels count for the one in "
            "which their graph was launched. torch can label them (torch.cuda._graph_annotations)."
        )
    elif labelled:
        yield f"{_replayed(labelled)}; labels tell the layers."


def _replayed(kernels: int) -> str:
    return f"{counted(kernels, 'kernel')} {form(kernels, 'was', 'were')} replayed from CUDA graphs"


def _over(value: int, by: int) -> float | None:
    return value / by if by else None
