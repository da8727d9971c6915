from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tracekit.collect.bench import describe, reduction_percent, summarise, take_turns  # noqa: E402
from tracekit.collect.workload import Generation  # noqa: E402
from tracekit.manifest import Statistics  # noqa: E402


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=40))
def test_statistics_are_numpys(sample: list[int]) -> None:
    got = describe(sample)
    assert got.median_ns == pytest.approx(np.median(sample), abs=1)
    assert got.mean_ns == pytest.approx(np.mean(sample), abs=1)
    assert got.std_ns == pytest.approx(np.std(sample, ddof=1), rel=1e-9, abs=1)
    assert got.p10_ns == pytest.approx(np.percentile(sample, 10), rel=1e-9, abs=1)
    assert got.p90_ns == pytest.approx(np.percentile(sample, 90), rel=1e-9, abs=1)


def test_a_single_run_has_no_spread() -> None:
    assert describe([5]).std_ns == 0


def runs_of(*totals: int, new_tokens: int = 11) -> list[Generation]:
    return [Generation(torch.zeros(3, new_tokens), first_token_ns=100_000, total_ns=total) for total in totals]


def test_throughput_counts_the_whole_batch_and_the_prefill() -> None:
    timings = summarise(runs_of(2_100_000, 1_100_000), startup_ns=9, warmup_runs=2, prompt_tokens=7)
    assert timings.tokens_per_second == pytest.approx(33 / 1.6e-3)
    assert timings.decode_token.median_ns == 150_000
    assert [run.total_ns for run in timings.runs] == [2_100_000, 1_100_000]


def test_a_prefill_counts_its_prompt_and_has_no_decode_step() -> None:
    timings = summarise(runs_of(100_000, new_tokens=1), startup_ns=9, warmup_runs=2, prompt_tokens=7)
    assert timings.tokens_per_second == pytest.approx(21 / 1e-4)
    assert timings.decode_token == Statistics(0, 0, 0, 0, 0)


def test_a_reduction_is_of_the_median_and_may_be_negative() -> None:
    baseline, faster = (
        summarise(runs_of(*totals), startup_ns=9, warmup_runs=2, prompt_tokens=7)
        for totals in ((2_000_000,) * 3, (500_000, 500_000, 9_000_000))
    )
    assert reduction_percent(faster, baseline) == 75
    assert reduction_percent(baseline, faster) == -300


def test_variants_take_turns() -> None:
    order: list[str] = []
    steps: list[tuple[int, int]] = []
    turns = {name: lambda name=name: order.append(name) or len(order) for name in "ABC"}
    results = take_turns(turns, 3, lambda done, total: steps.append((done, total)))
    assert "".join(order) == "ABCABCABC"
    assert results == {"A": [1, 4, 7], "B": [2, 5, 8], "C": [3, 6, 9]}
    assert steps == [(done, 9) for done in range(10)]
