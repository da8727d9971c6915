"""Which layer of the model does time belong to: the GPU's, and the host's?

A layer is a user annotation or an `nn.Module` event; layers nest by time on their thread. Its GPU time is that of the kernels
launched inside it, its host time the wall clock between its two ends. The two answer different questions: where the host runs
ahead of the device, or lags behind it, a stopwatch around a layer says little about the layer's kernels.

Within the innermost of these, kernels themselves may tell layers, which then have GPU time only: by the label that a graph's
kernel was marked with, or else by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tracekit.names import join_path
from tracekit.parts import LayerPath, Parts
from tracekit.table import Table

from ..activity.idle import blocking_calls
from ..activity.launches import graph_kernels
from ..activity.overlap import busy_ns
from ..trace.arrays import Bools, Int64s, objects
from ..trace.trace import Category, Trace
from .layers_from_names import Told, common, told_sequences
from .marks import COMPILER
from .steps import LIKELY, PROFILER_STEP, Steps, without_number

MODULE = "nn.Module: "

REST = "(rest)"
"""The row of what no child of a layer covers."""
OUTSIDE = "(outside)"
"""The row of kernels that were launched outside every layer."""

FIGURES = ("time_ns", "busy_ns", "count", "calls", "host_ns", "wait_ns")


@dataclass(frozen=True)
class LayerSources:
    """What told the layers: annotations and modules, labels of kernels replayed from graphs, and kernels' names.

    `named_kernels` counts those that names place in a layer, `named_graph_kernels` those of them replayed from graphs.
    """

    annotations: int
    modules: int
    graph_kernels: int
    labelled_graph_kernels: int
    named_kernels: int
    named_graph_kernels: int


@dataclass(frozen=True)
class _Spans:
    """The annotations: rows of `trace.events`, and for each its parent's place among them (or -1), depth and extent.

    An annotation that outlives the one it began in is cut to it, so that the parts of a layer never exceed the whole.
    """

    rows: Int64s
    parent: Int64s
    depth: Int64s
    start: Int64s
    end: Int64s


class _Paths:
    """Paths of layers as a tree: each is known by its number, which is larger than its parent's."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.first: list[int] = []  # when it is first seen, which orders siblings
        self._known: dict[tuple[int, str], int] = {}

    def add(self, parent: int, name: str, seen: int) -> int:
        """The number of `name` inside `parent` (-1 at the top)."""
        number = self._known.setdefault((parent, name), len(self.names))
        if number == len(self.names):
            self.names.append(name)
            self.parents.append(parent)
            self.first.append(seen)
        self.first[number] = min(self.first[number], seen)
        return number

    def add_all(self, parent: int, names: LayerPath, seen: int) -> int:
        """The number of the last of `names`, each inside the one before; of `parent` itself without any."""
        for name in names:
            parent = self.add(parent, name, seen)
        return parent

    def names_of(self, number: int) -> LayerPath:
        """Names from the outermost in; empty for -1."""
        names: list[str] = []
        while number >= 0:
            names.append(self.names[number])
            number = self.parents[number]
        return tuple(reversed(names))

    def children(self) -> dict[int, list[int]]:
        """The children of each path (of -1: the top), in the order in which they are first seen."""
        order = sorted(
            range(len(self.names)), key=lambda number: (self.parents[number], self.first[number], self.names[number])
        )
        return {parent: list(numbers) for parent, numbers in groupby(order, key=self.parents.__getitem__)}


@dataclass(frozen=True)
class Layers:
    """The layers of a trace, and what told them."""

    table: Table
    sources: LayerSources


@dataclass(frozen=True)
class _Kernels:
    """The kernels: rows of `trace.gpu`, the annotation that each was launched in (row of `trace.events`, or -1), its label."""

    rows: Int64s
    annotation: Int64s
    label: list[str | None]


@dataclass(frozen=True)
class _Named:
    """What names add: each kernel's path with them, whether they moved it there, and how often each path was entered."""

    path: Int64s
    moved: Bools
    calls: Mapping[int, int]


