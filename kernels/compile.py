"""How does a CUDA source become kernels? Compiled by NVRTC for the very device, kept on disk, loaded once a process.

With TRACEKIT_ARCH=compute_75 in the environment, a device runs the code of another: the PTX for that capability, which
the driver compiles. That is how a Turing's code path is tested where there is none.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tracekit.architectures import Capability
from tracekit.errors import MissingExtraError, TracekitError
from tracekit.files import write_atomic

CAPABILITY = (7, 5)  # what the sources need at least
VARIABLE = "TRACEKIT_ARCH"

_HERE = Path(__file__).resolve().parent
_DIGEST = 32  # bytes of SHA-256 before the code in a file of the cache: half a file, or another's, is not loaded
_MOST_THREADS = 1024  # of a block, where the source sets no bound


@dataclass(frozen=True)
class Target:
    """What code is for: devices of a compute capability, or with `portable` these and all newer, as PTX."""

    capability: Capability
    portable: bool = False

    @property
    def architecture(self) -> str:
        """The machine that the compiler is to know: `sm_75`."""
        return "sm_{}{}".format(*self.capability)

    def __str__(self) -> str:
        return self.architecture.replace("sm", "compute") if self.portable else self.architecture


@dataclass(frozen=True)
class Compiled:
    """A source's machine code, the PTX that it was made from, and what the compiler says of its kernels."""

    cubin: bytes
    ptx: bytes
    log: str


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: at most so many threads a block, registers a thread, static shared memory a block, and bytes
    that a thread spills and stacks."""

    threads: int
    registers: int
    shared_bytes: int
    spilled_bytes: int
    stack_bytes: int


def target(capability: Capability) -> Target:
    """What a device of this capability is to run: code of its own, or the PTX that TRACEKIT_ARCH names.

    Whatever depends on what the code can do must ask the target's capability, not the device's. Raises TracekitError if
    the device is too old, for the kernels or for what the variable asks.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        chosen = Target(capability)
    elif match := re.fullmatch(r"compute_([1-9]\d?)(\d)", wanted):
        chosen = Target((int(match[1]), int(match[2])), portable=True)
    else:
        raise TracekitError(f"must be an architecture such as compute_75, not {wanted!r}", where=VARIABLE)
    if chosen.capability > capability:
        found = "{}.{}".format(*capability)
        raise TracekitError(f"the device has compute capability {found}", where=f"{VARIABLE}={wanted}", mend="unset it")
    if chosen.capability < CAPABILITY:
        needed, found = ("{}.{}".format(*one) for one in (CAPABILITY, chosen.capability))
        raise TracekitError(
            f"the kernels need compute capability {needed} or newer, not {found}", mend="run the other variants"
        )
    return chosen


def sources() -> tuple[str, ...]:
    """The names of all CUDA sources of this room."""
    return tuple(sorted(file.name for file in _HERE.glob("*.cu")))


def source(name: str) -> str:
    """The text of a CUDA source of this room, with the headers of this room in their places: NVRTC reads no files."""
    return _expanded(name, set())


def _expanded(name: str, seen: set[str]) -> str:
    """The text of a file with what it includes, each header once; the compiler still counts lines by file."""
    seen.add(name)
    lines: list[str] = [f'#line 1 "{name}"']
    for number, line in enumerate((_HERE / name).read_text(encoding="utf-8").splitlines(), 1):
        included = re.fullmatch(r'\s*#\s*include\s*"([\w.]+)".*', line)
        if included is None:
            lines.append(line)
        elif included[1] not in seen:
            lines += [_expanded(included[1], seen), f'#line {number + 1} "{name}"']
        else:
            lines.append("")
    return "\n".join(lines)


def cuda_core() -> Any:
    """The package `cuda.core`. Raises MissingExtraError where it, or what it needs, is not installed."""
    try:
        importlib.import_module("cuda.bindings")  # which cuda-core can be installed without
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise MissingExtraError(f"compiling CUDA kernels needs cuda-core ({error})", "cuda") from error


def available() -> bool:
    """Whether kernels can be compiled here; a device is another matter."""
    try:
        compiler_version()
    except MissingExtraError:
        return False
    return True


def compile_source(text: str, architecture: str, macros: Mapping[str, int]) -> Compiled:
    """A source compiled for an architecture such as "sm_75". Needs neither a GPU nor a driver.

    Raises MissingExtraError, and TracekitError if it does not compile, or the compiler does not know the architecture.
    """
    # Where there is a driver, NVRTC has a cache of its own since 12.9; what it finds there comes without a log.
    uncached = True if _numbers(compiler_version()) >= (12, 9) else None
    core = cuda_core()
    definitions = [(name, str(value)) for name, value in macros.items()]
    log = io.StringIO()
    try:
        options = core.ProgramOptions(
            arch=architecture, define_macro=definitions or None, ptxas_options=["-v"], no_cache=uncached
        )
        program = core.Program(text, "c++", options)
        cubin = bytes(program.compile("cubin", logs=log).code)
        return Compiled(cubin, _ptx(program.handle), log.getvalue())
    except Exception as error:
        lines = (log.getvalue() or str(error)).strip("\0 \n").splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise TracekitError(
            f"NVRTC could not compile the kernels ({reason})",
            where=architecture,
            mend="pip install -U nvidia-cuda-nvrtc, or run the other variants",
        ) from error


