"""How is a figure written?

A terminal, Markdown, findings and the report write figures in the same way: with three significant digits, in the largest unit
that gives at least one. So 999,600 ns is `1.00 ms`, not `1,000 µs`. A value that is not known is a dash. A plain space stands
between a figure and its unit, because such texts are searched and put into JSON. The report replaces it by one that does not
break.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeGuard

MISSING = "–"
MINUS = "−"

Figure = float | None
"""A value that a function of this module shows. None, NaN and infinities count as not known."""
_Units = tuple[tuple[float, str], ...]

_DURATIONS: _Units = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES: _Units = ((1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_BINARY_SIZES: _Units = ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"))
_OPERATIONS: _Units = ((1, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"))


# --- Times ---------------------------------------------------------------------------------------------------------


def duration(nanoseconds: Figure) -> str:
    """A time in ns: `84_312_000` becomes `84.3 ms`."""
    return _scaled(nanoseconds, _DURATIONS)


def signed_duration(nanoseconds: Figure) -> str:
    """A change in ns with its sign; 0 has none: `+84.3 ms`."""
    return _signed(nanoseconds, duration(nanoseconds))


def durations(low: Figure, high: Figure, between: str) -> str:
    """Two durations in ns. The unit stands once if both have the same: `588 to 624 ms`."""
    first, second = duration(low), duration(high)
    figure, _, unit = first.partition(" ")
    return f"{figure if unit and second.endswith(f' {unit}') else first} {between} {second}"


def with_interval(median: Figure, low: Figure, high: Figure, show: Callable[[Figure], str] = duration) -> str:
    """A median and its interval: `4.61 [4.54, 4.95] ms`. If both ends read like the median, it stands alone.

    `show` writes one figure. The unit stands once if all three have the same.
    """
    texts = [show(median), show(low), show(high)]
    if len(set(texts)) == 1:
        return texts[0]
    figures, units = zip(*((text.partition(" ")[0], text.partition(" ")[2]) for text in texts), strict=True)
    if len(set(units)) > 1:
        return f"{texts[0]} [{texts[1]}, {texts[2]}]"
    return f"{figures[0]} [{figures[1]}, {figures[2]}] {units[0]}".rstrip()


def duration_unit(nanoseconds: float) -> tuple[float, str]:
    """The unit in which a duration is shown, as a number of ns and as a word.

    It serves an axis whose largest value is this duration.
    """
    return _unit(abs(nanoseconds), _DURATIONS)


# --- Bytes, work and rates -----------------------------------------------------------------------------------------


def size(count: Figure) -> str:
    """A number of bytes in decimal units, like rates: `6_300_000` becomes `6.30 MB`."""
    return _scaled(count, _SIZES)


def binary_size(count: Figure) -> str:
    """A number of bytes of on-chip or device memory, in powers of two: `49_152` becomes `48.0 KiB`."""
    return _scaled(count, _BINARY_SIZES)


def operations(count: Figure) -> str:
    """A number of floating-point operations: `6_300_000` becomes `6.30 MFLOP`."""
    return _scaled(count, _OPERATIONS)


def rate(count: Figure, nanoseconds: Figure) -> str:
    """Bytes over a time in ns: `12.3 GB/s`."""
    if not is_number(count) or not is_number(nanoseconds) or not count or not nanoseconds:
        return MISSING
    return size(count / nanoseconds * 1e9) + "/s"


def quantity(value: Figure, unit: str) -> str:
    """A figure of a kind that always has the same unit: `1_655.3` becomes `1,660 tokens/s`."""
    return f"{three_digits(value)} {unit}" if is_number(value) else MISSING


# --- Shares and factors --------------------------------------------------------------------------------------------


def percent(share: Figure, digits: int = 1) -> str:
    """A share of 1: `0.0567` becomes `5.7 %`.

    Only exactly nothing reads `0 %`, and only exactly all reads `100 %`.
    """
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
    """A change as a share, with its sign; 0 has none: `+5.7 %`, `−<0.1 %`."""
    return _signed(share, percent(share))


def rough_percent(share: Figure) -> str:
    """A share for running text: whole per cent from 10 to 99, one decimal below 10 and above 99."""
    return percent(share, 0 if is_number(share) and 0.1 <= share <= 0.99 else 1)


def exact_percent(share: float) -> str:
    """A share that somebody chose, such as a limit, as they wrote it: `5 %`, `0.25 %`."""
    return f"{100 * share:g} %"


def ratio(value: Figure) -> str:
    """A factor: `1.8` becomes `1.80×`."""
    return f"{three_digits(value)}×" if is_number(value) else MISSING


# --- Counts and bare numbers ---------------------------------------------------------------------------------------


def number(value: Figure) -> str:
    """A count, which is never rounded.

    An average of counts has at most three digits, or one digit after the point if that is more.
    """
    if not is_number(value):
        return MISSING
    if value != int(value) and abs(value) < 10:
        return three_digits(value).rstrip("0").rstrip(".")
    text = f"{abs(int(value)):,}" if value == int(value) else f"{abs(value):,.1f}"
    return f"{MINUS if value < 0 else ''}{text}"


def counted(count: Figure, one: str, many: str | None = None) -> str:
    """A count and its noun: `1 copy`, `0 copies`, `1,208 copies`. Without `many`, the plural is `one` with an s."""
    return f"{number(count)} {form(count, one, many)}"


def form(count: Figure, one: str, many: str | None = None) -> str:
    """The form of a noun or a verb that goes with a count: `one` if the count reads 1, else `many`.

    Without `many`, that is `one` with an s.
    """
    return one if number(count) == "1" else f"{one}s" if many is None else many


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names and how many more there are: `a, b, c and 2 more`."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {number(rest)} more" if rest > 0 else "")


def millions(count: Figure) -> str:
    """A large count in millions: `124_439_808` becomes `124 M`."""
    return f"{three_digits(count / 1e6)} M" if is_number(count) else MISSING


def scientific(value: Figure) -> str:
    """A small number of which only the order of magnitude matters: `1.2e-7`."""
    if not is_number(value):
        return MISSING
    if value == 0:
        return "0"
    return _scientific(value, 1).replace(".0e", "e")


def _scientific(value: float, decimals: int) -> str:
    digits, power = f"{value:.{decimals}e}".split("e")
    return f"{digits}e{int(power)}"


def three_digits(value: Figure) -> str:
    """A number with three significant digits and thousands separated. Below a thousandth it reads `2.83e-7`."""
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
    """Whether the value is a finite number. False for None, NaN, infinities, booleans and anything else."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


# --- Shapes --------------------------------------------------------------------------------------------------------


def shapes(recorded: str) -> str:
    """The shapes of tensors: the recorded `[9, 768], [768], []` becomes `9×768, 768, scalar`.

    A list of tensors gives the shapes of its tensors. Any other text is returned as it is.
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
    # The smallest unit counts things that cannot be divided, so a whole value is shown exactly.
    if factor == 1 and value == int(value):
        return f"{number(value)} {unit}"
    return f"{three_digits(value / factor)} {unit}"


def _unit(value: float, units: _Units) -> tuple[float, str]:
    """The largest unit in which the value is at least one, or becomes one when it is rounded."""
    chosen = units[0]
    for unit in units[1:]:
        rounded = float(f"{float(value) / chosen[0]:.3g}") * chosen[0]
        if max(value, rounded) < unit[0]:
            break
        chosen = unit
    return chosen


def _signed(value: Figure, text: str) -> str:
    return f"+{text}" if is_number(value) and value > 0 else text
