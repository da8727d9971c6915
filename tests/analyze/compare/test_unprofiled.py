"""The time without the profiler, as manifests tell it that anybody may have written."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from repository import TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.open_side import open_side
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.compare.unprofiled import (
    DECODE_STEP,
    PREFILL,
    RUN,
    RUN_METRIC,
    STEP_METRIC,
    timing,
    unprofiled,
    unprofiled_value,
)
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
WORKLOAD = {"kind": "generate", "batch": 1, "new_tokens": 11, "text": "once"}


def side(*decode_ns: int, workload: dict[str, Any] | None = None, **timings: Any) -> Side:
    """A trace whose manifest tells runs with decode steps of so many ns each."""
    builder = TraceBuilder()
    builder.operator(0, 10)
    runs = [{"first_token_ns": 1_000, "total_ns": 1_000 + 10 * ns} for ns in decode_ns]
    middle = sorted(decode_ns)[len(decode_ns) // 2] if decode_ns else 0
    told = {
        "runs": runs,
        "decode_token": {"median_ns": middle, "std_ns": 7},
        "total": {"median_ns": 1_000 + 10 * middle, "std_ns": 70},
    }
    manifest = {"workload": WORKLOAD | (workload or {}), "timings": told | timings}
    return replace(analysed(Analysis(builder.trace(), TAXONOMY)), manifest=manifest)


def test_a_step_is_compared_if_both_know_it():
    found = unprofiled([side(100, 110, 120)], [side(130, 140, 150)])

    assert found is not None
    assert (found.what, found.a.median.median, found.b.median.median) == (DECODE_STEP, 110, 140)
    assert (found.a.median.low, found.a.median.high) == (100, 120)
    assert (found.a.std_ns, found.b.std_ns) == (7, 7)
    assert found.exceeds_noise


@pytest.mark.parametrize(("b", "exceeds"), [((120, 130, 140), False), ((121, 130, 140), True), ((90, 130, 140), False)])
def test_the_noise_is_where_the_intervals_overlap(b, exceeds):
    there, back = unprofiled([side(100, 110, 120)], [side(*b)]), unprofiled([side(*b)], [side(100, 110, 120)])

    assert there is not None
    assert back is not None
    assert there.exceeds_noise is back.exceeds_noise is exceeds


def test_a_prefill_has_no_decode_step_and_a_run_is_the_last_resort():
    none = {"median_ns": 0, "std_ns": 0}
    prefill = side(100, workload={"kind": "prefill", "new_tokens": 1}, decode_token=none)
    bare = side(100, decode_token=none)

    assert unprofiled([prefill], [prefill]).what == PREFILL
    assert unprofiled([bare], [bare]).what == unprofiled([bare], [side(90)]).what == RUN
    assert unprofiled_value(prefill, STEP_METRIC).median == 2_000
    assert unprofiled_value(bare, STEP_METRIC) is None
    assert unprofiled_value(bare, RUN_METRIC).median == 2_000


def test_what_the_model_wrote_is_no_part_of_the_workload():
    other = side(100, workload={"text": "upon a time"})

    assert unprofiled([side(100)], [other]) is not None
    assert unprofiled([side(100)], [side(100, workload={"batch": 2})]) is None
    assert unprofiled([side(100)], [replace(other, manifest={})]) is None


@pytest.mark.parametrize("runs", [None, [], [7], [{"total_ns": 5}], [{"first_token_ns": 1, "total_ns": "2"}], [{"first_token_ns": True, "total_ns": 2}]])  # fmt: skip
def test_without_the_single_runs_the_standard_deviation_is_the_noise(runs):
    found = timing([side(100, 110, 300, runs=runs)], DECODE_STEP)

    assert found is not None
    assert (found.median.low, found.median.median, found.median.high) == (103, 110, 117)


@pytest.mark.parametrize("decode", [None, [], {"median_ns": 1.5, "std_ns": 1}, {"median_ns": -1, "std_ns": 1}, {"median_ns": 5, "std_ns": -1}, {"median_ns": True, "std_ns": 1}])  # fmt: skip
def test_what_is_no_timing(decode):
    assert timing([side(100, decode_token=decode)], DECODE_STEP) is None


def test_a_median_never_leaves_its_interval():
    found = timing([side(100, decode_token={"median_ns": 104, "std_ns": 1})], DECODE_STEP)

    assert found is not None
    assert (found.median.low, found.median.median, found.median.high) == (100, 104, 104)


def test_of_several_repeats_the_medians_count_and_all_must_know_it():
    repeats = [side(100, 200, 300), side(210), side(220)]
    found = timing(repeats, DECODE_STEP)

    assert found is not None
    assert (found.median.low, found.median.median, found.median.high) == (200, 210, 220)
    assert found.std_ns == Fraction(10)
    assert timing([*repeats, replace(side(1), manifest={})], DECODE_STEP) is None


def test_the_shipped_half_precisions_differ_by_less_than_the_noise_and_graphs_by_more():
    half, brain, graphs = (open_side(f"{TRACES}:gpt2-{name}-h100", TAXONOMY) for name in ("fp16", "bf16", "graphs"))

    slower, faster = unprofiled([half], [brain]), unprofiled([half], [graphs])
    assert slower is not None
    assert faster is not None
    assert slower.b.median.median > slower.a.median.median
    assert not slower.exceeds_noise
    assert faster.b.median.median * 7 < faster.a.median.median
    assert faster.exceeds_noise
