"""Communication that nothing runs beside, and ranks that come late."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rule_traces import analysed, asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.finding import CannotTell, Finding
from tracekit.analyze.findings.rules.communication import exposed_communication, stragglers
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

    assert finding.affected_ns == finding.saving_ns == 50
    assert finding.rows == ({"communication_ns": 50, "hidden_ns": 0, "exposed_ns": 50},)
    assert told(exposed_communication, reduced(200, beside=99)).saving_ns == 101


@pytest.mark.parametrize("builder", [reduced(49), reduced(200, beside=100)], ids=["short", "half of it hidden"])
def test_little_exposed_communication(builder):
    assert asked(exposed_communication, builder) is None


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
