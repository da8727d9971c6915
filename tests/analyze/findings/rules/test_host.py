"""Waiting for the device, for data, and for Python."""

from __future__ import annotations

from typing import Any

import pytest
from rule_traces import asked, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.rules.host import data_loader, host_late
from tracekit.analyze.findings.rules.launching import launch_overhead
from tracekit.analyze.findings.rules.syncs import host_sync

US = 1_000


class Microseconds(TraceBuilder):
    """A builder whose times are given in microseconds: a device takes one from an event to the next."""

    def event(self, start: int, duration: int, **fields: Any) -> dict[str, Any]:
        return super().event(start * US, duration * US, **fields)


def synced(wait: int = 100, *, stack: bool = False) -> TraceBuilder:
    """A kernel, an operator that waits for it and for `wait` µs more, and a kernel launched after that: a span of 1,000 µs."""
    builder = Microseconds()
    if stack:
        builder.event(0, 2_000, cat="python_function", name="train.py(40): main", pid=100, tid=1, args={})
        builder.event(20, 1_500, cat="python_function", name="train.py(12): step", pid=100, tid=1, args={})
        builder.event(
            25, 900, cat="python_function", name="/lib/python3.12/site-packages/torch/_tensor.py(9): item", pid=100, tid=1
        )
        builder.event(30, 800, cat="python_function", name="<built-in method item>", pid=100, tid=1, args={})
    builder.launch(call=(0, 5), kernel=(10, 500))
    builder.operator(35, 475 + wait, "aten::item")
    builder.call(40, 470 + wait, "cudaStreamSynchronize")
    builder.launch(call=(510 + wait, 5), kernel=(510 + wait, 500 - wait))
    return builder


def test_a_wait_names_the_operator():
    finding = told(host_sync, synced())

    assert finding.saving_ns == 99 * US
    assert finding.rows == (
        {"call": "cudaStreamSynchronize", "operator": "aten::item", "line": None, "count": 1, "wait_ns": 570 * US},
    )
    assert "cudaStreamSynchronize in aten::item, 1 time," in finding.evidence


def test_with_stacks_it_names_the_users_own_line():
    finding = told(host_sync, synced(stack=True))

    assert finding.rows[0]["line"] == "train.py:12"
    assert finding.evidence.endswith("at train.py:12")


def test_what_most_of_it_lies_before_is_only_most_from_one_half_on():
    """Waits before kernels of three operators, each a third of the time."""
    builder = Microseconds()
    for number, name in enumerate(("aten::a", "aten::b", "aten::c")):
        at = 1_000 * number
        builder.launch(call=(at, 5), kernel=(at + 10, 500))
        builder.call(at + 40, 670, "cudaStreamSynchronize")
        builder.operator(at + 711, 20, name)
        builder.launch(call=(at + 715, 5), kernel=(at + 720, 200), name=f"k{number}")
    assert "the largest part, 33.3 %, before kernels of aten::" in told(host_sync, builder).evidence
    assert "most of it before" not in told(host_sync, builder).evidence


def logged(checks: tuple[str, ...] = ("aten::abs", "aten::max"), fetch: str = "aten::item", between: int = 0) -> TraceBuilder:
    """Eight rounds: a long kernel, checks with a kernel each, and an operator that fetches their result and waits."""
    builder, now, free = Microseconds(), 0, 0
    for _ in range(8):
        builder.operator(now, 20, "aten::mm")
        start = max(now + 15, free)
        builder.launch(call=(now + 5, 5), kernel=(start, 100))
        now, free = now + 20, start + 100
        for check in checks:
            builder.operator(now, 20, check)
            builder.launch(call=(now + 5, 5), kernel=(max(now + 15, free), 2))
            free = max(now + 15, free) + 2
            now += 20
        now += between
        done = max(now + 15, free) + 3
        builder.operator(now, done + 5 - now, fetch)
        builder.call(now + 5, 5, "cudaMemcpyAsync", correlation=(copy := 50_000 + now))
        builder.memcpy(done - 2, 2, "Memcpy DtoH (Device -> Pinned)", correlation=copy, bytes=4)
        builder.call(now + 10, done + 2 - now - 10, "cudaStreamSynchronize")
        now = done + 5
    builder.launch(call=(now, 5), kernel=(now + 10, 5))
    return builder


def test_what_only_serves_a_wait_goes_with_it():
    """Without waits, fetches and checks a round is its kernel: 100 µs and a dispatch; the host needs 20."""
    found = told(host_sync, logged())
    rounds = logged().trace()
    whole = int(rounds.end_ns[rounds.gpu["event"]].max())
    assert whole - found.saving_ns == pytest.approx(8 * 101 * US, rel=0.05)
    assert found.unlimited_saving_ns == pytest.approx(8 * (2 + 2 + 2) * US)  # the checks' kernels and the copies


def test_an_operator_that_does_more_than_fetching_stays():
    """A `nonzero` has work of its own, and so has what runs before it."""
    checks, more = told(host_sync, logged()), told(host_sync, logged(fetch="aten::nonzero"))
    assert more.saving_ns < checks.saving_ns
    other = told(host_sync, logged(checks=("aten::abs", "aten::mul")))
    assert other.saving_ns < checks.saving_ns


def test_what_is_copied_to_the_device_is_needed_there():
    """The same waits, but in operators that copy to the device: they and their copies stay."""
    down, up = Microseconds(), Microseconds()
    for builder, name in ((down, "Memcpy DtoH (Device -> Pageable)"), (up, "Memcpy HtoD (Pageable -> Device)")):
        for number in range(8):
            at = 200 * number
            builder.operator(at, 20, "aten::mm")
            builder.launch(call=(at + 5, 5), kernel=(at + 15, 20))
            builder.operator(at + 40, 100, "aten::_to_copy")
            builder.call(at + 45, 80, "cudaMemcpyAsync", correlation=9_000 + number)
            builder.memcpy(at + 60, 60, name, correlation=9_000 + number, bytes=400)
            builder.call(at + 126, 5, "cudaStreamSynchronize")
    assert told(host_sync, down).saving_ns > 6 * 60 * US
    assert asked(host_sync, up) is None


