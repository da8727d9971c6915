"""Communication that nothing runs beside, and ranks that come late."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rank_traces import Job
from rule_traces import analysed, asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis, among_ranks
from tracekit.analyze.findings.finding import CannotTell, Finding
from tracekit.analyze.findings.rules.communication import exposed_communication, rank_waits, stragglers
from tracekit.analyze.ranks.distributed_run import find_runs
from tracekit.table import Table

NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"


def reduced(duration: int, *, beside: int = 0, span: int = 1_000, **metadata: object) -> TraceBuilder:
    """A collective of that duration in a span of 1,000 ns of compute, `beside` of it while that runs."""
    builder = TraceBuilder(**metadata)
    builder.kernel(0, span - duration + beside, "sgemm")
    builder.kernel(span - duration, duration, NCCL, stream=20)
    return builder


def test_a_collective_that_nothing_runs_beside():
    finding = told(exposed_communication, reduced(50))

    assert finding.affected_ns == finding.saving_ns == finding.unlimited_saving_ns == 50
    assert finding.rows == ({"kind": "all-reduce", "communication_ns": 50, "hidden_ns": 0, "exposed_ns": 50, "waiting_ns": 0},)
    assert finding.title.startswith("Exposed all-reduce")


def test_what_is_exposed_counts_however_much_else_is_hidden():
    assert told(exposed_communication, reduced(200, beside=99)).saving_ns == 101
    assert told(exposed_communication, reduced(500, beside=450)).saving_ns == 50


@pytest.mark.parametrize("builder", [reduced(49), reduced(500, beside=451)], ids=["short", "nearly all hidden"])
def test_little_exposed_communication(builder):
    assert asked(exposed_communication, builder) is None


def kinds(*kernels: tuple[str, int], **metadata: object) -> TraceBuilder:
    """Products of 1,000 ns, each with one of these kernels after it, which the next product waits for."""
    builder, at = TraceBuilder(**metadata), 0
    for name, duration in kernels:
        builder.kernel(at, 1_000, "sgemm")
        builder.kernel(at + 1_000, duration, name, stream=20)
        at += 1_000 + duration
    builder.kernel(at, 1_000, "sgemm")
    return builder


def found(builder: TraceBuilder) -> list[Finding]:
    answer = exposed_communication(analysed(builder).facts)
    assert isinstance(answer, tuple)
    return list(answer)


def test_each_kind_has_its_own_finding_and_remedy():
    gather = "ncclDevKernel_AllGather_RING_LL"
    first, second = found(kinds((NCCL, 400), (gather, 300)))

    assert (first.rows[0]["kind"], second.rows[0]["kind"]) == ("all-reduce", "all-gather")
    assert (first.saving_ns, second.saving_ns) == (400, 300)
    assert "forward_prefetch" in second.snippet
    assert "prefetch" not in first.action


def test_kinds_of_little_each_are_told_by_the_largest():
    one, two = "ncclDevKernel_AllGather_RING_LL", "ncclDevKernel_Broadcast_RING_LL"
    (finding,) = found(kinds((NCCL, 200), (one, 190), (two, 190), ("sgemm", 1_000)))
    assert finding.rows[0]["kind"] == "all-reduce"


def test_sums_of_a_split_model_are_no_gradients():
    builder = kinds((NCCL, 400))
    assert "bucket_cap_mb" not in told(exposed_communication, builder).action
    builder.operator(0, 10, "autograd::engine::evaluate_function: AddmmBackward0")
    assert "bucket_cap_mb" in told(exposed_communication, builder).snippet


def exchange(*durations: int, name: str = "ncclDevKernel_SendRecv", **args: object) -> TraceBuilder:
    builder, at = TraceBuilder(), 0
    for duration in durations:
        builder.kernel(at, 1_000, "sgemm")
        builder.kernel(at + 1_000, duration, name, stream=20, **args)
        at += 1_000 + duration
    builder.kernel(at, 1_000, "sgemm")
    return builder


def test_a_pipelines_bubble_is_halved_by_twice_as_many_micro_batches():
    finding = told(exposed_communication, exchange(100, 900, 500))

    assert finding.title.startswith("Pipeline bubble")
    assert finding.rows[0]["waiting_ns"] == 1_200
    assert finding.saving_ns == 600
    assert "micro-batches" in finding.action
    assert "bucket" not in finding.action


def test_exchanges_that_take_equally_long_are_no_bubble():
    finding = told(exposed_communication, exchange(300, 310))
    assert finding.title.startswith("Exposed send and receive")
    assert finding.saving_ns == 600


def test_collectives_of_one_size_that_differ_wait_for_other_ranks():
    told_size = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 10, "Out msg nelems": 10}
    finding = told(exposed_communication, exchange(100, 900, 500, name=NCCL, **told_size))

    assert "mostly waiting for another rank" in finding.title
    assert finding.saving_ns == 300  # no overlap saves the waiting
    assert "all ranks together" in finding.action
    assert finding.snippet == ""


def of_run(job: Job) -> list[Analysis]:
    """The analyses of all ranks, each of which knows the others."""
    analyses = [analysed(trace) for trace in job.traces()]
    runs = find_runs([one.trace for one in analyses], [one.communication for one in analyses])
    return among_ranks(analyses, runs)


def test_a_rank_that_waits_is_told_for_whom_and_promised_nothing():
    job = Job(ranks=2, steps=4)
    job.late.update({(step, 1): 100_000 for step in range(4)})
    waiting, late = of_run(job)

    finding = rank_waits(waiting.facts)
    assert isinstance(finding, Finding)
    assert finding.title == "This rank waits for rank 1"
    assert (finding.affected_ns, finding.saving_ns) == (400_000, None)
    assert "rank 1 comes last at 4 of 4 collectives" in finding.evidence
    assert exposed_communication(waiting.facts) is None  # it could hide 80,000 of 480,000: waiting is what matters
    assert rank_waits(late.facts) is None
    assert isinstance(exposed_communication(late.facts), tuple)  # nobody keeps this one waiting


def test_ranks_that_come_together_wait_for_nobody():
    assert [rank_waits(one.facts) for one in of_run(Job(ranks=2))] == [None, None]
    assert asked(rank_waits, reduced(500)) is None


def test_what_promises_nothing_but_is_severe_stands_before_what_is_not():
    job = Job(ranks=2, steps=4)
    job.late.update({(step, 1): 300_000 for step in range(4)})
    (first, *_) = of_run(job)[0].findings
    assert (first.code, first.severity) in {("rank_waits", "high"), ("stragglers", "high")}


def test_no_rank_alone_is_late():
    job = Job(ranks=3, steps=4)
    job.late.update({(0, 1): 100_000, (1, 1): 100_000, (2, 2): 100_000, (3, 2): 100_000})
    answers = [rank_waits(one.facts) for one in of_run(job)]
    assert isinstance(answers[0], Finding)  # rank 1 keeps it waiting for exactly half of the time
    assert answers[0].title == "This rank waits for rank 1"
    job = Job(ranks=4, steps=3)
    job.late.update({(0, 1): 100_000, (1, 2): 100_000, (2, 3): 100_000})
    assert isinstance(rank_waits(of_run(job)[0].facts), CannotTell)


def test_several_ranks_without_a_collective():
    builder = TraceBuilder(distributedInfo={"backend": "nccl", "rank": 0, "world_size": 8})
    builder.kernel(0, 10)

    assert "no communication kernel" in reason(exposed_communication, builder)
    assert "all ranks together" in reason(stragglers, builder)


def test_one_process_has_nothing_to_tell():
    builder = TraceBuilder()
    builder.kernel(0, 10)

    assert asked(exposed_communication, builder) is None
    assert asked(stragglers, builder) is None


def ranks(*compute_ns: int) -> Finding | CannotTell | None:
    """What a table of ranks says beside a trace with a collective in it."""
    table = Table({"rank": np.arange(len(compute_ns)), "compute_ns": np.array(compute_ns, dtype=np.int64)})
    return stragglers(dataclasses.replace(analysed(reduced(100)).facts, ranks=table))


def test_a_rank_that_computes_longer():
    finding = ranks(1_000, 1_000, 1_100, 1_000)

    assert isinstance(finding, Finding)
    assert (finding.affected_ns, finding.saving_ns) == (1_100, 100)
    assert finding.title.startswith("Rank 2")


def test_ranks_that_compute_alike_and_one_rank_alone():
    assert ranks(1_000, 1_000, 1_099, 1_000) is None
    assert isinstance(ranks(1_000), CannotTell)
    assert "whom it waited for" in reason(stragglers, reduced(100))
