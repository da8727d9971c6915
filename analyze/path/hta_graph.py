"""Which critical path does HTA find in the trace that it is given?

HTA builds the graph and finds the longest path through it. HTA's own weights leave out the time between two outermost operators
of a thread, and the time until a synchronisation returns. So the longest path by these weights is no chain of elapsed time.
Here the weight of each edge is the time that passes along it, except that the end of a waiting call has weight 0. HTA then
finds the longest path again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tracekit.errors import MissingExtraError
from tracekit.table import Table

from .hta_feed import Feed

DELAY_NS = 1_500_000
"""The longest delay between two kernels for which HTA needs no other reason.

HTA's own value is 1500, in the unit of the trace that it reads, which is usually µs. The feed is in ns.
"""


class Edge(IntEnum):
    """The meaning of an edge of the path."""

    WORK = 0
    OUTSIDE = 1
    LAUNCH = 2
    QUEUED = 3
    NEXT = 4
    RETURN = 5
    WAITING = 6
    BEHIND = 7


@dataclass(frozen=True)
class HtaPath:
    """HTA's longest path through the feed.

    `edges` has a row for each edge, in the order of time: `edge` (int64, Edge), `start_ns`, `end_ns` (int64), `before` and
    `after` (int64: the feed's entries at its ends) and `within` (int64: the entry to which its time belongs, or -1).
    `own_ns` is the length of the longest path by HTA's own weights, and `own_elapsed_ns` the time from its start to its end.
    `backward` is the number of edges that went back in time and were left out.
    """

    version: str
    edges: Table
    own_ns: int
    own_elapsed_ns: int
    backward: int


class HtaError(Exception):
    """HTA cannot analyse the trace that it was given. The message is one line."""


def require_hta() -> None:
    """Raise MissingExtraError if HTA is not installed."""
    try:
        found = importlib.util.find_spec("hta")
    except ValueError:  # raised if `sys.modules` holds a stand-in without a spec
        found = None
    if found is None:
        raise MissingExtraError("a critical path needs HolisticTraceAnalysis (traceinsight)", "hta")


def hta_path(feed: Feed) -> HtaPath:
    """The longest path. Raises MissingExtraError if HTA is not installed, HtaError if HTA fails."""
    require_hta()
    try:
        with quiet_hta():
            return _path(feed)
    except HtaError:
        raise
    except Exception as error:  # HTA may raise anything: asserts, missing columns, networkx
        raise HtaError(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}") from error


@contextlib.contextmanager
def quiet_hta() -> Iterator[None]:
    """A context in which HTA does not round, print or log. Afterwards all settings are restored.

    HTA can only be set through process-wide options and a constant of its module. The threshold between kernels is set in
    nanoseconds. Each kernel keeps an edge from its launch, so that no kernel is without a predecessor.
    """
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            from hta.analyzers import critical_path_analysis
            from hta.configs.env_options import HTAEnvOptions

            options = HTAEnvOptions.instance()
            before = options.disable_ns_rounding(), options.critical_path_add_zero_weight_launch_edges()
            delay = critical_path_analysis.KERNEL_KERNEL_DELAY_THRESHOLD_US
            try:
                options.set_disable_ns_rounding(True)
                options.set_critical_path_add_zero_weight_launch_edges(True)
                critical_path_analysis.KERNEL_KERNEL_DELAY_THRESHOLD_US = DELAY_NS
                yield
            finally:
                options.set_disable_ns_rounding(before[0])
                options.set_critical_path_add_zero_weight_launch_edges(before[1])
                critical_path_analysis.KERNEL_KERNEL_DELAY_THRESHOLD_US = delay
        finally:
            logging.disable(disabled)


def read_trace(path: Path) -> Any:
    """The whole file as HTA reads it (`hta.common.trace.Trace`, rank 0). Call it only within `quiet_hta`."""
    from hta.common.trace import Trace as HtaTrace
    from hta.configs.parser_config import ParserConfig

    trace = HtaTrace({0: str(path)}, str(path.parent), ParserConfig(ParserConfig.get_minimum_args()))
    trace.load_traces(include_last_profiler_step=True, use_multiprocessing=False)
    return trace


def read_feed(feed: Feed) -> Any:
    """The feed as HTA reads it (`hta.common.trace.Trace`). Call it only within `quiet_hta`."""
    with tempfile.TemporaryDirectory(prefix="tracekit-hta-") as folder:
        path = Path(folder, "trace.json")
        path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": list(feed.entries())}), encoding="ascii")
        return read_trace(path)


def _path(feed: Feed) -> HtaPath:
    from hta import __version__
    from hta.analyzers.critical_path_analysis import CriticalPathAnalysis

    found = CriticalPathAnalysis.critical_path_analysis(read_feed(feed), 0, "", None)
    if found is None or not found[1]:
        raise HtaError("it finds no path: its graph has cycles or is not valid")
    graph = found[0]
    own = graph.critical_path_nodes
    own_ns = sum(graph.edges[edge]["object"].weight for edge in pairwise(own))
    own_elapsed = graph.node_list[own[-1]].ts - graph.node_list[own[0]].ts
    backward, kinds = _weigh(graph, feed)
    if not graph.critical_path():
        raise HtaError("it finds no path by the time that passes")
    return HtaPath(__version__, _edges(graph, kinds), int(own_ns), int(own_elapsed), backward)


def _weigh(graph: Any, feed: Feed) -> tuple[int, dict[tuple[int, int], Edge]]:
    """Give each edge the time that passes along it as its weight.

    Edges that go back in time are removed. Return how many those are, and the meaning of each other edge.
    """
    from hta.analyzers.critical_path_analysis import CPEdgeType

    edge_of = {
        CPEdgeType.OPERATOR_KERNEL: Edge.WORK,
        CPEdgeType.DEPENDENCY: Edge.OUTSIDE,
        CPEdgeType.KERNEL_LAUNCH_DELAY: Edge.LAUNCH,
        CPEdgeType.KERNEL_KERNEL_DELAY: Edge.NEXT,
        CPEdgeType.SYNC_DEPENDENCY: Edge.RETURN,
    }
    nodes, waited = graph.node_list, feed.waited.tolist()
    kinds: dict[tuple[int, int], Edge] = {}
    backward = []
    for u, v, data in graph.edges(data=True):
        before, after, found = nodes[u], nodes[v], data["object"]
        passed, edge = int(after.ts - before.ts), edge_of[found.type]
        if passed < 0:
            backward.append((u, v))
            continue
        if edge == Edge.LAUNCH and not found.weight:
            edge = Edge.QUEUED
        elif edge != Edge.RETURN and not after.is_start and after.ev_idx and waited[after.ev_idx - 1]:
            edge = Edge.WAITING
        weight = 0 if edge == Edge.WAITING else passed
        kinds[u, v] = edge
        data["weight"], data["object"] = weight, dataclasses.replace(found, weight=weight)
    graph.remove_edges_from(backward)
    _explain_starts(graph, feed, kinds)
    return len(backward), kinds


def _explain_starts(graph: Any, feed: Feed, kinds: dict[tuple[int, int], Edge]) -> None:
    """Correct the reason why a GPU event starts when it does, if HTA does not take its launch for the reason.

    HTA takes a launch for the reason only if nothing else is queued when the event starts: the next launch must come after
    that. Here the launch is the reason if all earlier events of the GPU had ended by the time of the launch. If one had not
    ended, and the event's own stream does not explain the start, the reason is the event that ended last.
    """
    from hta.analyzers.critical_path_analysis import CPEdge, CPEdgeType

    nodes, behind = graph.node_list, feed.behind.tolist()
    for launch, start in [edge for edge, kind in kinds.items() if kind == Edge.QUEUED]:
        following = [node for node in graph.predecessors(start) if kinds[node, start] == Edge.NEXT]
        if following and nodes[following[0]].ts >= nodes[launch].ts:
            continue
        graph.remove_edges_from([(node, start) for node in following])
        other = behind[nodes[start].ev_idx - 1]
        if other < 0 or following:
            kinds[launch, start] = Edge.LAUNCH
            continue
        end = graph.event_to_end_node_map[other + 1]
        passed = int(nodes[start].ts - nodes[end].ts)
        graph.remove_edge(launch, start)
        graph.add_edge(end, start, weight=passed, object=CPEdge(end, start, CPEdgeType.KERNEL_KERNEL_DELAY, passed))
        kinds[end, start] = Edge.BEHIND


def _edges(graph: Any, kinds: dict[tuple[int, int], Edge]) -> Table:
    """The path's edges. HTA's events are converted to the feed's entries: HTA's first event is not one of them."""
    nodes, path = graph.node_list, graph.critical_path_nodes
    rows = []
    for u, v in pairwise(path):
        within = graph.get_event_attribution_for_edge(graph.edges[u, v]["object"])
        before, after = nodes[u], nodes[v]
        rows.append((kinds[u, v], before.ts, after.ts, before.ev_idx - 1, after.ev_idx - 1, (within or 0) - 1))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6)
    return Table(dict(zip(("edge", "start_ns", "end_ns", "before", "after", "within"), columns.T, strict=True)))
