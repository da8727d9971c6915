"""How long does it take? The protocol: start-up, warm-up, then timed runs without the profiler."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import torch

from tracekit.manifest import Statistics, TimedRun, Timings

from .workload import Generation

Run = Callable[[int], Generation]
"""Runs the workload for so many new tokens."""


def measure_startup(run: Run) -> int:
    """Nanoseconds of the first prefill and decode step of all: compilation and kernel loading are in here alone."""
    return run(2).total_ns


def peak_memory(device: torch.device) -> int | None:
    """Bytes that torch's allocator held at most since `reset_peak_memory`; None on a CPU, where nobody counts."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new maximum, so that start-up's and compilation's own use does not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def summarise(runs: Sequence[Generation], startup_ns: int, warmup_runs: int, peak_memory_bytes: int | None = None) -> Timings:
    """What the timed runs, at least one and each of at least two new tokens, amount to."""
    batch, new_tokens = runs[0].tokens.shape
    total = describe([run.total_ns for run in runs])
    return Timings(
        warmup_runs=warmup_runs,
        startup_ns=startup_ns,
        runs=tuple(TimedRun(run.first_token_ns, run.total_ns) for run in runs),
        total=total,
        first_token=describe([run.first_token_ns for run in runs]),
        decode_token=describe([run.decode_ns / (new_tokens - 1) for run in runs]),
        tokens_per_second=batch * new_tokens / (total.median_ns / 1e9),
        peak_memory_bytes=peak_memory_bytes,
    )


def describe(sample: Sequence[float]) -> Statistics:
    """A sample's statistics, rounded to whole nanoseconds; the deviation of a single value is 0."""
    ordered = sorted(sample)
    return Statistics(
        median_ns=round(statistics.median(ordered)),
        mean_ns=round(statistics.fmean(ordered)),
        std_ns=round(statistics.stdev(ordered)) if len(ordered) > 1 else 0,
        p10_ns=round(_quantile(ordered, 0.1)),
        p90_ns=round(_quantile(ordered, 0.9)),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Interpolate linearly between the two nearest values, as NumPy does by default."""
    rank = share * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
