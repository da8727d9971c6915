"""Which kernels changed, where a kernel that has another name in the other trace is one row?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tracekit.table import Table

from ..trace.arrays import objects
from .changes import changes
from .pairs import Pair, pairs
from .side import Side

FIGURES = ("time_ns", "count")


def kernel_changes(a: Side, b: Side, steps: tuple[int, int]) -> Table:
    """The kernels that differ, as `changes` describes them. Kernels that do the same work under two names are one row.

    Beside the columns of `changes` there are `a_name` and `b_name` (None where a trace lacks the kernel) and `paired_by`: what
    told that the two names are a pair; None if the name is the same or the kernel has no partner. `name` is A's name, or B's
    where A lacks the kernel. What is left of a kernel once its pairs are taken away is a row of its own, so that all rows
    together add up to the change of all kernel time.
    """
    found = pairs(a, b)
    evidence = {_key(pair): pair.evidence for pair in found}
    one = _by_key(a, found, lambda pair: (pair.a_name, pair.a_count, pair.a_time_ns))
    other = _by_key(b, found, lambda pair: (pair.b_name, pair.b_count, pair.b_time_ns))
    table = changes(one, other, "key", FIGURES, steps, ("name", "family"))
    names = [
        old if old is not None else new for old, new in zip(table["a_name"].tolist(), table["b_name"].tolist(), strict=True)
    ]
    paired_by = objects([evidence.get(key) for key in table["name"].tolist()])
    return Table({**table.columns, "name": objects(names), "paired_by": paired_by})


def _key(pair: Pair) -> str:
    """The key of a pair. It is the same if the traces change places, and no name of a kernel."""
    return "\0".join(sorted((pair.a_name, pair.b_name)))


def _by_key(side: Side, found: Sequence[Pair], part: Callable[[Pair], tuple[str, int, int]]) -> Table:
    """The kernels of one side, where the part of a kernel that is in a pair has a row of its own under the pair's key."""
    kernels = side.tables["kernels"]
    place = {name: row for row, name in enumerate(kernels["name"].tolist())}
    rows = np.array([place[part(pair)[0]] for pair in found], dtype=np.int64)
    taken = {
        figure: np.array([part(pair)[at] for pair in found], dtype=np.int64) for figure, at in (("count", 1), ("time_ns", 2))
    }
    left = {figure: kernels[figure].copy() for figure in taken}
    for figure, values in taken.items():
        np.subtract.at(left[figure], rows, values)
    rest = np.flatnonzero((left["count"] != 0) | (left["time_ns"] != 0) | ~np.isin(np.arange(len(kernels)), rows))
    whole = np.concatenate((rest, rows)).astype(np.int64)
    return Table(
        {
            "key": objects([*kernels["name"][rest].tolist(), *map(_key, found)]),
            "name": kernels["name"][whole],
            "family": kernels["family"][whole],
            **{figure: np.concatenate((left[figure][rest], values)) for figure, values in taken.items()},
        }
    )
