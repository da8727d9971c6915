"""What does the datasheet of a GPU promise, and what was measured on such a GPU?"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tracekit.errors import TracekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PEAKS = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8")
"""The keys that `tflops` may have: one peak for each type of arithmetic."""

_MEND = "see tracekit/devices.toml for how an entry looks"


@dataclass(frozen=True)
class Measured:
    """What was measured on a device of this kind, and where. Projections use it. A figure that nobody measured is None.

    `memory_gb_s` is the rate of a copy, in 1e9 bytes a second. `gap_ns` is the time between two kernels that were both queued.
    `launch_ns` is the host's time from one launch to the next.
    """

    memory_gb_s: float | None = None
    memory_source: str = ""
    gap_ns: int | None = None
    launch_ns: int | None = None
    launch_source: str = ""


@dataclass(frozen=True)
class Datasheet:
    """A GPU's peaks as its maker states them: memory in 1e9 bytes a second, arithmetic in 1e12 operations a second.

    `cache_mb` is the size of the last cache before the memory, in units of 2^20 bytes. `bus_gb_s` is what the bus to the host
    moves one way, in 1e9 bytes a second.
    """

    name: str
    match: str
    architecture: str
    compute_capability: str
    memory_gb_s: float
    source: str
    cache_mb: float | None = None
    bus_gb_s: float | None = None
    tflops: Mapping[str, float] = field(default_factory=dict)
    measured: Measured = Measured()


@cache
def datasheets() -> tuple[Datasheet, ...]:
    """All entries of `devices.toml`, in the order of the file."""
    text = resources.files("tracekit").joinpath("devices.toml").read_text(encoding="utf-8")
    return _parse(text, "devices.toml")


def load_datasheets(user_file: Path | None) -> tuple[Datasheet, ...]:
    """The built-in entries, with the user's own before them. Raises TracekitError if the file is not such a table."""
    if user_file is None:
        return datasheets()
    try:
        text = user_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise TracekitError(f"cannot be read ({reason})", where=user_file, mend="name a TOML file of devices") from error
    return (*_parse(text, user_file), *datasheets())


def find_datasheet(device_name: str, sheets: Sequence[Datasheet] | None = None) -> Datasheet | None:
    """The first entry whose pattern matches the name that PyTorch gives a device.

    None if no entry matches: nothing is guessed about an unknown device.
    """
    known = datasheets() if sheets is None else sheets
    return next((sheet for sheet in known if re.search(sheet.match, device_name, re.IGNORECASE)), None)


def choose_datasheet(wanted: str, sheets: Sequence[Datasheet]) -> Datasheet:
    """The entry that a user means by a text such as `T4`, `RTX 3090` or `H100 (SXM)`.

    The patterns of the entries are tried first, then the words of their names. Raises TracekitError if no entry or several
    match.
    """
    found = find_datasheet(wanted, sheets)
    if found is not None:
        return found
    words = rf"(?<!\w){re.escape(wanted.strip())}(?!\w)"
    named = [sheet for sheet in sheets if wanted.strip() and re.search(words, sheet.name, re.IGNORECASE)]
    if len(named) == 1:
        return named[0]
    names = ", ".join(sheet.name for sheet in named or sheets)
    what = "may mean several devices" if named else "is no device that we have figures of"
    raise TracekitError(f"{wanted!r} {what}", mend=f"name one of {names}, or add yours with --device-table")


def _parse(text: str, where: object) -> tuple[Datasheet, ...]:
    try:
        entries = tomllib.loads(text).get("device")
    except tomllib.TOMLDecodeError as error:
        raise TracekitError(f"is not valid TOML ({error})", where=where, mend=_MEND) from error
    if not isinstance(entries, list) or not entries:
        raise TracekitError("has no [[device]] entry", where=where, mend=_MEND)
    return tuple(_datasheet(entry, f"{where}, device {number}") for number, entry in enumerate(entries, 1))


def _datasheet(entry: Any, where: str) -> Datasheet:
    """One entry, checked: nothing is missing and every value is plausible. Raises TracekitError if that is not so."""
    try:
        sheet = Datasheet(**{**entry, "measured": Measured(**entry.get("measured", {}))})
        re.compile(sheet.match)
    except (TypeError, AttributeError, re.error) as error:
        raise TracekitError(f"is not a device entry ({error})", where=where, mend=_MEND) from error
    texts = (sheet.name, sheet.match, sheet.architecture, sheet.compute_capability, sheet.source)
    if not all(isinstance(text, str) and text for text in texts):
        raise TracekitError("has an empty text, or none where one must be", where=where, mend=_MEND)
    if not isinstance(sheet.tflops, dict) or not sheet.tflops.keys() <= set(PEAKS):
        raise TracekitError(f"may have tflops of {', '.join(PEAKS)} only", where=where, mend=_MEND)
    measured = sheet.measured
    given = (sheet.memory_gb_s, *sheet.tflops.values())
    optional = (sheet.cache_mb, sheet.bus_gb_s, measured.memory_gb_s, measured.gap_ns, measured.launch_ns)
    numbers = (*given, *(value for value in optional if value is not None))
    if not all(type(value) in (int, float) and 0 < value < float("inf") for value in numbers):
        raise TracekitError("has a figure that is no number above 0", where=where, mend=_MEND)
    return sheet
