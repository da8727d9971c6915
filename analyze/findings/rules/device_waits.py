"""What do kernels wait for that the host launched in time?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import IntEnum
from typing import Any

import numpy as np

from tracekit.names import shorten
from tracekit.wording import counted, duration, percent

from ...activity.idle import gaps
from ...activity.idle_activity import QUEUED, idle_pieces
from ...activity.program import DISPATCH_NS
from ...activity.waits import LONGEST_DISPATCH_NS, STREAM, waits
from ...activity.whatif import GRAPH_GAP_NS
from ...trace.arrays import Bools, Int64s, Objects
from ...trace.group import group
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import CALLS, GPU, LOST, needs

RECORD = (
    "profile with experimental_config=torch._C._profiler._ExperimentalConfig(enable_cuda_sync_events=True), which records what "
    "streams wait for"
)
WORST = 5


class Held(IntEnum):
    """What held a queued kernel up. Its name is the key of the rows."""

    DISPATCH = 0
    """Nothing: the device took its own time to go from one kernel to the next."""
    STREAM = 1
    """An event of another stream, as recorded, or else the kernel that ended just then on another stream."""
    COPY = 2
    """A copy or fill that ended just then."""
    COLLECTIVE = 3
    """A collective that ended just then."""
    UNKNOWN = 4
    """Nothing that is recorded ran, and nothing recorded says what was waited for."""


TITLES = {
    Held.DISPATCH: "The device goes slowly from kernel to kernel",
    Held.STREAM: "Queued kernels wait for another stream",
    Held.COPY: "Queued kernels wait for copies",
    Held.COLLECTIVE: "Queued kernels wait for collectives",
}
ACTIONS = {
    Held.STREAM: "Each wait between streams costs the device a few microseconds: run small work on the stream that needs it, "
    "and wait once for a group of kernels (one event after the last), not after each.",
    Held.COPY: "Each change between a copy or fill and a kernel costs the device a few microseconds: copy once what is copied "
    "in parts, keep small values on the device, and fill buffers once (torch.empty in place of torch.zeros where all is "
    "written).",
    Held.COLLECTIVE: "Each wait for a collective costs the device a few microseconds: communicate fewer, larger tensors "
    "(flatten them "
    "into one, torch.distributed.all_reduce_coalesced), and wait as late as possible.",
}
ONE_BY_ONE = (
    "The kernels are queued in time, so only fewer and larger ones help, or a graph, whose nodes follow each other faster: "
    "torch.compile(model, mode='reduce-overhead'), fused optimizers and norms, larger batches."
)
IN_GRAPH = (
    "The kernels are a graph already, so only fewer and larger ones help: fuse small kernels (torch.compile(model, "
    "mode='max-autotune'), fused norms and activations) before the graph is captured, or give each more work (a larger batch)."
)


@needs(GPU, CALLS)
def device_wait(facts: Facts) -> Answer:
    """Kernels were launched in time, and the device was idle before they began: it waited for something else than the host."""
    waited = facts.idle.device_wait_ns
    if facts.share(waited) < facts.thresholds.device_wait or waited < max(asdict(facts.idle).values()):
        return None
    if facts.explained_by_loss("device_wait"):
        return CannotTell("device_wait", LOST)
    found, own = gaps(facts.trace), _own_ns(facts)
    held = _held(facts)
    by_kind = {kind: int(own[held == kind].sum()) for kind in Held}
    main = max(by_kind, key=lambda kind: (by_kind[kind], -kind))
    if main is Held.UNKNOWN:
        return _unknown(facts, own, held)
    chosen = held == main
    rows = _rows(facts, own, held, main)
    in_graph = facts.trace.is_replayed | ~facts.trace.first_of_launch
    graph = main is Held.DISPATCH and 2 * int(own[chosen & in_graph[found["after"]]].sum()) > by_kind[main]
    usual = GRAPH_GAP_NS if main is Held.DISPATCH else _usual_ns(own, held)
    less = np.zeros(len(facts.trace.gpu))
    less[found["after"][chosen]] = np.maximum(own[chosen] - usual, 0)
    if main is Held.DISPATCH:
        less[in_graph] = 0
    saved = facts.saved(lambda program: program.closer(less)) if less.any() and not graph else None
    lengths = own[chosen & (own > 0)]
    return Finding(
        code="device_wait",
        title=TITLES[main],
        severity=facts.severity(saved) if saved else "low",
        affected_ns=by_kind[main],
        **(saved.fields if saved else {"saving_ns": None}),
        evidence=f"{duration(waited)}, {percent(facts.share(waited))} of the span, the device is idle before work that was "
        f"queued in time; {duration(by_kind[main])} of it in {counted(len(lengths), 'gap')} of "
        f"{duration(float(np.median(lengths)))} (median) {_told(main, rows)}",
        action=(IN_GRAPH if graph else ONE_BY_ONE) if main is Held.DISPATCH else ACTIONS[main],
        snippet=_snippet(main, graph),
        reasoning=_reasoning(main, graph, usual),
        rows=rows,
    )


def _snippet(kind: Held, graph: bool) -> str:
    if kind is not Held.DISPATCH:
        return ""
    return f"model = torch.compile(model, mode='{'max-autotune' if graph else 'reduce-overhead'}')"


def _own_ns(facts: Facts) -> Int64s:
    """For each of `gaps`, the time in ns in which queued work waited and the profiler was not at work."""
    pieces = idle_pieces(facts.trace)
    queued = pieces["activity"] == QUEUED
    total = np.zeros(len(gaps(facts.trace)), dtype=np.int64)
    np.add.at(total, pieces["gap"][queued], (pieces["end_ns"] - pieces["start_ns"])[queued])
    return total


def _held(facts: Facts) -> Int64s:
    """For each of `gaps`, what held up the queued work after it, as a number of `Held`."""
    trace, found, known = facts.trace, gaps(facts.trace), waits(facts.trace)
    waiting, before = found["device_wait_ns"], found["before"]
    held = np.full(len(found), int(Held.UNKNOWN), dtype=np.int64)
    short = (waiting > 0) & (before >= 0) & (waiting <= LONGEST_DISPATCH_NS)
    # What ended just then is what was waited for, if the device went on at once.
    held[short] = np.where(trace.is_kernel[before[short]], Held.STREAM, Held.COPY)
    held[known.stream_wait_ns > 0] = Held.STREAM
    held[known.copy_wait_ns > 0] = Held.COPY
    ended = short | ((known.stream_wait_ns > 0) & (before >= 0))
    held[ended & _is_collective(facts, before)] = Held.COLLECTIVE
    held[known.device_dispatch_ns > 0] = Held.DISPATCH
    return held


def _is_collective(facts: Facts, gpu: Int64s) -> Bools:
    """Which of these rows of `trace.gpu` communicate; not those of -1."""
    talks = np.zeros(len(facts.trace.gpu) + 1, dtype=np.bool_)
    talks[facts.work["gpu"]] = facts.of_family("communication")
    found: Bools = talks[gpu]
    return found


def _usual_ns(own: Int64s, held: Int64s) -> int:
    """What the device takes from one kernel to the next where nothing holds it up."""
    lengths = own[(held == Held.DISPATCH) & (own > 0)]
    return int(np.median(lengths)) if len(lengths) else DISPATCH_NS


def _rows(facts: Facts, own: Int64s, held: Int64s, kind: Held) -> tuple[Mapping[str, Any], ...]:
    """What was waited for, by the event that ended last and that which began next, the most time first."""
    trace, found = facts.trace, gaps(facts.trace)
    chosen = np.flatnonzero((held == kind) & (own > 0) & (found["after"] >= 0))
    before, after = found["before"][chosen], found["after"][chosen]
    target = waits(trace).target[chosen]
    names = trace.events["name"][trace.gpu["event"]].astype(np.int64)
    first = np.where(before >= 0, names[before], -1)
    keys = np.stack((first, trace.gpu["stream"][np.maximum(before, 0)], names[after], target), axis=1)
    distinct, code = np.unique(keys, axis=0, return_inverse=True)
    by_pair = group(code.reshape(-1))
    ns = by_pair.sum(own[chosen])
    strings: Objects = trace.strings
    return tuple(
        {
            "waits_for": str(strings[distinct[at, 0]]) if distinct[at, 0] >= 0 else None,
            "stream": int(distinct[at, 3] - STREAM) if 0 <= distinct[at, 3] < 1 << 52 else int(distinct[at, 1]),
            "recorded": bool(0 <= distinct[at, 3] < 1 << 52),
            "before": str(strings[distinct[at, 2]]),
            "count": int(by_pair.count[at]),
            "idle_ns": int(ns[at]),
        }
        for at in np.argsort(-ns, kind="stable")[:WORST].tolist()
    )


def _told(kind: Held, rows: tuple[Mapping[str, Any], ...]) -> str:
    """The worst of the waits, as a clause."""
    if kind is Held.DISPATCH or not rows:
        return "between one kernel and the next, with nothing to wait for"
    row = rows[0]
    what = f"{shorten(row['waits_for'])} on stream {row['stream']}" if row["waits_for"] else f"stream {row['stream']}"
    sure = "" if row["recorded"] or kind is Held.COPY else f" (not recorded: it ended just then; {RECORD})"
    return f"after what was waited for, most after {what}, before {shorten(row['before'])} ({duration(row['idle_ns'])}){sure}"


def _reasoning(kind: Held, graph: bool, usual_ns: int) -> str:
    if kind is not Held.DISPATCH:
        return (
            f"The program is played again with these gaps as short as those between kernels that wait for nothing here, "
            f"{duration(usual_ns)}."
        )
    if graph:
        return "No estimate: each kernel less saves its gap, and which kernels can be fused is not known."
    return (
        f"The program is played again with {duration(usual_ns)} between kernels that were launched one by one (quoted: NVIDIA, "
        "V100, nodes of a graph)."
    )


def _unknown(facts: Facts, own: Int64s, held: Int64s) -> CannotTell:
    """Why nothing can be said about these waits, with the longest of them."""
    trace, found = facts.trace, gaps(facts.trace)
    unknown = held == Held.UNKNOWN
    whole = int(own[unknown].sum())
    longest = int(np.argmax(np.where(unknown, own, -1)))
    after = found["after"][longest]
    name = shorten(str(trace.names(trace.gpu["event"][[after]])[0])) if after >= 0 else "the end"
    why = (
        "it may be another device or process, or kernels that were not recorded"
        if len(trace.waits)
        else f"waits between streams are not recorded: {RECORD}"
    )
    return CannotTell(
        "device_wait",
        f"for {duration(whole)}, {percent(facts.share(whole))} of the span, work was queued and nothing recorded ran, the "
        f"longest time {duration(int(own[longest]))} before {name}; {why}",
    )
