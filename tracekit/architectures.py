"""What does a multiprocessor of a compute capability hold, and which instructions does it know?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tracekit.errors import TracekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Capability = tuple[int, int]


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has at once, as NVIDIA documents it; the fields are explained in `architectures.toml`."""

    compute_capability: str
    name: str
    example: str
    warps: int
    blocks: int
    registers: int
    shared_bytes: int
    shared_bytes_block: int
    shared_bytes_reserved: int
    shared_unit: int

    @property
    def capability(self) -> Capability:
        """The compute capability as two numbers, which compare as they should."""
        return capability(self.compute_capability)


@dataclass(frozen=True)
class Instruction:
    """A PTX instruction, what it is for, and the compute capability from which on it exists."""

    name: str
    ptx: str
    purpose: str
    since: str

    def known_to(self, found: Capability) -> bool:
        """Whether devices of this capability have it."""
        return found >= capability(self.since)


def capability(text: str) -> Capability:
    """`7.5` as (7, 5)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def multiprocessors() -> tuple[Multiprocessor, ...]:
    """All that are known, oldest first."""
    return tuple(Multiprocessor(**entry) for entry in _document()["multiprocessor"])


def multiprocessor(found: Capability) -> Multiprocessor:
    """The one of this capability. Raises TracekitError if its limits are not known: none of another would do."""
    for one in multiprocessors():
        if one.capability == found:
            return one
    known = ", ".join(one.compute_capability for one in multiprocessors())
    raise TracekitError(f"the limits of compute capability {found[0]}.{found[1]} are not known", mend=f"known are {known}")


def instructions() -> tuple[Instruction, ...]:
    """What FlashAttention is made of, oldest first."""
    return tuple(Instruction(**entry) for entry in _document()["instruction"])


@cache
def _document() -> dict[str, Any]:
    text = resources.files("tracekit").joinpath("architectures.toml").read_text(encoding="utf-8")
    document: dict[str, Any] = tomllib.loads(text)
    return document
