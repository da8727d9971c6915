"""Are the traces of one run taken together, and those of several told apart?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rank_traces import Job

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.ranks.distributed_run import DistributedRun, find_runs
from tracekit.analyze.trace.trace import Trace
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
MS = 1_000_000


def job(offset: int = 0, **options: Any) -> Job:
    """Two ranks whose clocks begin at `offset` ns."""
    found = Job(ranks=2, **options)
    found.offset.update({0: offset, 1: offset})
    return found


def traces(names: dict[str, tuple[Job, int]], **metadata: Any) -> list[Trace]:
    found = []
    for name, (one, rank) in names.items():
        builder = one.builder(rank)
        for key, value in metadata.get(name, {}).items():
            builder.metadata["distributedInfo"][key] = value
        found.append(dataclasses.replace(builder.trace(name), path=f"folder/{name}"))
    return found


def runs(given: Sequence[Trace]) -> tuple[DistributedRun, ...]:
    return find_runs(given, [Analysis(trace, TAXONOMY).communication for trace in given])


def members(given: Sequence[Trace]) -> list[list[str]]:
    """The names of each run's traces, by rank."""
    return [[given[place].name for place in run.traces] for run in runs(given)]


REPLICAS = [
    ("1790.5-DP-{dp}-TP-{tp}.trace.json", "{tp}"),
    ("dp{dp}_pp0_tp{tp}_ep{tp}_rank{tp}.17908570261234.pt.trace.json", "{tp}"),
    ("server-TP{tp}-DP{dp}.json", "{tp}"),
    ("replica_{dp}_rank_{tp}.json", "{tp}"),
]


@pytest.mark.parametrize(("pattern", "_"), REPLICAS)
def test_replicas_that_are_a_world_each_are_told_apart_by_their_names(pattern, _):
    """Their recordings begin in an order that would mix them."""
    order = [(0, 0, 0), (1, 1, 1_000), (0, 1, 2_000), (1, 0, 3_000)]
    given = traces({pattern.format(dp=dp, tp=tp): (job(start), tp) for dp, tp, start in order})

    assert members(given) == [[pattern.format(dp=dp, tp=tp) for tp in range(2)] for dp in range(2)]


def test_each_of_them_is_named_by_its_place():
    names = {f"DP-{dp}-TP-{tp}.json": (job(), tp) for dp in range(2) for tp in range(2)}
    first, second = runs(traces(names))
    assert (first.name.split(" ")[1:], second.name.split(" ")[1:]) == (["dp0"], ["dp1"])


def test_process_groups_tell_worlds_apart():
    names = {f"{letter}.json": (job(), rank) for letter, rank in zip("abcd", (0, 0, 1, 1), strict=True)}
    groups = {
        f"{letter}.json": {"pg_config": [{"pg_name": pg, "ranks": [0, 1]}, {"pg_name": f"alone {letter}", "ranks": [rank]}]}
        for letter, pg, rank in (("a", "x", 0), ("b", "y", 0), ("c", "y", 1), ("d", "x", 1))
    }
    assert members(traces(names, **groups)) == [["a.json", "d.json"], ["b.json", "c.json"]]


def test_collectives_that_end_together_tell_worlds_apart():
    """Nothing in the names or the metadata does. The second world is 3 ms later, and its ranks began first and last."""
    names = {"a.json": (job(), 0), "b.json": (job(3 * MS // 10), 0), "c.json": (job(3 * MS // 10), 1), "d.json": (job(), 1)}
    assert members(traces(names)) == [["a.json", "d.json"], ["b.json", "c.json"]]


def test_if_nothing_tells_worlds_apart_each_trace_is_in_one_run():
    names = {name: (job(), rank) for name, rank in (("a.json", 0), ("b.json", 0), ("c.json", 1), ("d.json", 1))}
    found = members(traces(names))
    assert sorted(name for run in found for name in run) == sorted(names)


def test_names_without_a_rank_tell_it_by_their_places():
    names = {f"step-TP-{tp}-PP-{pp}.json": (job(info=False, details=False), tp) for pp in range(2) for tp in range(2)}
    (run,) = runs(traces(names))
    assert run.grouped_by == "file names"
    assert run.ranks["rank"].tolist() == [0, 1, 2, 3]
    assert run.ranks["trace"].tolist() == [f"step-TP-{tp}-PP-{pp}.json" for pp, tp in ((0, 0), (0, 1), (1, 0), (1, 1))]


def test_one_place_that_differs_is_the_rank():
    names = {f"x-TP-{tp}-DP-5.json": (job(info=False), tp % 2) for tp in (6, 4)}
    (run,) = runs(traces(names))
    assert run.ranks["rank"].tolist() == [4, 6]


def test_times_in_names_are_no_part_of_them():
    names = {f"host-rank{rank}.179085702612{rank}.pt.trace.json": (job(info=False), rank) for rank in range(2)}
    assert len(members(traces(names))) == 1


def test_windows_of_one_world_are_told_apart_by_names_however_the_clocks_are():
    names = {f"step{step}-rank{rank}.json": (job(), rank) for step in (10, 20) for rank in range(2)}
    assert members(traces(names)) == [[f"step{step}-rank{rank}.json" for rank in range(2)] for step in (10, 20)]


@given(st.permutations(range(8)), st.lists(st.integers(0, 400_000), min_size=8, max_size=8))
@examples(25)
def test_neither_order_nor_starts_matter_if_names_tell(order, starts):
    kinds = [(dp, pp, rank) for dp in range(2) for pp in range(2) for rank in range(2)]
    names = {}
    for at in order:
        dp, pp, rank = kinds[at]
        names[f"DP-{dp}-PP-{pp}-TP-{rank}.json"] = (job(starts[at]), rank)
    found = members(traces(names))
    assert sorted(found) == [[f"DP-{dp}-PP-{pp}-TP-{rank}.json" for rank in range(2)] for dp in range(2) for pp in range(2)]


def test_without_ranks_the_size_of_process_groups_tells_replicas_apart():
    """SGLang's replicas do not talk to each other: each group has the two ranks of one of them."""
    names = {f"1700.5-TP-{tp}-DP-{dp}.trace.json": (job(info=False), tp) for dp in range(2) for tp in range(2)}
    assert members(traces(names)) == [[f"1700.5-TP-{tp}-DP-{dp}.trace.json" for tp in range(2)] for dp in range(2)]


@pytest.mark.parametrize("details", [True, False])
def test_a_trace_that_records_no_rank_still_tells_its_collectives(details):
    names = {f"rank{rank}.json": (job(info=False, details=details), rank) for rank in range(2)}
    (run,) = runs(traces(names))
    assert run.groups["process_group"].tolist() == (["0"] if details else [None])


def test_nodes_in_folders_of_their_own_are_one_run():
    one = Job(ranks=4)
    given = [
        dataclasses.replace(one.builder(rank).trace(f"rank{rank}.json"), path=f"run/node{rank // 2}/rank{rank}.json")
        for rank in range(4)
    ]
    (run,) = runs(given)
    assert (run.name, run.ranks["rank"].tolist(), run.notes) == ("run", [0, 1, 2, 3], ())


def test_folders_that_hold_a_whole_world_each_are_runs_of_their_own():
    given = [
        dataclasses.replace(job().builder(rank).trace("t.json"), path=f"runs/{letter}/rank{rank}.json")
        for letter in "ab"
        for rank in range(2)
    ]
    assert [run.name for run in runs(given)] == ["a", "b"]
