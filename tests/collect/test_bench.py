from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tracekit.collect.bench import describe, summarise  # noqa: E402
from tracekit.collect.workload import Generation  # noqa: E402


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


def test_throughput_counts_the_whole_batch_and_the_prefill() -> None:
    runs = [Generation(torch.zeros(3, 11), first_token_ns=100_000, total_ns=total) for total in (2_100_000, 1_100_000)]
    timings = summarise(runs, startup_ns=9, warmup_runs=2)
    assert timings.tokens_per_second == pytest.approx(33 / 1.6e-3)
    assert timings.decode_token.median_ns == 150_000
    assert [run.total_ns for run in timings.runs] == [2_100_000, 1_100_000]
