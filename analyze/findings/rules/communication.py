"""Does communication keep the device from computing, or does one rank keep the others waiting?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tracekit.table import Table
from tracekit.wording import counted, duration, form, number, percent

from ...ranks.communication import UNKNOWN
from ...trace.arrays import Bools, Floats, Int64s
from ...trace.group import group
from ...trace.intervals import Union, merge
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import KERNELS, needs

WAITING_LEFT = 0.5
"""The share of a pipeline's waiting that is left with twice as many micro-batches.

Of m micro-batches and p stages of equal time a stage waits (p - 1) / m of the time in which it computes.
"""


@dataclass(frozen=True)
class Kind:
    """Collectives that have one remedy: their kinds, and what to do, with code."""

    kinds: frozenset[str]
    action: str
    snippet: str = ""


POINT_TO_POINT = Kind(
    frozenset({"send_recv", "send", "recv"}),
    "Start what is exchanged early and wait late: torch.distributed.batch_isend_irecv, then compute what does not need it. If "
    "it is a pipeline, post the next micro-batch's receive before this one is computed.",
    "works = torch.distributed.batch_isend_irecv(exchanges)\n...  # compute what does not need them\n"
    "for work in works: work.wait()",
)
GRADIENTS = Kind(
    frozenset({"all_reduce", "reduce"}),
    "DistributedDataParallel reduces gradients beside the backward: bucket_cap_mb=100, gradient_as_bucket_view=True, "
    "static_graph=True, no find_unused_parameters, model.no_sync() while gradients accumulate, and "
    "register_comm_hook(None, default_hooks.bf16_compress_hook) for half of the bytes. Own collectives: async_op=True, waited "
    "for late.",
    "model = DistributedDataParallel(model, bucket_cap_mb=100, gradient_as_bucket_view=True, static_graph=True)",
)
SUMS = Kind(
    frozenset({"all_reduce", "reduce"}),
    "No backward is recorded, so these are sums of a model that is split over ranks, and the next layer needs them: split it "
    "over fewer ranks (tensor_parallel_size), use the engine's own all-reduce over NVLink, or run two half batches by turns, "
    "so that one computes while the other communicates.",
)
SHARDS = Kind(
    frozenset({"all_gather", "reduce_scatter"}),
    "Gather the next layer's shards while this one computes: FSDP(model, forward_prefetch=True, "
    "backward_prefetch=BackwardPrefetch.BACKWARD_PRE, limit_all_gathers=True), or set_modules_to_forward_prefetch of "
    "fully_shard; keep parameters gathered where memory allows (reshard_after_forward=False), shard within a node only "
    "(ShardingStrategy.HYBRID_SHARD), or give each rank a larger batch.",
    "model = FSDP(model, forward_prefetch=True, backward_prefetch=BackwardPrefetch.BACKWARD_PRE, limit_all_gathers=True)",
)
EXCHANGE = Kind(
    frozenset({"all_to_all"}),
    "Even out what ranks exchange (experts: capacity factor, balancing loss; embedding tables: the sharding plan), and compute "
    "beside it: a shared expert, the other half of the batch, or the next batch's embeddings (TorchRec: "
    "TrainPipelineSparseDist).",
    "work = torch.distributed.all_to_all_single(out, rows, async_op=True)\n...  # compute what does not need it\nwork.wait()",
)
OTHERS = Kind(
    frozenset({"broadcast", "gather", "scatter", "barrier", UNKNOWN}),
    "Start it early and wait late: async_op=True, then work.wait() where the result is used. Take barriers and broadcasts of "
    "what does not change out of the loop.",
    "work = torch.distributed.broadcast(tensor, src=0, async_op=True)\n...  # compute what does not need it\nwork.wait()",
)


@needs(KERNELS)
def exposed_communication(facts: Facts) -> Answer:
    """Communication runs while the device computes nothing: one finding for each kind, because each has its own remedy.

    What a collective waits for another rank counts apart: no overlap mends it.
    """
    found = facts.communication
    if found is None or not len(found.collectives):
        because = "several ranks took part, but no communication kernel was recorded"
        return CannotTell("exposed_communication", because) if _ranks_told(facts) else None
    rest, limit = _beside(facts, found.collectives["gpu"]), facts.thresholds.communication
    exposed = _exposed(facts, found.collectives, rest)
    kinds = [_of_kind(facts, exposed, rest, kind) for kind in _kinds(facts)]
    shares = [facts.share(mine.alone_ns) for mine in kinds]
    enough = [share >= limit or (share == max(shares) and sum(shares) >= limit) for share in shares]
    told = (_finding(facts, mine) for mine, is_enough in zip(kinds, enough, strict=True) if is_enough)
    return tuple(one for one in told if one is not None) or None


WORDS = {UNKNOWN: "communication of unknown kind", "send_recv": "send and receive", "recv": "receive"}
"""What a kind is called, if not by its name."""


@dataclass(frozen=True)
class _Collectives:
    """Collectives of one kind. Times in ns: of the union of their kernels, of it beside other work and alone.

    `exposed` are the rows of these kernels in the table that `_exposed` makes. `known_waits` says whether it was measured how
    long most of them waited for other ranks; else it follows from the shortest of equal size, or is not known.
    """

    kind: Kind
    exposed: Table
    communication_ns: int
    hidden_ns: int
    known_waits: bool

    @property
    def alone_ns(self) -> int:
        """The time in which they run and the device does nothing else."""
        return self.communication_ns - self.hidden_ns

    @cached_property
    def name(self) -> str:
        """The kinds that there are, those with most time first: `all-gather and reduce-scatter`."""
        by_name: dict[str, int] = {}
        for kind, ns in zip(self.exposed["kind"].tolist(), self.exposed["exposed_ns"].tolist(), strict=True):
            word = WORDS.get(kind, kind.replace("_", "-"))
            by_name[word] = by_name.get(word, 0) + ns
        *rest, last = sorted(by_name, key=lambda word: (-by_name[word], word))
        return f"{', '.join(rest)} and {last}" if rest else last


def _kinds(facts: Facts) -> tuple[Kind, ...]:
    return (POINT_TO_POINT, GRADIENTS if facts.trains else SUMS, SHARDS, EXCHANGE, OTHERS)


def _exposed(facts: Facts, collectives: Table, beside: Mapping[int, Union]) -> Table:
    """A row for each communication kernel.

    Columns: `gpu`, `kind`, `start_ns`, `end_ns`, `exposed_ns` (while no other kernel and no copy runs on its device), `wait_ns`
    (of its time, before the last rank came), `exposed_wait_ns` and `is_matched` (whether the waiting was measured).
    """
    gpu, start = collectives["gpu"], collectives["start_ns"]
    end = start + collectives["duration_ns"]
    wait, is_matched = _waiting(facts, collectives)
    alone, alone_waiting = np.zeros(len(gpu), dtype=np.int64), np.zeros(len(gpu), dtype=np.int64)
    for device, rest in beside.items():
        here = facts.trace.gpu["device"][gpu] == device
        alone[here] = (end - start)[here] - rest.within(start[here], end[here])
        alone_waiting[here] = wait[here] - rest.within(start[here], (start + wait)[here])
    times = {"start_ns": start, "end_ns": end, "exposed_ns": alone, "wait_ns": wait, "exposed_wait_ns": alone_waiting}
    return Table({"gpu": gpu, "kind": collectives["kind"], **times, "is_matched": is_matched})


def _beside(facts: Facts, gpu: Int64s) -> dict[int, Union]:
    """For each device, when it runs something other than these communication kernels."""
    trace, other = facts.trace, np.ones(len(facts.trace.gpu), dtype=np.bool_)
    other[gpu] = False
    found = {}
    for device, rows in trace.by_device.items():
        event = trace.gpu["event"][rows[other[rows]]]
        found[device] = merge(trace.start_ns[event], trace.end_ns[event])
    return found


def _waiting(facts: Facts, collectives: Table) -> tuple[Int64s, Bools]:
    """How long each kernel waited for other ranks, in ns, and whether that was measured.

    Where the traces of the other ranks tell it, it is what they tell. Else the shortest collective of one kind, process group
    and size tells how long such a one takes. Where no other one is of its size, the waiting is not known, and counts as none.
    What two ranks exchange is taken to be of one size if none is recorded: a pipeline's micro-batches are.
    """
    duration_ns = collectives["duration_ns"]
    keys = list(zip(*(collectives[name].tolist() for name in ("kind", "process_group", "bytes")), strict=True))
    known = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    by_size = group(np.array([known[key] for key in keys], dtype=np.int64))
    shortest = np.full(len(by_size.keys), np.iinfo(np.int64).max)
    np.minimum.at(shortest, by_size.code, duration_ns)
    has_size = np.array([key[2] is not None or key[0] in POINT_TO_POINT.kinds for key in keys], dtype=np.bool_)
    wait: Int64s = np.where(has_size, duration_ns - shortest[by_size.code], 0)
    is_matched = np.zeros(len(wait), dtype=np.bool_)
    table = facts.rank_waits
    if table is not None and len(table):
        measured = np.full(len(facts.trace.gpu), -1, dtype=np.int64)
        measured[table["gpu"]] = table["wait_ns"]
        is_matched = measured[collectives["gpu"]] >= 0
        wait = np.where(is_matched, measured[collectives["gpu"]], wait)
    return np.minimum(wait, duration_ns), is_matched


def _of_kind(facts: Facts, exposed: Table, beside: Mapping[int, Union], kind: Kind) -> _Collectives:
    mine = exposed.take(np.flatnonzero(np.isin(exposed["kind"].astype(str), list(kind.kinds))))
    total = hidden = 0
    for device, rest in beside.items() if len(mine) else ():
        here = facts.trace.gpu["device"][mine["gpu"]] == device
        union = merge(mine["start_ns"][here], mine["end_ns"][here])
        total += union.total
        hidden += int(rest.within(union.start, union.end).sum())
    length, is_matched = mine["end_ns"] - mine["start_ns"], mine["is_matched"]
    return _Collectives(kind, mine, total, hidden, bool(2 * length[is_matched].sum() > length.sum()))


def _finding(facts: Facts, mine: _Collectives) -> Finding | None:
    """What to do about collectives of one kind. None if most of what is exposed is waiting for another rank, as measured."""
    exposed, waiting = mine.exposed["exposed_ns"], mine.exposed["exposed_wait_ns"]
    alone, waited = int(exposed.sum()), int(waiting.sum())
    pipeline = mine.kind is POINT_TO_POINT and 2 * waited > alone
    mostly_waits = not pipeline and 2 * waited > alone
    if mine.known_waits and (mostly_waits or facts.share(alone - waited) < facts.thresholds.communication):
        return None  # `rank_waits` tells it
    left = 1 - (1 - WAITING_LEFT) * _of_schedule(facts, alone) if pipeline else 0.0
    saved = facts.saved(_without(facts, mine.exposed, pipeline, left))
    how = "measured against the other ranks" if mine.known_waits else "by the shortest of equal size"
    share = mine.hidden_ns / max(mine.communication_ns, 1)
    told = f"; {duration(waited)} of that is waiting for other ranks, {how}" if waited else ""
    return Finding(
        code="exposed_communication",
        title=_title(mine, pipeline, mostly_waits),
        severity=facts.severity(saved),
        affected_ns=mine.communication_ns,
        **saved.fields,
        evidence=f"{counted(len(exposed), 'kernel')} of {mine.name} {form(len(exposed), 'runs', 'run')} for "
        f"{duration(mine.communication_ns)}, {percent(share)} of it beside other work; for {duration(mine.alone_ns)}, "
        f"{percent(facts.share(mine.alone_ns))} of the span, the device does nothing else{told}",
        action=WAIT_ACTION if mostly_waits else BUBBLE_ACTION if pipeline else mine.kind.action,
        snippet="" if mostly_waits else BUBBLE_SNIPPET if pipeline else mine.kind.snippet,
        reasoning=_reasoning(pipeline, waited),
        rows=(
            {
                "kind": mine.name,
                "communication_ns": mine.communication_ns,
                "hidden_ns": mine.hidden_ns,
                "exposed_ns": mine.alone_ns,
                "waiting_ns": waited,
            },
        ),
    )


WAIT_ACTION = (
    "Collectives end together, so they wait for the rank that comes last: analyse the traces of all ranks together, and mend "
    "what makes that rank late (an uneven batch, a garbage collection, a slow data loader)."
)
BUBBLE_ACTION = (
    "Cut the batch into more micro-batches, use an interleaved or zero-bubble schedule (ScheduleInterleaved1F1B, "
    "ScheduleInterleavedZeroBubble), and give all stages equal time: the slowest one sets the pace."
)
BUBBLE_SNIPPET = "schedule = ScheduleInterleaved1F1B(stages, n_microbatches=2 * n_microbatches, loss_fn=loss_fn)"


def _title(mine: _Collectives, pipeline: bool, mostly_waits: bool) -> str:
    if pipeline:
        return "Pipeline bubble: the device waits in send and receive"
    name = mine.name[0].upper() + mine.name[1:]
    return f"{name}: mostly waiting for another rank" if mostly_waits else f"Exposed {mine.name}: nothing is computed meanwhile"


def _reasoning(pipeline: bool, waited: int) -> str:
    if pipeline:
        return (
            "What a kernel takes longer than the shortest of its size is taken for waiting, where sizes are recorded. The "
            "program is played again with half of the exposed waiting: twice as many micro-batches halve a pipeline's bubble. "
            "Where the other ranks are known, only as much counts as the busiest of them waits: the rest comes from unequal "
            "stages."
        )
    return (
        "The program is played again without the time in which these kernels run and nothing else does"
        + (", but for the waiting for other ranks, which no overlap saves" if waited else "")
        + ": an upper bound, as if all of it were hidden."
        + ("" if waited else " It may hold waiting for other ranks.")
    )


def _of_schedule(facts: Facts, alone_ns: int) -> float:
    """The share of a pipeline's exposed waiting that its schedule causes: what even the busiest stage waits.

    What this stage waits beyond it comes from stages of unequal time. Where the other stages are not known it counts as the
    schedule's too.
    """
    table = facts.ranks
    if table is None or len(table) < 2 or not alone_ns:
        return 1.0
    spent = zip(table["exposed_ns"].tolist(), table["idle_ns"].tolist(), strict=True)
    least = min((exposed + idle for exposed, idle in spent if exposed is not None), default=alone_ns)
    return min(1.0, least / alone_ns)


def _without(facts: Facts, mine: Table, waiting: bool, left: float) -> Change:
    """The program without the moments in which these kernels transfer, or wait, and nothing else runs.

    The share `left` of these moments stays.
    """
    trace, gpu = facts.trace, mine["gpu"]
    arrived = mine["start_ns"] + mine["wait_ns"]
    begin, end = (mine["start_ns"], arrived) if waiting else (arrived, mine["end_ns"])
    start_ns, end_ns = trace.start_ns[trace.gpu["event"]], trace.end_ns[trace.gpu["event"]]
    shorter, sooner = np.zeros(len(trace.gpu)), np.zeros(len(trace.gpu))
    other = np.ones(len(trace.gpu), dtype=np.bool_)
    other[gpu] = False
    if len(trace.by_device) > 1:  # what one device leaves out, the others do not
        exposed = mine["exposed_wait_ns"] if waiting else mine["exposed_ns"] - mine["exposed_wait_ns"]
        shorter[gpu] = (1 - left) * exposed
        return lambda program: program.faster(shorter)
    rest = merge(start_ns[other], end_ns[other])
    either = merge(np.concatenate((start_ns[other], begin)), np.concatenate((end_ns[other], end)))

    def alone(begin: Int64s, end: Int64s) -> Floats:
        return (1 - left) * (either.within(begin, end) - rest.within(begin, end)).astype(np.float64)

    order, of_events = trace.gpu_order, alone(start_ns, end_ns)
    sooner[order[1:]] = alone(start_ns[order[:-1]], start_ns[order[1:]])
    return lambda program: program.cut(of_events, sooner)


@needs(KERNELS)
def rank_waits(facts: Facts) -> Answer:
    """This rank waits inside its collectives for another one. What makes that one late is the cause."""
    table = facts.rank_waits
    if table is None or not len(table) or facts.communication is None:
        return None  # `stragglers` says that one rank alone tells nothing of the others
    collectives = facts.communication.collectives
    exposed = _exposed(facts, collectives, _beside(facts, collectives["gpu"]))
    exposed = exposed.take(np.flatnonzero(exposed["is_matched"]))
    waiting, place = exposed["exposed_wait_ns"], np.full(len(facts.trace.gpu), -1, dtype=np.int64)
    place[table["gpu"]] = table["last"]
    last, waited = place[exposed["gpu"]], int(waiting.sum())
    if facts.share(waited) < facts.thresholds.communication:
        return None
    by_rank = group(last)
    ns = by_rank.sum(waiting)
    order = np.lexsort((by_rank.keys, -ns)).tolist()
    rank, most = int(by_rank.keys[order[0]]), int(ns[order[0]])
    if rank < 0 or 2 * most < waited:
        return CannotTell("rank_waits", "no rank alone comes last at most of the collectives that this one waits in")
    times = int((waiting[last == rank] > 0).sum())
    return Finding(
        code="rank_waits",
        title=f"This rank waits for rank {rank}",
        severity=facts.severity(waited),
        affected_ns=waited,
        saving_ns=None,
        evidence=f"for {duration(waited)}, {percent(facts.share(waited))} of the span, collectives wait and nothing else runs; "
        f"rank {rank} comes last at {number(times)} of {counted(len(exposed), 'collective')}, with {duration(most)} of it",
        action=f"Look at what rank {rank} does before it comes: its own findings say why it is late (a garbage collection, a "
        "slow data loader, an uneven batch, more to compute). Nothing that this rank does would make it faster.",
        reasoning="No saving of its own: the time goes when the late rank comes sooner. All kernels of a collective end "
        "together, so a rank's kernel waits for as long as it is longer than that of the rank that came last.",
        rows=tuple({"rank": int(by_rank.keys[at]), "waiting_ns": int(ns[at])} for at in order if by_rank.keys[at] >= 0),
    )


def _ranks_told(facts: Facts) -> bool:
    """Whether the trace says that its run has several ranks."""
    world = facts.trace.metadata.get("distributed")
    return isinstance(world, dict) and type(world.get("world_size")) is int and world["world_size"] > 1


@needs(KERNELS)
def stragglers(facts: Facts) -> Answer:
    """One rank computes longer than the others, and they wait for it inside their collectives.

    The rule reads two columns of the table of ranks: `rank`, and `compute_ns`, the time in which a kernel ran that does not
    communicate.
    """
    table = facts.ranks
    if table is not None:
        table = table.take(np.flatnonzero([one is not None for one in table["compute_ns"].tolist()]))  # only ranks with a GPU
    if table is None or len(table) < 2:
        several = _ranks_told(facts) or bool(facts.of_family("communication").any())
        because = "one rank's trace does not tell whom it waited for: analyse the traces of all ranks together"
        return CannotTell("stragglers", because) if several else None
    compute = table["compute_ns"].astype(np.int64)
    slowest, median = int(compute.argmax()), int(np.median(compute))
    behind = int(compute[slowest]) - median
    if behind < facts.thresholds.straggling * median:
        return None
    rank = table["rank"][slowest]
    return Finding(
        code="stragglers",
        title=f"Rank {rank} computes longer than the others",
        severity=facts.severity(behind),
        affected_ns=int(compute[slowest]),
        saving_ns=behind,
        evidence=f"rank {rank} computes for {duration(int(compute[slowest]))}, the median of "
        f"{counted(len(table), 'rank')} is {duration(median)}",
        action="Look at that rank's trace: an uneven batch or shard (DistributedSampler, padding, expert routing), a slower or "
        "throttled device, a data loader that shares its cores. Even out what it is given.",
        reasoning="The slowest rank's computing time less the median: what all ranks would gain if it computed as fast.",
        rows=tuple(
            {"rank": int(r), "compute_ns": int(c)} for r, c in zip(table["rank"].tolist(), compute.tolist(), strict=True)
        ),
    )
