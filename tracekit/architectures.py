"""What are the limits of a multiprocessor, by compute capability, and which instructions does it have?"""

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
    """The limits of a multiprocessor, as NVIDIA documents them. `architectures.toml` explains the fields."""

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
        """The compute capability as two numbers, so that a comparison gives the right order."""
        return capability(self.compute_capability)


@dataclass(frozen=True)
class Instruction:
    """A PTX instruction, its purpose, and the first compute capability that has it."""

    name: str
    ptx: str
    purpose: str
    since: str

    def known_to(self, found: Capability) -> bool:
        """Whether devices of this compute capability have the instruction."""
        return found >= capability(self.since)


def capability(text: str) -> Capability:
    """A compute capability as two numbers: `7.5` becomes (7, 5)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def multiprocessors() -> tuple[Multiprocessor, ...]:
    """All multiprocessors that we know, in the order of `architectures.toml`, oldest first."""
    return tuple(Multiprocessor(**entry) for entry in _document()["multiprocessor"])


def multiprocessor(found: Capability) -> Multiprocessor:
    """The multiprocessor of this compute capability.

    Raises TracekitError if its limits are not known; those of another one would be wrong.
    """
    for one in multiprocessors():
        if one.capability == found:
            return one
    known = ", ".join(one.compute_capability for one in multiprocessors())
    raise TracekitError(f"the limits of compute capability {found[0]}.{found[1]} are not known", mend=f"known are {known}")


def instructions() -> tuple[Instruction, ...]:
    """The instructions that FlashAttention is made of, oldest first."""
    return tuple(Instruction(**entry) for entry in _document()["instruction"])


@cache
def _document() -> dict[str, Any]:
    text = resources.files("tracekit").joinpath("architectures.toml").read_text(encoding="utf-8")
    document: dict[str, Any] = tomllib.loads(text)
    return document
