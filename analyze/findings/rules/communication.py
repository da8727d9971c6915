"""Does communication keep the device from computing, or does one rank keep the others waiting?"""

from __future__ import annotations

import numpy as np

from tracekit.wording import counted, duration, percent

from ...trace.intervals import merge
from ...trace.trace import Category
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import KERNELS, needs


@needs(KERNELS)
def exposed_communication(facts: Facts) -> Answer:
    """Collectives run while the device does nothing else."""
    trace = facts.trace
    collective = facts.of_family("communication")
    event = trace.gpu["event"][facts.work["gpu"]]
    if not collective.any():
        because = "several ranks took part, but no communication kernel was recorded"
        return CannotTell("exposed_communication", because) if _ranks_told(facts) else None
    copies = trace.where(Category.MEMCPY, Category.MEMSET)
    other = np.concatenate((event[~collective], copies))
    mine = merge(trace.start_ns[event[collective]], trace.end_ns[event[collective]])
    rest = merge(trace.start_ns[other], trace.end_ns[other])
    hidden = int(rest.within(mine.start, mine.end).sum())
    exposed, overlap = mine.total - hidden, hidden / max(mine.total, 1)
    limits = facts.thresholds
    if facts.share(exposed) < limits.communication or overlap >= limits.overlap:
        return None
    return Finding(
        code="exposed_communication",
        title="Communication does not overlap with computation",
        severity=facts.severity(exposed),
        affected_ns=mine.total,
        saving_ns=exposed,
        evidence=f"collectives run for {duration(mine.total)}, {percent(overlap)} of it beside other work; for "
        f"{percent(facts.share(exposed))} of the span the device does nothing else",
        action="DistributedDataParallel(bucket_cap_mb=..., gradient_as_bucket_view=True, static_graph=True) without "
        "find_unused_parameters; FSDP with forward_prefetch=True and limit_all_gathers; own collectives with async_op=True, "
        "waited for late. A rank that comes late makes the others wait inside the collective: look at the ranks together.",
        reasoning="The time in which collectives run and no other kernel or copy does: an upper bound, as if all of it were "
        "hidden. It holds the waiting for other ranks.",
        rows=({"communication_ns": mine.total, "hidden_ns": hidden, "exposed_ns": exposed},),
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