def layers(trace: Trace, parts: Parts, steps: Steps) -> Layers:
    """Time by layer, parents before their children; empty where nothing tells any.

    `path` (names from the outermost in: see `join_path`; those that repeat share a row), `name` (the last of them), `depth` (0
    outermost), `time_ns` (of the kernels launched inside, children included), `share` (of all kernel time), `count` (kernels),
    `calls` (annotations; of a layer that names tell, how often it was entered), `host_ns` (their wall clock, children
    included), `host_share` (of the outermost ones' total), `wait_ns` (of `host_ns`: in calls that wait for the device) and
    `busy_ns` (of `time_ns`, where each moment of a stream counts once: see `overlap`). `<path>/(rest)` is what no child
    covers, `(outside)` what was launched in no layer, so that the rows of a level add up to what they are part of.
    """
    spans, paths = _spans(trace), _Paths()
    path_of_span = _path_of_spans(trace, spans, paths, _numbered(steps))
    kernels = _kernels(trace, spans)
    named = _named(trace, parts, kernels, _path_of_kernels(trace, spans, kernels, path_of_span, paths), paths)
    sources = _sources(trace, spans, kernels, named)
    if not paths.names:
        return Layers(_table([], 0), sources)
    figures = _figures(trace, spans, kernels, path_of_span, named, paths)
    kernel_time = int(trace.events["duration_ns"][trace.kernels].sum())
    return Layers(_table(list(_rows(paths, figures)), kernel_time), sources)


def _sources(trace: Trace, spans: _Spans, kernels: _Kernels, named: _Named) -> LayerSources:
    replayed = graph_kernels(trace)[kernels.rows]
    annotations = int((trace.events["category"][spans.rows] == Category.ANNOTATION).sum())
    return LayerSources(
        annotations=annotations,
        modules=len(spans.rows) - annotations,
        graph_kernels=int(replayed.sum()),
        labelled_graph_kernels=sum(label is not None for label in kernels.label),
        named_kernels=int(named.moved.sum()),
        named_graph_kernels=int((named.moved & replayed).sum()),
    )


def _annotations(trace: Trace) -> Int64s:
    """Rows of the user annotations and of the Python events that are module calls, without the compiler's own."""
    rows = trace.where(Category.ANNOTATION, Category.PYTHON)
    name = trace.events["name"][rows]
    is_module = trace.strings_that(lambda text: text.startswith(MODULE))[name]
    is_compilers = trace.strings_that(lambda text: text.startswith(COMPILER))[name]
    is_annotation = trace.events["category"][rows] == Category.ANNOTATION
    kept: Int64s = rows[(is_annotation & ~is_compilers) | is_module]
    return kept


def _spans(trace: Trace) -> _Spans:
    rows = _annotations(trace)
    around = trace.nested(rows).parent
    parent = np.where(around >= 0, np.searchsorted(rows, around), -1)
    start, end = trace.start_ns[rows].copy(), trace.end_ns[rows].copy()
    depth = np.full(len(rows), -1, dtype=np.int64)
    level = np.flatnonzero(parent < 0)
    depth[level] = 0
    while len(level):
        level = np.flatnonzero((depth < 0) & (parent >= 0) & (depth[parent] >= 0))
        depth[level] = depth[parent[level]] + 1
        end[level] = np.minimum(end[level], end[parent[level]])
        start[level] = np.minimum(start[level], end[level])
    return _Spans(rows, parent, depth, start, end)


