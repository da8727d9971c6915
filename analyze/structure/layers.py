"""Which layer of the model does the GPU's time belong to, and which the host's?

A layer is a user annotation or an `nn.Module` event; layers nest by time on their thread. Its GPU time is the time of the
kernels launched inside it. Its host time is the wall clock from its start to its end. The two answer different questions: if
the host runs ahead of the device, or lags behind it, a stopwatch around a layer says little about the layer's kernels.

Inside the innermost annotation, the kernels themselves may show further layers: by the label of a graph's kernel, or else by
the kernel's name. Such layers have GPU time only.
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
from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.intervals import Forest
from ..trace.trace import Category, Trace
from .layers_from_names import Told, common, told_sequences
from .marks import COMPILER
from .steps import LIKELY, PROFILER_STEP, Steps, without_number

MODULE = "nn.Module: "

REST = "(rest)"
"""The row of the time of a layer that none of its children covers."""
OUTSIDE = "(outside)"
"""The row of kernels that were launched outside every layer."""

FIGURES = ("time_ns", "busy_ns", "count", "calls", "host_ns", "wait_ns")


@dataclass(frozen=True)
class LayerSources:
    """How many of each source of layers there are: annotations, modules, labels of graphs' kernels, and kernels' names.

    `graph_kernels` counts the kernels replayed from graphs, `labelled_graph_kernels` the kernels with a label.
    `named_kernels` counts the kernels that are in a layer because of their names, `named_graph_kernels` those of them that were
    replayed from graphs.
    """

    annotations: int
    modules: int
    graph_kernels: int
    labelled_graph_kernels: int
    named_kernels: int
    named_graph_kernels: int


@dataclass(frozen=True)
class _Spans:
    """The annotations and modules: rows of `trace.events`, each with its parent's place among them (or -1), depth and extent.

    If one ends later than its parent, it is cut to the parent's end, so that the parts of a layer never exceed the whole.
    """

    rows: Int64s
    parent: Int64s
    depth: Int64s
    start: Int64s
    end: Int64s
    forest: Forest


class _Paths:
    """The paths of layers, as a tree. Each path has a number, which is larger than its parent's."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.first: list[int] = []  # the time at which it is first seen; siblings are in this order
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
        """The number of the last of `names`, each of which lies inside the one before; `parent` if there are no names."""
        for name in names:
            parent = self.add(parent, name, seen)
        return parent

    def names_of(self, number: int) -> LayerPath:
        """The names of a path, from the outermost inwards; empty for -1."""
        names: list[str] = []
        while number >= 0:
            names.append(self.names[number])
            number = self.parents[number]
        return tuple(reversed(names))

    def children(self) -> dict[int, list[int]]:
        """The children of each path, in the order in which they are first seen. Those of -1 are the outermost paths."""
        order = sorted(
            range(len(self.names)), key=lambda number: (self.parents[number], self.first[number], self.names[number])
        )
        return {parent: list(numbers) for parent, numbers in groupby(order, key=self.parents.__getitem__)}


@dataclass(frozen=True)
class Layers:
    """The layers of a trace, and their sources.

    `paths` are the paths of layers, and last None. `of_kernels` has the place in `paths` of the innermost layer of each kernel
    (row of `trace.gpu_kernels`), or -1 where it is in none.
    """

    table: Table
    sources: LayerSources
    paths: Objects
    of_kernels: Int64s


@dataclass(frozen=True)
class _Kernels:
    """The kernels: rows of `trace.gpu`, each with the annotation in which it was launched and its label.

    The annotation is a row of `trace.events`, or -1.
    """

    rows: Int64s
    annotation: Int64s
    label: list[str | None]


@dataclass(frozen=True)
class _Named:
    """The paths that kernels have once their names are read.

    `path` is each kernel's path, `moved` says whether its name decided that, and `calls` says how often each path was entered.
    """

    path: Int64s
    moved: Bools
    calls: Mapping[int, int]


