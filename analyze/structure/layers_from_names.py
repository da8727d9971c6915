"""Which layers do the names of kernels tell, by the order in which they run?

No operator and no annotation of their own encloses the kernels that a graph launch replays, but some have names that say which
part of a model they are (`tracekit.parts`). The same holds for kernels launched one by one right inside one annotation, such as
a step's. Such a sequence, in the order in which its stream ran it, is told part by part; a kernel whose own name says nothing
belongs to what lies around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tracekit.parts import LayerPath, Part, Parts

from ..activity.launches import graph_kernels
from ..trace.arrays import Bools, Int64s
from ..trace.trace import Trace


@dataclass(frozen=True)
class Told:
    """What the names of a sequence tell: the path of each kernel, empty where nothing does, and how often each layer ran."""

    paths: tuple[LayerPath, ...]
    calls: tuple[tuple[LayerPath, int], ...]


def told_sequences(trace: Trace, parts: Parts, kernels: Int64s, within: Int64s) -> Iterator[tuple[Int64s, Told]]:
    """The sequences that hold a known part of a model: their kernels in order, as places in `kernels`, and what is told.

    `kernels` are rows of `trace.gpu`; `within` is the event that each was launched in, or -1. A sequence is what one graph
    launch replayed on one stream, or what was launched one by one in one place for one stream.
    """
    name = trace.events["name"][trace.gpu["event"][kernels]]
    known = _is_part(trace, parts, name)[name]
    # Most sequences are replays of one graph, which are told once.
    told: dict[bytes, Told] = {}
    for sequence in _sequences(trace, kernels, within) if known.any() else ():
        if known[sequence].any():
            key = name[sequence].tobytes()
            if key not in told:
                told[key] = tell(trace.strings[name[sequence]].tolist(), parts)
            yield sequence, told[key]


def _is_part(trace: Trace, parts: Parts, names: Int64s) -> Bools:
    """For each of the trace's strings whether it is one of these names and a known part of a model."""
    found = np.zeros(len(trace.strings), dtype=np.bool_)
    for name in np.unique(names).tolist():
        found[name] = bool(parts.of(trace.strings[name]))
    return found


def _sequences(trace: Trace, kernels: Int64s, within: Int64s) -> list[Int64s]:
    place = np.where(graph_kernels(trace)[kernels], trace.call_of_gpu[kernels], within)
    lane = (place, trace.gpu["device"][kernels], trace.gpu["stream"][kernels])
    order = np.lexsort((trace.start_ns[trace.gpu["event"][kernels]], *reversed(lane))).astype(np.int64)
    begins = np.any([key[order[1:]] != key[order[:-1]] for key in lane], axis=0)
    return np.split(order, np.flatnonzero(begins) + 1)


def tell(names: Sequence[str], parts: Parts) -> Told:
    """What the names of kernels tell that ran in this order.

    Between two named kernels lies what computes the second one's input, where that says what it is, or else the layer that
    both lie in. Before the first and after the last nothing is told.
    """
    paths: list[LayerPath] = [()] * len(names)
    begun: dict[int, LayerPath] = {}
    last: tuple[int, LayerPath] | None = None
    for at, part in _named(names, parts):
        first = at
        if last is not None:
            between = slice(last[0] + 1, at)
            paths[between] = [part.input or _around(last[1], part)] * (at - between.start)
            first = between.start if part.input else at
        if part.begins:
            begun[first] = part.begins
        paths[at] = part.path
        last = (at, part.path)
    return Told(tuple(paths), tuple(_calls(paths, begun).items()))


def _named(names: Sequence[str], parts: Parts) -> Iterator[tuple[int, Part]]:
    """The kernels whose names say which part they are, in this place."""
    before: LayerPath = ()
    for at, name in enumerate(names):
        part = next((part for part in parts.of(name) if before[: len(part.after)] == part.after), None)
        if part is not None:
            yield at, part
            before = part.path


def _around(before: LayerPath, part: Part) -> LayerPath:
    """The layer that a part lies in together with the one before it: no further in than what it begins anew."""
    shared = common(before, part.path)
    return part.path[: min(shared, len(part.begins) - 1) if part.begins else shared]


def _calls(paths: Sequence[LayerPath], begun: Mapping[int, LayerPath]) -> Counter[LayerPath]:
    """How often each layer was entered."""
    calls: Counter[LayerPath] = Counter()
    around: LayerPath = ()
    for at, path in enumerate(paths):
        shared = min(common(around, path), len(begun[at]) - 1 if at in begun else len(path))
        calls.update(path[:depth] for depth in range(shared + 1, len(path) + 1))
        around = path
    return calls


def common(one: LayerPath, other: LayerPath) -> int:
    """How many names two paths share from the outermost in."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
