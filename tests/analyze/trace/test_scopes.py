"""Do the ids of several processes in one file stay apart?"""

from __future__ import annotations

from typing import Any

from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import devices
from tracekit.analyze.activity.operators import operators
from tracekit.analyze.analysis import Analysis
from tracekit.taxonomy import Taxonomy

US = 1_000


def merged(*, lag: tuple[int, int] = (10, 10), devices: tuple[int, int] = (0, 1), shift: int = 5) -> TraceBuilder:
    """Two processes that each launch four kernels under the ids 1 to 4; the second is `shift` µs later."""
    builder = TraceBuilder()
    for process in range(2):
        for number in range(4):
            at = (100 * number + process * shift) * US
            host: dict[str, Any] = {"pid": 900 + process, "tid": 900 + process}
            builder.operator(at, 9 * US, f"aten::op{process}").update(host)
            builder.call(at + US, 3 * US, correlation=number + 1).update(host)
            builder.kernel(at + US + lag[process] * US, 50 * US, f"k{process}", device=devices[process], correlation=number + 1)
    return builder


def analysis(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), Taxonomy([]))


def kernels_of(one: Analysis) -> dict[str, int]:
    return {row["name"]: row["kernels"] for row in operators(one.trace).records()}


def codes(one: Analysis) -> list[str]:
    return [warning.code for warning in one.warnings]


def test_each_devices_events_belong_to_the_process_that_they_follow():
    one = analysis(merged(shift=40))
    assert codes(one) == ["shared_ids"]
    assert one.complete
    assert kernels_of(one) == {"aten::op0": 4, "aten::op1": 4}
    assert one.launches.kernel_launches == 8
    assert one.launches.latency.max == 10 * US
    assert (
        one.idle.unattributed_ns
        == devices(one.trace)["idle_ns"].sum() - one.idle.launch_latency_ns - one.idle.host_other_ns - one.idle.dispatch_ns
    )


def test_what_one_process_lost_is_not_found_in_the_other():
    builder = merged(shift=40)
    builder.entries = [entry for entry in builder.entries if entry["name"] != "k0"]
    one = analysis(builder)
    assert codes(one) == ["shared_ids", "launches_without_kernel"]
    assert one.launches.launches_without_kernel == 4
    assert kernels_of(one) == {"aten::op0": 0, "aten::op1": 4}


def test_where_nothing_tells_them_apart_it_says_so():
    one = analysis(merged(shift=0))
    assert "colliding_ids" in codes(one)
    assert not one.complete
    assert kernels_of(one) == {"aten::op0": 0, "aten::op1": 0}


def test_devices_of_one_number_under_different_processes_are_two():
    builder = merged(devices=(0, 0), shift=40)
    for entry in builder.entries:
        if entry["name"] == "k1":
            entry["pid"] = 8  # as a program writes it that adds to the numbers of processes
    one = analysis(builder)
    assert len(devices(one.trace)) == 2
    assert one.gpu is not None
    assert one.gpu.busy_ns == 8 * 50 * US


def test_ids_of_one_process_or_ids_that_differ_are_left_alone():
    for change in (0, 100):
        builder = merged(shift=40)
        for entry in builder.entries:
            if entry["name"].endswith("1") or entry.get("pid") == 901:
                entry["pid"] = 900 if not change and entry["cat"] != "kernel" else entry["pid"]
                if change and "correlation" in entry.get("args", {}):
                    entry["args"]["correlation"] += change
        assert not {"shared_ids", "colliding_ids"} & set(codes(analysis(builder)))
