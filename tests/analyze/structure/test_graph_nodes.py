"""Is each replay of a graph's node counted as that node's?"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.structure.graph_nodes import graph_nodes
from tracekit.analyze.structure.graphs import graph_launches
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace
from tracekit.schema import TABLES


def nodes(trace: Trace) -> list[dict[str, Any]]:
    found = graph_nodes(trace, graph_launches(trace))
    assert tuple(found.columns) == TABLES["graph_nodes"].names
    return found.records()


def replays(*times: tuple[int, int, int], ids: tuple[int, int, int] | None = None) -> TraceBuilder:
    """Replays of a graph of three nodes, `a`, `b` and `a`; each tuple is how long they take in one replay."""
    builder = TraceBuilder()
    for number, lengths in enumerate(times):
        at = 10_000 * number
        builder.graph(call=(at, 7), kernels=[(at + 100 + 1_000 * k, n) for k, n in enumerate(lengths)], names=["a", "b", "a"])
        for entry, node in zip(builder.entries[-3:], ids or (), strict=False):
            entry["args"] |= {"graph id": 5, "graph node id": node}
    return builder


def test_without_graphs_there_are_none():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    assert nodes(builder.trace()) == []


def test_a_node_over_its_replays():
    first, last, middle = nodes(replays((50, 10, 20), (60, 11, 21), (400, 12, 22), (55, 13, 23)).trace())
    assert first == {
        "graph": 0,
        "node": 0,
        "graph_node_id": None,
        "name": "a",
        "count": 4,
        "time_ns": 565,
        "min_ns": 50,
        "median_ns": 55,
        "max_ns": 400,
    }
    assert (last["node"], last["name"], last["time_ns"]) == (2, "a", 86)
    assert (middle["node"], middle["name"], middle["time_ns"]) == (1, "b", 46)


def test_the_profilers_numbers_tell_nodes_that_change_places():
    builder = replays((50, 10, 20), (60, 11, 21), ids=(7, 8, 9))
    one, other = builder.entries[-3], builder.entries[-1]  # the two nodes `a` of the second replay
    one["args"]["graph node id"], other["args"]["graph node id"] = 9, 7
    found = {row["graph_node_id"]: (row["node"], row["time_ns"]) for row in nodes(builder.trace())}
    assert found == {7: (0, 71), 8: (1, 21), 9: (2, 80)}


def test_nodes_of_different_graphs_are_different():
    builder = replays((50, 10, 20))
    builder.graph(call=(50_000, 7), kernels=[(50_100, 5)], names=["a"])
    assert [(row["graph"], row["node"], row["count"]) for row in nodes(builder.trace())] == [
        (0, 0, 1),
        (0, 2, 1),
        (0, 1, 1),
        (1, 0, 1),
    ]


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 500), st.integers(0, 90), st.sampled_from("ab")),
            min_size=1,
            max_size=6,
            unique_by=lambda node: node[0],
        ),
        max_size=5,
    )
)
@examples(60)
def test_they_add_up_to_what_was_replayed(launches):
    builder = TraceBuilder()
    builder.kernel(0, 10)
    for number, kernels in enumerate(launches):
        at = 10_000 * number
        builder.graph(call=(at, 7), kernels=[(at + s, n) for s, n, _ in kernels], names=[name for *_, name in kernels])
    found = nodes(builder.trace())
    assert sum(row["time_ns"] for row in found) == sum(n for kernels in launches for _, n, _ in kernels)
    assert sum(row["count"] for row in found) == sum(map(len, launches))
    assert all(row["min_ns"] <= row["median_ns"] <= row["max_ns"] for row in found)
    for graph in {row["graph"] for row in found}:
        numbers = sorted(row["node"] for row in found if row["graph"] == graph)
        assert numbers == list(range(len(numbers)))


def test_a_real_graph_of_four_nodes_replayed_twenty_times():
    found = nodes(load(needed("h200/graph_replay.json.gz")))
    assert sorted((row["node"], row["count"]) for row in found) == [(0, 20), (1, 20), (2, 20), (3, 20)]