def layers(trace: Trace, parts: Parts, steps: Steps) -> Layers:
    """Time by layer, parents before their children. The table is empty if nothing in the trace shows layers.

    Columns: `path` (names from the outermost inwards: see `join_path`; layers with one path share a row), `name` (the last name
    of the path), `depth` (0 is outermost), `time_ns` (of the kernels launched inside, including children), `share` (of all
    kernel time), `count` (of kernels), `calls` (how many annotations there are; for a layer known from kernels' names, how
    often it was entered), `host_ns` (wall clock of the annotations, including children), `host_share` (of the total of the
    outermost layers), `wait_ns` (the part of `host_ns` in calls that wait for the device) and `busy_ns` (the kernels' time if
    each moment of a stream counts once: see `overlap`).

    The row `<path>/(rest)` holds what no child covers, the row `(outside)` what was launched in no layer. So the rows of a
    level add up to the row above them.
    """
    spans, paths = _spans(trace), _Paths()
    path_of_span = _path_of_spans(trace, spans, paths, _numbered(steps))
    kernels = _kernels(trace, spans)
    named = _named(trace, parts, kernels, _path_of_kernels(trace, spans, kernels, path_of_span, paths), paths)
    sources = _sources(trace, spans, kernels, named)
    texts = objects([*(join_path(paths.names_of(number)) for number in range(len(paths.names))), None])
    if not paths.names:
        return Layers(_table([], 0), sources, texts, named.path)
    figures = _figures(trace, spans, kernels, path_of_span, named, paths)
    kernel_time = int(trace.events["duration_ns"][trace.kernels].sum())
    return Layers(_table(list(_rows(paths, figures)), kernel_time), sources, texts, named.path)


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
    """Rows of the user annotations and of the Python events that are module calls, without the compiler's annotations."""
    rows = trace.where(Category.ANNOTATION, Category.PYTHON)
    name = trace.events["name"][rows]
    is_module = trace.strings_that(lambda text: text.startswith(MODULE))[name]
    is_compilers = trace.strings_that(lambda text: text.startswith(COMPILER))[name]
    is_annotation = trace.events["category"][rows] == Category.ANNOTATION
    kept: Int64s = rows[(is_annotation & ~is_compilers) | is_module]
    return kept


def _spans(trace: Trace) -> _Spans:
    rows = _annotations(trace)
    forest = trace.nested(rows, cut=True)
    parent = np.where(forest.parent >= 0, np.searchsorted(rows, forest.parent), -1)
    depth = np.full(len(rows), -1, dtype=np.int64)
    level = np.flatnonzero(parent < 0)
    depth[level] = 0
    while len(level):
        level = np.flatnonzero((depth < 0) & (parent >= 0) & (depth[parent] >= 0))
        depth[level] = depth[parent[level]] + 1
    return _Spans(rows, parent, depth, trace.start_ns[rows], forest.end, forest)


def _path_of_spans(trace: Trace, spans: _Spans, paths: _Paths, numbered: frozenset[str]) -> Int64s:
    """The path of each annotation, found level by level. Each distinct name inside each distinct path is looked up once."""
    found = np.full(len(spans.rows), -1, dtype=np.int64)
    name = trace.events["name"][spans.rows].astype(np.int64)
    start = trace.start_ns[spans.rows]
    for depth in range(int(spans.depth.max(initial=-1)) + 1):
        here = np.flatnonzero(spans.depth == depth)
        parent = np.where(spans.parent[here] >= 0, found[spans.parent[here]], -1)
        # Each pair becomes one number, because sorting pairs of numbers is far slower.
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
    """The names of steps that differ only in their number.

    It is empty unless the annotations are almost certainly steps. Numbered annotations that only repeat may as well be the
    layers of a model.
    """
    names = set(steps.table["name"].tolist()) if steps.confidence >= LIKELY else set()
    often = Counter(map(without_number, names))
    return frozenset(name for name in names if often[without_number(name)] > 1)


def _label(name: str, numbered: frozenset[str]) -> str:
    """The name of an annotation's row. All steps share one name, so that ten steps do not make ten copies of every layer."""
    is_step = name in numbered or PROFILER_STEP.fullmatch(name)
    return without_number(name) if is_step else name.removeprefix(MODULE)


def _kernels(trace: Trace, spans: _Spans) -> _Kernels:
    rows = trace.gpu_kernels
    innermost = trace.enclosing(spans.forest, trace.call_of_gpu[rows])
    return _Kernels(rows, innermost, trace.gpu["label"][rows].tolist())


