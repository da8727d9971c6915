"""Which traces are ranks of one run?

Traces of one folder, world size and backend may be of one run. If some rank is there twice, they are of several: of replicas
that each are a world of their own, or of several windows of one world. Then the recorded process groups tell them apart, or the
numbers of data, tensor, pipeline and expert parallelism in file names, or the rest of the names, or the ends of collectives,
which all ranks of a world share, or at last the times of the recordings.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from ..trace.arrays import Int64s
from ..trace.trace import Trace
from .communication import Communication

IN_NAME = re.compile(r"(?i)(?<![a-z0-9])rank[_.-]?(\d{1,6})(?![0-9])")
"""The rank in a file's name: `rank3`, `rank_3`, `trace-rank-03`."""
PLACE_IN_NAME = re.compile(r"(?i)(?<![a-z0-9])(dcp|pcp|dp|pp|ep|cp|sp|tp)[_.-]?(\d{1,6})(?![0-9])")
"""A place along a kind of parallelism in a file's name: `TP-0`, `dp1`, `pp_2`."""
MOMENT_IN_NAME = re.compile(r"\d{9,}(?:\.\d+)?")
"""A time in a file's name, which may differ between the ranks of a run."""
REPLICAS_FIRST = ("dp", "pp", "ep", "cp", "dcp", "pcp", "sp", "tp")
"""The kinds of parallelism. The one that most often makes worlds of its own comes first."""

CLOCKS_AGREE_NS = 100_000
"""If clocks are further apart than this, they say neither which rank came first nor whose collectives end together."""

Given = tuple[Trace, Communication | None, int]
"""A trace, its communication, and its place among all traces that were given."""


@dataclass(frozen=True)
class Member:
    """One rank of a run: its trace and its communication."""

    rank: int
    trace: Trace
    communication: Communication | None
    place: int
    """The place of the trace among all traces that were given."""


def worlds(given: Sequence[Given]) -> Iterator[tuple[list[Member], str]]:
    """The members of each run by rank, and what told that they belong together.

    Runs of merged files come first, then runs by recorded ranks, then runs by file names. Among each, runs are in the order of
    their first trace.
    """
    alone = [one for one in given if not one[0].metadata.get("merged_ranks")]
    yield from _merged(given)
    yield from _recorded(alone)
    yield from _by_names(alone)


def common_place(members: Sequence[Member]) -> str:
    """The places that the names of all members share, such as `dp1`; empty if they share none."""
    places = [_places(member.trace.name) for member in members]
    return " ".join(f"{kind}{at}" for kind, at in places[0].items() if all(one.get(kind) == at for one in places))


def world_size(trace: Trace) -> int | None:
    """The number of ranks of the run, as recorded, or None."""
    value = trace.metadata.get("distributed", {}).get("world_size")
    return value if type(value) is int else None


def backend(trace: Trace) -> str | None:
    """The backend through which the ranks communicate, as recorded, or None."""
    value = trace.metadata.get("distributed", {}).get("backend")
    return value if isinstance(value, str) else None


def _merged(given: Sequence[Given]) -> Iterator[tuple[list[Member], str]]:
    """The runs whose ranks somebody merged into one file."""
    together: dict[str, list[Member]] = defaultdict(list)
    for trace, found, place in given:
        if trace.rank is not None and trace.metadata.get("merged_ranks"):
            together[trace.path].append(Member(trace.rank, trace, found, place))
    for members in together.values():
        yield sorted(members, key=lambda member: member.rank), "labels of processes"


def _recorded(given: Sequence[Given]) -> Iterator[tuple[list[Member], str]]:
    """The runs by the ranks that traces record.

    The ranks of a run lie in one folder and have one backend and one world size.
    """
    found = [
        Member(trace.rank, trace, talks, place)
        for trace, talks, place in given
        if trace.rank is not None and (world_size(trace) or 1) > 1
    ]
    of_folder: dict[tuple[str, int | None, str | None], list[Member]] = defaultdict(list)
    for member in found:
        of_folder[os.path.dirname(member.trace.path), world_size(member.trace), backend(member.trace)].append(member)
    for members in _side_by_side(of_folder):
        for run in told_apart(members):
            yield run, "distributedInfo"


