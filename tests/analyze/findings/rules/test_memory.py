"""Matrix-vector products, and copies between memories."""

from __future__ import annotations

import dataclasses

import pytest
from operator_calls import t
from rule_traces import SHEET, K, asked, device, queued, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.memory import device_copies, memory_bound_gemv, pageable_copies

US = 1_000
ADD = K("vectorized_elementwise_kernel", 1_000, "aten::add", (t(10), t(10), 1))


def mm(rows: int, duration: int, dtype: str = "c10::Half") -> K:
    """A product of `rows` by 1,000 x 1,000 weights, 2e6 bytes of them in half precision."""
    return K("gemv2T", duration, "aten::mm", (t(rows, 1_000, dtype=dtype), t(1_000, 1_000, dtype=dtype)))


# --- Matrix-vector products ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "saving"), [("c10::Half", 2_000), ("float", 3_000)])
def test_bytes_of_one_instead_of_two_or_four(dtype, saving):
    finding = told(memory_bound_gemv, queued(mm(1, 5_000, dtype), ADD))

    assert finding.affected_ns == 5_000
    assert finding.saving_ns == saving
    assert "Only fewer bytes help" in finding.action


def test_many_rows_or_a_slow_kernel_is_no_matrix_vector_product_that_memory_binds():
    assert told(memory_bound_gemv, queued(mm(7, 5_000), ADD))
    assert asked(memory_bound_gemv, queued(mm(9, 5_000), ADD)) is None
    # 2,004,000 bytes take 2,004 ns; a quarter of the roof is the least that binds.
    assert told(memory_bound_gemv, queued(mm(1, 8_016), ADD))
    assert asked(memory_bound_gemv, queued(mm(1, 8_017), ADD)) is None


def test_from_a_fifth_of_the_kernel_time_on():
    others = [ADD] * 20
    assert told(memory_bound_gemv, queued(mm(1, 5_000), *others))
    assert asked(memory_bound_gemv, queued(mm(1, 4_999), *others)) is None


def test_what_memory_bound_gemv_cannot_tell():
    assert "not recorded" in reason(memory_bound_gemv, queued(K("gemv2T", 5_000)))
    assert "operands" in reason(memory_bound_gemv, queued(K("gemv2T", 5_000), ADD))
    assert "datasheet" in reason(memory_bound_gemv, queued(mm(1, 5_000), name="Another"))


# --- Copies ----------------------------------------------------------------------------------------------------------

PAGEABLE, PINNED = "Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pinned -> Device)"


def copies(name: str, duration: int, *, beside: int = 0) -> TraceBuilder:
    """A span of 1,000 ns: kernels but for a copy of that duration, of which `beside` runs while a kernel does."""
    builder = TraceBuilder()
    builder.memcpy(0, duration, name, bytes=1_000)
    builder.kernel(duration - beside, 1_000 - duration + beside)
    return builder


@pytest.mark.parametrize(("rule", "name"), [(pageable_copies, PAGEABLE), (device_copies, PINNED)])
def test_copies_that_nothing_runs_beside(rule, name):
    finding = told(rule, copies(name, 20))

    assert finding.affected_ns == 20
    assert finding.rows == ({"name": name, "count": 1, "time_ns": 20, "bytes": 1_000},)
    assert asked(rule, copies(name, 19)) is None
    assert not told(rule, copies(name, 300, beside=200)).saving_ns  # the kernel did not wait for the copy
    assert asked(rule, copies(name, 300, beside=281)) is None


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Memcpy DtoH (Device -> Pageable)", pageable_copies),
        ("Memcpy DtoH (Device -> Pinned)", device_copies),
        ("Memcpy PtoP (Device -> Device)", device_copies),
        ("Memcpy DtoD (Device -> Device)", None),
    ],
)
def test_each_copy_has_one_rule_and_copies_within_a_device_none(name, rule):
    for each in (pageable_copies, device_copies):
        assert (asked(each, copies(name, 300)) is not None) == (each is rule)


def fed(copy: int, *, moved: int, name: str = PAGEABLE, call: int | None = None) -> TraceBuilder:
    """Three rounds of a copy and a kernel that needs it. The host is in the copy's call until it is done."""
    builder, now = TraceBuilder(deviceProperties=device()), 0
    for _ in range(3):
        took = 10 * US if call is None else call
        builder.launch(call=(now, took), kernel=(now + took, 1), name="before")
        builder.call(now + took, copy, "cudaMemcpyAsync", correlation=(at := 90_000 + now))
        builder.memcpy(now + took, copy, name, correlation=at, bytes=moved)
        builder.launch(call=(now + took + copy, 10 * US), kernel=(now + took + copy + 10 * US, 9 * US))
        now += took + copy + 20 * US
    return builder


def test_a_pinned_copy_takes_what_the_bus_takes_and_the_host_goes_on():
    sheet = dataclasses.replace(SHEET, bus_gb_s=10)
    finding = told(pageable_copies, fed(2_000 * US, moved=8_500_000), sheet)  # 1,000 µs at 85 % of the bus
    assert finding.saving_ns == pytest.approx(3_000 * US, rel=0.1)
    assert finding.unlimited_saving_ns == pytest.approx(3_000 * US, rel=0.1)
    assert "pin_memory=True" in finding.snippet


def test_a_large_pinned_copy_of_the_trace_tells_the_bus():
    builder = fed(2_000 * US, moved=20_000_000)
    builder.memcpy(-3_000 * US, 1_000 * US, PINNED, bytes=20_000_000)
    slow = told(pageable_copies, builder, dataclasses.replace(SHEET, bus_gb_s=1))
    assert slow.unlimited_saving_ns == pytest.approx(3_000 * US, rel=0.1)


def test_without_the_speed_of_the_bus_there_is_no_estimate():
    finding = told(pageable_copies, fed(2_000 * US, moved=8_500_000))
    assert finding.saving_ns is None
    assert "not known" in finding.reasoning


def test_what_rules_of_copies_cannot_tell():
    builder = TraceBuilder()
    builder.operator(0, 10)

    assert reason(pageable_copies, builder) == reason(device_copies, builder) == "the trace has no GPU events"
