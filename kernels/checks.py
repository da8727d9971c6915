"""Can an operator take the tensors that it is given?

Each check raises ValueError if not. The message begins with the operator's name, except that of `check_capability`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .compile import CAPABILITY
from .shape import HEAD_WIDTHS, obstacle

Sizes = tuple[int, ...]
_ALIGNMENT = 16  # in bytes, which the widest loads need


def check_capability(device: torch.device) -> None:
    """Raise ValueError unless the CUDA device is new enough for all of the kernels."""
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        needed, found = (f"{major}.{minor}" for major, minor in (CAPABILITY, capability))
        raise ValueError(f"the kernels need compute capability {needed}, this is {found}")


def any_head_width(width: int) -> int:
    """A head width that a model of this width could have.

    It serves operators that work without heads, where any possible head width will do.
    """
    return 64 if width % 64 == 0 else HEAD_WIDTHS[0]


def check_shape(op: str, width: int, head_width: int, batch: int) -> None:
    """Raise ValueError if the kernels have an `obstacle` to this shape."""
    problem = obstacle(width, head_width, batch)
    if problem is not None:
        raise ValueError(f"{op}: {problem}")


def check_range(op: str, name: str, tensor: Tensor, end: int) -> None:
    """Raise ValueError unless all values are at least 0 and below `end`.

    The tensor must be on the host. Otherwise the host would wait for the device.
    """
    if int(tensor.min()) < 0 or int(tensor.max()) >= end:
        raise ValueError(f"{op}: {name} must be 0 to {end - 1}, not {tensor.flatten().tolist()}")


def sizes(op: str, name: str, tensor: Tensor, dimensions: int) -> Sizes:
    """A tensor's sizes. Raises ValueError unless it has `dimensions` dimensions."""
    if tensor.dim() != dimensions:
        raise ValueError(f"{op}: {name} must have {dimensions} dimensions, not {tensor.dim()}")
    return tuple(tensor.shape)


def require(op: str, name: str, tensor: Tensor, expected: Sizes, like: Tensor, dtype: torch.dtype = torch.float16) -> None:
    """Raise ValueError unless the tensor has the expected sizes and dtype, is contiguous and aligned, and is on the same device
    as `like`.
    """
    if tensor.dtype != dtype:
        raise ValueError(f"{op}: {name} must be {str(dtype)[6:]}, not {str(tensor.dtype)[6:]}")
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{op}: {name} must be {list(expected)}, not {list(tensor.shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, the others are on {like.device}")
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{op}: there are kernels for cuda and cpu, not for {tensor.device.type}")
    if not tensor.is_contiguous():
        raise ValueError(f"{op}: {name} must be contiguous")
    if dtype in (torch.float16, torch.int8) and tensor.storage_offset() * tensor.element_size() % _ALIGNMENT:
        raise ValueError(f"{op}: {name} must begin at a multiple of {_ALIGNMENT} bytes")
