"""Which layer of the model does the GPU's time belong to?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.table import Table

from .trace import Category, Int64s, Trace

MODULE = "nn.Module: "
# Inductor marks every call of a compiled graph with its cache key: no layer of the model.
COMPILER = "## Call CompiledFxGraph"
# Steps share a row, so that ten steps do not make ten copies of every layer.
STEP_NUMBER = re.compile(r"(?<=ProfilerStep)#\d+\Z")


def layers(trace: Trace) -> Table:
    """GPU time of the kernels launched inside user annotations and `nn.Module` events, by nesting.

    `path` (names from the outermost in, joined by `/`), `time_ns` (what is launched inside, children included), `share` (of
    all kernel time) and `count` (kernels), parents before their children. Empty where the trace has no such events.
    """
    rows = _annotations(trace)
    mine = trace.events["category"][trace.gpu["event"]] == Category.KERNEL
    forest = trace.nested(rows)
    parent = dict(zip(rows.tolist(), forest.parent.tolist(), strict=True))
    innermost = trace.enclosing(forest, trace.call_of_gpu[mine])
    duration = trace.events["duration_ns"][trace.gpu["event"][mine]]
    distinct, code = np.unique(innermost, return_inverse=True)
    time, count = np.zeros(len(distinct), dtype=np.int64), np.bincount(code, minlength=len(distinct))
    np.add.at(time, code, duration)
    totals: dict[tuple[str, ...], tuple[int, int]] = {}
    for row, ns, kernels in zip(distinct.tolist(), time.tolist(), count.tolist(), strict=True):
        path = _path(trace, row, parent)
        for depth in range(1, len(path) + 1):
            before = totals.get(path[:depth], (0, 0))
            totals[path[:depth]] = (before[0] + ns, before[1] + kernels)
    paths = sorted(totals)
    times = np.array([totals[path][0] for path in paths], dtype=np.int64)
    return Table(
        {
            "path": np.array(["/".join(path) for path in paths], dtype=object),
            "time_ns": times,
            "share": times / max(int(duration.sum()), 1),
            "count": np.array([totals[path][1] for path in paths], dtype=np.int64),
        }
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


def _path(trace: Trace, row: int, parent: dict[int, int]) -> tuple[str, ...]:
    """Names from the outermost annotation down to this one; empty for -1."""
    names: list[str] = []
    while row >= 0:
        name = str(trace.strings[trace.events["name"][row]])
        names.append(STEP_NUMBER.sub("", name.removeprefix(MODULE)))
        row = parent[row]
    return tuple(reversed(names))
