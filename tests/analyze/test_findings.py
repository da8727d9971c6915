"""What to do next: each rule just at its threshold and just below it."""

from __future__ import annotations

import numpy as np
import pytest

from tracekit.analyze.findings import Finding, findings
from tracekit.analyze.gpu import GpuSummary
from tracekit.analyze.idle import IdleCauses
from tracekit.analyze.launches import Latency, Launches
from tracekit.bundle import CAUSES
from tracekit.table import Table

SPAN = 1_000_000
NOTHING = dict.fromkeys(CAUSES, 0)


def groups(*rows: tuple[str | None, str | None, dict[str, int]]) -> Table:
    """Gap groups of these operators, calls and causes."""
    return Table(
        {
            "operator": np.array([operator for operator, _, _ in rows], dtype=object),
            "call": np.array([call for _, call, _ in rows], dtype=object),
            **{f"{cause}_ns": np.array([ns.get(cause, 0) for _, _, ns in rows], dtype=np.int64) for cause in CAUSES},
        }
    )


def found(*, missing: int = 0, span: int = SPAN, gap_groups: Table | None = None, **idle: int) -> tuple[Finding, ...]:
    causes = IdleCauses(**{f"{cause}_ns": idle.get(cause, 0) for cause in CAUSES})
    busy = span - causes.total_ns
    return findings(
        GpuSummary(span, busy, causes.total_ns, busy, kernels=50, unique_kernels=5, memcpys=0, memsets=0),
        causes,
        Launches(400, 2, missing, 0, Latency(None, None, None, None)),
        groups() if gap_groups is None else gap_groups,
        (),
    )


def test_a_busy_gpu_needs_no_advice():
    assert found() == ()
    assert found(device_wait=900_000) == ()


def test_no_gpu_no_advice():
    idle = IdleCauses(**{f"{cause}_ns": 0 for cause in CAUSES})

    assert findings(None, idle, Launches(0, 0, 0, 0, Latency(None, None, None, None)), groups(), ()) == ()


@pytest.mark.parametrize(
    ("code", "enough", "too_little"),
    [
        ("launch_overhead", {"dispatch": 120_000, "launch_latency": 80_000}, {"dispatch": 120_000, "launch_latency": 79_999}),
        ("host_sync", {"host_sync": 50_000}, {"host_sync": 49_999}),
        ("host_late", {"host_other": 200_000}, {"host_other": 199_999}),
    ],
)
def test_a_cause_from_its_share_of_the_span_on(code, enough, too_little):
    (finding,) = found(**enough)

    assert finding.code == code
    assert finding.affected_ns == finding.saving_ns == sum(enough.values())
    assert finding.severity == "medium"
    assert found(**too_little) == ()


@pytest.mark.parametrize(("ns", "severity"), [(500_000, "high"), (499_999, "medium")])
@pytest.mark.parametrize("cause", ["dispatch", "host_sync", "host_other"])
def test_half_the_span_is_severe(cause, ns, severity):
    assert [finding.severity for finding in found(**{cause: ns})] == [severity]


def test_lost_events_come_first_and_promise_nothing():
    first, second = found(missing=87, host_sync=400_000)

    assert (first.code, first.severity, first.saving_ns) == ("incomplete_trace", "high", None)
    assert first.evidence == "87 of 400 launches have no kernel"
    assert second.code == "host_sync"


def test_the_largest_saving_first_and_always_the_same_order():
    both = {"host_sync": 300_000, "dispatch": 250_000, "host_other": 300_000}

    assert [finding.code for finding in found(**both)] == ["host_late", "host_sync", "launch_overhead"]
    assert found(**both) == found(**both)


def test_evidence_names_the_worst_place_by_this_cause():
    table = groups(
        ("aten::mm", "cudaLaunchKernel", {"dispatch": 100_000, "host_sync": 1}),
        ("aten::item", "cudaMemcpyAsync", {"dispatch": 1, "host_sync": 100_000}),
    )

    assert "before kernels of aten::item" in found(gap_groups=table, host_sync=100_001)[0].evidence
    assert "before kernels of aten::mm" in found(gap_groups=table, dispatch=200_001)[0].evidence


def test_evidence_names_the_call_where_there_is_no_operator_and_nothing_where_neither_is():
    assert (
        "of cudaGraphLaunch"
        in found(gap_groups=groups((None, "cudaGraphLaunch", {"host_other": 9})), host_other=300_000)[0].evidence
    )
    assert "most of it" not in found(gap_groups=groups((None, None, {"host_other": 9})), host_other=300_000)[0].evidence


def test_a_span_of_nothing():
    assert found(span=0) == ()
