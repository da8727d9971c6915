"""Which layers do the names of kernels, and the order in which they run, show?

Kernels that a graph launch replays have no operator and no annotation of their own. But some have names that say which part of
a model they are (`tracekit.parts`). The same holds for kernels that were launched one by one directly inside one annotation,
such as a step. These sequences are read part by part, in the order in which their stream ran them. A kernel whose name says
nothing belongs to the layer around it.
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
    """The layers that the names of a sequence show.

    `paths` has the path of each kernel, empty if nothing shows one. `calls` says how often each layer was entered.
    """

    paths: tuple[LayerPath, ...]
    calls: tuple[tuple[LayerPath, int], ...]


def told_sequences(trace: Trace, parts: Parts, kernels: Int64s, within: Int64s) -> Iterator[tuple[Int64s, Told]]:
    """The sequences that hold a known part of a model. Each is its kernels in order, as places in `kernels`, and its layers.

    `kernels` are rows of `trace.gpu`; `within` is the event in which each was launched, or -1. A sequence is what one graph
    launch replayed on one stream, or what was launched one by one inside one event for one stream.
    """
    name = trace.events["name"][trace.gpu["event"][kernels]]
    known = _is_part(trace, parts, name)[name]
    # Most sequences are replays of one graph. Equal sequences are read once.
    told: dict[bytes, Told] = {}
    for sequence in _sequences(trace, kernels, within) if known.any() else ():
        if known[sequence].any():
            key = name[sequence].tobytes()
            if key not in told:
                told[key] = tell(trace.strings[name[sequence]].tolist(), parts)
            yield sequence, told[key]


def _is_part(trace: Trace, parts: Parts, names: Int64s) -> Bools:
    """For each of the trace's strings, whether it is one of these names and a known part of a model."""
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
    """The layers that the names of kernels show, for kernels that ran in this order.

    Kernels between two named kernels compute the second one's input, if its part says which layer that is. Otherwise they
    belong to the layer in which both named kernels lie. Kernels before the first named one and after the last have no path.
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
    """The kernels whose names say which part they are, as places. The part must fit the named kernel before."""
    before: LayerPath = ()
    for at, name in enumerate(names):
        part = next((part for part in parts.of(name) if before[: len(part.after)] == part.after), None)
        if part is not None:
            yield at, part
            before = part.path


def _around(before: LayerPath, part: Part) -> LayerPath:
    """The innermost layer that holds both a part and the one before it. It never includes a layer that the part begins anew."""
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
    """How many names two paths share, from the outermost inwards."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