def _ptx(program: Any) -> bytes:
    """What a compiled program went through on its way. To ask cuda-core for PTX outright needs a driver, this does not."""
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    error, size = nvrtc.nvrtcGetPTXSize(program)
    text = bytearray(size)
    if int(error) or int(nvrtc.nvrtcGetPTX(program, text)[0]):
        raise RuntimeError("no PTX was kept")
    return bytes(text).rstrip(b"\0")


def resources(compiled: Compiled) -> dict[str, Resources]:
    """What each kernel takes, by its name. Raises TracekitError if the compiler's log does not tell it of every kernel."""
    entries = re.findall(r"\.entry (\w+)\(([^{]*)", compiled.ptx.decode())
    bounds = {name: re.search(r"\.maxntid ([\d, ]+)", directives) for name, directives in entries}
    pattern = re.compile(
        r"Function properties for (\w+).*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        re.DOTALL,
    )
    found: dict[str, Resources] = {}
    for name, stack, stores, loads, registers, rest in pattern.findall(compiled.log):
        shared, bound = re.search(r"(\d+) bytes smem", rest), bounds.get(name)
        found[name] = Resources(
            threads=math.prod(map(int, bound[1].split(","))) if bound else _MOST_THREADS,
            registers=int(registers),
            shared_bytes=int(shared[1]) if shared else 0,
            spilled_bytes=max(int(stores), int(loads)),
            stack_bytes=int(stack),
        )
    if set(found) != set(bounds):
        raise TracekitError(
            f"NVRTC {compiler_version()} does not tell what kernels take", mend="pip install -U nvidia-cuda-nvrtc"
        )
    return found


def cache_directory() -> Path:
    """Where compiled kernels are kept: TRACEKIT_CACHE if set, else `tracekit` in the user's cache directory.

    Raises TracekitError if the user has none.
    """
    own = os.environ.get("TRACEKIT_CACHE")
    if own:
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracekit"
    except RuntimeError as error:
        raise TracekitError("there is no home directory to keep compiled kernels in", mend="set TRACEKIT_CACHE") from error


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


def code(text: str, aim: Target, macros: Mapping[str, int]) -> bytes:
    """A source's code for a target, a cubin or PTX, from the cache if it is there, else compiled and kept in it.

    Any number of processes may do so at once: each writes a file of its own and renames it. A file that is not whole is
    compiled anew, and a cache that cannot be written costs time only.
    """
    key = hashlib.sha256(repr((text, str(aim), sorted(macros.items()), compiler_version())).encode()).hexdigest()
    file = cache_directory() / "kernels" / f"{aim}-{key[:32]}.{'ptx' if aim.portable else 'cubin'}"
    with suppress(OSError):
        kept = file.read_bytes()
        if hashlib.sha256(kept[_DIGEST:]).digest() == kept[:_DIGEST]:
            return kept[_DIGEST:]
    compiled = compile_source(text, aim.architecture, macros)
    made = compiled.ptx if aim.portable else compiled.cubin
    with suppress(TracekitError):
        write_atomic(file, hashlib.sha256(made).digest() + made)
    return made


class Module:
    """The kernels of one compiled source, loaded for one device. `target` is what they were compiled for."""

    def __init__(self, made: bytes, aim: Target) -> None:
        self.target = aim
        kind = cuda_core().ObjectCode
        self._object = kind.from_ptx(made) if aim.portable else kind.from_cubin(made)
        self._handles: dict[str, int] = {}

    def handle(self, name: str) -> int:
        """The driver's handle of a kernel. Raises TracekitError if the driver does not take the code."""
        if name not in self._handles:
            try:
                self._handles[name] = int(self._object.get_kernel(name).handle)
            except Exception as error:  # of cuda-core, whose errors moved between its versions
                raise _refused(self.target, error) from error
        return self._handles[name]


def load(name: str, capability: Capability, device: int, macros: tuple[tuple[str, int], ...]) -> Module:
    """A source of this room, compiled and loaded for a device of this compute capability, once a process and `target`.

    Raises as `target`, `code` and `Module` do.
    """
    return _load(name, target(capability), device, macros)


@cache
def _load(name: str, aim: Target, device: int, macros: tuple[tuple[str, int], ...]) -> Module:
    return Module(code(source(name), aim, dict(macros)), aim)


def _refused(aim: Target, error: Exception) -> TracekitError:
    """Why a driver does not take what NVRTC made. Most often it is the older of the two, and PTX must not be newer at all."""
    driver, compiler = _driver_version(), compiler_version()
    what, mend = "the driver does not take the kernels", "update the driver, or run the other variants"
    if driver is not None and driver < _numbers(compiler):
        what = "the driver, for CUDA {}.{}, does not take kernels by NVRTC {}".format(*driver, compiler)
        package = "nvidia-cuda-nvrtc=={}.{}.*" if driver[0] > 12 else "nvidia-cuda-nvrtc-cu12=={}.{}.*"
        same_major = compiler.startswith(f"{driver[0]}.")
        needed = package.format(*driver) if same_major else f"torch-tracekit[cuda{driver[0]}]"
        mend = f"pip install '{needed}', or update the driver"
    return TracekitError(f"{what} ({str(error).strip() or type(error).__name__})", where=aim, mend=mend)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _driver_version() -> tuple[int, int] | None:
    """The CUDA version that the driver is for, or None where there is no driver."""
    try:
        error, version = importlib.import_module("cuda.bindings.driver").cuDriverGetVersion()
    except Exception:  # a library that is not there: the loader has errors of its own
        return None
    return None if int(error) else (version // 1000, version % 1000 // 10)
