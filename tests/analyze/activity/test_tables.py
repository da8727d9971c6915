"""What holds for every table of the room: the types of its columns, and that the order of the file does not matter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.activity.gaps import gap_groups, longest_gaps
from tracekit.analyze.activity.gpu import copies, devices, gpu, streams
from tracekit.analyze.activity.idle import idle
from tracekit.analyze.activity.idle_activity import idle_activity
from tracekit.analyze.activity.kernels import families, kernels
from tracekit.analyze.activity.kernels_without_operator import without_operator
from tracekit.analyze.activity.launch_costs import launch_costs
from tracekit.analyze.activity.launches import launch_latencies, launches
from tracekit.analyze.activity.operators import calls, host, operators
from tracekit.analyze.activity.overlap import busy_ns
from tracekit.analyze.activity.program import program
from tracekit.analyze.activity.timeline import timeline
from tracekit.analyze.trace.trace import Trace
from tracekit.schema import DOCUMENT_TABLES, TABLES
from tracekit.table import Table
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
MAKE: dict[str, Callable[[Trace], Table]] = {
    "kernels": lambda trace: kernels(trace, TAXONOMY),
    "operators": operators,
    "calls": calls,
    "copies": copies,
    "devices": devices,
    "streams": streams,
    "gaps": longest_gaps,
    "gap_groups": gap_groups,
    "idle_activity": idle_activity,
    "launches": launch_latencies,
    "timeline": lambda trace: timeline(trace, {}),
    "families": lambda trace: families(kernels(trace, TAXONOMY)),
}
SCHEMAS = {**TABLES, **DOCUMENT_TABLES}
DTYPES = {"text": np.dtype(object), "int": np.dtype(np.int64), "real": np.dtype(np.float64)}


def scene() -> TraceBuilder:
    """One of everything, and no two events that only their place in the file tells apart."""
    builder = TraceBuilder()
    builder.operator(0, 200, "aten::linear")
    builder.operator(10, 100, "aten::addmm")
    builder.launch(call=(20, 30), kernel=(60, 100), name="sgemm", grid=[4, 1, 1], block=[64, 1, 1])
    builder.launch(call=(55, 20), kernel=(170, 50), name="softmax")
    builder.operator(230, 50, "aten::addmm", thread=2)
    builder.launch(call=(240, 10), kernel=(300, 40), name="sgemm", stream=8, thread=2)
    builder.call(345, 15, "cudaMemcpyAsync", correlation=90)
    builder.memcpy(370, 30, "DtoH", correlation=90, bytes=64)
    builder.call(375, 75, "cudaStreamSynchronize")
    builder.graph(call=(460, 20), kernels=[(500, 20), (533, 12)])
    builder.memset(600, 10, "fill", bytes=8)
    builder.kernel(625, 35, "orphan")
    builder.annotation(700, 200, "step", thread=3)
    return builder


def empty() -> TraceBuilder:
    builder = TraceBuilder()
    builder.entries.append({"ph": "X", "cat": "python_function", "name": "main", "pid": 1, "tid": 1, "ts": 0, "dur": 1})
    return builder


@pytest.mark.parametrize("builder", [scene(), empty()], ids=["full", "empty"])
@pytest.mark.parametrize("name", MAKE)
def test_columns_have_the_types_of_their_schema(name, builder):
    table, schema = MAKE[name](builder.trace()), SCHEMAS[name]
    expected = {column.name: np.dtype(object) if column.nullable else DTYPES[column.type] for column in schema.columns}

    assert {column: values.dtype for column, values in table.columns.items()} == expected


def results(trace: Trace) -> dict[str, object]:
    """All that the room says about a trace, without numbers of rows."""
    tables = {name: make(trace).records() for name, make in MAKE.items()}
    played = program(trace)
    saved = [played.faster(np.full(len(trace.gpu), float(saving))).total_ns for saving in (0, 1, 10, 1000)]
    own = sorted(zip(trace.start_ns[trace.gpu["event"]].tolist(), busy_ns(trace).tolist(), strict=True))
    figures = (gpu(trace), idle(trace), host(trace), launches(trace), launch_costs(trace), without_operator(trace))
    return {**tables, "saved": saved, "own": own, "figures": figures}


EVENTS = len(scene().entries)


@pytest.mark.parametrize("first", range(EVENTS))
def test_the_same_events_in_another_order_say_the_same(first):
    """Whichever event the file names first: it gets row 0, its name and its thread get number 0."""
    expected = results(scene().trace())
    for step in (1, -1):
        builder = scene()
        builder.entries = [builder.entries[(first + step * place) % EVENTS] for place in range(EVENTS)]
        assert results(builder.trace()) == expected
