"""What happens inside a few tokens? A torch.profiler window over the workload."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tracekit.manifest import Profile

from .bench import Run
from .workload import Generation

GPU_EVENT = b'"cat": "kernel"'


def activities(device: torch.device) -> list[ProfilerActivity]:
    """What to record: the host, and the GPU where the model runs on one."""
    host = [ProfilerActivity.CPU]
    return [*host, ProfilerActivity.CUDA] if device.type == "cuda" else host


def record_window(run: Run, decode_tokens: int, device: torch.device, trace: Path) -> Generation:
    """Profile a prefill and `decode_tokens` decode steps and write the gzipped Chrome trace to `trace`.

    `run` must annotate its steps. Returns the generation as timed under the profiler, the export not counted.
    """
    # torch 2.13 prints lines of its own probes to standard error below this level.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    # The profiler loads CUPTI and fills its pools on first use; let a window that nobody keeps pay for that.
    with warnings.catch_warnings():
        # Some releases warn at every profile that it has one cycle only, as ours are meant to.
        warnings.filterwarnings("ignore", message=".*clears events at the end of each cycle", category=UserWarning)
        with profile(activities=activities(device), record_shapes=True):
            run(2)
        with profile(activities=activities(device), record_shapes=True) as profiler:
            generation = run(decode_tokens + 1)
    with tempfile.TemporaryDirectory(prefix="tracekit-") as directory:
        plain = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        _compress(plain, trace)
    return generation


def summarise(trace: Path, profiled: Generation, decode_token_ns: int) -> Profile:
    """The manifest's account of a window, against the time of a decode step without the profiler."""
    decode_tokens = profiled.tokens.shape[1] - 1
    return Profile(
        trace=trace.name,
        decode_tokens=decode_tokens,
        prefill_ns=profiled.first_token_ns,
        decode_ns=profiled.decode_ns,
        inflation=round(profiled.decode_ns / decode_tokens / max(decode_token_ns, 1), 4),
    )


def has_kernels(trace: Path) -> bool:
    """Whether the profiler recorded any GPU kernel: it stays silent where CUPTI is out of reach."""
    with gzip.open(trace) as file:
        return any(GPU_EVENT in line for line in file)


def annotation(name: str) -> record_function:
    """A user annotation of the trace, which the analysis groups kernels by."""
    return record_function(name)


def _compress(plain: Path, target: Path) -> None:
    # No name and no time in the header, so that equal traces are equal files.
    with (
        plain.open("rb") as source,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed)
