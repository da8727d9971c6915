"""How long does each node of a CUDA graph take, over all its replays?

Recent profilers number the nodes (`graph node id`), so each replay of a node is known as that node's. In other traces a node is
told by its name and by how many of that name ran before it in the launch. The order of the starts would not do: branches of a
graph overtake each other.
"""

from __future__ import annotations

import numpy as np

from tracekit.schema import TABLES
from tracekit.table import Table

from ..trace.arrays import Int64s
from ..trace.group import group
from ..trace.trace import Trace
from .graphs import replayed

COLUMNS = TABLES["graph_nodes"].columns


def graph_nodes(trace: Trace, graph_launches: Table) -> Table:
    """A row for each node of each graph, the most time first; times in ns.

    `graph_launches` is what the function of that name returns. Columns: `graph` (its number), `node` (a number within the
    graph, by first start), `graph_node_id` (the profiler's, or None), `name`, `count` (how often it was replayed), `time_ns`
    (all its replays), `min_ns`, `median_ns` (the lower median) and `max_ns`.
    """
    mine, first = replayed(trace)
    if not len(mine):
        return Table.empty(COLUMNS)
    launch = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(mine))))
    graph, event = graph_launches["graph"][launch], trace.gpu["event"][mine]
    name, duration = trace.events["name"][event].astype(np.int64), trace.events["duration_ns"][event]
    node_id = np.array([-1 if number is None else number for number in trace.gpu["graph_node_id"][mine]], dtype=np.int64)
    nth = _occurrence(launch, np.where(node_id >= 0, -1 - node_id, name))
    kinds, code = np.unique(np.stack((graph, node_id, name, nth), axis=1), axis=0, return_inverse=True)
    nodes = group(code.reshape(-1))
    row = np.unique(nodes.code, return_index=True)[1]  # where each node is replayed first
    order = np.lexsort((duration, nodes.code))
    begins = np.cumsum(nodes.count) - nodes.count
    by_graph = np.lexsort((row, kinds[:, 0]))
    table = Table(
        {
            "graph": kinds[:, 0],
            "node": _occurrence(kinds[by_graph, 0], np.zeros(len(kinds), dtype=np.int64))[np.argsort(by_graph)],
            "graph_node_id": trace.gpu["graph_node_id"][mine][row],
            "name": trace.names(event[row]),
            "count": nodes.count,
            "time_ns": nodes.sum(duration),
            "min_ns": duration[order[begins]],
            "median_ns": duration[order[begins + (nodes.count - 1) // 2]],
            "max_ns": duration[order[begins + nodes.count - 1]],
        }
    )
    return table.take(by_graph).sorted_by("time_ns", descending=True)


def _occurrence(launch: Int64s, key: Int64s) -> Int64s:
    """For each row, how many rows of its launch with its key stand before it."""
    order = np.lexsort((key, launch))  # stable
    pair = np.stack((launch[order], key[order]), axis=1)
    begins = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]).any(axis=1)]) if len(pair) else np.empty(0, np.int64)
    sizes = np.diff(np.append(begins, len(pair)))
    found = np.empty(len(launch), dtype=np.int64)
    found[order] = np.arange(len(launch)) - np.repeat(begins, sizes)
    return found
