"""Does the trace hold everything that happened?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from tracekit.table import Table
from tracekit.wording import counted, duration, form, listed, number, percent

from ..activity.launches import Launches
from ..activity.lost import Lost, copy_calls, lost
from ..activity.profiler import profiler_idle, profiler_work
from ..trace.arrays import Int64s
from ..trace.group import group
from ..trace.trace import Category, Trace, TraceWarning
from .graph_nodes import graph_nodes
from .graphs import part_of

LOST = frozenset(
    {"launches_without_kernel", "graph_launches_without_kernels", "graph_launches_cut_short", "copies_without_event"}
)
"""Warnings which mean that GPU events are missing, so that GPU times are too low."""
# Warnings which mean that the figures lack something that ran, or hold it wrongly.
MISSING = frozenset(
    {
        *LOST,
        "graph_launches_uneven",
        "lost_links",
        "shared_launch_ids",
        "colliding_ids",
        "impossible_times",
        "kernels_without_launch",
        "events_without_time",
        "events_without_duration",
        "negative_durations",
        "ill_typed_events",
        "unread_device_events",
    }
)
NOTABLE = 0.01
"""The share of the GPU's span from which on the profiler's own work is told."""
SHORT = 2 / 3
"""A graph launch with a smaller share of the usual kernels has surely lost some."""
LEAST = 1 / 3
"""One with a smaller share may well be another graph."""
USUAL = 2
"""How many launches at least tell what is usual for a graph."""
REMEDY = "profile a shorter window and call torch.cuda.synchronize() before it ends"


def warnings(trace: Trace, launches: Launches, graph_launches: Table) -> tuple[TraceWarning, ...]:
    """The warnings that a reader of any figure of this trace must know. The loader's own warnings come first."""
    found = [*trace.warnings, *_lost(trace, lost(trace), launches), *_shared_ids(trace), *_short_graphs(trace, graph_launches)]
    found += _profiler_at_work(trace)
    if not len(trace.gpu):
        told = "no kernel, copy or fill that is read" if holds_unread_work(trace) else "no GPU events: it shows the host only"
        found.append(TraceWarning("no_gpu_events", f"the trace has {told}", 0))
    return tuple(found)


def holds_unread_work(trace: Trace) -> bool:
    """Whether there is work of a device that no figure holds. Then nobody knows that the profiler lost what is missing."""
    return len(trace.where(Category.DEVICE)) > 0


def _why(trace: Trace, lost: str) -> str:
    """Why calls have no GPU event: the profiler lost it, as `lost` says, or it is among the events that are not read."""
    return "it may be among the device events that are not read" if holds_unread_work(trace) else f"{lost}; {REMEDY}"


def is_complete(warnings: tuple[TraceWarning, ...]) -> bool:
    """Whether the figures hold everything that ran, as far as these warnings tell."""
    return not any(warning.code in MISSING for warning in warnings)


def _lost(trace: Trace, missing: Lost, launches: Launches) -> Iterator[TraceWarning]:
    """Calls without GPU events, and GPU events without calls."""
    if count := len(missing.kernels):
        yield TraceWarning(
            "launches_without_kernel",
            f"{number(count)} of {counted(launches.kernel_launches, 'launch', 'launches')} {form(count, 'has', 'have')} no "
            f"kernel: {_why(trace, 'the profiler dropped or did not wait for GPU events, so GPU times are too low')}",
            count,
        )
    if count := len(missing.graphs):
        yield TraceWarning(
            "graph_launches_without_kernels",
            f"{number(count)} of {counted(launches.graph_launches, 'graph launch', 'graph launches')} "
            f"{form(count, 'has', 'have')} no GPU event: "
            + _why(trace, f"the profiler lost all that {form(count, 'it', 'they')} ran, so GPU times are far too low"),
            count,
        )
    if count := len(missing.copies):
        yield TraceWarning(
            "copies_without_event",
            f"{number(count)} of {counted(copy_calls(trace), 'call')} that copy or fill {form(count, 'has', 'have')} no GPU "
            "event: " + _why(trace, f"the profiler dropped {form(count, 'it', 'them')}, so the time of copies is too low"),
            count,
        )
    if count := missing.unlinked:
        yield TraceWarning(
            "lost_links",
            f"{counted(count, 'launch', 'launches')} and as many GPU events have lost the id that ties them: GPU times are "
            "right, but idle time before these events is unattributed and their operators are not known; a newer PyTorch may "
            "record the ids",
            count,
        )
    elif count := launches.kernels_without_launch:
        yield TraceWarning(
            "kernels_without_launch",
            f"{counted(count, 'kernel has', 'kernels have')} no launching call: {form(count, 'it was', 'they were')} launched "
            f"before the window began{'' if holds_unread_work(trace) else ', or launches were dropped'}; idle time before "
            f"{form(count, 'it', 'them')} is unattributed",
            count,
        )


