"""What was an operator called with, as far as the profiler recorded it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import msgspec

from ..trace.trace import Signature

Shape = tuple[int, ...]

LARGEST = 2**62
"""No dimension of a tensor is as long as this."""


class UnrecordedError(Exception):
    """The trace lacks something that a formula needs, or has something with which the operator cannot have been called."""


@dataclass(frozen=True)
class DType:
    """A type of elements. `name` is also the datasheet's peak for its matrix multiplies; `bytes` is the size of an element."""

    name: str
    bytes: int
    rank: int
    """Its place in type promotion. Of two types, the one with the higher rank is the type of the result."""

    @property
    def is_floating(self) -> bool:
        """Whether it is a floating-point type."""
        return self.rank >= _FLOATING


_FLOATING = 10
FP32 = DType("fp32", 4, 14)
FP64 = DType("fp64", 8, 15)
FP16 = DType("fp16", 2, 12)
BF16 = DType("bf16", 2, 13)
INT8 = DType("int8", 1, 2)
INT32 = DType("int32", 4, 4)
INT64 = DType("int64", 8, 5)
BOOL = DType("bool", 1, 0)

# The names of types in `Input type`, from PyTorch 1.10 to today. Complex types are left out, because their arithmetic differs.
DTYPES = {
    "bool": BOOL,
    "unsigned char": DType("uint8", 1, 1),
    "signed char": INT8,
    "short": DType("int16", 2, 3),
    "short int": DType("int16", 2, 3),
    "unsigned short": DType("uint16", 2, 3),
    "int": INT32,
    "unsigned int": DType("uint32", 4, 4),
    "long": INT64,
    "long int": INT64,
    "long long": INT64,
    "unsigned long": DType("uint64", 8, 5),
    "c10::Float8_e4m3fn": DType("fp8", 1, 10),
    "c10::Float8_e5m2": DType("fp8", 1, 10),
    "c10::Float8_e4m3fnuz": DType("fp8", 1, 10),
    "c10::Float8_e5m2fnuz": DType("fp8", 1, 10),
    "c10::Half": FP16,
    "c10::BFloat16": BF16,
    "float": FP32,
    "double": FP64,
}

# PyTorch's ScalarType numbers. A `dtype` argument is recorded as one of them.
SCALAR_TYPES = {
    "0": DTYPES["unsigned char"],
    "1": INT8,
    "2": DTYPES["short"],
    "3": INT32,
    "4": INT64,
    "5": FP16,
    "6": FP32,
    "7": FP64,
    "11": BOOL,
    "15": BF16,
    "23": DTYPES["c10::Float8_e5m2"],
    "24": DTYPES["c10::Float8_e4m3fn"],
    "25": DTYPES["c10::Float8_e5m2fnuz"],
    "26": DTYPES["c10::Float8_e4m3fnuz"],
}


