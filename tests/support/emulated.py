"""Runs CUDA sources on a CPU: compiled as C++ with emulator/cuda.h, launched like `tracekit.kernels.launch.Kernels`.

This tests a kernel's launch (sizes, indices, barriers) and all of the kernel except its inline assembly. It needs g++ 12 on
Linux.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tracekit.kernels import compile as compiler

_HERE = Path(__file__).resolve().parent / "emulator"


def available() -> bool:
    """Whether there is a compiler that supports _Float16."""
    found = shutil.which("g++")
    return found is not None and int(subprocess.check_output([found, "-dumpversion"], text=True).split(".")[0]) >= 12


@cache
def _library(source: str, macros: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as directory:
        room = Path(compiler.__file__).parent
        for file in (room / source, *room.glob("*.cuh"), *_HERE.glob("*.cuh")):  # instructions as the emulator has them
            shutil.copy(file, directory)
        text = f'#include "{_HERE / "cuda.h"}"\n#include "{source}"\n'
        definitions = [f"-D{name}={value}" for name, value in macros]
        # Shared memory of one library must not be that of another, in which it has another size: nothing is unique to the process.
        command = ["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-fno-gnu-unique", *definitions]
        command += ["-x", "c++", "-", "-o", "kernels.so"]
        subprocess.run(command, input=text, text=True, cwd=directory, check=True)
        return ctypes.CDLL(str(Path(directory) / "kernels.so"))


class EmulatedKernels:
    """Takes the place of `Kernels` in tests."""

    multiprocessors = 40  # a T4's

    def __init__(self, source: str, device: torch.device, macros: dict[str, int]) -> None:
        self._library = _library(source, tuple(sorted(macros.items())))

    def launch(
        self, name: str, grid: tuple[int, int], threads: int, arguments: Sequence[Tensor | int], chained: bool = False
    ) -> None:
        """Run the kernel, block by block. It does not matter whether it is `chained`: the one before is over."""
        values = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
        kernel = ctypes.cast(getattr(self._library, name), ctypes.c_void_p)
        self._library.emulate(kernel, *grid, threads, (ctypes.c_long * 12)(*values))