def _side_by_side(of_folder: Mapping[tuple[str, int | None, str | None], list[Member]]) -> Iterator[list[Member]]:
    """The members of each folder. Folders that lie side by side and hold different ranks of one world, a part each, are one."""
    neighbours: dict[tuple[str, int | None, str | None], list[list[Member]]] = defaultdict(list)
    for (folder, size, how), members in of_folder.items():
        neighbours[os.path.dirname(os.path.abspath(folder)), size, how].append(members)
    for (_, size, _), parts in neighbours.items():
        ranks = [rank for part in parts for rank in {member.rank for member in part}]
        is_one = all(len({member.rank for member in part}) < (size or 0) for part in parts) and len(ranks) == len(set(ranks))
        # A folder for each rank may hold several windows of it.
        if is_one or all(len({member.rank for member in part}) == 1 for part in parts):
            yield [member for part in parts for member in part]
        else:
            yield from parts


def _by_names(given: Sequence[Given]) -> Iterator[tuple[list[Member], str]]:
    """The runs of traces that record no rank, by file names that differ only in the rank, or in places such as `TP-0`."""
    together: dict[tuple[str, str], list[Given]] = defaultdict(list)
    for one in given:
        name = one[0].name
        if one[0].rank is None and (IN_NAME.search(name) or PLACE_IN_NAME.search(name)):
            together[os.path.dirname(one[0].path), _rest_of_name(name)].append(one)
    for traces in together.values():
        ranks = _ranks_in_names([trace.name for trace, _, _ in traces])
        members = [Member(rank, *one) for rank, one in zip(ranks, traces, strict=True)]
        if len(set(ranks)) > 1:
            for world in _by_group_size(members):
                for run in told_apart(world):
                    yield run, "file names"


def _by_group_size(members: Sequence[Member]) -> list[list[Member]]:
    """The members by a place in their names, if each part then has as many as the largest process group that is recorded."""
    sizes = [
        size for member in members if member.communication for size in member.communication.collectives["group_size"].tolist()
    ]
    largest = max((size for size in sizes if size is not None), default=len(members))
    kinds = [kind for kind in REPLICAS_FIRST if any(kind in _places(member.trace.name) for member in members)]
    for chosen in (*combinations(kinds, 1), *combinations(kinds, 2)):
        parts: dict[Hashable, list[Member]] = defaultdict(list)
        for member in members:
            parts[_place_along(chosen, member)].append(member)
        if len(parts) > 1 and all(len(part) == largest for part in parts.values()):
            return list(parts.values())
    return [list(members)]


def _ranks_in_names(names: Sequence[str]) -> list[int]:
    """The rank of each name: as written, else the number where the places differ in one alone, else the order of the places."""
    written = [IN_NAME.search(name) for name in names]
    if all(written):
        return [int(match.group(1)) for match in written if match]
    places = [_places(name) for name in names]
    differing = [kind for kind in REPLICAS_FIRST if len({one.get(kind) for one in places}) > 1]
    if len(differing) == 1 and all(differing[0] in one for one in places):
        return [one[differing[0]] for one in places]
    keys = [tuple(one.get(kind, -1) for kind in REPLICAS_FIRST) for one in places]
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys]


def _places(name: str) -> dict[str, int]:
    return {kind.lower(): int(number) for kind, number in PLACE_IN_NAME.findall(name)}


def _rest_of_name(name: str) -> str:
    """The name without its rank, its places and times."""
    rest = IN_NAME.sub("rank#", name)
    rest = PLACE_IN_NAME.sub(lambda match: f"{match.group(1).lower()}#", rest)
    return MOMENT_IN_NAME.sub("#", rest)


# --- Runs in which each rank appears once ------------------------------------------------------------------------------


def told_apart(members: Sequence[Member]) -> list[list[Member]]:
    """The members as runs in which each rank appears once, in the order of their first trace."""
    if _most_of_a_rank(members) == 1:
        return [sorted(members, key=lambda member: member.rank)]
    for parts in _splits(members):
        return [run for part in parts for run in told_apart(part)]
    return _by_ends(members) or _by_time(members)


def _most_of_a_rank(members: Sequence[Member]) -> int:
    """How often the rank appears that appears most often."""
    return max(Counter(member.rank for member in members).values())


