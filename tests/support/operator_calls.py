"""Makes the inputs of an operator as the profiler records them, from one readable value for each argument.

    call("aten::addmm", t(3072), t(9, 768), t(768, 3072), 1, 1)
    builder.operator(0, 50, "aten::mm", **recorded(t(9, 768), t(768, 3072)))

`t(…)` stands for a tensor. A number or a bool stands for a scalar, and a list of these for a list of scalars. A list of tensors
stands for a list of tensors, and None for an argument that was left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tracekit.analyze.trace.trace import Signature
from tracekit.analyze.work.call import OperatorCall
from tracekit.analyze.work.formulas import work_of
from tracekit.analyze.work.work import Work

KEYS = ("Input Dims", "Input type", "Input Strides", "Concrete Inputs")


@dataclass(frozen=True)
class T:
    """A tensor as the profiler records it."""

    shape: tuple[int, ...]
    dtype: str = "float"
    strides: tuple[int, ...] | None = None

    @property
    def steps(self) -> list[int]:
        """The strides. If none are given, they are those of a contiguous tensor."""
        if self.strides is not None:
            return list(self.strides)
        steps, step = [], 1
        for size in reversed(self.shape):
            steps.append(step)
            step *= size
        return steps[::-1]


def t(*shape: int, dtype: str = "float", strides: tuple[int, ...] | None = None) -> T:
    return T(shape, dtype, strides)


def recorded(*arguments: Any) -> dict[str, list[Any]]:
    """The arguments of the operator's event, as Kineto writes them."""
    return dict(zip(KEYS, map(list, zip(*map(_argument, arguments), strict=True)), strict=True))


def _argument(value: Any) -> tuple[Any, str, Any, str]:
    if isinstance(value, T):
        return list(value.shape), value.dtype, value.steps, ""
    if isinstance(value, list) and any(isinstance(part, T) for part in value):
        return [list(part.shape) for part in value], "TensorList", [part.steps for part in value], ""
    if value is None:
        return [], "", [], ""
    return [], "ScalarList" if isinstance(value, list) else "Scalar", [], str(value)


def signature(*arguments: Any) -> Signature:
    """The inputs of an operator, as the loader keeps them."""
    dims, types, strides, values = (json.dumps(part).encode() for part in recorded(*arguments).values())
    return dims, types, strides, values


def call(name: str, *arguments: Any) -> OperatorCall:
    return OperatorCall.parse(name, signature(*arguments))


def work(name: str, *arguments: Any, list_item_bytes: int | None = None) -> Work | None:
    return work_of(name, signature(*arguments), list_item_bytes)
