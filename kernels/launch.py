"""How does a kernel start?

It gets raw pointers and is queued on torch's current stream. It starts after the kernel before it, or while that one still
runs.
"""

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

_ALWAYS_SHARED = 48 * 1024  # bytes that a block may have without asking for more
_HOPPER = (9, 0)  # from this capability on, a kernel may start while the one before it runs


class Kernels:
    """The kernels of a source for one device, ready to launch.

    With `chained`, a kernel may start before the one launched before it is over. That one must be one of these kernels too, so
    the first kernel of a chain is not chained. The kernels themselves wait before they read what others write, or overwrite
    what others read. On devices that do not support this, `chained` has no effect.
    """

    def __init__(self, source: str, device: torch.device, macros: dict[str, int]) -> None:
        """Compile and load the kernels.

        Raises MissingExtraError without cuda-core, TracekitError without a device or if the source does not compile.
        """
        if not torch.cuda.is_available():
            raise TracekitError(
                "the kernels need a CUDA device and its driver, torch finds none", mend="run the other variants"
            )
        self.device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        properties = torch.cuda.get_device_properties(self.device)
        self.multiprocessors = int(properties.multi_processor_count)
        with torch.cuda.device(self.device):
            torch.cuda.current_stream()  # creates the context that the driver calls below need
            torch.empty(1, device=self.device)
            capability = (properties.major, properties.minor)
            self._module = compiler.load(source, capability, self.device.index, tuple(sorted(macros.items())))
        self.capability = self._module.target.capability  # that of the code, which may be compiled for an older device
        self._can_chain = self.capability >= _HOPPER
        self._granted: dict[str, int] = {}  # bytes of dynamic shared memory granted to each kernel

    def launch(
        self,
        name: str,
        grid: tuple[int, int],
        threads: int,
        arguments: Sequence[Tensor | int],
        chained: bool = False,
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        """Queue a kernel on the device's current stream. Tensors become pointers, and numbers become C ints.

        `shared_bytes` is the dynamic shared memory of a block. A `cooperative` kernel, whose blocks wait for each other, starts
        only with all its blocks at once. Tensors are not checked. Raises TracekitError if a cooperative kernel has more blocks
        than the device can hold at once, and RuntimeError if the driver refuses for another reason.
        """
        driver = _driver()
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = shared_bytes
        config.hStream = driver.CUstream(torch.cuda.current_stream(self.device).cuda_stream)
        config.attrs = attributes = self._attributes(chained, cooperative)
        config.numAttrs = len(attributes)
        values = tuple(one.data_ptr() if isinstance(one, Tensor) else one for one in arguments)
        types = tuple(ctypes.c_void_p if isinstance(one, Tensor) else ctypes.c_int for one in arguments)
        with torch.cuda.device(self.device):
            self._grant(name, shared_bytes)
            (error,) = driver.cuLaunchKernelEx(config, driver.CUfunction(self._module.handle(name)), (values, types), 0)
        if error == driver.CUresult.CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
            blocks, device = grid[0] * grid[1], torch.cuda.get_device_name(self.device)
            raise TracekitError(
                f"{blocks} blocks of {threads} threads and {shared_bytes:,} bytes of shared memory must run at once, "
                f"for which {device} has no room",
                where=f"the kernel {name}",
                mend="run the variant fused-layers",
            )
        if int(error):
            raise RuntimeError(f"the kernel {name} could not be launched ({error.name})")

    def _attributes(self, chained: bool, cooperative: bool) -> list[Any]:
        """The launch attributes, as the driver takes them."""
        driver, attributes = _driver(), []
        if chained and self._can_chain:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            attributes.append(attribute)
        if cooperative:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
            attribute.value.cooperative = 1
            attributes.append(attribute)
        return attributes

    def most_clusters(self, name: str, cluster: int, threads: int, shared_bytes: int) -> int:
        """How many clusters of `cluster` blocks the device can hold at once; 0 if the driver does not tell."""
        driver = _driver()
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = cluster, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = shared_bytes
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        size = attribute.value.clusterDim
        size.x, size.y, size.z = cluster, 1, 1
        config.attrs = [attribute]
        config.numAttrs = 1
        with torch.cuda.device(self.device):
            self._grant(name, shared_bytes)
            error, clusters = driver.cuOccupancyMaxActiveClusters(driver.CUfunction(self._module.handle(name)), config)
        return 0 if int(error) else int(clusters)

    def _grant(self, name: str, shared_bytes: int) -> None:
        """Let a kernel use more dynamic shared memory than a block has by default. Asks the driver only if needed.

        Raises RuntimeError if the driver refuses.
        """
        if shared_bytes <= max(_ALWAYS_SHARED, self._granted.get(name, 0)):
            return
        driver = _driver()
        kernel, device = driver.CUkernel(self._module.handle(name)), driver.CUdevice(self.device.index)
        most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(most, shared_bytes, kernel, device)
        if int(error):
            raise RuntimeError(f"the kernel {name} cannot have {shared_bytes} bytes of shared memory ({error.name})")
        self._granted[name] = shared_bytes


@cache
def _driver() -> Any:
    compiler.cuda_core()
    return importlib.import_module("cuda.bindings.driver")