def _path_of_spans(trace: Trace, spans: _Spans, paths: _Paths, numbered: frozenset[str]) -> Int64s:
    """The path of each annotation, level by level: one look-up for each distinct name within each distinct path."""
    found = np.full(len(spans.rows), -1, dtype=np.int64)
    name = trace.events["name"][spans.rows].astype(np.int64)
    start = trace.start_ns[spans.rows]
    for depth in range(int(spans.depth.max(initial=-1)) + 1):
        here = np.flatnonzero(spans.depth == depth)
        parent = np.where(spans.parent[here] >= 0, found[spans.parent[here]], -1)
        # One number for the pair: sorting pairs of numbers is far slower.
        pairs, code = np.unique((parent + 1) * len(trace.strings) + name[here], return_inverse=True)
        seen = np.full(len(pairs), np.iinfo(np.int64).max)
        np.minimum.at(seen, code, start[here])
        numbers = [
            paths.add(pair // len(trace.strings) - 1, _label(str(trace.strings[pair % len(trace.strings)]), numbered), first)
            for pair, first in zip(pairs.tolist(), seen.tolist(), strict=True)
        ]
        found[here] = np.array(numbers, dtype=np.int64)[code]
    return found


def _numbered(steps: Steps) -> frozenset[str]:
    """The names of steps that differ in their number alone.

    Only of annotations that are surely steps: numbered ones that merely repeat may as well be the layers of a model.
    """
    names = set(steps.table["name"].tolist()) if steps.confidence >= LIKELY else set()
    often = Counter(map(without_number, names))
    return frozenset(name for name in names if often[without_number(name)] > 1)


def _label(name: str, numbered: frozenset[str]) -> str:
    """The name of an annotation's row. Steps share one, so that ten steps do not make ten copies of every layer."""
    is_step = name in numbered or PROFILER_STEP.fullmatch(name)
    return without_number(name) if is_step else name.removeprefix(MODULE)


def _kernels(trace: Trace, spans: _Spans) -> _Kernels:
    rows = trace.gpu_kernels
    innermost = trace.enclosing(trace.nested(spans.rows), trace.call_of_gpu[rows])
    return _Kernels(rows, innermost, trace.gpu["label"][rows].tolist())


def _path_of_kernels(trace: Trace, spans: _Spans, kernels: _Kernels, path_of_span: Int64s, paths: _Paths) -> Int64s:
    """The innermost path that each kernel was launched in, or that its label names within that; -1 outside all."""
    known = kernels.annotation >= 0
    found = np.full(len(known), -1, dtype=np.int64)
    found[known] = path_of_span[np.searchsorted(spans.rows, kernels.annotation[known])]
    start = trace.start_ns[trace.gpu["event"][kernels.rows]].tolist()
    inside: dict[tuple[int, str], int] = {}
    for place, label in enumerate(kernels.label):
        if label is not None:
            key = (int(found[place]), label)
            if key not in inside:
                inside[key] = _labelled(paths, *key, start[place])
            found[place] = inside[key]
    return found


def _labelled(paths: _Paths, path: int, label: str, seen: int) -> int:
    """The path that a label names inside another; what the two share, as `decode` and `decode/block`, is there once."""
    outer, inner = paths.names_of(path), tuple(part for part in label.split("/") if part)
    shared = next((n for n in range(min(len(outer), len(inner)), 0, -1) if outer[-n:] == inner[:n]), 0)
    return paths.add_all(path, inner[shared:], seen)


def _named(trace: Trace, parts: Parts, kernels: _Kernels, path_of_kernel: Int64s, paths: _Paths) -> _Named:
    """The paths of kernels that have no label, with what their names tell within the annotations around them."""
    path, moved = path_of_kernel.copy(), np.zeros(len(path_of_kernel), dtype=np.bool_)
    calls: Counter[int] = Counter()
    unlabelled = np.flatnonzero([label is None for label in kernels.label]).astype(np.int64)
    start = trace.start_ns[trace.gpu["event"][kernels.rows]]
    known: dict[tuple[int, Told], _Named] = {}
    for places, told in told_sequences(trace, parts, kernels.rows[unlabelled], kernels.annotation[unlabelled]):
        sequence = unlabelled[places]
        key = (int(path_of_kernel[sequence[0]]), told)  # all of a sequence were launched in one place
        if key not in known:
            known[key] = _named_within(*key, start[sequence].tolist(), paths)
        path[sequence], moved[sequence] = known[key].path, known[key].moved
        calls.update(known[key].calls)
    return _Named(path, moved, calls)


def _named_within(path: int, told: Told, start: Sequence[int], paths: _Paths) -> _Named:
    """What names tell of one sequence that was launched inside a path. The annotations win where the two disagree."""
    outer = paths.names_of(path)
    numbers: dict[LayerPath, int] = {}
    for inner, seen in zip(told.paths, start, strict=True):
        if inner not in numbers:
            shared = _shared(outer, inner)
            numbers[inner] = path if shared is None else paths.add_all(path, inner[shared:], seen)
    calls = {  # of paths that are known by now, so no later time can make them be first seen earlier
        paths.add_all(path, layer[shared:], start[-1]): count
        for layer, count in told.calls
        if (shared := _shared(outer, layer)) is not None and shared < len(layer)
    }
    found = np.array([numbers[inner] for inner in told.paths], dtype=np.int64)
    moved = np.array([bool(inner) and _shared(outer, inner) is not None for inner in told.paths], dtype=np.bool_)
    return _Named(found, moved, calls)


def _shared(outer: LayerPath, inner: LayerPath) -> int | None:
    """How many names from the outermost in a path shares with the annotations around it; None where they contradict it."""
    if not inner or inner[0] not in outer:
        return 0
    known = outer[-1 - outer[::-1].index(inner[0]) :]
    shared = common(known, inner)
    return shared if shared == min(len(known), len(inner)) else None


def _figures(
    trace: Trace, spans: _Spans, kernels: _Kernels, path_of_span: Int64s, named: _Named, paths: _Paths
) -> dict[str, list[int]]:
    """The figures of each path, its children included; the last entry of each holds what is outside every path."""
    sums = {figure: np.zeros(len(paths.names) + 1, dtype=np.int64) for figure in FIGURES}
    np.add.at(sums["time_ns"], named.path, trace.events["duration_ns"][trace.gpu["event"][kernels.rows]])
    np.add.at(sums["busy_ns"], named.path, busy_ns(trace)[kernels.rows])
    np.add.at(sums["count"], named.path, 1)
    np.add.at(sums["calls"], path_of_span, 1)
    for number, count in named.calls.items():
        sums["calls"][number] += count
    np.add.at(sums["host_ns"], path_of_span, spans.end - spans.start)
    waited = trace.covered(blocking_calls(trace), trace.events["thread"][spans.rows], spans.start, spans.end)
    np.add.at(sums["wait_ns"], path_of_span, waited)
    found = {figure: values.tolist() for figure, values in sums.items()}
    # A wall clock holds that of what ran within; kernels are known by the innermost path, so they are passed up.
    for number in reversed(range(len(paths.names))):
        if (parent := paths.parents[number]) >= 0:
            for figure in ("time_ns", "busy_ns", "count"):
                found[figure][parent] += found[figure][number]
    return found


def _rows(paths: _Paths, figures: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """The table's rows: each path, its children, and what they leave of it."""

    def row(path: tuple[str, ...], values: Mapping[str, int]) -> dict[str, Any]:
        return {"path": join_path(path), "name": path[-1], "depth": len(path) - 1, **values}

    children = paths.children()
    # What is still to be told, the next one last: a path's number, or what is left of it.
    stack: list[tuple[int, bool]] = [(number, False) for number in reversed(children.get(-1, []))]
    while stack:
        number, is_rest = stack.pop()
        path, inner = paths.names_of(number), children.get(number, [])
        values = {figure: figures[figure][number] for figure in FIGURES}
        if not is_rest:
            yield row(path, values)
            stack += [(number, True)] * bool(inner) + [(child, False) for child in reversed(inner)]
            continue
        rest = {figure: values[figure] - sum(figures[figure][child] for child in inner) for figure in FIGURES} | {"calls": 0}
        if rest["time_ns"] or rest["host_ns"]:
            yield row((*path, REST), rest)
    outside = {figure: figures[figure][-1] for figure in FIGURES}
    if outside["count"]:
        yield row((OUTSIDE,), outside)


def _table(rows: Sequence[Mapping[str, Any]], kernel_time: int) -> Table:
    columns = {key: np.array([row[key] for row in rows], dtype=np.int64) for key in ("depth", *FIGURES)}
    host = int(columns["host_ns"][columns["depth"] == 0].sum())
    return Table(
        {
            **{key: objects([row[key] for row in rows]) for key in ("path", "name")},
            "depth": columns["depth"],
            "time_ns": columns["time_ns"],
            "share": columns["time_ns"] / max(kernel_time, 1),
            "count": columns["count"],
            "calls": columns["calls"],
            "host_ns": columns["host_ns"],
            "host_share": columns["host_ns"] / max(host, 1),
            "wait_ns": columns["wait_ns"],
            "busy_ns": columns["busy_ns"],
        }
    )
