"""Predictions: by hand on made-up traces, and held against what was measured with the shipped ones."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from benchmark_scripts import script
from operator_calls import t
from repository import ROOT, TRACES
from rule_traces import SHEET, K, analysed, queued
from synthetic import TraceBuilder

from tracekit.analyze.work.predict import (
    BF16,
    FP16,
    GRAPH_GAP_NS,
    TF32,
    Change,
    MeanStep,
    changed_busy_ns,
    changed_ns,
    mean_steps,
)

ADD = K("vectorized_elementwise_kernel", 1_000, "aten::add", (t(10), t(10), 1))


def mm(rows: int, duration: int) -> K:
    """2e6 FLOPs a row and 4e6 bytes of weights."""
    return K("sgemm", duration, "aten::mm", (t(rows, 1_000), t(1_000, 1_000)))


def after(change: Change, *kernels: K) -> list[int]:
    """How long these kernels take after a change, beside one of 1,000 ns."""
    facts = analysed(queued(*kernels, ADD)).facts
    changed: list[int] = changed_ns(facts.work, facts.of_family("gemm"), SHEET, change).tolist()
    assert changed[-1] == 1_000
    return changed[:-1]


def test_kernels_scale_as_their_roofs_do_above_the_shortest_kernel():
    assert after(FP16, mm(1, 9_000)) == [5_000]  # memory: half the bytes
    assert after(FP16, mm(1_000, 301_000)) == [
        1_000 + 300_000 * 10_000 // 200_000
    ]  # 200,000 ns at FP32's peak, 10,000 at FP16's
    assert after(TF32, mm(1, 9_000)) == [9_000]  # memory: as many bytes
    assert after(TF32, mm(1_000, 301_000)) == [31_000]
    assert after(BF16, mm(1, 9_000)) == [5_000]


def test_matrix_kernels_keep_their_share_of_the_roof_and_others_wait_below_a_quarter_of_it():
    assert after(FP16, mm(1, 101_000)) == [51_000]
    add = (t(1_000_000), t(1_000_000), 1)  # 12e6 bytes: 12,000 ns
    assert after(FP16, K("add", 48_000, "aten::add", add)) == [1_000 + 47_000 // 2]
    assert after(FP16, K("add", 48_001, "aten::add", add)) == [48_001]


def test_unknown_work_takes_as_long_as_before():
    assert after(FP16, K("sgemm", 9_000)) == [9_000]


def test_a_step_is_the_longer_of_host_and_device_and_a_graph_has_no_host():
    step = MeanStep("decode", 8, 11.0, 20_000, host_ns=50_000, known_share=1.0)

    assert step.eager_ns() == 50_000
    assert step.eager_ns(60_000) == 60_000
    assert step.graph_ns() == 20_000 + 10 * GRAPH_GAP_NS
    assert step.graph_ns(9_000) == 9_000 + 10 * GRAPH_GAP_NS
    assert MeanStep("decode", 8, 11.0, 20_000, None, 1.0).eager_ns() is None


def test_steps_are_means_over_their_calls():
    builder = TraceBuilder()
    for begin, name in ((0, "prefill"), (1_000, "decode"), (2_000, "decode")):
        builder.annotation(begin, 900, name)
        builder.launch(call=(begin + 10, 5), kernel=(begin + 20, 100 if name == "prefill" else 40))
        builder.launch(call=(begin + 30, 5), kernel=(begin + 130, 10))
    facts = analysed(builder).facts

    prefill, decode = mean_steps(facts.trace, facts.steps, facts.work)
    assert (prefill.name, prefill.count, prefill.busy_ns) == ("prefill", 1, 110)
    assert (decode.count, decode.gpu_events, decode.busy_ns, decode.known_share) == (2, 2.0, 50, 0.0)
    shorter = facts.work["duration_ns"] - np.array([0, 0, 20, 0, 0, 0])
    assert changed_busy_ns(facts.trace, facts.steps, facts.work, shorter, decode) == 40
    assert changed_busy_ns(facts.trace, facts.steps, facts.work, shorter, prefill) == 110


# --- Held against what was measured ------------------------------------------------------------------------------------


@cache
def measured():
    module = script("predictions")
    return {(module.short(one.source), module.short(one.target)): one for one in module.pairs(list(module.runs(TRACES)))}


@pytest.mark.parametrize(
    "pair", [("fp16", "graphs"), ("baseline", "fp16"), ("baseline", "bf16"), ("baseline", "graphs")], ids=" to ".join
)
def test_predictions_from_the_plain_traces_hold(pair):
    assert abs(measured()[pair].error_percent) <= 25
    assert abs(measured()[pair].busy_error_percent) <= 25


def test_the_page_and_the_kept_results_are_what_the_script_finds():
    module = script("predictions")
    page = (ROOT / "docs" / "predictions.md").read_text()
    kept = json.loads((ROOT / "benchmarks" / "results" / "predictions.json").read_text())

    assert {(module.short(one["source"]), module.short(one["target"])) for one in kept["pairs"]} == set(measured())
    for one in kept["pairs"]:
        found = measured()[module.short(one["source"]), module.short(one["target"])]
        assert one["predicted_ns"] == found.predicted_ns
    for one in measured().values():
        assert module.line(one) in page
