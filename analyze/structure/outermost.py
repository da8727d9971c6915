"""Which annotation that lies in no other does each GPU event and each launch belong to?"""

from __future__ import annotations

import numpy as np

from ..activity.launches import launching_calls
from ..trace.trace import Category, Int64s, Trace
from .layers import COMPILER, STEP_NUMBER

WHOLE = "(trace)"
"""The one name of a trace without annotations."""


def outermost(trace: Trace) -> tuple[list[str], Int64s, Int64s, Int64s]:
    """The outermost annotations' names; for each GPU event and each launching call its place among them, or -1; and calls."""
    rows = trace.where(Category.ANNOTATION)
    names = trace.names(rows)
    rows = rows[np.fromiter((not name.startswith(COMPILER) for name in names), np.bool_, len(rows))]
    launching = launching_calls(trace)
    if not len(rows):
        return [WHOLE], np.zeros(len(trace.gpu), np.int64), np.zeros(len(launching), np.int64), np.ones(1, np.int64)
    forest = trace.nested(rows)
    around = np.full(len(trace) + 1, -1, dtype=np.int64)
    around[forest.rows] = forest.parent
    top = np.full(len(trace) + 1, -1, dtype=np.int64)
    top[rows] = rows
    while len(inner := rows[around[top[rows]] >= 0]):
        top[inner] = around[top[inner]]
    tops = rows[top[rows] == rows]
    texts = [STEP_NUMBER.sub("", str(name)) for name in trace.names(tops)]
    labels = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    place = np.full(len(trace) + 1, -1, dtype=np.int64)
    place[tops] = [labels[text] for text in texts]
    calls = np.bincount(place[tops], minlength=len(labels)).astype(np.int64)
    events, launches = trace.enclosing(forest, trace.call_of_gpu), trace.enclosing(forest, launching)
    return list(labels), place[top[events]], place[top[launches]], calls
