"""Whether the figures can be trusted; above_peak is in test_findings."""

from __future__ import annotations

import dataclasses

import pytest
from manifests import EXAMPLE
from rule_traces import K, analysed, asked, queued, reason, told
from synthetic import TraceBuilder

from tracekit import manifest as module
from tracekit.analyze.findings.finding import CannotTell, Finding
from tracekit.analyze.findings.rules.health import above_peak, incomplete_trace, profiler_inflation


def inflated(inflation: float | None) -> Finding | CannotTell | None:
    """What the rule says of a run whose profiled window took 900 ns, so many times as long as without."""
    profile = None if inflation is None else module.Profile("trace", 8, 100, 800, inflation)
    facts = analysed(queued(K("gemm"))).facts
    return profiler_inflation(dataclasses.replace(facts, manifest=dataclasses.replace(EXAMPLE, profile=profile)))


def test_a_profiler_that_slows_the_host_down():
    finding = inflated(1.5)

    assert isinstance(finding, Finding)
    assert (finding.affected_ns, finding.saving_ns) == (300, None)
    assert "1.50 times" in finding.title


def test_a_profiler_that_does_not_or_nobody_knows():
    assert inflated(1.49) is None
    assert isinstance(inflated(None), CannotTell)
    assert "no run manifest" in reason(profiler_inflation, queued(K("gemm")))


def test_lost_kernels():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    assert asked(incomplete_trace, builder) is None
    builder.call(20, 5, correlation=99)
    assert told(incomplete_trace, builder).rows == ({"lost": "launches_without_kernel", "count": 1},)


@pytest.mark.parametrize(("name", "because"), [("Another", "datasheet"), ("Test GPU", "not recorded")])
def test_what_above_peak_cannot_tell(name, because):
    assert because in reason(above_peak, queued(K("gemm"), name=name))


def launch_without_kernel(*, unread_work: bool) -> TraceBuilder:
    builder = queued(K("gemm"))
    builder.call(50_000, 10, "cudaLaunchKernel", correlation=999)
    if unread_work:
        builder.event(60_000, 10, cat="npu_kernel", name="work", pid=0, tid=7, args={"device": 0, "stream": 7})
    return builder


@pytest.mark.parametrize("unread_work", [True, False])
def test_no_event_is_lost_where_work_is_not_read(unread_work):
    found = incomplete_trace(analysed(launch_without_kernel(unread_work=unread_work)).facts)

    assert (found is None) == unread_work
