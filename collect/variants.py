"""In which ways can the same model be run? A variant is a few lines of difference; only running one imports torch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.errors import TracekitError

if TYPE_CHECKING:
    from .gpt2 import GPT2
    from .workload import Step


@dataclass(frozen=True)
class Variant:
    """One way to run the model.

    `dtype` is torch's name for the dtype of weights, cache and arithmetic; `tf32` allows TF32 in FP32 matrix
    multiplies; `build` turns a model, on its device and with its cache, into the step that yields each token.
    """

    name: str
    summary: str
    dtype: str
    build: Callable[[GPT2], Step]
    tf32: bool = False


def eager(model: GPT2) -> Step:
    """The step as PyTorch runs it by itself."""
    from .gpt2 import greedy_step

    return functools.partial(greedy_step, model)


def compiled(model: GPT2) -> Step:
    """The step through torch.compile's default mode; prefill and decode are compiled apart, each for its own shape."""
    import torch

    # "TensorFloat32 is available but not enabled": that is what the variant says.
    warnings.filterwarnings("ignore", message=".*TensorFloat32", category=UserWarning)
    return torch.compile(eager(model), fullgraph=True, dynamic=False)


VARIANTS: tuple[Variant, ...] = (
    Variant("baseline", "FP32, eager, TF32 off", "float32", eager),
    Variant("fp16", "FP16, eager", "float16", eager),
    Variant("compiled", "FP32, torch.compile, TF32 off", "float32", compiled),
)


def find_variant(name: str) -> Variant:
    """The variant of that name. Raises TracekitError, which lists all names, if there is none."""
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    names = ", ".join(variant.name for variant in VARIANTS)
    raise TracekitError(f"no such variant as {name!r}", where="--variant", mend=f"use one of {names}")
