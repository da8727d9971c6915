"""Which CUDA sources are there, and with which macros is each compiled?

A module that launches kernels declares CONFIGURATIONS beside its launches. They are the important ones of all sets of macros
that it may ever compile with: the model's sizes, the smallest and the largest batch, every branch. The tests compile all of
them for each architecture, and `python -m tracekit.kernels` prints what they take.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracekit.architectures import Capability

from .compile import CAPABILITY


@dataclass(frozen=True)
class Configuration:
    """A source, the macros that it is compiled with, and the lowest compute capability that it is ever compiled for.

    `dynamic_shared` gives the bytes of dynamic shared memory per block for each kernel whose launch asks for any.
    """

    source: str
    macros: Mapping[str, int]
    capability: Capability = CAPABILITY
    dynamic_shared: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((self.source, *(f"{name}={value}" for name, value in self.macros.items())))


def declared() -> tuple[Configuration, ...]:
    """The configurations of all modules of this room, sorted by source. Raises ImportError without torch, which they need."""
    found: list[Configuration] = []
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__, f"{__package__}."):
        if not module.name.endswith(".__main__"):
            found += getattr(importlib.import_module(module.name), "CONFIGURATIONS", ())
    return tuple(sorted(found, key=lambda one: one.source))
