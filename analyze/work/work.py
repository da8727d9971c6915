"""How much work is it: arithmetic, and bytes that must move at least?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .call import FP64, DType, OperatorCall, TensorInput

MATRIX_PEAKS = frozenset({"fp64", "fp32", "fp16", "bf16", "fp8", "int8"})


@dataclass(frozen=True)
class Work:
    """FLOPs (None where only the bytes are known), bytes, and the peak of a datasheet that the FLOPs are held against.

    The bytes are a minimum: every input read once, every output written once, as if the caches lost nothing.
    """

    flops: int | None
    bytes: int
    peak: str


Formula = Callable[[OperatorCall], Work]
"""A call's work. Raises UnrecordedError where the trace does not tell enough."""


def bytes_of(*tensors: TensorInput | None) -> int:
    """What reading these tensors moves."""
    return sum(tensor.bytes for tensor in tensors if tensor is not None)


def vector_peak(dtype: DType) -> str:
    """The peak that arithmetic outside matrix cores is held against: half precision and integers as fast as FP32."""
    return "fp64" if dtype == FP64 else "fp32"