def _profiler_at_work(trace: Trace) -> Iterator[TraceWarning]:
    """Idle time that the profiler itself may have caused, if it is enough to mislead."""
    span = (trace.window[1] - trace.window[0]) * len(trace.by_device)
    time, events = profiler_idle(trace).total_ns, profiler_work(trace)
    if time > NOTABLE * span:
        names = list(dict.fromkeys(trace.names(events).tolist()))
        yield TraceWarning(
            "profiler_at_work",
            f"in {duration(time)} of the GPU's idle time, {percent(time / span)} of its span, the profiler itself was at work "
            f"({listed(names)}): a run without it may lack this time; warm the profiler up, or leave out the first step",
            len(events),
        )


def _shared_ids(trace: Trace) -> Iterator[TraceWarning]:
    """Kernels that carry the id of a plain launch, which launches one kernel, although another kernel is that one."""
    if count := int((trace.is_kernel & ~trace.is_own_of_launch).sum()):
        yield TraceWarning(
            "shared_launch_ids",
            f"{counted(count, 'kernel carries', 'kernels carry')} the id of a launch that launched another one: nobody knows "
            f"what launched {form(count, 'it', 'them')}, and idle time before {form(count, 'it', 'them')} is unattributed",
            count,
        )


def _short_graphs(trace: Trace, launches: Table) -> Iterator[TraceWarning]:
    """Launches that ran a part of what others ran, and so may have lost the rest.

    The profiler's number tells that two launches are of one graph, and its numbers of nodes tell how many nodes the graph has.
    Without them, a model may be split into graphs of which one is a part of another.
    """
    nodes, graph = launches["kernels"] + launches["copies"], launches["graph"]
    numbered = np.array([number is not None for number in launches["graph_id"].tolist()], dtype=np.bool_)
    short: dict[tuple[int, bool], list[int]] = {}
    of_graph = group(graph)
    most = np.zeros(len(of_graph.keys), dtype=np.int64)
    np.maximum.at(most, of_graph.code, nodes)
    whole = np.maximum(most, _numbered_nodes(trace, launches, of_graph.keys))[of_graph.code]
    for launch in np.flatnonzero(numbered & (nodes < whole)).tolist():
        short.setdefault((int(whole[launch]), True), []).append(launch)
    kinds = list(zip(graph.tolist(), nodes.tolist(), strict=True))
    often = Counter(kind for kind, is_told in zip(kinds, numbered.tolist(), strict=True) if not is_told)
    for usual in [kind for kind, count in often.items() if count >= USUAL]:
        for launch in np.flatnonzero(~numbered).tolist():
            kind = kinds[launch]
            # What is launched about as often is a graph of its own.
            if kind[1] < usual[1] and USUAL * often[kind] <= often[usual] and part_of(trace, launch, kinds.index(usual)):
                is_sure = often[usual] > USUAL and LEAST * usual[1] <= kind[1] < SHORT * usual[1]
                short.setdefault((usual[1], is_sure), []).append(launch)
    for (usual_nodes, is_sure), found in short.items():
        least, count = int(nodes[found].min()), len(found)
        cut_short = f"the profiler lost the rest, so GPU times are too low; {REMEDY}"
        yield TraceWarning(
            "graph_launches_cut_short" if is_sure else "graph_launches_uneven",
            f"{counted(count, 'graph launch has', 'graph launches have')} fewer kernels and copies than others that run the "
            f"same, {number(least)} instead of {number(usual_nodes)}: "
            + (cut_short if is_sure else "another graph, or events were lost"),
            count,
        )


def _numbered_nodes(trace: Trace, launches: Table, graphs: Int64s) -> Int64s:
    """How many nodes of each graph the profiler numbered; 0 where it numbered none."""
    table = graph_nodes(trace, launches)
    known = [
        number
        for number, node in zip(table["graph"].tolist(), table["graph_node_id"].tolist(), strict=True)
        if node is not None
    ]
    counts = Counter(known)
    return np.array([counts[graph] for graph in graphs.tolist()], dtype=np.int64)
