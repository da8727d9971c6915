"""How does a kernel start? With raw pointers on torch's current stream, after the last one or while it still runs."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tracekit.errors import TracekitError

from . import compile as compiler

_HOPPER = (9, 0)  # from where on a kernel may start while the last one runs


class Kernels:
    """The kernels of a source for one device, ready to launch.

    `chained` lets each kernel but the first of a chain start before its predecessor, one of these as well, is over. The
    kernels themselves wait before they read or write what others write; on devices without the means it does nothing.
    """

    def __init__(self, source: str, device: torch.device, macros: dict[str, int]) -> None:
        """Raises MissingExtraError without cuda-core, TracekitError without a device, or if the source does not compile."""
        if not torch.cuda.is_available():
            raise TracekitError(
                "the kernels need a CUDA device and its driver, torch finds none", mend="run the other variants"
            )
        self.device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        properties = torch.cuda.get_device_properties(self.device)
        self.multiprocessors = int(properties.multi_processor_count)
        with torch.cuda.device(self.device):
            torch.cuda.current_stream()  # makes sure of the context that the driver's calls below need
            torch.empty(1, device=self.device)
            capability = (properties.major, properties.minor)
            self._module = compiler.load(source, capability, self.device.index, tuple(sorted(macros.items())))
        self.capability = self._module.target.capability  # of the code, which may be for an older device than this
        self._can_chain = self.capability >= _HOPPER

    def launch(
        self, name: str, grid: tuple[int, int], threads: int, arguments: Sequence[Tensor | int], chained: bool = False
    ) -> None:
        """Queue a kernel on the device's current stream: tensors become pointers, and numbers C ints.

        Nothing of the tensors is checked. Raises RuntimeError if the driver refuses.
        """
        driver = _driver()
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.hStream = driver.CUstream(torch.cuda.current_stream(self.device).cuda_stream)
        if chained and self._can_chain:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs = [attribute]
            config.numAttrs = 1
        values = tuple(one.data_ptr() if isinstance(one, Tensor) else one for one in arguments)
        types = tuple(ctypes.c_void_p if isinstance(one, Tensor) else ctypes.c_int for one in arguments)
        with torch.cuda.device(self.device):
            (error,) = driver.cuLaunchKernelEx(config, driver.CUfunction(self._module.handle(name)), (values, types), 0)
        if int(error):
            raise RuntimeError(f"the kernel {name} could not be launched ({error.name})")


@cache
def _driver() -> Any:
    compiler.cuda_core()
    return importlib.import_module("cuda.bindings.driver")
