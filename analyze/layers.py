"""Which layer of the model does time belong to: the GPU's, and the host's?

A layer is a user annotation or an `nn.Module` event; layers nest by time on their thread. Its GPU time is that of the kernels
launched inside it, its host time the wall clock between its two ends. The two answer different questions: where the host runs
ahead of the device, or lags behind it, a stopwatch around a layer says little about the layer's kernels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tracekit.table import Table

from .idle import BLOCKING_CALL
from .intervals import merge
from .launches import graph_kernels
from .trace import Bools, Category, Int64s, Trace

MODULE = "nn.Module: "
# Inductor marks every call of a compiled graph with its cache key: no layer of the model.
COMPILER = "## Call CompiledFxGraph"
# Steps share a row, so that ten steps do not make ten copies of every layer.
STEP_NUMBER = re.compile(r"(?<=ProfilerStep)#\d+\Z")

REST = "(rest)"
"""The row of what no child of a layer covers."""
OUTSIDE = "(outside)"
"""The row of kernels that were launched outside every layer."""

FIGURES = ("time_ns", "count", "calls", "host_ns", "wait_ns")


@dataclass(frozen=True)
class LayerSources:
    """What told the layers: how many annotations and modules, and of the kernels replayed from graphs how many have labels."""

    annotations: int
    modules: int
    graph_kernels: int
    labelled_graph_kernels: int


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

    def names_of(self, number: int) -> tuple[str, ...]:
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


def layers(trace: Trace) -> Table:
    """Time by annotation and module, parents before their children; empty where the trace has neither.

    `path` (names from the outermost in, joined by `/`; those that repeat share a row), `name` (the last of them), `depth` (0
    outermost), `time_ns` (of the kernels launched inside, children included), `share` (of all kernel time), `count` (kernels),
    `calls` (annotations), `host_ns` (their wall clock, children included), `host_share` (of the outermost ones' total) and
    `wait_ns` (of `host_ns`: in calls that wait for the device). `<path>/(rest)` is what no child covers, `(outside)` what was
    launched in no layer, so that the rows of a level add up to what they are part of.
    """
    spans = _spans(trace)
    if not len(spans.rows):
        return _table([], 0)
    paths = _Paths()
    path_of_span = _path_of_spans(trace, spans, paths)
    path_of_kernel = _path_of_kernels(trace, spans, path_of_span, paths)
    figures = _figures(trace, spans, path_of_span, path_of_kernel, paths)
    return _table(list(_rows(paths, figures)), int(trace.events["duration_ns"][trace.kernels].sum()))


def layer_sources(trace: Trace) -> LayerSources:
    """What told the layers of this trace."""
    rows = _annotations(trace)
    mine = _is_kernel(trace)
    annotations = int((trace.events["category"][rows] == Category.ANNOTATION).sum())
    return LayerSources(
        annotations=annotations,
        modules=len(rows) - annotations,
        graph_kernels=int(graph_kernels(trace)[mine].sum()),
        labelled_graph_kernels=sum(label is not None for label in trace.gpu["label"][mine].tolist()),
    )


def _annotations(trace: Trace) -> Int64s:
    """Rows of the user annotations and of the Python events that are module calls, without the compiler's own."""
    rows = trace.where(Category.ANNOTATION, Category.PYTHON)
    name = trace.events["name"][rows]
    is_module = np.fromiter((text.startswith(MODULE) for text in trace.strings), np.bool_, len(trace.strings))[name]
    is_compilers = np.fromiter((text.startswith(COMPILER) for text in trace.strings), np.bool_, len(trace.strings))[name]
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


def _path_of_spans(trace: Trace, spans: _Spans, paths: _Paths) -> Int64s:
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
            paths.add(pair // len(trace.strings) - 1, _label(str(trace.strings[pair % len(trace.strings)])), first)
            for pair, first in zip(pairs.tolist(), seen.tolist(), strict=True)
        ]
        found[here] = np.array(numbers, dtype=np.int64)[code]
    return found


def _label(name: str) -> str:
    return STEP_NUMBER.sub("", name.removeprefix(MODULE))


def _path_of_kernels(trace: Trace, spans: _Spans, path_of_span: Int64s, paths: _Paths) -> Int64s:
    """The innermost path that each kernel was launched in, or that its label names within that; -1 outside all."""
    mine = _is_kernel(trace)
    innermost = trace.enclosing(trace.nested(spans.rows), trace.call_of_gpu[mine])
    known = innermost >= 0
    found = np.full(len(innermost), -1, dtype=np.int64)
    found[known] = path_of_span[np.searchsorted(spans.rows, innermost[known])]
    start = trace.start_ns[trace.gpu["event"][mine]].tolist()
    inside: dict[tuple[int, str], int] = {}
    for place, label in enumerate(trace.gpu["label"][mine].tolist()):
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
    for name in inner[shared:]:
        path = paths.add(path, name, seen)
    return path


def _is_kernel(trace: Trace) -> Bools:
    """Which rows of `trace.gpu` are kernels."""
    mine: Bools = trace.events["category"][trace.gpu["event"]] == Category.KERNEL
    return mine


def _figures(trace: Trace, spans: _Spans, path_of_span: Int64s, path_of_kernel: Int64s, paths: _Paths) -> dict[str, list[int]]:
    """The figures of each path, its children included; the last entry of each holds what is outside every path."""
    sums = {figure: np.zeros(len(paths.names) + 1, dtype=np.int64) for figure in FIGURES}
    np.add.at(sums["time_ns"], path_of_kernel, trace.events["duration_ns"][trace.gpu["event"][_is_kernel(trace)]])
    np.add.at(sums["count"], path_of_kernel, 1)
    np.add.at(sums["calls"], path_of_span, 1)
    np.add.at(sums["host_ns"], path_of_span, spans.end - spans.start)
    np.add.at(sums["wait_ns"], path_of_span, _waiting(trace, spans))
    found = {figure: values.tolist() for figure, values in sums.items()}
    # A wall clock holds that of what ran within; kernels are known by the innermost path, so they are passed up.
    for number in reversed(range(len(paths.names))):
        if (parent := paths.parents[number]) >= 0:
            for figure in ("time_ns", "count"):
                found[figure][parent] += found[figure][number]
    return found


def _waiting(trace: Trace, spans: _Spans) -> Int64s:
    """How much of each annotation its thread spent in calls that return only when the device has done something."""
    blocking = np.fromiter((BLOCKING_CALL.match(text) is not None for text in trace.strings), np.bool_, len(trace.strings))
    calls = trace.calls[blocking[trace.events["name"][trace.calls]]]
    thread, waited = trace.events["thread"][spans.rows], np.zeros(len(spans.rows), dtype=np.int64)
    for one in np.unique(trace.events["thread"][calls]).tolist():
        mine, here = calls[trace.events["thread"][calls] == one], thread == one
        waits = merge(trace.start_ns[mine], trace.end_ns[mine])
        waited[here] = waits.within(spans.start[here], spans.end[here])
    return waited


def _rows(paths: _Paths, figures: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """The table's rows: each path, its children, and what they leave of it."""

    def row(path: tuple[str, ...], values: Mapping[str, int]) -> dict[str, Any]:
        return {"path": "/".join(path), "name": path[-1], "depth": len(path) - 1, **values}

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
            **{key: np.array([row[key] for row in rows], dtype=object) for key in ("path", "name")},
            "depth": columns["depth"],
            "time_ns": columns["time_ns"],
            "share": columns["time_ns"] / max(kernel_time, 1),
            "count": columns["count"],
            "calls": columns["calls"],
            "host_ns": columns["host_ns"],
            "host_share": columns["host_ns"] / max(host, 1),
            "wait_ns": columns["wait_ns"],
        }
    )