def _path_of_kernels(trace: Trace, spans: _Spans, kernels: _Kernels, path_of_span: Int64s, paths: _Paths) -> Int64s:
    """The innermost path in which each kernel was launched, extended by its label if it has one; -1 if there is no path."""
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
    """The path that a label names inside another path. Shared names appear once: `decode` + `decode/block` = `decode/block`."""
    outer, inner = paths.names_of(path), tuple(part for part in label.split("/") if part)
    shared = next((n for n in range(min(len(outer), len(inner)), 0, -1) if outer[-n:] == inner[:n]), 0)
    return paths.add_all(path, inner[shared:], seen)


def _named(trace: Trace, parts: Parts, kernels: _Kernels, path_of_kernel: Int64s, paths: _Paths) -> _Named:
    """The kernels' paths, where kernels without a label are placed by their names, within the annotations around them."""
    path, moved = path_of_kernel.copy(), np.zeros(len(path_of_kernel), dtype=np.bool_)
    calls: Counter[int] = Counter()
    unlabelled = np.flatnonzero([label is None for label in kernels.label]).astype(np.int64)
    start = trace.start_ns[trace.gpu["event"][kernels.rows]]
    known: dict[tuple[int, Told], _Named] = {}
    for places, told in told_sequences(trace, parts, kernels.rows[unlabelled], kernels.annotation[unlabelled]):
        sequence = unlabelled[places]
        key = (int(path_of_kernel[sequence[0]]), told)  # all kernels of a sequence were launched in one place
        if key not in known:
            known[key] = _named_within(*key, start[sequence].tolist(), paths)
        path[sequence], moved[sequence] = known[key].path, known[key].moved
        calls.update(known[key].calls)
    return _Named(path, moved, calls)


def _named_within(path: int, told: Told, start: Sequence[int], paths: _Paths) -> _Named:
    """The paths that names give to one sequence of kernels launched inside a path.

    If names and annotations disagree, the annotations decide.
    """
    outer = paths.names_of(path)
    numbers: dict[LayerPath, int] = {}
    for inner, seen in zip(told.paths, start, strict=True):
        if inner not in numbers:
            shared = _shared(outer, inner)
            numbers[inner] = path if shared is None else paths.add_all(path, inner[shared:], seen)
    calls = {  # all these paths are known by now; with the last time, the time at which they are first seen stays as it is
        paths.add_all(path, layer[shared:], start[-1]): count
        for layer, count in told.calls
        if (shared := _shared(outer, layer)) is not None and shared < len(layer)
    }
    found = np.array([numbers[inner] for inner in told.paths], dtype=np.int64)
    moved = np.array([bool(inner) and _shared(outer, inner) is not None for inner in told.paths], dtype=np.bool_)
    return _Named(found, moved, calls)


def _shared(outer: LayerPath, inner: LayerPath) -> int | None:
    """How many names, from the outermost inwards, a path shares with the annotations around it; None if they contradict it."""
    if not inner or inner[0] not in outer:
        return 0
    known = outer[-1 - outer[::-1].index(inner[0]) :]
    shared = common(known, inner)
    return shared if shared == min(len(known), len(inner)) else None


def _figures(
    trace: Trace, spans: _Spans, kernels: _Kernels, path_of_span: Int64s, named: _Named, paths: _Paths
) -> dict[str, list[int]]:
    """The figures of each path, including its children. The last entry of each list holds what is outside every path."""
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
    # A layer's wall clock already includes its children. Kernels are known by the innermost path, so its parents get them too.
    for number in reversed(range(len(paths.names))):
        if (parent := paths.parents[number]) >= 0:
            for figure in ("time_ns", "busy_ns", "count"):
                found[figure][parent] += found[figure][number]
    return found


def _rows(paths: _Paths, figures: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """The table's rows: each path, then its children, then the rest that the children do not cover."""

    def row(path: tuple[str, ...], values: Mapping[str, int]) -> dict[str, Any]:
        return {"path": join_path(path), "name": path[-1], "depth": len(path) - 1, **values}

    children = paths.children()
    # The rows that are still to come, the next one last: a path's number, and whether the row is the path's rest.
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
