"""Where does each kernel come from: from which operator, with inputs of which shapes, in which layer?

Two programs may do the same work by kernels of different names. What launched a kernel tells what its work is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tracekit.names import join_path
from tracekit.table import Table

from ..trace.arrays import Int64s, Objects, objects
from ..trace.group import group
from ..trace.trace import Trace
from .layers import Layers

TEXTS = ("name", "operators", "shapes", "outer_shapes", "layer")
"""The columns that tell one row from another."""


@dataclass(frozen=True)
class _Launchers:
    """What launched each kernel.

    `inner` and `outer` are the innermost and the outermost operator around its launch (rows of `events`), or -1. `path` is the
    number of the names in between, and `paths` has the text of each number; that of -1 is the last one, None.
    """

    inner: Int64s
    outer: Int64s
    path: Int64s
    paths: Objects


def kernel_origins(trace: Trace, family_of: Mapping[str, str], layers: Layers) -> Table:
    """One row for each kernel name, operator, shapes and layer, the most time first.

    Columns: `name`, `family`, `operator` (the innermost one), `operators` (the names of all operators around the launch, the
    outermost first), `shapes` and `outer_shapes` (of the inputs of the innermost and of the outermost operator), `layer`,
    `count` and `time_ns`. A kernel that a graph replayed has no operator: whatever was around the graph's launch is the same
    for all its kernels and tells nothing of any.
    """
    kernels = trace.gpu_kernels
    launchers = _launchers(trace, np.where(trace.is_replayed[kernels], -1, trace.operator_of_gpu[kernels]))
    name = trace.events["name"][trace.gpu["event"][kernels]].astype(np.int64)
    texts, shapes_of = _shapes(trace, np.concatenate((launchers.inner, launchers.outer)))
    shapes, outer_shapes = shapes_of[launchers.inner], shapes_of[launchers.outer]
    whole = group(_joined(name, launchers.path, shapes, outer_shapes, layers.of_kernels))
    # The first kernel of each group stands for it.
    first = np.unique(whole.code, return_index=True)[1]
    inner, names = launchers.inner[first], trace.strings[name[first]]
    operator: Objects = np.full(len(first), None, dtype=object)
    operator[inner >= 0] = trace.names(inner[inner >= 0])
    table = Table(
        {
            "name": names,
            "family": objects([family_of[one] for one in names.tolist()]),
            "operator": operator,
            "operators": launchers.paths[launchers.path[first]],
            "shapes": texts[shapes[first]],
            "outer_shapes": texts[outer_shapes[first]],
            "layer": layers.paths[layers.of_kernels[first]],
            "count": whole.count,
            "time_ns": whole.sum(trace.events["duration_ns"][trace.gpu["event"][kernels]]),
        }
    )
    return table.take(_order(table))


def _order(table: Table) -> Int64s:
    """The rows by time, the most first. Of equal times the texts decide, so that the order of the file does not matter."""
    texts = [[text or "" for text in table[name].tolist()] for name in TEXTS]
    keys = list(zip((-table["time_ns"]).tolist(), *texts, strict=True))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _joined(*codes: Int64s) -> Int64s:
    """One number for each combination of codes, which are -1 or more. After each step the numbers are made small again."""
    joined = codes[0]
    for code in codes[1:]:
        joined = group(joined * (int(code.max(initial=-1)) + 2) + code + 1).code
    return joined


def _codes(texts: Objects) -> tuple[Objects, Int64s]:
    """The distinct texts with None as the last of them, and for each text its place, or -1 for None."""
    distinct = dict.fromkeys(text for text in texts.tolist() if text is not None)
    numbers = {text: number for number, text in enumerate(distinct)}
    code = np.fromiter((numbers.get(text, -1) for text in texts.tolist()), np.int64, len(texts))
    return objects([*numbers, None]), code


def _launchers(trace: Trace, inner: Int64s) -> _Launchers:
    """The operators around each launch. The names are joined level by level, for all kernels at once."""
    parent = np.full(len(trace) + 1, -1, dtype=np.int64)
    parent[trace.operators] = trace.operator_forest.parent
    name = np.append(trace.events["name"].astype(np.int64), -1)
    distinct, place = np.unique(inner, return_inverse=True)
    path, outer, around = np.zeros(len(distinct), dtype=np.int64), distinct.copy(), distinct.copy()
    while (around >= 0).any():
        path = _joined(path, name[around])
        outer = np.where(around >= 0, around, outer)
        around = parent[around]
    code, first = _numbered(path, distinct)
    paths = [join_path(list(_names_around(trace, int(distinct[one]), parent))) for one in first.tolist()]
    place = place.reshape(-1)
    return _Launchers(inner, outer[place], code[place], objects([*paths, None]))


def _numbered(path: Int64s, operator: Int64s) -> tuple[Int64s, Int64s]:
    """For each operator the number of its path, or -1 where there is none; and for each number one of its operators."""
    known = operator >= 0
    first, code = np.unique(path[known], return_index=True, return_inverse=True)[1:]
    numbers = np.full(len(path), -1, dtype=np.int64)
    numbers[known] = code.reshape(-1)
    return numbers, np.flatnonzero(known)[first].astype(np.int64)


def _names_around(trace: Trace, operator: int, parent: Int64s) -> Iterator[str]:
    """The names of an operator and of those around it, the outermost first."""
    rows = []
    while operator >= 0:
        rows.append(operator)
        operator = int(parent[operator])
    return (str(trace.strings[trace.events["name"][row]]) for row in reversed(rows))


def _shapes(trace: Trace, operators: Int64s) -> tuple[Objects, Int64s]:
    """The distinct texts of shapes, the last of them None; and for each row of `events`, the place of its text or -1.

    One more entry at the end stands for row -1. Only these operators have a text. Each signature is read once.
    """
    rows = np.unique(operators[operators >= 0])
    signature, code = np.unique(trace.events["signature"][rows], return_inverse=True)
    texts, numbers = _codes(objects([_shape_text(trace, int(one)) for one in signature.tolist()]))
    found = np.full(len(trace) + 1, -1, dtype=np.int64)
    found[rows] = numbers[code.reshape(-1)]
    return texts, found


def _shape_text(trace: Trace, signature: int) -> str | None:
    """The shapes of a signature's inputs without those of scalars, as text; None if there are none or none were recorded."""
    written = trace.signatures[signature][0] if signature >= 0 else b""
    try:
        shapes = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return ", ".join(str(shape) for shape in shapes if shape) or None if isinstance(shapes, list) else None
