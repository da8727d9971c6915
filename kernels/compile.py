"""How does a CUDA source become kernels?

NVRTC compiles it for exactly the device that is there. The code is kept on disk, and loaded once in each process.

If TRACEKIT_ARCH=compute_75 is set in the environment, a device runs the code of another capability: the PTX for it, which the
driver compiles. In this way the code path of a Turing device is tested on a machine without one.
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

CAPABILITY = (7, 5)  # the lowest compute capability that the sources can be compiled for
VARIABLE = "TRACEKIT_ARCH"

_HERE = Path(__file__).resolve().parent
_DIGEST = 32  # bytes of SHA-256 before the code in a cached file, so that an incomplete or foreign file is not loaded
_MOST_THREADS = 1024  # threads of a block, if the source sets no bound


@dataclass(frozen=True)
class Target:
    """The devices that code is made for: those of one compute capability.

    If `portable`, the code is PTX, which also runs on all newer devices.
    """

    capability: Capability
    portable: bool = False

    @property
    def architecture(self) -> str:
        """The architecture as the compiler names it, such as `sm_75`."""
        return "sm_{}{}".format(*self.capability)

    def __str__(self) -> str:
        return self.architecture.replace("sm", "compute") if self.portable else self.architecture


@dataclass(frozen=True)
class Compiled:
    """The machine code of a source, the PTX that it was made from, and the messages of the compiler about its kernels."""

    cubin: bytes
    ptx: bytes
    log: str


@dataclass(frozen=True)
class Resources:
    """The resources that one kernel takes.

    `threads` is the largest number of threads of a block. `registers`, `spilled_bytes` and `stack_bytes` are per thread.
    `shared_bytes` is the static shared memory of a block.
    """

    threads: int
    registers: int
    shared_bytes: int
    spilled_bytes: int
    stack_bytes: int


def target(capability: Capability) -> Target:
    """What a device of this capability will run: code made for it, or the PTX that TRACEKIT_ARCH names.

    Whatever depends on what the code can do must use the capability of the target, not that of the device. Raises TracekitError
    if the device is too old for the kernels or for what the variable asks, or if the variable names no architecture.
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
    """The text of a CUDA source of this room, with the headers of this room inserted where it includes them.

    This is needed because NVRTC reads no files.
    """
    return _expanded(name, set())


def _expanded(name: str, seen: set[str]) -> str:
    """The text of a file with the text of the files that it includes, each header once.

    Line directives let the compiler still report lines by file.
    """
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
    """The package `cuda.core`. Raises MissingExtraError if it is not installed, or something that it needs is not."""
    try:
        importlib.import_module("cuda.bindings")  # cuda-core can be installed without it
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise MissingExtraError(f"compiling CUDA kernels needs cuda-core ({error})", "cuda") from error


def available() -> bool:
    """Whether kernels can be compiled here. It does not say whether there is a device to run them."""
    try:
        compiler_version()
    except MissingExtraError:
        return False
    return True


def compile_source(text: str, architecture: str, macros: Mapping[str, int]) -> Compiled:
    """Compile a source for an architecture such as "sm_75". Needs neither a GPU nor a driver.

    Raises MissingExtraError if the compiler is not installed. Raises TracekitError if the source does not compile, or if the
    compiler does not know the architecture.
    """
    # Since 12.9, NVRTC has a cache of its own if there is a driver. Code from that cache comes without a log.
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
    """The PTX that a compiled program was made from.

    cuda-core needs a driver to produce PTX directly. This function does not.
    """
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    error, size = nvrtc.nvrtcGetPTXSize(program)
    text = bytearray(size)
    if int(error) or int(nvrtc.nvrtcGetPTX(program, text)[0]):
        raise RuntimeError("no PTX was kept")
    return bytes(text).rstrip(b"\0")


def resources(compiled: Compiled) -> dict[str, Resources]:
    """The resources that each kernel takes, by its name.

    Raises TracekitError if the log of the compiler does not tell them for every kernel.
    """
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
    """The directory of compiled kernels: TRACEKIT_CACHE if it is set, else `tracekit` in the user's cache directory.

    Raises TracekitError if the user has no home directory.
    """
    own = os.environ.get("TRACEKIT_CACHE")
    if own:
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracekit"
    except RuntimeError as error:
        raise TracekitError("there is no home directory to keep compiled kernels in", mend="set TRACEKIT_CACHE") from error


def compiler_version() -> str:
    """The version of NVRTC, such as `12.9`.

    Raises MissingExtraError if cuda-core or NVRTC is not found, TracekitError if NVRTC does not tell its version.
    """
    cuda_core()
    try:
        error, major, minor = importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except Exception as problem:  # the library cannot be found or loaded; the loader has error classes of its own
        raise MissingExtraError(f"compiling CUDA kernels needs NVRTC ({problem})", "cuda") from problem
    if int(error):
        raise TracekitError(f"NVRTC does not tell its version (error {int(error)})", mend="pip install -U nvidia-cuda-nvrtc")
    return f"{major}.{minor}"


def code(text: str, aim: Target, macros: Mapping[str, int]) -> bytes:
    """The code of a source for a target, a cubin or PTX. It is read from the cache, or else compiled and put there.

    Any number of processes may do so at the same time, because each writes its own file and renames it. An incomplete file is
    compiled again. If the cache cannot be written, this only costs time.
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
        """The driver's handle of a kernel. Raises TracekitError if the driver refuses the code."""
        if name not in self._handles:
            try:
                self._handles[name] = int(self._object.get_kernel(name).handle)
            except Exception as error:  # cuda-core's error classes moved between its versions
                raise _refused(self.target, error) from error
        return self._handles[name]


def load(name: str, capability: Capability, device: int, macros: tuple[tuple[str, int], ...]) -> Module:
    """A source of this room, compiled and loaded for a device of this compute capability.

    It is loaded once for each process and target. Raises the errors of `target`, `code` and `Module.handle`.
    """
    return _load(name, target(capability), device, macros)


@cache
def _load(name: str, aim: Target, device: int, macros: tuple[tuple[str, int], ...]) -> Module:
    return Module(code(source(name), aim, dict(macros)), aim)


def _refused(aim: Target, error: Exception) -> TracekitError:
    """The error for a driver that refuses the code that NVRTC made.

    In most cases the driver is older than NVRTC; PTX must not be newer than the driver at all.
    """
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
    """The CUDA version that the driver is made for; None if there is no driver."""
    try:
        error, version = importlib.import_module("cuda.bindings.driver").cuDriverGetVersion()
    except Exception:  # the library is not there; the loader has error classes of its own
        return None
    return None if int(error) else (version // 1000, version % 1000 // 10)
