"""How do the ranks of one run affect each other: which rank comes last, which wait, and for how long?

Each trace of a run says which rank it is, and of how many. Their collectives are matched. Each rank starts its kernel of a
collective when it gets there, and all kernels of the collective end together. So the rank with the shortest kernel came last.
The others' kernels are longer by the time that they waited.

This needs no common clock. Clocks are taken as recorded and never shifted; how far they are apart is reported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracekit.table import Table
from tracekit.wording import duration, number

from ..trace.arrays import Bools, Int64s, objects
from ..trace.group import Groups, group
from ..trace.trace import Trace
from .communication import POINT_TO_POINT, Communication, bandwidth
from .worlds import CLOCKS_AGREE_NS, Member, backend, common_place, world_size, worlds

SEQUENCE = "sequence numbers of each process group"
ORDER = "order within each process group and kind"
ORDER_OF_KIND = "order within each kind, as no process group is recorded"

RANK_FIGURES = (
    *("span_ns", "busy_ns", "idle_ns", "compute_ns", "communication_ns", "overlap_ns", "exposed_ns", "copies_ns"),
    "kernel_time_ns",
)


@dataclass(frozen=True)
class DistributedRun:
    """The ranks of one run.

    `grouped_by` says why these traces are one run: `distributedInfo` or `file names`. `matched_by` says in words how
    collectives were matched, or is None if none were. `collectives` counts the matched collectives, each of two ranks or more.
    `unmatched` counts the kernels of the others, including point to point, and `notes` say why. In `decided` of the matched
    collectives one rank alone came last. The `straggler` is the rank that came last at more than half of these, and
    `straggler_share` its share of them; both are None if there is no such rank.

    `traces` has, for each row of `ranks`, the place of its trace among all traces that were given.

    `ranks` has a row for each rank, times in ns: `rank`, `trace` (its name), `device_name` (or None), `start_ns` and `end_ns`
    (of its GPU span, from the start of the rank that begins first, with clocks as recorded) and the figures of `Communication`
    (None without GPU events). Further columns: `collectives` (number of its communication kernels), `matched` (number of those
    that were matched), `wait_ns` (how much longer its kernels took than the shortest one of each matched collective), `last`
    (number of collectives at which it came last), `clock_offset_ns` (the median distance of its kernels' ends from the median
    end of each matched collective, or None) and `clock_spread_ns` (the median absolute deviation of these distances).

    `groups` has a row for each kind, process group and size of matched collectives, the most time first: `kind`,
    `process_group`, `group_size`, `bytes`, `count`, `ranks` (how many took part, on average), `time_ns` (of all ranks'
    kernels), `wait_ns` (the part of it spent waiting) and `shortest_ns` (the sum of each collective's shortest kernel).
    `algorithm_gb_s` and `bus_gb_s` are taken over `shortest_ns`, so without waiting; they are None where sizes are not
    recorded.

    `waits` has a table for each of `traces`, with a row for each kernel of a matched collective: `gpu` (row of its
    `trace.gpu`), `wait_ns` (how long it waited for the last rank) and `last` (the rank that alone came last, or -1).
    """

    name: str
    grouped_by: str
    world_size: int | None
    backend: str | None
    matched_by: str | None
    collectives: int
    unmatched: int
    decided: int
    straggler: int | None
    straggler_share: float | None
    clocks_agree: bool | None
    notes: tuple[str, ...]
    traces: tuple[int, ...]
    ranks: Table
    groups: Table
    waits: tuple[Table, ...] = ()


def find_runs(traces: Sequence[Trace], communications: Sequence[Communication | None]) -> tuple[DistributedRun, ...]:
    """The runs to which these traces belong. A trace that is no rank of a run belongs to none.

    Runs of merged files come first, then runs by recorded ranks, then runs by file names. Among each, runs are in the order of
    their first trace. Runs that would have the same name get their place (`dp1`), or a number, behind it.
    """
    given = [(trace, found, place) for place, (trace, found) in enumerate(zip(traces, communications, strict=True))]
    found = list(worlds(given))
    names = _names([members for members, _ in found])
    return tuple(_run(name, *one) for name, one in zip(names, found, strict=True))


def _names(runs: Sequence[Sequence[Member]]) -> list[str]:
    """A name for each run: its folder's, and what tells it from other runs of the folder."""
    names = [_folder(members) for members in runs]
    places = [common_place(members) for members in runs]
    told = [f"{name} {place}".strip() if names.count(name) > 1 else name for name, place in zip(names, places, strict=True)]
    return [f"{name} ({told[: at + 1].count(name)})" if told.count(name) > 1 else name for at, name in enumerate(told)]


def _folder(members: Sequence[Member]) -> str:
    return os.path.basename(os.path.commonpath([os.path.dirname(os.path.abspath(one.trace.path)) for one in members]))


def _run(name: str, members: Sequence[Member], grouped_by: str) -> DistributedRun:
    kernels = _kernels(members)
    matched_by, key, notes = _keys(members, kernels)
    instances = _instances(kernels, key)
    by_collective = group(instances["collective"])
    shortest = _least(by_collective, instances["duration_ns"])
    wait = instances["duration_ns"] - shortest[by_collective.code]
    last = _last(by_collective, instances, shortest)
    offset = _offsets(by_collective, instances)
    ranks = _ranks(members, kernels, instances, wait, last, offset)
    decided = int(last.sum())
    counts = ranks["last"]
    first = int(np.argmax(counts)) if len(counts) else 0
    found = decided > 0 and 2 * int(counts[first]) > decided
    offsets = [abs(value) for value in ranks["clock_offset_ns"].tolist() if value is not None]
    agree = max(offsets) <= CLOCKS_AGREE_NS if offsets else None
    if agree is False:
        notes = (
            *notes,
            f"clocks are up to {duration(max(offsets))} apart, as the ends of collectives show: start times do not compare",
        )
    sizes = {world_size(member.trace) for member in members}
    world = next(iter(sizes)) if len(sizes) == 1 else None
    if world is not None and len(members) < world:
        notes = (*notes, f"{len(members)} of {world} ranks are here: the others may have come later")
    return DistributedRun(
        name=name,
        grouped_by=grouped_by,
        world_size=world,
        backend=backend(members[0].trace),
        matched_by=matched_by if len(by_collective.keys) else None,
        collectives=len(by_collective.keys),
        unmatched=len(kernels) - int(instances["kernels"].sum()),
        decided=decided,
        straggler=members[first].rank if found else None,
        straggler_share=int(counts[first]) / decided if found else None,
        clocks_agree=agree,
        notes=notes,
        traces=tuple(member.place for member in members),
        ranks=ranks,
        groups=_groups(by_collective, instances, shortest, wait),
        waits=_waits(members, kernels, key, instances, wait, last),
    )


def _kernels(members: Sequence[Member]) -> Table:
    """All communication kernels of all ranks. `member` is the place of the rank; `end_ns` is on the clock as recorded."""
    origin = min(member.trace.origin_ns for member in members)
    parts = []
    for place, member in enumerate(members):
        if member.communication is not None:
            table = member.communication.collectives
            start = table["start_ns"] + (member.trace.origin_ns - origin)
            parts.append(
                {**table.columns, "member": np.full(len(table), place, np.int64), "end_ns": start + table["duration_ns"]}
            )
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        columns = ("kind", "process_group", "group_ranks", "sequence", "group_size", "bytes")
        return Table(
            {**dict.fromkeys(("duration_ns", "member", "end_ns"), nothing), **dict.fromkeys(columns, nothing.astype(object))}
        )
    return Table({column: np.concatenate([part[column] for part in parts]) for column in parts[0]})


def _keys(members: Sequence[Member], kernels: Table) -> tuple[str, Int64s, tuple[str, ...]]:
    """How collectives are matched, the number of each kernel's collective (or -1), and notes on the matching."""
    if len(members) < 2:
        return ORDER, np.full(len(kernels), -1, dtype=np.int64), ()
    groups = _codes([_process_group(members, row) for row in _rows(kernels, "member", "process_group", "group_ranks")])
    between_two = np.array([kind in POINT_TO_POINT for kind in kernels["kind"].tolist()], dtype=np.bool_)
    sequence = kernels["sequence"]
    if len(kernels) and not any(value is None for value in sequence.tolist()):
        key = _codes(list(zip(groups.tolist(), sequence.tolist(), strict=True)))
        return SEQUENCE, np.where(between_two, -1, key), ()
    named = any(value is not None for value in kernels["process_group"].tolist())
    kind = _codes(list(zip(groups.tolist(), kernels["kind"].tolist(), strict=True)))
    place = _places(kind, kernels["member"])
    key = _codes(list(zip(kind.tolist(), place.tolist(), strict=True)))
    uneven, notes = _uneven(kind, kernels)
    key[uneven] = -1
    return ORDER if named else ORDER_OF_KIND, np.where(between_two, -1, key), notes


def _process_group(members: Sequence[Member], row: Mapping[str, Any]) -> tuple[str, str]:
    """A process group's name and ranks. The ranks are needed, because several groups may have the same name."""
    name, ranks = row["process_group"], row["group_ranks"]
    if name is not None and ranks is None:
        listed = members[row["member"]].trace.metadata.get("distributed", {}).get("pg_config")
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        ranks = next((str(entry.get("ranks")) for entry in entries if entry.get("pg_name") == name), None)
    return name or "", "".join((ranks or "").split())


def _rows(table: Table, *columns: str) -> list[dict[str, Any]]:
    return Table({column: table[column] for column in columns}).records()


def _codes(values: list[Any]) -> Int64s:
    """A number for each value. Equal values get equal numbers."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _places(kind: Int64s, member: Int64s) -> Int64s:
    """For each kernel, how many kernels of its kind its rank ran before it."""
    pair = _codes(list(zip(kind.tolist(), member.tolist(), strict=True)))
    order = np.argsort(pair, kind="stable")
    begins = np.flatnonzero(np.diff(pair[order], prepend=-1))
    place = np.empty(len(pair), dtype=np.int64)
    place[order] = np.arange(len(pair)) - np.repeat(begins, np.diff(np.append(begins, len(pair))))
    return place


def _uneven(kind: Int64s, kernels: Table) -> tuple[Int64s, tuple[str, ...]]:
    """The kernels of the kinds that some ranks ran more often than others, and a note on each such kind.

    For these kinds the order does not say which kernels belong together.
    """
    rows, notes = [], []
    by_kind = group(kind)
    for code, here in zip(by_kind.keys.tolist(), by_kind.order_by(kernels["member"]) if len(kind) else [], strict=True):
        counts = np.unique(kernels["member"][here], return_counts=True)[1]
        if len(counts) > 1 and counts.min() != counts.max():
            rows.append(np.flatnonzero(kind == code))
            what = kernels["kind"][here[0]]
            least, most = number(int(counts.min())), number(int(counts.max()))
            notes.append(f"{what}: ranks ran between {least} and {most}, so they were not matched")
    return np.concatenate(rows) if rows else np.empty(0, np.int64), tuple(notes)


def _instances(kernels: Table, key: Int64s) -> Table:
    """One row for each rank of each matched collective. `duration_ns` is the sum over its kernels, `end_ns` their latest end.

    Only collectives of at least two ranks are kept.
    """
    known = key >= 0
    pair = group(key[known] * (int(kernels["member"].max(initial=0)) + 1) + kernels["member"][known])
    some = np.flatnonzero(known)[np.unique(pair.code, return_index=True)[1]] if len(pair.keys) else np.empty(0, np.int64)
    end = np.full(len(pair.keys), np.iinfo(np.int64).min)
    np.maximum.at(end, pair.code, kernels["end_ns"][known])
    table = Table(
        {
            "collective": key[some],
            "member": kernels["member"][some],
            "duration_ns": pair.sum(kernels["duration_ns"][known]),
            "kernels": pair.count,
            "end_ns": end,
            **{column: kernels[column][some] for column in ("kind", "process_group", "group_size", "bytes")},
        }
    )
    by_collective = group(table["collective"])
    return table.take(by_collective.count[by_collective.code] > 1)


def _least(groups: Groups, values: Int64s) -> Int64s:
    least = np.full(len(groups.keys), np.iinfo(np.int64).max)
    np.minimum.at(least, groups.code, values)
    return least


def _last(groups: Groups, instances: Table, shortest: Int64s) -> Bools:
    """For each instance, whether its rank alone has the shortest kernel of the collective, which means that it came last."""
    is_shortest = instances["duration_ns"] == shortest[groups.code]
    alone = groups.sum(is_shortest.astype(np.int64)) == 1
    last: Bools = is_shortest & alone[groups.code]
    return last


def _offsets(groups: Groups, instances: Table) -> Int64s:
    """For each instance, the distance in ns of its end from the lower median of its collective's ends."""
    end = instances["end_ns"]
    middle = np.array([end[rows[(len(rows) - 1) // 2]] for rows in groups.order_by(end)] if len(end) else [], dtype=np.int64)
    return end - middle[groups.code] if len(end) else end


def _ranks(members: Sequence[Member], kernels: Table, instances: Table, wait: Int64s, last: Bools, offset: Int64s) -> Table:
    """A row for each rank: see `DistributedRun.ranks`."""
    count = len(members)
    spans = [_span(member.trace) for member in members]
    origin = min((start for start, _ in spans if start is not None), default=0)
    offsets = [offset[instances["member"] == place] for place in range(count)]
    middles = [int(np.sort(here)[(len(here) - 1) // 2]) if len(here) else None for here in offsets]
    spreads = [
        None if middle is None else int(np.sort(np.abs(here - middle))[(len(here) - 1) // 2])
        for here, middle in zip(offsets, middles, strict=True)
    ]
    found = [member.communication for member in members]
    columns = {
        "rank": np.array([member.rank for member in members], dtype=np.int64),
        "trace": objects([member.trace.name for member in members]),
        "device_name": objects([member.trace.device.name if member.trace.device else None for member in members]),
        "start_ns": objects([None if start is None else start - origin for start, _ in spans]),
        "end_ns": objects([None if end is None else end - origin for _, end in spans]),
        **{name: objects([getattr(one, name) if one else None for one in found]) for name in RANK_FIGURES},
        "collectives": np.bincount(kernels["member"], minlength=count).astype(np.int64),
        "matched": _sums(instances["member"], instances["kernels"], count),
        "wait_ns": _sums(instances["member"], wait, count),
        "last": _sums(instances["member"], last.astype(np.int64), count),
        "clock_offset_ns": objects(middles),
        "clock_spread_ns": objects(spreads),
    }
    return Table(columns)


def _waits(
    members: Sequence[Member], kernels: Table, key: Int64s, instances: Table, wait: Int64s, last: Bools
) -> tuple[Table, ...]:
    """For each rank, how long each kernel of a matched collective waited, and for whom: see `DistributedRun.waits`.

    If a rank has several kernels of one collective, its waiting is divided among them in proportion to their times.
    """
    count = len(members)
    if not len(instances):
        nothing = np.empty(0, dtype=np.int64)
        return tuple(Table({"gpu": nothing, "wait_ns": nothing, "last": nothing}) for _ in members)
    pair = instances["collective"] * count + instances["member"]
    order = np.argsort(pair)
    mine = key * count + kernels["member"]
    place = order[np.minimum(np.searchsorted(pair[order], mine), len(order) - 1)]
    known = (key >= 0) & (pair[place] == mine)
    share = kernels["duration_ns"] / np.maximum(instances["duration_ns"][place], 1)
    waited = np.rint(wait[place] * share).astype(np.int64)
    ranks = np.array([member.rank for member in members], dtype=np.int64)
    late = np.full(int(instances["collective"].max()) + 1, -1, dtype=np.int64)
    late[instances["collective"][last]] = ranks[instances["member"][last]]
    found = []
    for member in range(count):
        rows = np.flatnonzero(known & (kernels["member"] == member))
        columns = {"gpu": kernels["gpu"][rows].astype(np.int64), "wait_ns": waited[rows], "last": late[key[rows]]}
        found.append(Table(columns))
    return tuple(found)


def _span(trace: Trace) -> tuple[int | None, int | None]:
    """The times at which the first GPU event starts and the last one ends, on the clock as recorded; None without any."""
    event = trace.gpu["event"]
    if not len(event):
        return None, None
    return trace.origin_ns + int(trace.start_ns[event].min()), trace.origin_ns + int(trace.end_ns[event].max())


def _sums(places: Int64s, values: Int64s, count: int) -> Int64s:
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, places, values)
    return sums


def _groups(by_collective: Groups, instances: Table, shortest: Int64s, wait: Int64s) -> Table:
    """A row for each kind, process group and size: see `DistributedRun.groups`."""
    first = np.unique(by_collective.code, return_index=True)[1]  # one instance of each collective
    names = ("kind", "process_group", "group_size", "bytes")
    keys = list(zip(*(instances[name][first].tolist() for name in names), strict=True))
    known = list(dict.fromkeys(keys))
    by_key = group(_codes(keys))
    of_instance = by_key.code[by_collective.code] if len(keys) else by_collective.code
    least = by_key.sum(shortest)
    present = _sums(of_instance, np.ones(len(of_instance), dtype=np.int64), len(known))
    rates = [
        bandwidth(kind, None if size is None else size * int(count), ranks, int(ns))
        for (kind, _, ranks, size), count, ns in zip(known, by_key.count, least, strict=True)
    ]
    return Table(
        {
            **{name: objects([key[at] for key in known]) for at, name in enumerate(names)},
            "count": by_key.count,
            "ranks": present / np.maximum(by_key.count, 1),
            "time_ns": _sums(of_instance, instances["duration_ns"], len(known)),
            "wait_ns": _sums(of_instance, wait, len(known)),
            "shortest_ns": least,
            "algorithm_gb_s": objects([rate[0] for rate in rates]),
            "bus_gb_s": objects([rate[1] for rate in rates]),
        }
    ).sorted_by("time_ns", descending=True)
