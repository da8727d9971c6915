from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tracekit.errors import MissingExtraError, TracekitError
from tracekit.kernels import compile as compiler
from tracekit.kernels.compile import Target

needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core and NVRTC")
TINY = 'extern "C" __global__ void fill(float* out) { out[threadIdx.x] = VALUE; }'
TURING, HOPPER, PORTABLE = Target((7, 5)), Target((9, 0)), Target((7, 5), portable=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKIT_CACHE", str(tmp_path / "cache"))


def kept() -> list[Path]:
    return sorted((compiler.cache_directory() / "kernels").glob("*"))


@needs_nvrtc
def test_the_cache_knows_source_target_macros_and_compiler_and_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiler.code(TINY, TURING, {"VALUE": 1})
    assert len(kept()) == 1
    different = [
        compiler.code(TINY, TURING, {"VALUE": 2}),
        compiler.code(TINY, HOPPER, {"VALUE": 1}),
        compiler.code(TINY, PORTABLE, {"VALUE": 1}),
        compiler.code(TINY.replace("fill", "full"), TURING, {"VALUE": 1}),
    ]
    assert len({first, *different}) == len(kept()) == 5
    version = compiler.compiler_version()
    monkeypatch.setattr(compiler, "compiler_version", lambda: "99.0")
    compiler.code(TINY, TURING, {"VALUE": 1})
    assert len(kept()) == 6
    monkeypatch.setattr(compiler, "compile_source", lambda *_: pytest.fail("compiled again"))
    for number in ("99.0", version):
        monkeypatch.setattr(compiler, "compiler_version", lambda number=number: number)
        assert compiler.code(TINY, TURING, {"VALUE": 1}) == first


@needs_nvrtc
@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"", lambda data: data[:40] + b"!" + data[41:]])
@pytest.mark.parametrize("aim", [TURING, PORTABLE], ids=str)
def test_a_damaged_file_is_compiled_anew(damage: Callable[[bytes], bytes], aim: Target) -> None:
    code = compiler.code(TINY, aim, {"VALUE": 1})
    (file,) = kept()
    file.write_bytes(damage(file.read_bytes()))
    assert compiler.code(TINY, aim, {"VALUE": 1}) == code
    assert file.read_bytes()[32:] == code


