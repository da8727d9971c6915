"""Does the GPU wait for launches?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from tracekit.names import shorten_path
from tracekit.wording import counted, duration, number, percent

from ...activity.idle_activity import idle_pieces
from ...activity.launches import graph_kernels, graph_launch_calls
from ...activity.program import waiting_calls
from ...trace.group import group
from ...work.predict import mean_steps
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from ..reasons import Reason
from .activities import innermost, named, of_reasons, share_of, spread
from .needs import CALLS, DISPATCH, GPU, LOST, Need, needs

NAMED = 3
"""How many layers a finding about them names."""

STEPS = 5
"""How many kinds of steps get a prediction."""

NO_GRAPH_TAKES = (Reason.LOADING, Reason.COMPILING, Reason.COLLECTING, Reason.ALLOCATING, Reason.PINNING)
"""The host's work that is left if a step becomes a graph."""

MANY_LAUNCHES = 50
"""From so many launches on, the one that the GPU waits for longest is no habit: it loads code, or grows a buffer."""
NO_LAYER = re.compile(r"enumerate\(DataLoader\)|Optimizer\.|## (?:backward|.*wait)")
"""The last part of the path of a row that is no layer: a fetch, an optimizer, a backward on another thread, a wait."""

LAYERS = Need("no annotation or module tells layers", lambda e: len(e.layers) > 0)


@needs(GPU, CALLS, DISPATCH)
def launch_overhead(facts: Facts) -> Answer:
    """The GPU waits for kernels to be dispatched and launched one by one."""
    overhead = facts.reason_ns(Reason.LAUNCHING)
    once = _longest_ns(facts, Reason.LAUNCHING) if facts.launches.kernel_launches >= MANY_LAUNCHES else 0
    if facts.share(overhead - once) < facts.thresholds.launch_overhead:
        return None
    if facts.explained_by_loss("dispatch", "launch_latency"):
        return CannotTell("launch_overhead", LOST)
    if facts.is_capture:
        return CannotTell("launch_overhead", "a graph is captured here: profile its replays, which are what it is made for")
    launches, rows = facts.launches.kernel_launches, tuple(_steps(facts))
    places, saved = innermost(facts, of_reasons(facts, Reason.LAUNCHING)), facts.saved(_as_graphs(facts))
    return Finding(
        code="launch_overhead",
        title="The GPU waits for launches",
        severity=facts.severity(saved),
        affected_ns=overhead,
        **saved.fields,
        evidence=f"{percent(facts.share(overhead))} of the span is idle while the host dispatches operators and launches "
        f"kernels, {duration(overhead)} over {counted(launches, 'launch', 'launches')}: {named(places)}",
        action="Launch a whole step at once: torch.compile(model, mode='reduce-overhead'), or torch.cuda.CUDAGraph with static "
        "shapes and buffers; else fuse small operators (torch.compile) or give each launch more work (a larger batch).",
        snippet="model = torch.compile(model, mode='reduce-overhead')",
        reasoning="The program is played again with one launch for all of a step, or for each part of it between two waits of "
        f"the host, and one GPU event following the other after 500 ns (quoted: NVIDIA, V100), and the host's "
        f"other work as it was.{_predicted(rows)}",
        rows=(*rows, *places),
    )


def _as_graphs(facts: Facts) -> Change:
    """Each step as one graph, or as several where the host waits in between: a graph ends where the host needs a result.

    The host's work that no graph takes over stays.
    """
    played, steps, trace = facts.played, facts.steps, facts.trace
    step = steps.of_moments(trace.start_ns[played.row]) if len(steps.table) else np.zeros(len(played.row), dtype=np.int64)
    waits = np.isin(played.row, waiting_calls(trace))
    _, span = np.unique(np.stack((step, np.cumsum(waits))), axis=1, return_inverse=True)
    is_graph = np.isin(played.row, graph_launch_calls(trace))
    kept = facts.shares(Reason.ELSE) + sum(facts.work_of(reason) for reason in NO_GRAPH_TAKES)
    return lambda program: program.one_launch(np.where(is_graph | waits | (step < 0), -1, span), np.minimum(kept, 1.0))


@needs(GPU, CALLS)
def graph_launch_cost(facts: Facts) -> Answer:
    """The GPU waits while the host launches a graph: it is one already, and launching so many nodes takes long."""
    waited = facts.reason_ns(Reason.LAUNCHING_GRAPHS)
    if facts.share(waited - _longest_ns(facts, Reason.LAUNCHING_GRAPHS)) < facts.thresholds.graph_launch:
        return None
    trace, rows = facts.trace, innermost(facts, of_reasons(facts, Reason.LAUNCHING_GRAPHS))
    calls, saved = graph_launch_calls(trace), facts.without(Reason.LAUNCHING_GRAPHS)
    nodes = int(graph_kernels(trace).sum()) / max(len(calls), 1)
    return Finding(
        code="graph_launch_cost",
        title="The GPU waits for the graph's launch",
        severity=facts.severity(saved),
        affected_ns=waited,
        **saved.fields,
        evidence=f"{share_of(facts, waited)}, is idle inside {counted(len(calls), 'graph launch', 'graph launches')} of "
        f"{counted(round(nodes), 'kernel')} each{spread(facts, rows)}: {named(rows)}",
        action="The step is a graph already. Launch the next one before you wait for this one's result (sample or check one "
        "step later), upload it once (cudaGraphUpload), and make it smaller: fuse kernels (torch.compile, fused norms and "
        "activations), so that it has fewer nodes.",
        reasoning="Idle time inside these calls. The program is played again as if they took no time: an upper bound.",
        rows=rows,
    )


