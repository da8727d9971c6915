"""What do the ranks of one run do to each other?"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from rank_traces import REDUCE, STEP, Job
from synthetic import TraceBuilder

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.analyze.analysis import among_ranks
from tracekit.analyze.ranks.distributed_run import DistributedRun, find_runs
from tracekit.analyze.trace.trace import Trace

TAXONOMY = Taxonomy.default()


def runs(traces: Sequence[Trace]) -> tuple[DistributedRun, ...]:
    return find_runs(traces, [Analysis(trace, TAXONOMY).communication for trace in traces])


def run_of(job: Job) -> DistributedRun:
    (found,) = runs(job.traces())
    return found


def test_the_rank_that_computes_longest_is_the_straggler() -> None:
    job = Job(ranks=3, steps=4)
    for step in range(3):
        job.late[step, 1] = 30_000
    job.late[3, 2] = 10_000
    run = run_of(job)
    assert (run.world_size, run.backend, run.grouped_by) == (3, "nccl", "distributedInfo")
    assert (run.collectives, run.unmatched, run.decided) == (4, 0, 4)
    assert (run.straggler, run.straggler_share) == (1, 0.75)
    assert run.ranks["last"].tolist() == [0, 3, 1]
    # The others' kernels run as much longer as they wait.
    assert run.ranks["wait_ns"].tolist() == [3 * 30_000 + 10_000, 10_000, 3 * 30_000]


def test_each_kernel_tells_how_long_it_waited_and_for_whom() -> None:
    job = Job(ranks=2, steps=3)
    job.late[1, 1] = 30_000
    one, other = run_of(job).waits

    assert one["wait_ns"].tolist() == [0, 30_000, 0]
    assert one["last"].tolist() == [-1, 1, -1]  # the others came together
    assert other["wait_ns"].tolist() == [0, 0, 0]
    assert len(np.unique(one["gpu"])) == 3


def test_ranks_that_come_together_have_no_straggler() -> None:
    run = run_of(Job(ranks=2))
    assert (run.straggler, run.straggler_share, run.decided) == (None, None, 0)
    assert run.ranks["wait_ns"].tolist() == [0, 0]


def test_half_of_the_collectives_is_not_enough_for_a_straggler() -> None:
    job = Job(ranks=2, steps=4)
    job.late.update({(0, 0): 5_000, (1, 0): 5_000, (2, 1): 5_000, (3, 1): 5_000})
    assert run_of(job).straggler is None


@given(
    st.integers(2, 4),
    st.integers(1, 4),
    st.lists(st.integers(0, 60_000), min_size=16, max_size=16),
    st.integers(0, 40_000),
    st.booleans(),
)
def test_waiting_is_what_was_made_up_and_parts_add_up(
    ranks: int, steps: int, late: list[int], overlap: int, details: bool
) -> None:
    job = Job(ranks=ranks, steps=steps, overlap=overlap, details=details)
    for step in range(steps):
        for rank in range(ranks):
            job.late[step, rank] = late[4 * step + rank]
    run = run_of(job)
    latest = [max(job.late[step, rank] for rank in range(ranks)) for step in range(steps)]
    waits = [sum(latest[step] - job.late[step, rank] for step in range(steps)) for rank in range(ranks)]
    assert run.ranks["wait_ns"].tolist() == waits
    for row in run.ranks.records():
        assert row["overlap_ns"] + row["exposed_ns"] == row["communication_ns"]
        assert row["compute_ns"] + row["exposed_ns"] + row["copies_ns"] + row["idle_ns"] == row["span_ns"]
        assert row["kernel_time_ns"] == row["wait_ns"] + steps * REDUCE
        assert row["end_ns"] - row["start_ns"] == row["span_ns"]
    assert int(run.groups["wait_ns"].sum()) == sum(waits)
    assert int(run.groups["time_ns"].sum()) == int(run.ranks["kernel_time_ns"].sum())
    assert int(run.groups["shortest_ns"].sum()) == steps * REDUCE


def test_overlap_is_told_by_rank() -> None:
    job = Job(ranks=2, steps=3, overlap=15_000)
    assert run_of(job).ranks["overlap_ns"].tolist() == [45_000, 45_000]
    assert run_of(job).ranks["exposed_ns"].tolist() == [3 * (REDUCE - 15_000)] * 2


def test_a_clock_that_is_ahead_is_reported_and_not_shifted() -> None:
    job = Job(ranks=3, steps=4)
    job.offset[2] = 7_000_000
    for step in range(4):
        job.late[step, 0] = 20_000
    run = run_of(job)
    assert run.ranks["clock_offset_ns"].tolist() == [0, 0, 7_000_000]
    assert run.ranks["clock_spread_ns"].tolist() == [0, 0, 0]
    assert run.clocks_agree is False
    assert any("7.00 ms apart" in note for note in run.notes)
    assert run.ranks["start_ns"].tolist() == [0, 0, 7_000_000]
    # Who came last needs no common clock.
    assert run.straggler == 0


def test_clocks_that_agree_are_said_to() -> None:
    run = run_of(Job(ranks=2))
    assert run.clocks_agree is True
    assert run.notes == ()


def test_the_base_time_belongs_to_the_clock() -> None:
    traces = Job(ranks=2).traces()
    later = Job(ranks=2).builder(1)
    later.metadata["baseTimeNanoseconds"] += 5_000
    (run,) = runs([traces[0], later.trace("job_rank1.json")])
    assert run.ranks["clock_offset_ns"].tolist() == [0, 5_000]


def test_sequence_numbers_match_windows_that_begin_apart() -> None:
    job = Job(ranks=2, steps=4)
    job.late[2, 1] = 9_000
    whole = job.builder(0)
    cut = job.builder(1)
    cut.entries = [entry for entry in cut.entries if entry["ts"] >= STEP]  # without the first step
    (run,) = runs([whole.trace("a_rank0.json"), cut.trace("a_rank1.json")])
    assert run.matched_by == "sequence numbers of each process group"
    assert (run.collectives, run.unmatched) == (3, 1)
    assert run.ranks["wait_ns"].tolist() == [9_000, 0]


def test_without_sequence_numbers_the_order_counts_and_says_so() -> None:
    job = Job(ranks=2, steps=3, sequences=False)
    job.late[1, 0] = 4_000
    run = run_of(job)
    assert run.matched_by == "order within each process group and kind"
    assert run.ranks["wait_ns"].tolist() == [0, 4_000]
    bare = Job(ranks=2, steps=3, details=False)
    assert run_of(bare).matched_by == "order within each kind, as no process group is recorded"
    assert run_of(bare).groups["bytes"].tolist() == [None]


def test_an_order_that_does_not_tell_matches_nothing() -> None:
    job = Job(ranks=2, steps=3, sequences=False)
    short = Job(ranks=2, steps=2, sequences=False)
    (run,) = runs([job.builder(0).trace("a_rank0.json"), short.builder(1).trace("a_rank1.json")])
    assert (run.collectives, run.unmatched, run.matched_by) == (0, 5, None)
    assert any("between 2 and 3" in note for note in run.notes)


def test_groups_of_one_name_with_other_ranks_are_not_matched() -> None:
    traces = []
    for rank, pair in ((0, "[0, 1]"), (1, "[0, 1]"), (2, "[2, 3]"), (3, "[2, 3]")):
        builder = TraceBuilder(distributedInfo={"rank": rank, "world_size": 4, "backend": "nccl"})
        told = {"Collective name": "allreduce", "Process Group Name": "tp", "Process Group Ranks": pair, "Seq": 1}
        builder.kernel(0, 100 + rank, "ncclDevKernel_AllReduce_Sum_f16_RING_LL", **told)
        traces.append(builder.trace(f"r{rank}.json"))
    (run,) = runs(traces)
    assert run.collectives == 2
    assert run.ranks["wait_ns"].tolist() == [0, 1, 0, 1]


def test_point_to_point_is_not_matched() -> None:
    traces = []
    for rank in range(2):
        builder = TraceBuilder(distributedInfo={"rank": rank, "world_size": 2, "backend": "nccl"})
        builder.kernel(
            0, 100 + rank, "ncclDevKernel_SendRecv(x)", **{"Collective name": "send", "Process Group Name": "0", "Seq": 1}
        )
        traces.append(builder.trace(f"r{rank}.json"))
    (run,) = runs(traces)
    assert (run.collectives, run.unmatched) == (0, 2)


def test_bandwidth_leaves_the_waiting_out() -> None:
    job = Job(ranks=4, steps=2)
    job.late[0, 3] = 50_000
    row = run_of(job).groups.records()[0]
    assert row["algorithm_gb_s"] == pytest.approx(4_000_000 / REDUCE)
    assert row["bus_gb_s"] == pytest.approx(4_000_000 / REDUCE * 2 * 3 / 4)
    assert (row["count"], row["ranks"]) == (2, 4)


def test_names_tell_ranks_only_where_nothing_else_does() -> None:
    run = run_of(Job(ranks=2, info=False))
    assert (run.grouped_by, run.world_size) == ("file names", None)
    assert run.ranks["rank"].tolist() == [0, 1]
    mixed = [Job(ranks=2).traces()[0], Job(ranks=2, info=False).traces()[1]]
    (alone,) = runs(mixed)
    assert alone.ranks["rank"].tolist() == [0]
    assert any("1 of 2 ranks are here" in note for note in alone.notes)


@pytest.mark.parametrize("names", [("a.json", "b.json"), ("rank0.json", "other_rank1.json"), ("crank0.json", "crank1.json")])
def test_other_names_make_no_run(names: tuple[str, str]) -> None:
    traces = [Job(ranks=2, info=False).builder(rank).trace(name) for rank, name in enumerate(names)]
    assert runs(traces) == ()


def test_a_single_process_is_no_run() -> None:
    builder = TraceBuilder(distributedInfo={"rank": 0, "world_size": 1, "backend": "nccl"})
    builder.kernel(0, 10)
    assert runs([builder.trace()]) == ()


def test_two_windows_of_the_same_ranks_are_two_runs() -> None:
    early, late = Job(ranks=2), Job(ranks=2)
    late.offset.update({0: 10**9, 1: 10**9})
    late.late[0, 1] = 1_000
    traces = [dataclasses.replace(trace, path=f"one/{trace.name}") for job in (early, late) for trace in job.traces()]
    first, second = runs(traces)
    assert first.ranks["wait_ns"].tolist() == [0, 0]
    assert second.ranks["wait_ns"].tolist() == [1_000, 0]


def test_a_rank_without_gpu_events_is_told_as_such() -> None:
    builder = TraceBuilder(distributedInfo={"rank": 1, "world_size": 2, "backend": "nccl"})
    builder.operator(0, 10)
    (run,) = runs([Job(ranks=2).traces()[0], builder.trace("b.json")])
    assert run.ranks["span_ns"].tolist()[1] is None
    assert run.ranks["wait_ns"].tolist() == [0, 0]


def test_steps_restrict_the_ranks_too() -> None:
    from tracekit.analyze.structure.selection import select

    job = Job(ranks=2, steps=4)
    job.late.update({(0, 0): 8_000, (2, 1): 3_000})
    traces = [select(trace, "6-8")[0] for trace in job.traces()]
    (run,) = runs(traces)
    assert run.collectives == 3
    assert run.ranks["wait_ns"].tolist() == [3_000, 0]


def test_a_folder_a_rank_is_one_run_too(tmp_path: Path) -> None:
    paths = [Job(ranks=2).builder(rank).write(tmp_path / f"{rank}.json") for rank in range(2)]
    homes = [tmp_path / "run" / f"rank{rank}" for rank in range(2)]
    for path, home in zip(paths, homes, strict=True):
        home.mkdir(parents=True)
        path.rename(home / "trace.json")
    (run,) = runs([load(home / "trace.json") for home in homes])
    assert (run.name, run.ranks["rank"].tolist()) == ("run", [0, 1])


def test_runs_of_two_folders_stay_apart(tmp_path: Path) -> None:
    traces = [load(path) for name in ("a", "b") for path in Job(ranks=2).write(tmp_path / name)]
    assert [run.name for run in runs(traces)] == ["a", "b"]


def test_the_order_of_the_files_does_not_matter() -> None:
    job = Job(ranks=3)
    job.late[0, 2] = 2_500
    forwards, backwards = run_of(job), runs(job.traces()[::-1])[0]
    assert forwards.ranks.records() == backwards.ranks.records()
    assert forwards.groups.records() == backwards.groups.records()


def test_each_rank_knows_the_others_and_finds_the_straggler() -> None:
    job = Job(ranks=3, steps=3)
    for step in range(3):
        job.late[step, 1] = 200_000
    host_only = TraceBuilder(distributedInfo={"rank": 3, "world_size": 3, "backend": "nccl"})
    host_only.operator(0, 10)
    traces = job.traces()[::-1]
    traces.append(dataclasses.replace(host_only.trace(), path=traces[0].path))
    alone = [Analysis(trace, TAXONOMY) for trace in traces]
    found = runs(traces)
    assert found[0].traces == (2, 1, 0, 3)
    kernels = [one.kernels for one in alone]
    among = among_ranks(alone, found)
    for before, after, table in zip(alone, among, kernels, strict=True):
        assert after.trace is before.trace
        assert after.kernels is table  # and is not computed again
    for analysis in among[:3]:
        (finding,) = [finding for finding in analysis.findings if finding.code == "stragglers"]
        assert "Rank 1" in finding.title
    assert not any(finding.code == "stragglers" for one in alone for finding in one.findings)


def test_a_real_rank_and_its_copy_that_waits(tmp_path: Path) -> None:
    """The other rank is the real one, later by a known time at each collective and on a clock that is ahead."""
    path = shared_data.needed("traces/a100_training_old_format.json.gz")
    document = json.loads(gzip.decompress(path.read_bytes()))
    document["distributedInfo"]["rank"] = 4
    ahead, late, talks = 250_000, 3, 0
    for event in document["traceEvents"]:
        if "ts" in event:
            event["ts"] = int(event["ts"]) + ahead
        if str(event.get("cat")).lower() == "kernel" and event["name"].startswith("ncclKernel"):
            event["ts"], event["dur"] = event["ts"] + late, event["dur"] - late
            talks += 1
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    first = load(path)
    second = dataclasses.replace(load(other), path=str(path))
    (run,) = runs([first, second])
    assert talks > 50
    assert run.ranks["rank"].tolist() == [3, 4]
    assert run.ranks["matched"].tolist() == [talks, talks]
    assert run.ranks["wait_ns"].tolist() == [late * 1_000 * talks, 0]
    assert (run.straggler, run.straggler_share) == (4, 1.0)
    assert run.ranks["clock_offset_ns"].tolist() == [0, ahead * 1_000]
    assert np.all(run.ranks["clock_spread_ns"] == 0)
