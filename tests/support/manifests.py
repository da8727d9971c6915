"""One run manifest with every part filled in, for tests to change."""

from __future__ import annotations

from tracekit import manifest as module
from tracekit.manifest import RunManifest

EXAMPLE = RunManifest(
    run="gpt2-baseline-cpu",
    created="2026-01-02T03:04:05+00:00",
    command="tracekit collect",
    variant="baseline",
    dtype="float32",
    device=module.Device("cpu", "a CPU"),
    host=module.Host("a CPU", 2, 2, "Linux"),
    workload=module.Workload("generate", 1, 16, 100),
    weights=module.Weights("random", seed=0),
    model=module.Model("gpt2", 50257, 1024, 12, 12, 768, 124439808),
    versions=module.Versions("0.1.0", "3.11", "2.13.0"),
    tf32=module.Tf32(False, False),
    seed=0,
    timings=module.Timings(
        warmup_runs=1,
        startup_ns=5,
        runs=(module.TimedRun(1, 3),),
        total=module.Statistics(3, 3, 0, 3, 3),
        first_token=module.Statistics(1, 1, 0, 1, 1),
        decode_token=module.Statistics(1, 1, 0, 1, 1),
        tokens_per_second=1.5,
    ),
    profile=module.Profile("gpt2-baseline-cpu.pt.trace.json.gz", 8, 1, 2, 1.25),
)
