"""Tensors that an operator must refuse, each made from one that fits, and what the refusal says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


def strided(tensor: Any) -> Any:
    """The same numbers, every second one in memory."""
    return tensor.repeat_interleave(2, -1)[..., ::2]


def misfits(dtype: str, size: str) -> list[Any]:
    """Parameters `spoil` and `reason`: a function of a tensor, and a pattern of the error; two of these are the operators' own."""
    spoils: dict[str, tuple[Callable[[Any], Any], str]] = {
        "dtype": (lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.int(), dtype),
        "dimensions": (lambda tensor: tensor[None], "must (be|have)"),
        "size": (lambda tensor: torch.cat([tensor, tensor], -1), size),
        "strides": (strided, "must be contiguous"),
    }
    return [pytest.param(*spoil, id=name) for name, spoil in spoils.items()]
