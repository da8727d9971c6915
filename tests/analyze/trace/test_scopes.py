"""Do the ids of several processes in one file stay apart?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import devices
from tracekit.analyze.activity.operators import operators
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.trace import NO_CORRELATION
from tracekit.taxonomy import Taxonomy

US = 1_000


def merged(*, lag: tuple[int, ...] = (10, 10), devices: tuple[int, ...] = (0, 1), shift: int = 5) -> TraceBuilder:
    """Processes that each launch four kernels under the ids 1 to 4; each is `shift` µs later than the one before."""
    builder = TraceBuilder()
    for process in range(len(devices)):
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


def test_an_event_that_starts_with_its_call_follows_it():
    one = analysis(merged(lag=(0, 10), shift=40))
    assert kernels_of(one) == {"aten::op0": 4, "aten::op1": 4}


def test_more_than_two_processes_are_told_apart():
    one = analysis(merged(lag=(10,) * 7, devices=tuple(range(7)), shift=13))
    assert kernels_of(one) == {f"aten::op{process}": 4 for process in range(7)}
    assert one.complete


def test_an_id_that_one_process_alone_has_tells_whose_the_device_is():
    """Also if it is the last of that process and above all of the other's."""
    builder = merged(shift=0)
    for entry in builder.entries:
        if entry["cat"] == "cuda_runtime" and entry["pid"] == 901:
            entry["args"]["correlation"] += 3  # so 4 is of both, 7 of one
    builder.entries = [entry for entry in builder.entries if entry["cat"] != "kernel"]
    builder.kernel(311 * US, 9 * US, device=3, correlation=7)
    assert kernels_of(analysis(builder)) == {"aten::op0": 0, "aten::op1": 1}


def test_devices_that_have_their_own_numbers_keep_them():
    assert devices(merged(devices=(2, 5), shift=40).trace())["device"].tolist() == [2, 5]


def test_devices_that_get_new_numbers_get_whole_ones():
    builder = merged(devices=(4, 4), shift=40)
    for entry in builder.entries:
        if entry["name"] == "k1":
            entry["pid"] = 8
    found = builder.trace().gpu["device"]
    assert (found.dtype, found.tolist()) == (np.int64, [0] * 4 + [1] * 4)


def test_a_wait_as_the_device_saw_it_belongs_to_the_call_of_its_own_process():
    builder = merged(shift=40)
    for process in range(2):
        at = (90 + 40 * process) * US
        builder.call(at, 20 * US, "cudaStreamSynchronize", correlation=9)["pid"] = 900 + process
        builder.wait(at + US, 18 * US, "Stream Sync", device=process, correlation=9)
    trace = builder.trace()
    calls = trace.named(trace.calls, re.compile("cudaStreamSynchronize").match)
    ids = trace.events["correlation"]
    assert ids[trace.waits["event"]].tolist() == ids[calls].tolist()
    assert len(set(ids[calls].tolist())) == 2


def test_where_nobody_knows_whose_a_wait_is_it_is_nobodys():
    builder = merged(shift=40)
    for process in range(2):
        builder.call(500 * US, 20 * US, "cudaStreamSynchronize", correlation=9)["pid"] = 900 + process
    builder.wait(501 * US, 18 * US, "Stream Sync", correlation=9)
    trace = builder.trace()
    assert trace.events["correlation"][trace.waits["event"]].tolist() == [NO_CORRELATION]
    assert [warning.code for warning in trace.warnings] == ["shared_ids"]  # no work is lost


def test_what_is_neither_a_call_nor_of_the_device_keeps_its_id():
    builder = merged(shift=40)
    builder.operator(500 * US, US, "aten::late", correlation=3)
    trace = builder.trace()
    assert trace.events["correlation"][-1] == 3
    assert trace.events["correlation"].dtype == np.int64


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-4, 4)), min_size=1, max_size=9, unique=True))
@examples(60)
def test_calls_share_an_id_only_if_they_did_in_one_process(calls: list[tuple[int, int]]) -> None:
    builder = TraceBuilder()
    for number, (process, correlation) in enumerate(calls):
        builder.call(number * US, 10, correlation=correlation)["pid"] = 900 + process
    trace = builder.trace()
    assert len(np.unique(trace.events["correlation"][trace.calls])) == len(calls)


@pytest.mark.parametrize(
    ("kept", "told"), [(1, "nobody knows which launched 1 GPU event;"), (4, "nobody knows which launched 8 GPU events;")]
)
def test_how_much_is_nobodys(kept, told):
    builder = merged(shift=0)
    kernels = [entry for entry in builder.entries if entry["cat"] == "kernel"]
    gone = kernels[kept:] if kept < 4 else []
    builder.entries = [entry for entry in builder.entries if entry not in gone]
    (warning,) = (one for one in builder.trace().warnings if one.code == "colliding_ids")
    start = "2 processes use the same 4 ids, as in files that were merged"
    assert (warning.message, warning.count) == (f"{start}: {told} analyse each trace alone", 1 if gone else 8)


def test_how_many_processes_share_how_many_ids():
    (warning,) = merged(shift=40).trace().warnings
    told = (
        "2 processes use the same 4 ids, as in files that were merged: each device's events are taken for those of one process"
    )
    assert (warning.message, warning.count) == (told, 4)
