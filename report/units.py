"""How does a quantity read best? Three significant digits and the unit that fits."""

from __future__ import annotations

import math
from typing import TypeGuard

MISSING = "–"
NBSP = "\u00a0"

_TIME_UNITS = ((1e0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_BYTE_UNITS = ((1e0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_BINARY_UNITS = ((1.0, "B"), (1024.0, "KiB"), (1024.0**2, "MiB"), (1024.0**3, "GiB"))


def duration(nanoseconds: float | None) -> str:
    """`84_312_000` as `84.3 ms`."""
    return _scaled(nanoseconds, _TIME_UNITS)


def durations(low: float, high: float, between: str) -> str:
    """Two durations, the unit once where both have it: `588 to 624 ms`."""
    first, second = duration(low), duration(high)
    value, found, unit = first.partition(NBSP)
    return f"{value if found and second.endswith(f'{NBSP}{unit}') else first} {between} {second}"


def size(count: float | None) -> str:
    """Bytes in decimal units, as rates are quoted: `6_300_000` as `6.30 MB`."""
    return _scaled(count, _BYTE_UNITS)


def binary_size(count: float | None) -> str:
    """Bytes of on-chip or device memory, which comes in powers of two: `49_152` as `48.0 KiB`."""
    return _scaled(count, _BINARY_UNITS)


def rate(count: float | None, nanoseconds: float | None) -> str:
    """Bytes over a time: `12.3 GB/s`."""
    if not is_number(count) or not is_number(nanoseconds) or not count or not nanoseconds:
        return MISSING
    return size(count / nanoseconds * 1e9) + "/s"


def number(value: float | None) -> str:
    """A count with thousands separated: `216092` as `216,092`."""
    if not is_number(value):
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def ratio(value: float | None) -> str:
    """A factor: `1.8` as `1.80×`."""
    return f"{three_digits(value)}×" if is_number(value) else MISSING


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1: `0.0567` as `5.7 %`. Nothing but nothing reads `0 %`, and nothing but all reads `100 %`."""
    if not is_number(share):
        return MISSING
    if share == 0 or share == 1:
        return f"{share * 100:.0f}{NBSP}%"
    value, least = share * 100, 10.0**-digits
    if 0 < value < least:
        return f"<{least:.{digits}f}{NBSP}%"
    if 100 - least < value < 100:
        return f">{100 - least:.{digits}f}{NBSP}%"
    return f"{value:.{digits}f}{NBSP}%"


def rough_percent(share: float | None) -> str:
    """A share for running text: whole per cents from ten on, one decimal below and above ninety-nine."""
    if is_number(share) and 0.1 <= share <= 0.99:
        return percent(share, 0)
    return percent(share, 1)


def three_digits(value: float) -> str:
    """Three significant digits, never in scientific notation; thousands separated."""
    if value == 0:
        return "0"
    # Round first: 99.96 has two digits before the point but must read 100, not 100.0.
    rounded = float(f"{value:.3g}")
    digits = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, digits)}f}"


def is_number(value: object) -> TypeGuard[float]:
    """False for None, NaN, infinities, flags and whatever else a column of numbers may hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _scaled(value: float | None, units: tuple[tuple[float, str], ...]) -> str:
    if not is_number(value):
        return MISSING
    if value == 0:
        return "0"
    # The smallest unit counts indivisible things.
    if abs(value) < units[1][0] and float(value).is_integer() and abs(value) < 1000:
        return f"{value:.0f}{NBSP}{units[0][1]}"
    chosen = units[0]
    for factor, unit in units:
        # Compare what will be shown, so that 999,600 ns becomes 1.00 ms and not 1,000 µs.
        if abs(float(f"{value:.3g}")) >= factor:
            chosen = (factor, unit)
    return f"{three_digits(value / chosen[0])}{NBSP}{chosen[1]}"
