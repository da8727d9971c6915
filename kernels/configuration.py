"""Which CUDA sources are there, and what is each compiled with?

A module that launches kernels declares beside its launches, as CONFIGURATIONS, the macros that matter of those it may ever
compile with: the model's sizes, the smallest and largest batch, every branch. The tests compile them all for each
architecture, and `python -m tracekit.kernels` prints what they take.
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
    """A source and the macros it is compiled with, and the least capability that it is ever compiled for.

    `dynamic_shared` are the bytes of dynamic shared memory of a block, by kernel, where a launch asks for any.
    """

    source: str
    macros: Mapping[str, int]
    capability: Capability = CAPABILITY
    dynamic_shared: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((self.source, *(f"{name}={value}" for name, value in self.macros.items())))


def declared() -> tuple[Configuration, ...]:
    """What all modules of this room declare, by source. Raises ImportError without torch, which they need."""
    found: list[Configuration] = []
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__, f"{__package__}."):
        if not module.name.endswith(".__main__"):
            found += getattr(importlib.import_module(module.name), "CONFIGURATIONS", ())
    return tuple(sorted(found, key=lambda one: one.source))
