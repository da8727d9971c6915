"""How long does a run take?

The protocol is: start-up, warm-up, then timed runs in which the variants take turns, all without the profiler.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch

from tracekit.manifest import Statistics, TimedRun, Timings

from .workload import Generation, Mark

Result = TypeVar("Result")

_NO_STATISTICS = Statistics(0, 0, 0, 0, 0)


def take_turns(
    turns: Mapping[str, Callable[[], Result]], rounds: int, advance: Callable[[int, int], None]
) -> dict[str, list[Result]]:
    """Let each variant run once in every round, A B C A B C, so that no drift favours one.

    Returns the results by name, in order. `advance` is called with the number of finished turns, from 0 on, and the number of
    all turns.
    """
    results: dict[str, list[Result]] = {name: [] for name in turns}
    total = rounds * len(turns)
    advance(0, total)
    for done in range(rounds):
        for index, (name, turn) in enumerate(turns.items(), start=1):
            results[name].append(turn())
            advance(done * len(turns) + index, total)
    return results


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from interrupting a timed run."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def event_latencies(run: Callable[[Mark], Generation], tokens: int) -> list[float]:
    """Nanoseconds from each token to the next, on the GPU.

    `run` records a CUDA event after it has queued each of `tokens` tokens.
    """
    new_event: Callable[..., Any] = torch.cuda.Event  # some releases of torch leave it untyped
    events = [new_event(enable_timing=True) for _ in range(tokens)]
    unused = iter(events)
    run(lambda: next(unused).record())
    events[-1].synchronize()
    return [event.elapsed_time(later) * 1e6 for event, later in pairwise(events)]


def extra_memory(run: Callable[[], Generation], device: torch.device) -> int | None:
    """The most bytes that torch's allocator held during a run, beyond those before it. None on a CPU, where nobody counts."""
    if device.type != "cuda":
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def held_memory(device: torch.device) -> int:
    """Bytes that torch's allocator holds now; 0 on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def summarise(runs: Sequence[Generation], *, startup_ns: int, warmup_runs: int, prompt_tokens: int) -> Timings:
    """The timings of the timed runs, of which there is at least one. Runs with one new token count the tokens of the prompt."""
    batch, new_tokens = runs[0].tokens.shape
    total = describe([run.total_ns for run in runs])
    counted = new_tokens if new_tokens > 1 else prompt_tokens
    return Timings(
        warmup_runs=warmup_runs,
        startup_ns=startup_ns,
        runs=tuple(TimedRun(run.first_token_ns, run.total_ns) for run in runs),
        total=total,
        first_token=describe([run.first_token_ns for run in runs]),
        decode_token=describe([run.decode_ns / (new_tokens - 1) for run in runs]) if new_tokens > 1 else _NO_STATISTICS,
        tokens_per_second=batch * counted / (total.median_ns / 1e9),
    )


def reduction_percent(timings: Timings, baseline: Timings) -> float:
    """How much less time the median run takes than the baseline's, in per cent; below 0 if it takes more."""
    return round(100 * (1 - timings.total.median_ns / baseline.total.median_ns), 2)


def describe(sample: Sequence[float]) -> Statistics:
    """The statistics of a sample, rounded to whole nanoseconds. The standard deviation of a single value is 0."""
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
