"""Where kernels come from: operators, shapes and layers, and nothing where nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
import shared_data
from repository import TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.names import split_path
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
COLUMNS = ("name", "operator", "operators", "shapes", "outer_shapes", "layer", "count", "time_ns")


def rows(builder: TraceBuilder) -> list[tuple[Any, ...]]:
    table = Analysis(builder.trace(), TAXONOMY).whole("kernel_origins")
    return [tuple(row[column] for column in COLUMNS) for row in table.records()]


def test_operators_around_a_launch_with_the_shapes_of_the_inner_and_the_outer_one():
    builder = TraceBuilder()
    builder.annotation(0, 900, "block")
    builder.operator(0, 100, "aten::linear", **{"Input Dims": [[1, 2, 3], [4, 3], [4], []]})
    builder.operator(10, 80, "aten::addmm", **{"Input Dims": [[4], [2, 3], [3, 4], []]})
    builder.launch(call=(20, 5), kernel=(200, 30), name="gemm")
    builder.launch(call=(30, 5), kernel=(300, 7), name="splitKreduce")

    path, inner, outer = "aten::linear/aten::addmm", "[4], [2, 3], [3, 4]", "[1, 2, 3], [4, 3], [4]"
    assert rows(builder) == [
        ("gemm", "aten::addmm", path, inner, outer, "block", 1, 30),
        ("splitKreduce", "aten::addmm", path, inner, outer, "block", 1, 7),
    ]


def test_each_shape_operator_and_layer_is_a_row_and_equal_ones_are_added():
    builder = TraceBuilder()
    calls = [("aten::mm", [2, 2], "one"), ("aten::mm", [2, 2], "one"), ("aten::mm", [3, 3], "one"), ("aten::mm", [2, 2], "two"), ("aten::bmm", [2, 2], "one")]  # fmt: skip
    for place, (operator, shape, layer) in enumerate(calls):
        at = 1_000 * place
        builder.annotation(at, 900, layer)
        builder.operator(at + 10, 100, operator, **{"Input Dims": [shape]})
        builder.launch(call=(at + 20, 5), kernel=(at + 200, 10 + place), name="gemm")

    assert {(row[1], row[3], row[5]): row[6:] for row in rows(builder)} == {
        ("aten::mm", "[2, 2]", "one"): (2, 21),
        ("aten::mm", "[3, 3]", "one"): (1, 12),
        ("aten::mm", "[2, 2]", "two"): (1, 13),
        ("aten::bmm", "[2, 2]", "one"): (1, 14),
    }


def test_what_nobody_knows_is_none():
    builder = TraceBuilder()
    builder.operator(0, 100, "CompiledFunction", **{"Input Dims": [[2, 2]]})
    builder.graph(call=(10, 5), kernels=[(200, 5), (210, 5)], names=["node", "node"])
    builder.kernel(300, 6, "bare")
    builder.operator(400, 50, "aten::add")
    builder.launch(call=(410, 5), kernel=(500, 4), name="add")
    builder.operator(600, 50, "aten::fill_", **{"Input Dims": [[], []]})
    builder.launch(call=(610, 5), kernel=(700, 3), name="fill")

    assert rows(builder) == [
        # All kernels of a graph would have the operator around its launch, so it tells nothing of any of them.
        ("node", None, None, None, None, None, 2, 10),
        ("bare", None, None, None, None, None, 1, 6),
        ("add", "aten::add", "aten::add", None, None, None, 1, 4),
        ("fill", "aten::fill_", "aten::fill_", None, None, None, 1, 3),
    ]
    host = TraceBuilder()
    host.operator(0, 10)
    assert rows(host) == []


def test_a_slash_in_an_operators_name_is_no_step_of_the_path():
    builder = TraceBuilder()
    builder.operator(0, 100, "Torch-Compiled Region: 0/1")
    builder.operator(10, 50, "aten::mm")
    builder.launch(call=(20, 5), kernel=(200, 30))

    ((_, _, path, *_),) = rows(builder)
    assert split_path(path) == ("Torch-Compiled Region: 0/1", "aten::mm")


@pytest.mark.parametrize("path", [*sorted(TRACES.glob("*.json.gz")), *shared_data.traces()], ids=lambda path: path.name)
def test_the_origins_of_a_real_trace_add_up_to_its_kernels(path):
    analysis = Analysis(load(path), TAXONOMY)
    origins, kernels = analysis.whole("kernel_origins"), analysis.kernels

    for figure in ("count", "time_ns"):
        found: dict[str, int] = dict.fromkeys(kernels["name"].tolist(), 0)
        for name, value in zip(origins["name"].tolist(), origins[figure].tolist(), strict=True):
            found[name] += value
        assert found == dict(zip(kernels["name"].tolist(), kernels[figure].tolist(), strict=True))
    keys = list(
        zip(*(origins[name].tolist() for name in ("name", "operators", "shapes", "outer_shapes", "layer")), strict=True)
    )
    assert len(set(keys)) == len(keys)
