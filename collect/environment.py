"""Where did a run take place?

This module describes the device, the host and the software for the manifest.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from tracekit import __version__
from tracekit.errors import TracekitError
from tracekit.manifest import Device, Host, Tf32, Versions

_SECONDS = 5


def resolve_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises TracekitError if this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None or torch.version.hip is not None
        reason = "torch finds no GPU" if built else f"torch {torch.__version__} is built without CUDA"
        raise TracekitError(f"{name} is unavailable ({reason})", where="--device", mend="use --device cpu")
    index = int(name.partition(":")[2] or torch.cuda.current_device())
    count = torch.cuda.device_count()
    if index >= count:
        raise TracekitError(f"there is no {name}", where="--device", mend=f"use cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def describe_device(device: torch.device) -> Device:
    """The device that the model runs on."""
    if device.type != "cuda":
        return Device(kind="cpu", name=_cpu_name())
    properties = torch.cuda.get_device_properties(device)
    return Device(
        kind="cuda",
        name=properties.name,
        compute_capability=f"{properties.major}.{properties.minor}",
        memory_bytes=properties.total_memory,
        multiprocessors=properties.multi_processor_count,
        driver=_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    )


def describe_host() -> Host:
    """The machine that holds the device."""
    return Host(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        system=platform.platform(),
    )


def describe_versions() -> Versions:
    """The versions of the software that runs."""
    backends: Any = torch.backends  # torch leaves it untyped
    cudnn = backends.cudnn.version() if torch.cuda.is_available() else None
    return Versions(
        tracekit=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
        transformers=_distribution("transformers"),
        commit=_commit(Path(__file__).resolve()),
    )


def describe_tf32() -> Tf32:
    """The current state of the TF32 switches. Call it while the collection has set them."""
    return Tf32(
        matmul=torch.get_float32_matmul_precision() != "highest",
        cudnn=bool(torch.backends.cudnn.allow_tf32),
    )


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Set both TF32 switches for the block, and restore them afterwards."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def alone_on(device: torch.device) -> Iterator[None]:
    """Make the device the current one for the block, and keep its random numbers separate.

    At the end, free what the block left on the device.
    """
    gpu = device.type == "cuda"
    try:
        # Code that does not look at its tensors needs the current device: compiled kernels and the profiler.
        with (
            warnings.catch_warnings(),
            torch.cuda.device(device) if gpu else nullcontext(),
            torch.random.fork_rng([device.index] if gpu else []),
        ):
            yield
    finally:
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        free_memory(device)


def free_memory(device: torch.device) -> None:
    """Return the device memory that no object of ours holds any more.

    A CPU's memory needs no such call, and nobody measures it.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def device_slug(device: Device) -> str:
    """The device's name as part of a file name: `cpu`, `tesla-t4`, `h100-80gb-hbm3`."""
    return slug(device.name.removeprefix("NVIDIA ")) if device.kind == "cuda" else device.kind


def slug(text: str) -> str:
    """A text reduced to lower-case letters, digits, dots and single dashes; `model` if nothing is left."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "model"


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(source: Path) -> str | None:
    """The commit of the checkout that `source` belongs to.

    None if `source` is installed and no repository tracks it, even if it lies inside one.
    """
    git = ("git", "-C", str(source.parent))
    if _output(*git, "ls-files", "--error-unmatch", source.name) is None:
        return None
    return _output(*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _output(*command: str) -> str | None:
    """The first line that a command prints. None if it prints none, fails, or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), None) or None
