"""Does the code of a T4 compute the same on the GPU at hand, and does a driver see kernels as we do? Run with `pytest -m gpu`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tracekit.architectures import multiprocessors  # noqa: E402
from tracekit.errors import TracekitError  # noqa: E402
from tracekit.kernels import compile as compiler  # noqa: E402
from tracekit.kernels.configuration import Configuration, declared  # noqa: E402
from tracekit.kernels.inspection import inspect  # noqa: E402
from tracekit.kernels.launch import Kernels  # noqa: E402
from tracekit.kernels.shape import Shape  # noqa: E402

CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CAPABILITY < compiler.CAPABILITY, reason="needs a CUDA device of compute capability 7.5"),
]
HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]


def core(ids: list[str], most: int = 4) -> list[str]:
    """Of each test at most so many cases, spread over all that it has."""
    cases: dict[str, list[str]] = defaultdict(list)
    for one in ids:
        cases[one.partition("[")[0]].append(one)
    return [
        one for own in cases.values() for one in dict.fromkeys(own[at * (len(own) - 1) // (most - 1)] for at in range(most))
    ]


def test_the_code_of_a_t4_passes_the_core_of_all_other_tests(tmp_path: Path) -> None:
    """In a process of its own, as what is loaded stays. TRACEKIT_ARCH=compute_75 with pytest runs all of them."""
    files = sorted(str(file) for file in HERE.parent.glob("test_*.py") if file != HERE)
    environment = os.environ | {"TRACEKIT_ARCH": "compute_75", "TRACEKIT_CACHE": str(tmp_path / "cache")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
        command += ["-c", str(ROOT / "pyproject.toml"), *arguments]  # elsewhere than in ROOT, which would hide the package
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)

    ids = [line for line in run("--collect-only", *files).stdout.splitlines() if "::" in line]
    chosen = core([line[line.index("tests/kernels/") :] for line in ids])
    found = run("-W", "ignore", *(str(ROOT / one) for one in chosen))
    print(found.stdout[-3000:], found.stderr[-1000:])
    assert found.returncode == 0
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|skipped)", found.stdout)}
    assert sum(counts.values()) == len(chosen)
    assert counts.get("passed", 0) > len(chosen) / 2  # what is for newer devices alone is skipped
    assert {file.name.partition("-")[0] for file in (tmp_path / "cache" / "kernels").iterdir()} == {"compute_75"}


def test_what_is_loaded_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACEKIT_CACHE", str(tmp_path))
    own = Kernels("decode.cu", torch.device("cuda"), Shape(64, 32, 1).macros)
    monkeypatch.setenv("TRACEKIT_ARCH", "compute_75")
    older = Kernels("decode.cu", torch.device("cuda"), Shape(64, 32, 1).macros)
    assert (own.capability, older.capability) == (CAPABILITY, (7, 5))


def test_a_driver_that_knows_no_such_ptx_says_so() -> None:
    text = 'extern "C" __global__ void fill(float* out) { out[threadIdx.x] = 1; }'
    ptx = compiler.compile_source(text, "sm_75", {}).ptx
    number = ptx.split(b".version ")[1].split()[0]
    newer = compiler.Module(ptx.replace(b".version " + number, b".version 99.0"), compiler.Target((7, 5), portable=True))
    torch.empty(1, device="cuda")
    with pytest.raises(TracekitError, match=r"^compute_75: the driver.* does not take .*PTX") as caught:
        newer.handle("fill")
    print(caught.value)


FIRST = [one for name in compiler.sources() for one in [one for one in declared() if one.source == name][:4]]


@pytest.mark.skipif(CAPABILITY not in [one.capability for one in multiprocessors()], reason="its limits are not known")
@pytest.mark.parametrize("configuration", FIRST, ids=str)
def test_a_driver_counts_registers_and_blocks_as_we_do(configuration: Configuration, tmp_path: Path) -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    if configuration.capability > CAPABILITY:
        pytest.skip("is for newer devices")
    torch.empty(1, device="cuda")
    text = compiler.source(configuration.source)
    compiled = compiler.compile_source(text, compiler.Target(CAPABILITY).architecture, configuration.macros)
    module = compiler.Module(compiled.cubin, compiler.Target(CAPABILITY))
    attribute = driver.CUfunction_attribute
    names = ("NUM_REGS", "SHARED_SIZE_BYTES", "MAX_THREADS_PER_BLOCK", "LOCAL_SIZE_BYTES")
    for kernel in inspect(configuration, CAPABILITY):
        error, function = driver.cuKernelGetFunction(driver.CUkernel(module.handle(kernel.name)))
        assert not int(error)
        if kernel.dynamic_shared:
            which = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            assert not int(driver.cuFuncSetAttribute(function, which, kernel.dynamic_shared)[0])
        found = [driver.cuFuncGetAttribute(getattr(attribute, f"CU_FUNC_ATTRIBUTE_{name}"), function) for name in names]
        assert [int(error) for error, _ in found] == [0] * len(names)
        taken = kernel.taken
        assert [value for _, value in found] == [taken.registers, taken.shared_bytes, taken.threads, taken.stack_bytes]
        error, blocks = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, taken.threads, kernel.dynamic_shared)
        assert (int(error), blocks) == (0, kernel.occupancy.blocks), kernel.name
