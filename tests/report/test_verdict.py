"""Does the verdict say what the figures say?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracekit.report.budget import budget
from tracekit.report.bundle import Bundle
from tracekit.report.nonbreaking import NBSP
from tracekit.report.verdict import compare, verdict

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
Load = Callable[..., Bundle]


def said(load: Load, parts: Parts, **changes: Any) -> str:
    document, tables = parts
    return str(verdict(load((document | changes, tables)).traces[0])).replace(NBSP, " ")


def gpu(busy: int, idle: int) -> dict[str, int]:
    return {
        "span_ns": busy + idle,
        "busy_ns": busy,
        "idle_ns": idle,
        "kernel_time_ns": busy,
        "kernels": 1,
        "unique_kernels": 1,
        "memcpys": 0,
        "memsets": 0,
    }


def test_the_example_of_the_design(load: Load, parts: Callable[..., Parts]) -> None:
    text = said(
        load,
        parts(),
        gpu=gpu(4_788_000, 79_212_000),
        idle={"dispatch_ns": 56_240_520, "host_sync_ns": 22_971_480},
        families=[
            {"family": "gemm", "time_ns": 3_000_000, "count": 5},
            {"family": "reduction", "time_ns": 1_788_000, "count": 4},
        ],
    )
    assert text == (
        "The GPU is busy 5.7 % of its 84.0 ms span; 71 % of the idle time is dispatch "
        "(framework's work before a launch). Most kernel time is gemm (63 %)."
    )


def test_a_saturated_gpu_is_about_its_kernels(load: Load, parts: Callable[..., Parts]) -> None:
    text = said(load, parts(), gpu=gpu(990_000, 10_000), idle={"device_wait_ns": 10_000})
    assert "what its kernels cost decides" in text
    assert "idle time is" not in text


def test_no_idle_at_all(load: Load, parts: Callable[..., Parts]) -> None:
    assert said(load, parts(), gpu=gpu(1_000, 0), idle={}).startswith("The GPU is busy 100 % of its 1.00 µs span.")


def test_a_leader_without_a_majority(load: Load, parts: Callable[..., Parts]) -> None:
    assert "The largest share of kernel time is gemm (20 %), then" in said(load, parts())


def test_incompleteness_comes_first(load: Load, parts: Callable[..., Parts]) -> None:
    text = said(load, parts(complete=False))
    assert text.startswith(
        "This trace is incomplete: 87 of 402 launches have no GPU event, so every GPU figure below is a lower bound."
    )


def test_kernels_without_a_launch(load: Load, parts: Callable[..., Parts]) -> None:
    warning = {"code": "kernels_without_launch", "message": "705 kernels …", "count": 705}
    text = said(load, parts(), complete=False, warnings=[warning])
    assert text.startswith("This trace is incomplete: 705 kernels have no launching call")


def test_incomplete_for_another_reason(load: Load, parts: Callable[..., Parts]) -> None:
    assert said(load, parts(), complete=False).startswith("This trace is incomplete: read the warnings")


def test_a_trace_without_a_gpu(load: Load, parts: Callable[..., Parts]) -> None:
    text = said(load, parts(gpu=False))
    assert text.startswith("No GPU work was recorded, so this is about the host alone.")
    assert "aten::op_0 (25 %)" in text


def test_an_empty_trace(load: Load, parts: Callable[..., Parts]) -> None:
    document, tables = parts(gpu=False)
    assert "nothing to analyse" in said(load, (document, tables | {"operators": []}))


def test_copies_alone(load: Load, parts: Callable[..., Parts]) -> None:
    document, tables = parts()
    text = said(load, (document, tables | {"kernels": []}), families=[], gpu=gpu(60_000, 0), idle={})
    assert "No kernel ran: all of it is copies and fills." in text


def test_copies_that_outweigh_the_kernels(load: Load, parts: Callable[..., Parts]) -> None:
    text = said(load, parts(), families=[{"family": "gemm", "time_ns": 1_000, "count": 1}])
    assert "Copies and fills take more time than all kernels (60.0 µs against 1.00 µs)." in text


@pytest.mark.parametrize("broken", [{}, {"span_ns": None}, {"span_ns": 0, "busy_ns": 0, "idle_ns": 0}])
def test_figures_that_are_missing_do_not_crash(load: Load, parts: Callable[..., Parts], broken: dict[str, Any]) -> None:
    assert said(load, parts(), gpu=broken)


def test_several_traces_on_one_device(load: Load, parts: Callable[..., Parts]) -> None:
    bundle = load(parts(), parts(gaps=200))
    text = compare(bundle.traces, ["a", "b"], comparable=True).replace(NBSP, " ")
    assert text.startswith("GPU spans run from 4.26 ms (a) to 4.81 ms (b), a factor of 1.13.")
    assert "a keeps its GPU busiest (55 % of its span)" in text


def test_times_on_different_devices_are_not_compared(load: Load, parts: Callable[..., Parts]) -> None:
    bundle = load(parts(), parts(gaps=200))
    assert "factor" not in compare(bundle.traces, ["a", "b"], comparable=False)


def test_the_parts_of_the_budget_add_up(load: Load, parts: Callable[..., Parts]) -> None:
    document, tables = parts()
    overlapping = document | {
        "gpu": document["gpu"] | {"busy_ns": 1_000_000, "span_ns": 1_000_000 + document["gpu"]["idle_ns"]}
    }
    for entry in (document, overlapping):
        found = budget(load((entry, tables)).traces[0])
        assert found is not None
        assert sum(part.time_ns for part in found.busy) == pytest.approx(found.busy_ns)
        assert sum(part.time_ns for part in found.idle) == found.idle_ns
        assert found.overlaps == (entry is overlapping)
