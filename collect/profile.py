"""What happens while a few tokens are generated?

torch.profiler records a window of the workload.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tracekit.manifest import Profile, Timings

from .candidate import Candidate
from .workload import Generation

GPU_EVENT = b'"cat": "kernel"'


def activities(device: torch.device) -> list[ProfilerActivity]:
    """What to record: the host, and the GPU if the model runs on one."""
    host = [ProfilerActivity.CPU]
    return [*host, ProfilerActivity.CUDA] if device.type == "cuda" else host


def record_window(candidate: Candidate, tokens: int, layers: bool, device: torch.device, trace: Path) -> Generation:
    """Profile a run of `tokens` new tokens: a prefill and the decode steps. Write the gzipped Chrome trace to `trace`.

    With `layers`, the trace marks the layers as well as the steps. Returns the generation as it was timed under the profiler,
    without the time of the export.
    """
    # Below this level, torch 2.13 prints lines about its own probes to standard error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    if device.type == "cuda":
        # torch sets these for the graphs that it captures itself. Such graphs outlive a window, so CUPTI must outlive it too.
        os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
        os.environ.setdefault("TEARDOWN_CUPTI", "0")
    # On first use, the profiler loads CUPTI and fills its pools. A first window, which is not kept, takes that time.
    with warnings.catch_warnings(), candidate.layers(annotation) if layers else nullcontext():
        # Some releases warn at every profile that it has only one cycle. Ours have one on purpose.
        warnings.filterwarnings("ignore", message=".*clears events at the end of each cycle", category=UserWarning)
        with profile(activities=activities(device), record_shapes=True):
            candidate.run(min(2, tokens), annotation)
        with profile(activities=activities(device), record_shapes=True) as profiler:
            generation = candidate.run(tokens, annotation)
    with tempfile.TemporaryDirectory(prefix="tracekit-") as directory:
        plain = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        _compress(plain, trace)
    return generation


def summarise(trace: Path, profiled: Generation, timings: Timings, layers: bool) -> Profile:
    """The description of a window for the manifest, compared with the timings without the profiler."""
    decode_tokens = profiled.tokens.shape[1] - 1
    if decode_tokens:
        inflation = profiled.decode_ns / decode_tokens / max(timings.decode_token.median_ns, 1)
    else:
        inflation = profiled.first_token_ns / max(timings.first_token.median_ns, 1)
    return Profile(
        trace=trace.name,
        decode_tokens=decode_tokens,
        prefill_ns=profiled.first_token_ns,
        decode_ns=profiled.decode_ns,
        inflation=round(inflation, 4),
        layers=layers,
    )


def has_kernels(trace: Path) -> bool:
    """Whether the profiler recorded any GPU kernel. If it cannot use CUPTI, it records none and says nothing."""
    with gzip.open(trace) as file:
        return any(GPU_EVENT in line for line in file)


def annotation(name: str) -> record_function:
    """A user annotation in the trace. The analysis groups kernels by such annotations."""
    return record_function(name)


def _compress(plain: Path, target: Path) -> None:
    # The header has no name and no time, so that equal traces give equal files.
    with (
        plain.open("rb") as source,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed)
