"""Which operator's work does a kernel do?

Operators call each other: `aten::linear` calls `aten::addmm`, which launches the kernels. The work must be counted only once.
So a kernel belongs to the innermost operator around its launch whose work is known. Such an operator may launch kernels both
itself and through another operator inside it. Then its work includes the inner operator's, so all these kernels belong to it.
"""

from __future__ import annotations

import numpy as np

from ..trace.arrays import Bools, Int64s
from ..trace.once import once
from ..trace.trace import Trace


@once
def parents(trace: Trace) -> Int64s:
    """For each row of `events` that is an operator, the row of the operator around it, or -1; -1 for all other rows.

    One more entry at the end stands for row -1.
    """
    found = np.full(len(trace) + 1, -1, dtype=np.int64)
    found[trace.operators] = trace.operator_forest.parent
    return found


def ancestry(rows: Int64s, parent: Int64s) -> Int64s:
    """These operators and all operators around them, each once, in the order of their rows. Rows of -1 are ignored."""
    met = np.zeros(len(parent), dtype=np.bool_)
    met[-1] = True
    while len(rows := rows[~met[rows]]):
        met[rows] = True
        rows = parent[rows]
    return np.flatnonzero(met[:-1]).astype(np.int64)


def owners(launching: Int64s, known: Bools, parent: Int64s) -> Int64s:
    """For each kernel, the operator (row of `events`) whose work it does, or -1.

    `launching` is the innermost operator around each kernel's launch, or -1. `known` says for each row of `events` whether its
    work is known; it has one more entry for row -1.
    """
    owner = launching.copy()
    while len(unknown := np.flatnonzero((owner >= 0) & ~known[owner])):
        owner[unknown] = parent[owner[unknown]]
    return _outermost_owner(owner, parent)


def _outermost_owner(owner: Int64s, parent: Int64s) -> Int64s:
    """The owners, where an owner that lies inside other owners is replaced by the outermost of them."""
    distinct, code = np.unique(owner, return_inverse=True)
    owns = np.zeros(len(parent), dtype=np.bool_)
    owns[distinct[distinct >= 0]] = True
    outermost, around = distinct.copy(), parent[distinct]
    while len(inside := np.flatnonzero(around >= 0)):
        here = inside[owns[around[inside]]]
        outermost[here] = around[here]
        around[inside] = parent[around[inside]]
    merged: Int64s = outermost[code.reshape(-1)]
    return merged