def _splits(members: Sequence[Member]) -> Iterator[list[list[Member]]]:
    """Ways to tell the members apart, the surest first. Each leaves fewer traces of one rank together."""
    kinds = [kind for kind in REPLICAS_FIRST if any(kind in _places(member.trace.name) for member in members)]
    along: list[Callable[[Member], Hashable]] = [
        partial(_place_along, chosen) for chosen in (*combinations(kinds, 1), *combinations(kinds, 2))
    ]
    for key in (_world_groups, *along, _name_without_rank, _name_without_moments):
        parts: dict[Hashable, list[Member]] = defaultdict(list)
        for member in members:
            parts[key(member)].append(member)
        found = list(parts.values())
        fewer = max(map(_most_of_a_rank, found)) < _most_of_a_rank(members)
        if fewer and any(len({member.rank for member in part}) > 1 for part in found):
            yield found


def _place_along(kinds: Sequence[str], member: Member) -> Hashable:
    places = _places(member.trace.name)
    return tuple(places.get(kind) for kind in kinds)


def _name_without_rank(member: Member) -> Hashable:
    return PLACE_IN_NAME.sub("#", IN_NAME.sub("#", member.trace.name))


def _name_without_moments(member: Member) -> Hashable:
    return _rest_of_name(member.trace.name)


def _world_groups(member: Member) -> Hashable:
    """The process groups of all ranks of the world, as recorded. Those of another world may have other names."""
    listed: Any = member.trace.metadata.get("distributed", {}).get("pg_config")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    size = world_size(member.trace)
    return frozenset(
        (str(entry.get("pg_name")), str(entry.get("ranks")))
        for entry in entries
        if not isinstance(entry.get("ranks"), list) or len(entry["ranks"]) == size
    )


def _by_ends(members: Sequence[Member]) -> list[list[Member]]:
    """The members by whose collectives end together; none if that tells nothing.

    The traces of the rank that has most are the first of a run each. Every other trace joins the one whose collectives end when
    its own do, closer than with any other.
    """
    counts = Counter(member.rank for member in members)
    most = min(counts, key=lambda rank: (-counts[rank], rank))
    firsts = [member for member in members if member.rank == most]
    runs = {first.place: [first] for first in firsts}
    ends = {member.place: _ends(member) for member in members}
    for member in members:
        if member.rank == most:
            continue
        distance = sorted((_distance(ends[member.place], ends[first.place]), first.place) for first in firsts)
        (nearest, place), (second, _) = distance[:2]
        if nearest > CLOCKS_AGREE_NS or second < 2 * nearest + 1_000 or member.rank in {one.rank for one in runs[place]}:
            return []
        runs[place].append(member)
    return [sorted(run, key=lambda member: member.rank) for run in runs.values()]


def _ends(member: Member) -> Int64s:
    """When each of the member's collectives ends, on the clock as recorded, in order."""
    if member.communication is None:
        return np.empty(0, dtype=np.int64)
    table = member.communication.collectives
    return np.sort(table["start_ns"] + table["duration_ns"]) + member.trace.origin_ns


def _distance(one: Int64s, other: Int64s) -> int:
    """How far an end of one trace is from the nearest end of the other, in ns: the median. Very far if one has no end."""
    if not len(one) or not len(other):
        return int(np.iinfo(np.int64).max)
    place = np.searchsorted(other, one)
    before, after = other[np.maximum(place - 1, 0)], other[np.minimum(place, len(other) - 1)]
    return int(np.sort(np.minimum(np.abs(one - before), np.abs(after - one)))[len(one) // 2])


def _by_time(members: Sequence[Member]) -> list[list[Member]]:
    """The members as runs of traces of different ranks that were recorded at the same time, in the order of time."""
    runs: list[dict[int, Member]] = []
    until = None
    for member in sorted(members, key=lambda member: member.trace.origin_ns):
        begins, ends = member.trace.origin_ns, member.trace.origin_ns + int(member.trace.end_ns.max())
        if until is None or begins >= until or member.rank in runs[-1]:
            runs.append({})
            until = ends
        runs[-1][member.rank] = member
        until = max(until or ends, ends)
    return [[run[rank] for rank in sorted(run)] for run in runs]