def _longest_ns(facts: Facts, reason: Reason) -> int:
    """The most idle time for this reason in one gap: a first launch loads code, and uploads a graph, which happens once."""
    pieces, chosen = idle_pieces(facts.trace), of_reasons(facts, reason)
    by_gap = group(pieces["gap"][chosen])
    return int(by_gap.sum((pieces["end_ns"] - pieces["start_ns"])[chosen]).max(initial=0))


def _steps(facts: Facts) -> Iterator[Mapping[str, Any]]:
    """A prediction for the steps with the most busy time: how long each would take as a CUDA graph.

    That is its busy time plus the gaps between its GPU events.
    """
    found = mean_steps(facts.trace, facts.steps, facts.work, facts.manifest)
    for step in sorted(found, key=lambda step: (-step.busy_ns * step.count, step.name))[:STEPS]:
        yield {
            "step": step.name,
            "calls": step.count,
            "gpu_events": round(step.gpu_events, 3),
            "busy_ns": round(step.busy_ns),
            "predicted_ns": round(step.graph_ns()),
            "unprofiled_ns": None if step.host_ns is None else round(step.host_ns),
        }


def _predicted(rows: tuple[Mapping[str, Any], ...]) -> str:
    """The prediction for the step with the most busy time, as a sentence."""
    if not rows:
        return ""
    row = rows[0]
    against = f"; without the profiler it took {duration(row['unprofiled_ns'])}" if row["unprofiled_ns"] is not None else ""
    return (
        f" Predicted for one {row['step']} as a graph: {duration(row['predicted_ns'])}, busy {duration(row['busy_ns'])} and "
        f"{counted(row['gpu_events'], 'GPU event')}{against}."
    )


@needs(GPU, LAYERS)
def layer_launch_cost(facts: Facts) -> Answer:
    """A stopwatch around these layers measures what the host needs to launch their kernels, not what the kernels cost."""
    if facts.share(facts.reason_ns(Reason.LAUNCHING, Reason.BETWEEN)) < facts.thresholds.stall:
        return None  # the GPU does not wait for launches: what a layer costs the host does not show
    found = sorted(_launch_bound(facts), key=lambda layer: (-layer.host_ns, layer.path))
    if not found:
        return None
    named = "; ".join(
        f"{shorten_path(layer.path)}: {percent(layer.host_share)} of the host time around it, "
        f"{percent(layer.gpu_share)} of the GPU time"
        for layer in found[:NAMED]
    )
    more = f"; and {number(len(found) - NAMED)} more" if len(found) > NAMED else ""
    return Finding(
        code="layer_launch_cost",
        title="A stopwatch around these layers measures their launches, not their work",
        severity="low",
        affected_ns=sum(layer.host_ns for layer in found),
        saving_ns=None,
        evidence=named + more,
        action="Judge these layers by their GPU time. What they cost the host is operators and launches: fuse them with their "
        "neighbours (torch.compile) or replay the step as a CUDA graph; a faster kernel would not show.",
        reasoning="No saving of its own: it is part of the launch overhead, if the GPU waits for it; else it costs nothing.",
        rows=tuple(
            {"path": layer.path, "host_ns": layer.host_ns, "host_share": layer.host_share, "gpu_share": layer.gpu_share}
            for layer in found[:10]
        ),
    )


@dataclass(frozen=True)
class _LaunchBound:
    """A layer and its shares of the time of the layer around it.

    `host_ns` leaves out the time in which the host waits for the device.
    """

    path: str
    host_ns: int
    host_share: float
    gpu_share: float


def _launch_bound(facts: Facts) -> Iterator[_LaunchBound]:
    """The innermost layers whose share of host time is far above their share of GPU time.

    Both are shares of the layer around them. A layer that contains other layers is left out.
    """
    rows = facts.layers.records()
    around: list[dict[str, Any]] = []  # the current row and the rows around it, the outermost first
    limits = facts.thresholds
    for row, following in zip_longest(rows, rows[1:]):
        around[row["depth"] :] = [row]
        holds_others = following is not None and following["depth"] > row["depth"]
        if not row["depth"] or not row["calls"] or holds_others or NO_LAYER.match(row["path"].split("/")[-1]):
            continue
        outer = around[-2]
        # Waiting for the device is not a cost of launching, so neither time includes it.
        host, outer_host = row["host_ns"] - row["wait_ns"], outer["host_ns"] - outer["wait_ns"]
        if not outer["time_ns"] or not outer_host:
            continue
        host_share, gpu_share = host / outer_host, row["time_ns"] / outer["time_ns"]
        if host_share >= limits.layer_host and host_share >= limits.layer_ratio * gpu_share:
            yield _LaunchBound(row["path"], host, host_share, gpu_share)