@needs_nvrtc
@pytest.mark.parametrize("place", ["a file", "/proc", "a directory that may only be read"])
def test_a_cache_that_cannot_be_written_costs_time_only(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = {"a file": tmp_path / "file", "/proc": Path("/proc/tracekit")}.get(place, tmp_path / "read")
    (tmp_path / "file").touch()
    (tmp_path / "read").mkdir(mode=0o500)  # which does not stop root: then the code is kept
    monkeypatch.setenv("TRACEKIT_CACHE", str(directory))
    for _ in range(2):
        assert compiler.code(TINY, TURING, {"VALUE": 1}).startswith(b"\x7fELF")
    assert os.geteuid() == 0 or kept() == []


@needs_nvrtc
def test_a_cache_is_read_where_it_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiler.code(TINY, TURING, {"VALUE": 1})
    monkeypatch.setattr(compiler, "write_atomic", lambda *_: pytest.fail("written"))
    monkeypatch.setattr(compiler, "compile_source", lambda *_: pytest.fail("compiled again"))
    assert compiler.code(TINY, TURING, {"VALUE": 1}) == first


PROCESS = """
import hashlib, sys, time
from pathlib import Path
from tracekit.kernels import compile as compiler

compiler.compiler_version()
Path(sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.0005)
for value in range(8):
    made = compiler.code(sys.argv[2], compiler.Target((7, 5)), {"VALUE": value})
    print(hashlib.sha256(made).hexdigest())
"""


@needs_nvrtc
def test_two_processes_may_start_at_once(tmp_path: Path) -> None:
    names = ("one", "two")
    commands = ([sys.executable, "-c", PROCESS, name, TINY] for name in names)
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for command in commands]
    try:
        late = time.monotonic() + 60
        while not all((tmp_path / name).exists() for name in names):
            assert time.monotonic() < late
            assert not any(process.poll() for process in processes)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        found = [process.communicate(timeout=60)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    own = [hashlib.sha256(compiler.compile_source(TINY, "sm_75", {"VALUE": value}).cubin).hexdigest() for value in range(8)]
    assert found == [own, own]
    assert sorted(hashlib.sha256(file.read_bytes()[32:]).hexdigest() for file in kept()) == sorted(own)  # and no other file


@needs_nvrtc
def test_code_of_a_target() -> None:
    assert compiler.code(TINY, TURING, {"VALUE": 1}).startswith(b"\x7fELF")
    ptx = compiler.code(TINY, PORTABLE, {"VALUE": 1}).decode()
    assert ".target sm_75" in ptx
    assert ".entry fill(" in ptx
    assert [file.name.partition("-")[0] + file.suffix for file in kept()] == ["compute_75.ptx", "sm_75.cubin"]


def test_a_device_runs_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEKIT_ARCH", raising=False)
    assert compiler.target((9, 0)) == HOPPER
    assert str(compiler.target((12, 1))) == "sm_121"


def test_or_that_of_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKIT_ARCH", "compute_75")
    assert compiler.target((9, 0)) == compiler.target((7, 5)) == PORTABLE
    assert str(PORTABLE) == "compute_75"
    monkeypatch.setenv("TRACEKIT_ARCH", "compute_120")
    assert compiler.target((12, 0)).capability == (12, 0)


@pytest.mark.parametrize(
    ("wanted", "capability", "reason"),
    [
        ("sm_75", (9, 0), "^TRACEKIT_ARCH: must be an architecture such as compute_75, not 'sm_75'$"),
        ("75", (9, 0), "must be an architecture"),
        ("compute_90a", (9, 0), "must be an architecture"),
        ("compute_90", (7, 5), r"^TRACEKIT_ARCH=compute_90: the device has compute capability 7\.5; unset it$"),
        ("compute_70", (9, 0), r"need compute capability 7\.5 or newer, not 7\.0"),
        ("", (7, 0), r"^the kernels need compute capability 7\.5 or newer, not 7\.0; run the other variants$"),
    ],
)
def test_what_does_not_run_is_refused(
    wanted: str, capability: tuple[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEKIT_ARCH", wanted)
    with pytest.raises(TracekitError, match=reason):
        compiler.target(capability)


def test_headers_are_put_in_their_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "_HERE", tmp_path)
    (tmp_path / "a.cu").write_text('#include "b.cuh"\n#include "c.cuh"\nint a = b + c;\n')
    (tmp_path / "b.cuh").write_text('#include "c.cuh"\nconst int b = c;\n')
    (tmp_path / "c.cuh").write_text("const int c = 1;\n")
    text = compiler.source("a.cu")
    assert [line for line in text.splitlines() if line and not line.startswith("#line")] == [
        *("const int c = 1;", "const int b = c;", "int a = b + c;")
    ]
    assert "#include" not in text
    assert text.splitlines()[-2:] == ["", "int a = b + c;"]  # c.cuh stands once


@needs_nvrtc
def test_an_error_names_the_header_and_its_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "_HERE", tmp_path)
    (tmp_path / "a.cu").write_text('__device__ int a;\n#include "b.cuh"\n__device__ int c = UNKNOWN;\n')
    (tmp_path / "b.cuh").write_text("__device__ int b;\n__device__ int d = UNKNOWN;\n")
    with pytest.raises(TracekitError, match=r"b\.cuh\(2\): error"):
        compiler.compile_source(compiler.source("a.cu"), "sm_75", {})
    (tmp_path / "b.cuh").write_text("__device__ int b;\n")
    with pytest.raises(TracekitError, match=r"a\.cu\(3\): error"):
        compiler.compile_source(compiler.source("a.cu"), "sm_75", {})


@needs_nvrtc
@pytest.mark.parametrize(
    ("architecture", "reason"), [("sm_75", "VALUE"), ("sm_10", "gpu-architecture"), ("T4", "gpu-architecture")]
)
def test_what_the_compiler_says_is_one_line(architecture: str, reason: str) -> None:
    with pytest.raises(
        TracekitError, match=rf"^{architecture}: NVRTC could not compile the kernels \(.*{reason}.*\); "
    ) as caught:
        compiler.compile_source(TINY, architecture, {})
    assert "\n" not in str(caught.value)


@needs_nvrtc
def test_a_driver_that_refuses_the_code_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def get_kernel(self, name: str) -> None:
            raise RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the PTX is too new")

    def refused(driver: tuple[int, int] | None, nvrtc: str) -> str:
        monkeypatch.setattr(compiler, "_driver_version", lambda: driver)
        monkeypatch.setattr(compiler, "compiler_version", lambda: nvrtc)
        with pytest.raises(TracekitError) as caught:
            module.handle("fill")
        return str(caught.value)

    module = compiler.Module(compiler.compile_source(TINY, "sm_75", {"VALUE": 1}).ptx, PORTABLE)
    monkeypatch.setattr(module, "_object", Refusing())
    assert refused((13, 0), "13.5") == (
        "compute_75: the driver, for CUDA 13.0, does not take kernels by NVRTC 13.5 (CUDA_ERROR_UNSUPPORTED_PTX_VERSION: "
        "the PTX is too new); pip install 'nvidia-cuda-nvrtc==13.0.*', or update the driver"
    )
    assert "pip install 'nvidia-cuda-nvrtc-cu12==12.4.*', or" in refused((12, 4), "12.8")
    assert "pip install 'torch-tracekit[cuda12]', or" in refused((12, 8), "13.0")
    assert "the driver does not take the kernels (CUDA_ERROR" in refused((13, 0), "13.0")
    assert "the driver does not take the kernels (CUDA_ERROR" in refused(None, "13.0")


@pytest.mark.parametrize("missing", ["cuda.bindings", "cuda.core", "cuda.bindings.nvrtc"])
def test_without_the_extra_its_name_is_told(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert not compiler.available()
    with pytest.raises(MissingExtraError, match=r"^compiling CUDA kernels needs .*torch-tracekit\[cuda\]"):
        compiler.code(TINY, TURING, {"VALUE": 1})
    with pytest.raises(MissingExtraError, match=r"^compiling CUDA kernels needs .*torch-tracekit\[cuda\]"):
        compiler.compile_source(TINY, "sm_75", {"VALUE": 1})


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACEKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(TracekitError, match=r"no home directory .*; set TRACEKIT_CACHE"):
        compiler.cache_directory()
