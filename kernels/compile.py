"""How does a CUDA source become kernels? Compiled by NVRTC for the very device, kept on disk, loaded once a process."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tracekit.errors import MissingExtraError, TracekitError
from tracekit.files import write_atomic

_HERE = Path(__file__).resolve().parent
_DIGEST = 32  # bytes of SHA-256 before the code in a file of the cache: half a file, or another's, is not loaded


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers a thread, static shared memory a block, and bytes a thread spills and stacks."""

    registers: int
    shared_bytes: int
    spilled_bytes: int
    stack_bytes: int


def source(name: str) -> str:
    """The text of a CUDA source of this room."""
    return (_HERE / name).read_text(encoding="utf-8")


def cuda_core() -> Any:
    """The package `cuda.core`. Raises MissingExtraError where it, or what it needs, is not installed."""
    try:
        importlib.import_module("cuda.bindings")  # which cuda-core can be installed without
        try:
            return importlib.import_module("cuda.core")
        except ImportError:
            return importlib.import_module("cuda.core.experimental")  # its name before 1.0
    except ImportError as error:
        raise MissingExtraError(f"compiling CUDA kernels needs cuda-core ({error})", "cuda") from error


def available() -> bool:
    """Whether kernels can be compiled here; a device is another matter."""
    try:
        cuda_core()
    except MissingExtraError:
        return False
    return True


def compile_source(text: str, architecture: str, macros: Mapping[str, int]) -> tuple[bytes, str]:
    """The cubin for an architecture such as "sm_75", and the compiler's log. Needs neither a GPU nor a driver.

    Raises MissingExtraError, and TracekitError if the compiler does not know the architecture.
    """
    core = cuda_core()
    definitions = [(name, str(value)) for name, value in macros.items()]
    log = io.StringIO()
    try:
        options = core.ProgramOptions(arch=architecture, define_macro=definitions or None, ptxas_options=["-v"])
        program = core.Program(text, "c++", options)
        return bytes(program.compile("cubin", logs=log).code), log.getvalue()
    except Exception as error:
        lines = (log.getvalue() or str(error)).strip("\0 \n").splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise TracekitError(
            f"NVRTC could not compile the kernels ({reason})",
            where=architecture,
            mend="pip install -U nvidia-cuda-nvrtc, or run the other variants",
        ) from error


def resources(log: str) -> dict[str, Resources]:
    """What each kernel takes, by its name, from the log of `compile_source`."""
    pattern = re.compile(
        r"Function properties for (\w+).*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        re.DOTALL,
    )
    found: dict[str, Resources] = {}
    for name, stack, stores, loads, registers, rest in pattern.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        found[name] = Resources(int(registers), int(shared[1]) if shared else 0, max(int(stores), int(loads)), int(stack))
    return found


def cache_directory() -> Path:
    """Where compiled kernels are kept: TRACEKIT_CACHE if set, else `tracekit` in the user's cache directory."""
    own = os.environ.get("TRACEKIT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracekit"


def compiler_version() -> str:
    """The version of NVRTC. Raises MissingExtraError as `cuda_core` does, and where NVRTC itself is not found."""
    cuda_core()
    try:
        error, major, minor = importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except Exception as problem:  # a library that cannot be found or loaded: the loader has errors of its own
        raise MissingExtraError(f"compiling CUDA kernels needs NVRTC ({problem})", "cuda") from problem
    if int(error):
        raise TracekitError(f"NVRTC does not tell its version (error {int(error)})", mend="pip install -U nvidia-cuda-nvrtc")
    return f"{major}.{minor}"


def cubin(text: str, architecture: str, macros: Mapping[str, int]) -> bytes:
    """What `compile_source` yields, from the cache if it is there, else kept in it.

    Any number of processes may do so at once: each writes a file of its own and renames it. A file that is not whole is
    compiled anew, and a cache that cannot be written costs time only.
    """
    key = hashlib.sha256(repr((text, architecture, sorted(macros.items()), compiler_version())).encode()).hexdigest()
    file = cache_directory() / "kernels" / f"{architecture}-{key[:32]}.cubin"
    with suppress(OSError):
        kept = file.read_bytes()
        if hashlib.sha256(kept[_DIGEST:]).digest() == kept[:_DIGEST]:
            return kept[_DIGEST:]
    code, _ = compile_source(text, architecture, macros)
    with suppress(TracekitError):
        write_atomic(file, hashlib.sha256(code).digest() + code)
    return code


class Module:
    """The kernels of one compiled source, loaded for one device."""

    def __init__(self, code: bytes) -> None:
        self._object = cuda_core().ObjectCode.from_cubin(code)
        self._handles: dict[str, int] = {}

    def handle(self, name: str) -> int:
        """The driver's handle of a kernel."""
        if name not in self._handles:
            self._handles[name] = int(self._object.get_kernel(name).handle)
        return self._handles[name]


@cache
def load(name: str, capability: tuple[int, int], device: int, macros: tuple[tuple[str, int], ...]) -> Module:
    """A source of this room, compiled and loaded for a device of this compute capability, once a process."""
    return Module(cubin(source(name), "sm_{}{}".format(*capability), dict(macros)))
