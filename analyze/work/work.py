"""What is the work of an operator: how much arithmetic, and how many bytes must at least move?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .call import FP64, DType, OperatorCall, TensorInput

MATRIX_PEAKS = frozenset({"fp64", "fp32", "fp16", "bf16", "fp8", "int8"})


@dataclass(frozen=True)
class Work:
    """FLOPs (None if only the bytes are known), bytes, and the datasheet's peak with which the FLOPs are compared.

    The bytes are a minimum: every input is read once and every output is written once, as if the caches lost nothing.
    """

    flops: int | None
    bytes: int
    peak: str


Formula = Callable[[OperatorCall], Work]
"""A function that returns a call's work. It raises UnrecordedError if the trace records too little."""


def bytes_of(*tensors: TensorInput | None) -> int:
    """The bytes that reading these tensors moves."""
    return sum(tensor.bytes for tensor in tensors if tensor is not None)


def vector_peak(dtype: DType) -> str:
    """The peak with which arithmetic outside matrix cores is compared. Half precision and integers count as FP32."""
    return "fp64" if dtype == FP64 else "fp32"