def small(waits: int) -> TraceBuilder:
    """24 small kernels, 40 µs of the host apart, with so many waits among them that end when the device is done."""
    builder = Microseconds()
    for number in range(24):
        at = 40 * number
        builder.operator(at, 20, "aten::add")
        builder.launch(call=(at + 5, 5), kernel=(at + 15, 5))
        if waits and number % (24 // waits) == 0:
            builder.call(at + 20, 10, "cudaStreamSynchronize")
    return builder


def test_a_graph_ends_where_the_host_waits():
    """Without waits all is one launch of 10 µs, and 24 kernels that follow each other after 500 ns."""
    alone = told(launch_overhead, small(0)).saving_ns
    assert alone == pytest.approx((23 * 40 + 20 - 5) * US - (10 * US + 24 * 5_500), rel=0.05)
    several = told(launch_overhead, small(8)).saving_ns
    # Eight graphs of three kernels, each launched when the one before has ended: a launch and a wait more for each.
    assert 8 * 10 * US < alone - several < 8 * (10 + 10) * US


def test_a_short_wait():
    assert told(host_sync, synced(50))
    assert asked(host_sync, synced(49)) is None


def loading(fetch: int, *, name: str = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__") -> TraceBuilder:
    """Two kernels with a gap, of which the host fetches a batch for `fetch` µs: a span of 1,000 µs."""
    builder = Microseconds()
    builder.launch(call=(0, 5), kernel=(10, 100))
    builder.annotation(110, fetch, name)
    builder.operator(700, 50, "aten::mm")
    builder.launch(call=(710, 5), kernel=(720, 290))
    return builder


def test_a_batch_that_comes_late():
    finding = told(data_loader, loading(50))

    assert finding.affected_ns == finding.saving_ns == 50 * US
    assert finding.rows[0] == {"fetches": 1, "host_ns": 50 * US, "idle_ns": 50 * US}
    assert asked(data_loader, loading(49)) is None
    assert asked(data_loader, loading(500, name="preprocess")) is None


def test_what_the_loader_takes_is_not_pythons():
    # The host is late from 110 to 710, in no operator until 700.
    assert told(host_late, loading(280)).saving_ns == 310 * US
    assert asked(host_late, loading(400)) is None


def fetching(name: str) -> TraceBuilder:
    """Ten rounds: a fetch of 8,000 µs on the launching thread, and a kernel of 100 µs."""
    builder = Microseconds()
    for number in range(10):
        at = 8_200 * number
        builder.annotation(at, 8_000, f"enumerate(DataLoader)#{name}.__next__")
        builder.operator(at + 8_010, 20, "aten::mm")
        builder.launch(call=(at + 8_015, 5), kernel=(at + 8_030, 100))
    return builder


def test_workers_make_a_batch_in_an_eighth_of_the_time():
    single, several = (told(data_loader, fetching(f"_{kind}ProcessDataLoaderIter")).saving_ns for kind in ("Single", "Multi"))
    assert single == pytest.approx(9 * (8_000 - 1_000 + 200) * US, rel=0.03)  # a batch every 1,000 µs
    assert several == pytest.approx(9 * 8_000 * US, rel=0.01)


def test_python_between_two_operators_is_not_late():
    assert asked(host_late, loading(291)) is None  # 299 µs outside of operators


def test_a_fetch_that_the_device_does_not_wait_for():
    builder = TraceBuilder()
    builder.annotation(20, 500, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__")
    builder.launch(call=(0, 5), kernel=(10, 900))
    builder.launch(call=(530, 5), kernel=(910, 100))

    assert asked(data_loader, builder) is None


def test_what_these_rules_cannot_tell():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    for rule in (host_sync, host_late, data_loader):
        assert "no runtime calls" in reason(rule, builder)
    builder.call(0, 5, correlation=9)
    assert reason(data_loader, builder) == "the trace has no host operators or annotations"


def late(*functions: tuple[int, int, str]) -> TraceBuilder:
    """Two kernels with a gap of 2,000 µs, inside `train.py(1): main`, in which Python runs these functions (start, length, name)."""
    builder = Microseconds()
    python = {"cat": "python_function", "pid": 100, "tid": 1, "args": {}}
    builder.event(0, 2_500, name="train.py(1): main", **python)
    for start, length, name in functions:
        builder.event(start, length, name=name, **python)
    builder.launch(call=(10, 5), kernel=(20, 100))
    builder.operator(2_120, 50, "aten::mm")
    builder.launch(call=(2_130, 5), kernel=(2_150, 100))
    return builder


def test_the_function_that_takes_all_the_time_is_named_and_the_program_is_not():
    evidence = told(host_late, late((100, 2_010, "text.py(5): tokenise"), (200, 1_800, "<built-in function sleep>"))).evidence
    assert "1.80 ms of it in <built-in function sleep> itself" in evidence
    assert "text.py(5): tokenise" in evidence
    assert "main" not in evidence


def test_an_objects_address_is_no_part_of_a_functions_name():
    calls = [(150 + 90 * at, 80, f"<built-in method acquire of lock object at 0x7f{at:04x}>") for at in range(20)]
    rows = told(host_late, late((100, 2_010, "text.py(5): tokenise"), *calls)).rows
    assert [row["idle_ns"] for row in rows if row.get("function") == "<built-in method acquire of lock>"] == [20 * 80 * US]
