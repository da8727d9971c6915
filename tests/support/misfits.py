"""Makes tensors that an operator must refuse, each from a tensor that fits, and says how the error must read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


def strided(tensor: Any) -> Any:
    """A tensor of the same numbers that is not contiguous: in memory every number stands twice, and one of the two is skipped."""
    return tensor.repeat_interleave(2, -1)[..., ::2]


def misfits(dtype: str, size: str) -> list[Any]:
    """The test parameters `spoil` and `reason`: a function that makes a misfit of a tensor, and a pattern of the error.

    `dtype` and `size` are the patterns of the tested operators for a wrong type and a wrong size.
    """
    spoils: dict[str, tuple[Callable[[Any], Any], str]] = {
        "dtype": (lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.int(), dtype),
        "dimensions": (lambda tensor: tensor[None], "must (be|have)"),
        "size": (lambda tensor: torch.cat([tensor, tensor], -1), size),
        "strides": (strided, "must be contiguous"),
    }
    return [pytest.param(*spoil, id=name) for name, spoil in spoils.items()]