@dataclass(frozen=True)
class TensorInput:
    """A tensor that was an input of an operator. The strides are in elements, or None if they were not recorded."""

    shape: Shape
    dtype: DType
    strides: Shape | None = None

    @property
    def elements(self) -> int:
        """The number of elements that the operator sees."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """The bytes that must be read. An expanded dimension (stride 0) lies in memory only once."""
        strides = self.strides or (1,) * len(self.shape)
        return prod(size for size, stride in zip(self.shape, strides, strict=True) if stride) * self.dtype.bytes

    @property
    def size(self) -> int:
        """The bytes that must be written to fill a tensor of this shape."""
        return self.elements * self.dtype.bytes


@dataclass(frozen=True)
class OperatorCall:
    """A call of an operator, as it was recorded. Each argument has dimensions, a type, strides and a value, as in the trace.

    The profiler does not record the type of tensors in lists. `list_item_bytes` is the size of their elements, if the name of
    the kernel that takes them says it, else None.
    """

    name: str
    dims: tuple[Any, ...]
    types: tuple[Any, ...]
    strides: tuple[Any, ...] = ()
    values: tuple[Any, ...] = ()
    list_item_bytes: int | None = None

    @classmethod
    def parse(cls, name: str, signature: Signature, list_item_bytes: int | None = None) -> OperatorCall:
        """The call that a trace's signature describes. Raises UnrecordedError if the signature is not valid."""
        dims, types, strides, values = map(_array, signature)
        return cls(name, dims, types, strides, values, list_item_bytes)

    def __len__(self) -> int:
        return len(self.types)

    def is_tensor(self, at: int) -> bool:
        """Whether this argument is a tensor of a known type."""
        return at < len(self.types) and isinstance(self.types[at], str) and self.types[at] in DTYPES

    def is_missing(self, at: int) -> bool:
        """Whether this argument was None or left out."""
        return at >= len(self.types) or self.types[at] == ""

    def tensor(self, at: int) -> TensorInput:
        """The tensor at this place. Raises UnrecordedError if there is none or its type is unknown."""
        if not self.is_tensor(at):
            raise UnrecordedError(f"argument {at} of {self.name} is no tensor of a known type")
        return TensorInput(_shape(_at(self.dims, at)), DTYPES[self.types[at]], self._strides(at))

    def optional(self, at: int) -> TensorInput | None:
        """The tensor at this place, or None if the argument is missing. Raises UnrecordedError if its type is unknown."""
        return None if self.is_missing(at) else self.tensor(at)

    def tensors(self) -> Iterator[TensorInput]:
        """All tensor arguments of known type, in order."""
        return (self.tensor(at) for at in range(len(self)) if self.is_tensor(at))

    def shapes(self, at: int) -> list[Shape]:
        """The shapes of a list of tensors. Raises UnrecordedError if they were not recorded."""
        listed = _at(self.dims, at)
        if _at(self.types, at) != "TensorList" or not isinstance(listed, list) or not listed:
            raise UnrecordedError(f"argument {at} of {self.name} is no list of recorded shapes")
        return [_shape(shape) for shape in listed]

    def has_list(self, at: int) -> bool:
        """Whether this argument is a list of at least one tensor."""
        return at < min(len(self.types), len(self.dims)) and self.types[at] == "TensorList" and bool(self.dims[at])

    def item_bytes(self) -> int:
        """The size in bytes of an element of the tensors in lists. Raises UnrecordedError if no kernel's name says it."""
        if self.list_item_bytes is None:
            raise UnrecordedError(f"the type of the tensors in {self.name}'s list is not recorded")
        return self.list_item_bytes

    def value(self, at: int) -> str:
        """The value of a scalar or list as text; empty for None. Raises UnrecordedError if it was not recorded."""
        found = _at(self.values, at)
        if not isinstance(found, str):
            raise UnrecordedError(f"the value of argument {at} of {self.name} is not recorded")
        return found

    def integers(self, at: int) -> Shape:
        """The value of an integer or of a list of integers such as `[1, 1]`. Raises UnrecordedError for other values."""
        text = self.value(at).strip("[]")
        try:
            return tuple(int(part) for part in text.split(",")) if text else ()
        except ValueError:
            raise UnrecordedError(f"{self.value(at)!r} is no list of integers") from None

    def integer(self, at: int) -> int:
        """The value of one integer. Raises UnrecordedError for other values."""
        found = self.integers(at)
        if len(found) != 1:
            raise UnrecordedError(f"{self.value(at)!r} is no integer")
        return found[0]

    def flags(self, at: int) -> tuple[bool, ...]:
        """The value of a bool or of a list of bools such as `[True, False]`. Raises UnrecordedError for other values."""
        parts = [part.strip() for part in self.value(at).strip("[]").split(",")]
        if not set(parts) <= {"True", "False"}:
            raise UnrecordedError(f"{self.value(at)!r} is no list of bools")
        return tuple(part == "True" for part in parts)

    def flag(self, at: int) -> bool:
        """The value of one bool. Raises UnrecordedError for other values."""
        return self.flags(at)[0]

    def _strides(self, at: int) -> Shape | None:
        if at >= len(self.strides):
            return None
        strides = self.strides[at]
        if not isinstance(strides, list) or len(strides) != len(_at(self.dims, at)):
            return None
        return tuple(stride if type(stride) is int else 1 for stride in strides)


def _array(text: bytes) -> tuple[Any, ...]:
    try:
        parsed = msgspec.json.decode(text) if text else []
    except (msgspec.DecodeError, RecursionError):
        parsed = None
    if not isinstance(parsed, list):
        raise UnrecordedError("an operator's inputs are no lists")
    return tuple(parsed)


def _at(values: tuple[Any, ...], at: int) -> Any:
    if at >= len(values):
        raise UnrecordedError(f"argument {at} is not recorded")
    return values[at]


def _shape(value: Any) -> Shape:
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size < LARGEST for size in value):
        raise UnrecordedError(f"{value!r} is no shape")
    return tuple(value)
