"""How does a figure read?

The same at a terminal, in Markdown, in a finding and in the report: three significant digits, in the largest unit of which at
least one is shown, so that 999,600 ns is `1.00 ms` and not `1,000 µs`. What is not known is a dash. Only a plain space stands
between a figure and its unit: such texts are searched and put into JSON; the report binds the two itself.
"""

from __future__ import annotations

import json
import math
from numbers import Real
from typing import Any, TypeGuard

MISSING = "–"
MINUS = "−"

Figure = float | None
"""What a function of this module shows; None, NaN and infinities are not known."""
_Units = tuple[tuple[float, str], ...]

_DURATIONS: _Units = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES: _Units = ((1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_BINARY_SIZES: _Units = ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"))
_OPERATIONS: _Units = ((1, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"))


# --- Times ---------------------------------------------------------------------------------------------------------


def duration(nanoseconds: Figure) -> str:
    """`84_312_000` as `84.3 ms`."""
    return _scaled(nanoseconds, _DURATIONS)


def signed_duration(nanoseconds: Figure) -> str:
    """A change, with its sign if there is any: `+84.3 ms`."""
    return _signed(nanoseconds, duration(nanoseconds))


def durations(low: Figure, high: Figure, between: str) -> str:
    """Two durations, the unit once where both have it: `588 to 624 ms`."""
    first, second = duration(low), duration(high)
    figure, _, unit = first.partition(" ")
    return f"{figure if unit and second.endswith(f' {unit}') else first} {between} {second}"


def duration_unit(nanoseconds: float) -> tuple[float, str]:
    """The unit that a duration is shown in, as ns and as a word: for an axis whose largest value it is."""
    return _unit(abs(nanoseconds), _DURATIONS)


# --- Bytes, work and rates -----------------------------------------------------------------------------------------


def size(count: Figure) -> str:
    """Bytes in decimal units, as rates are quoted: `6_300_000` as `6.30 MB`."""
    return _scaled(count, _SIZES)


def binary_size(count: Figure) -> str:
    """Bytes of on-chip or device memory, which comes in powers of two: `49_152` as `48.0 KiB`."""
    return _scaled(count, _BINARY_SIZES)


def operations(count: Figure) -> str:
    """Floating-point operations: `6_300_000` as `6.30 MFLOP`."""
    return _scaled(count, _OPERATIONS)


def rate(count: Figure, nanoseconds: Figure) -> str:
    """Bytes over a time: `12.3 GB/s`."""
    if not is_number(count) or not is_number(nanoseconds) or not count or not nanoseconds:
        return MISSING
    return size(count / nanoseconds * 1e9) + "/s"


def quantity(value: Figure, unit: str) -> str:
    """A figure in the one unit that its kind is always told in: `1_655.3` as `1,660 tokens/s`."""
    return f"{three_digits(value)} {unit}" if is_number(value) else MISSING


# --- Shares and factors --------------------------------------------------------------------------------------------


def percent(share: Figure, digits: int = 1) -> str:
    """A share of 1: `0.0567` as `5.7 %`. Nothing but nothing reads `0 %`, and nothing but all reads `100 %`."""
    if not is_number(share):
        return MISSING
    value, least = abs(share) * 100, 10.0**-digits
    sign = MINUS if share < 0 else ""
    if value in (0, 100):
        return f"{sign}{value:.0f} %"
    if value < least:
        return f"{sign}<{least:.{digits}f} %"
    if 100 - least < value < 100:
        return f"{sign}>{100 - least:.{digits}f} %"
    return f"{sign}{value:,.{digits}f} %"


def signed_percent(share: Figure) -> str:
    """A change as a share, with its sign if there is any: `+5.7 %`, `−<0.1 %`."""
    return _signed(share, percent(share))


def rough_percent(share: Figure) -> str:
    """A share for running text: whole per cents from ten on, one decimal below and above ninety-nine."""
    return percent(share, 0 if is_number(share) and 0.1 <= share <= 0.99 else 1)


def exact_percent(share: float) -> str:
    """A share that somebody chose, such as a limit, as it was written: `5 %`, `0.25 %`."""
    return f"{100 * share:g} %"


def ratio(value: Figure) -> str:
    """A factor: `1.8` as `1.80×`."""
    return f"{three_digits(value)}×" if is_number(value) else MISSING


# --- Counts and bare numbers ---------------------------------------------------------------------------------------


def number(value: Figure) -> str:
    """A count, never rounded; an average of counts with three digits at most, or one after the point where that is more."""
    if not is_number(value):
        return MISSING
    if value != int(value) and abs(value) < 10:
        return three_digits(value).rstrip("0").rstrip(".")
    text = f"{abs(int(value)):,}" if value == int(value) else f"{abs(value):,.1f}"
    return f"{MINUS if value < 0 else ''}{text}"


def counted(count: Figure, one: str, many: str | None = None) -> str:
    """A count and its noun: `1 copy`, `0 copies`, `1,208 copies`; without `many` the plural is formed by an s."""
    return f"{number(count)} {form(count, one, many)}"


def form(count: Figure, one: str, many: str | None = None) -> str:
    """The word that goes with a count, a noun or a verb: `one` with what reads 1, `many` (or `one` and an s) with all else."""
    return one if number(count) == "1" else f"{one}s" if many is None else many


def millions(count: Figure) -> str:
    """A large count, roughly: `124_439_808` as `124 M`."""
    return f"{three_digits(count / 1e6)} M" if is_number(count) else MISSING


def scientific(value: Figure) -> str:
    """A small number whose order of magnitude counts: `1.2e-7`."""
    if not is_number(value):
        return MISSING
    if value == 0:
        return "0"
    return _scientific(value, 1).replace(".0e", "e")


def _scientific(value: float, decimals: int) -> str:
    digits, power = f"{value:.{decimals}e}".split("e")
    return f"{digits}e{int(power)}"


def three_digits(value: Figure) -> str:
    """Three significant digits, thousands separated; below a thousandth as `2.83e-7`."""
    if not is_number(value):
        return MISSING
    if value == 0:
        return "0"
    # Round first: 99.96 has two digits before the point but must read 100, not 100.0.
    rounded = float(f"{abs(float(value)):.3g}")
    digits = max(0, 2 - math.floor(math.log10(rounded)))
    text = f"{rounded:,.{digits}f}" if rounded >= 1e-3 else _scientific(rounded, 2)
    return f"{MINUS if value < 0 else ''}{text}"


def is_number(value: object) -> TypeGuard[float]:
    """False for None, NaN, infinities, flags and whatever else a column of numbers may hold."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


# --- Shapes --------------------------------------------------------------------------------------------------------


def shapes(recorded: str) -> str:
    """The shapes of tensors as recorded, `[9, 768], [768], []`, as `9×768, 768, scalar`; text that is none as it is.

    A list of tensors within gives its tensors' shapes.
    """
    try:
        return ", ".join(_shape_texts(json.loads(f"[{recorded}]")))
    except (ValueError, RecursionError):
        return recorded


def _shape_texts(found: list[Any]) -> list[str]:
    texts: list[str] = []
    for shape in found:
        if not isinstance(shape, list):
            raise ValueError("a size outside of a shape")
        if all(type(side) is int for side in shape):
            texts.append("×".join(map(str, shape)) or "scalar")
        else:
            texts += _shape_texts(shape)
    return texts


# --- Units ---------------------------------------------------------------------------------------------------------


def _scaled(value: Figure, units: _Units) -> str:
    if not is_number(value):
        return MISSING
    factor, unit = _unit(abs(value), units)
    # The smallest unit counts indivisible things.
    if factor == 1 and value == int(value):
        return f"{number(value)} {unit}"
    return f"{three_digits(value / factor)} {unit}"


def _unit(value: float, units: _Units) -> tuple[float, str]:
    """The largest unit of which the value is at least one, or is once it is rounded."""
    chosen = units[0]
    for unit in units[1:]:
        rounded = float(f"{float(value) / chosen[0]:.3g}") * chosen[0]
        if max(value, rounded) < unit[0]:
            break
        chosen = unit
    return chosen


def _signed(value: Figure, text: str) -> str:
    return f"+{text}" if is_number(value) and value > 0 else text
