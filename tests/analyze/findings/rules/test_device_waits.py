"""Work that was launched in time, and what the device waited for before it began it."""

from __future__ import annotations

import pytest
from rule_traces import asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.device_waits import device_wait

US = 1_000
NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"


def queued(gap: int, *, before: str = "sgemm", stream: int = 7, number: int = 20) -> TraceBuilder:
    """Pairs of events of 10 µs, launched in time: `before` on that stream, a gap, then a kernel on stream 7."""
    builder, at = TraceBuilder(), 1_000 * US
    for place in range(number):
        builder.operator(place * 20 * US, 18 * US, "aten::mm")
        builder.launch(call=(place * 20 * US + US, US), kernel=(at, 10 * US), name=before, stream=stream)
        builder.launch(call=(place * 20 * US + 5 * US, US), kernel=(at + 10 * US + gap, 10 * US), name="gelu")
        at += 20 * US + gap
    return builder


def test_the_devices_own_time_between_kernels():
    finding = told(device_wait, queued(2 * US))

    assert finding.title == "The device goes slowly from kernel to kernel"
    assert finding.affected_ns == 20 * 2 * US
    assert finding.saving_ns == finding.unlimited_saving_ns == 20 * 1_500  # 500 ns as in a graph
    assert "20 gaps of 2.00 µs (median)" in finding.evidence
    assert finding.snippet == "model = torch.compile(model, mode='reduce-overhead')"


def test_little_waiting_or_another_larger_cause():
    assert told(device_wait, queued(1_100))
    assert asked(device_wait, queued(1_000)) is None
    builder = queued(2 * US)
    end = 2_000 * US
    builder.operator(end, 500 * US, "aten::mm")
    builder.launch(call=(end + 400 * US, US), kernel=(end + 410 * US, 10 * US))
    assert asked(device_wait, builder) is None


def test_nodes_of_a_graph_can_only_become_fewer():
    builder = TraceBuilder()
    builder.graph(call=(0, 10), kernels=[(1_000 + 1_000 * node, 900) for node in range(50)])
    finding = told(device_wait, builder)

    assert finding.saving_ns is None
    assert "a graph already" in finding.action
    assert "max-autotune" in finding.snippet


@pytest.mark.parametrize(
    ("before", "title"), [("gather", "Queued kernels wait for another stream"), (NCCL, "Queued kernels wait for collectives")]
)
def test_what_ended_just_then_on_another_stream(before, title):
    finding = told(device_wait, queued(5 * US, before=before, stream=20))

    assert finding.title == title
    assert f"{before} on stream 20" in finding.evidence
    assert "enable_cuda_sync_events=True" in finding.evidence  # nothing recorded says so
    assert finding.rows[0]["recorded"] is False
    assert finding.saving_ns == 20 * 4 * US  # 1 µs stays, as where nothing is waited for


def test_a_recorded_wait_names_its_stream():
    builder = queued(5 * US, before="gather", stream=20)
    for place in range(20):
        builder.wait(place * 20 * US + 4 * US, 0, stream=7, on=20)
    finding = told(device_wait, builder)

    assert (finding.rows[0]["stream"], finding.rows[0]["recorded"]) == (20, True)
    assert "not recorded" not in finding.evidence
    assert finding.saving_ns == 20 * 4 * US


def test_copies_in_the_way():
    builder, at = TraceBuilder(), 1_000 * US
    for place in range(20):
        correlation = 1_000 + place
        builder.call(place * 20 * US, US, "cudaMemcpyAsync", correlation=correlation)
        builder.memcpy(at, 10 * US, correlation=correlation)
        builder.launch(call=(place * 20 * US + 5 * US, US), kernel=(at + 14 * US, 10 * US))
        at += 24 * US
    finding = told(device_wait, builder)

    assert finding.title == "Queued kernels wait for copies"
    assert finding.affected_ns == 20 * 4 * US
    assert finding.saving_ns == 20 * 3 * US


def test_a_long_wait_that_nothing_explains():
    because = reason(device_wait, queued(900 * US))
    assert "nothing recorded ran" in because
    assert "enable_cuda_sync_events=True" in because
    builder = queued(900 * US)
    builder.wait(0, 0, stream=9, on=20)
    assert "another device or process" in reason(device_wait, builder)


def test_without_calls_nobody_knows_what_was_queued():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    assert "no runtime calls" in reason(device_wait, builder)
