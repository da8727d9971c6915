"""What does the datasheet promise of a GPU?"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Datasheet:
    """A GPU's peaks as its maker quotes them: memory in 1e9 bytes a second, arithmetic in 1e12 operations a second."""

    name: str
    match: str
    architecture: str
    compute_capability: str
    memory_gb_s: float
    source: str
    tflops: Mapping[str, float] = field(default_factory=dict)


def datasheets() -> tuple[Datasheet, ...]:
    """All of `devices.toml`, in its order."""
    text = resources.files("tracekit").joinpath("devices.toml").read_text(encoding="utf-8")
    return tuple(Datasheet(**entry) for entry in tomllib.loads(text)["device"])


def find_datasheet(device_name: str) -> Datasheet | None:
    """The first entry that matches the name PyTorch gives a device, or None: an unknown device stays unknown."""
    return next((sheet for sheet in datasheets() if re.search(sheet.match, device_name, re.IGNORECASE)), None)
