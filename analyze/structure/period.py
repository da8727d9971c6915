"""Where does a sequence of kernels repeat?

A name that occurs once in each repetition cuts the sequence into equal pieces. Rare names are tried first: a kernel that runs
once a step (an embedding, a sampler) is rarer than one that runs once a layer. A name that runs only in every second or third
step cuts pieces that are several steps long. They consist of one smaller piece, several times over, and are rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Floats, Int64s
from ..trace.group import group

MIN_REPEATS = 3
"""The least number of pieces. Fewer may be alike by chance."""
MIN_LENGTH = 4
"""The least length of a piece. A shorter one is a loop over a kernel, not a step of a model."""
SAME_NAMES = 0.9
"""The share of names, place by place, in which a piece must equal the typical one. A library may choose a kernel by shape."""
SOME_NAMES = 0.5
"""The share of names in which the first repetition must equal the typical one. Pieces before it are not repetitions."""
SAME_PIECES = 0.8
"""The share of the pieces that must be like the typical one."""
COVERED = 0.5
"""The least `confidence` of a period. Its first repetition must also begin in the first half of the sequence."""
TRIED = 32
"""How many of the rarest names are tried."""


@dataclass(frozen=True)
class Period:
    """Repetitions in a sequence.

    `starts` has the place where each repetition starts, in order; `length` is the typical length. `confidence` is the share of
    places, from the first start on, whose name equals that of the typical repetition. `nested` says whether something repeats
    inside a repetition, as the layers of a model do inside a step.
    """

    starts: Int64s
    length: int
    confidence: float
    nested: bool


def period(names: Int64s, idle_before: Int64s) -> Period | None:
    """The repetitions of a sequence of name codes, or None.

    The start of a repetition is ambiguous. The kernel with most idle time before it is chosen.
    """
    by_name = group(names)
    places = np.split(np.argsort(by_name.code, kind="stable"), np.cumsum(by_name.count)[:-1]) if len(names) else []
    often = np.flatnonzero(by_name.count >= MIN_REPEATS)
    rare_first = often[np.argsort(by_name.count[often], kind="stable")][:TRIED]
    for candidate in rare_first.tolist():
        length = _length(places[candidate])
        typical = _typical(by_name.code, places[candidate], length)
        if typical is None or _is_multiple(typical):
            continue
        anchor = _begins(by_name.code, places[candidate], typical, idle_before)
        found = _repeats(by_name.code, places[anchor], length)
        if found is not None and found.confidence >= COVERED and 2 * int(found.starts[0]) <= len(names):
            return found
    return None


def _repeats_inside(typical: Int64s) -> bool:
    """Whether smaller repetitions cover at least half of a repetition."""
    inside = period(typical, np.zeros(len(typical), dtype=np.int64))
    return inside is not None and 2 * len(inside.starts) * inside.length >= len(typical)


def _length(at: Int64s) -> int:
    """The lower median of the distances between neighbouring places."""
    distances = np.sort(np.diff(at))
    return int(distances[(len(distances) - 1) // 2])


def _pieces(codes: Int64s, at: Int64s, length: int) -> Int64s:
    """The pieces of this length that begin at these places, one in each row. Pieces that reach beyond the end are left out."""
    at = at[at + length <= len(codes)]
    found: Int64s = codes[at[:, None] + np.arange(length)]
    return found


def _typical(codes: Int64s, at: Int64s, length: int) -> Int64s | None:
    """The typical piece: one that at least `SAME_PIECES` of the pieces between neighbouring places are like, or None."""
    if length < MIN_LENGTH:
        return None
    exact = at[:-1][np.diff(at) == length]
    if not len(exact):  # `length` comes from the places of another name
        return None
    typical: Int64s = codes[int(exact[len(exact) // 2]) + np.arange(length)]
    alike = _alike(codes, at[:-1][_about(np.diff(at), length)], typical) >= SAME_NAMES
    return typical if alike.sum() >= SAME_PIECES * (len(at) - 1) else None


def _about(distance: Int64s, length: int) -> Bools:
    """For each distance, whether it is between two thirds and three halves of the typical length."""
    close: Bools = (3 * distance >= 2 * length) & (2 * distance <= 3 * length)
    return close


def _alike(codes: Int64s, at: Int64s, typical: Int64s) -> Floats:
    """For each piece that begins at these places and fits, the share of its names that equal those of the typical piece."""
    share: Floats = (_pieces(codes, at, len(typical)) == typical).mean(axis=1)
    return share


def _is_multiple(typical: Int64s) -> bool:
    """Whether the piece is probably several steps long: the counts of all names but the first have a common divisor above 1.

    The first name cut the sequence into pieces and is not counted.
    """
    rest = np.unique(typical[typical != typical[0]], return_counts=True)[1]
    return bool(np.gcd.reduce(rest) > 1) if len(rest) else False


def _begins(codes: Int64s, at: Int64s, typical: Int64s, idle_before: Int64s) -> int:
    """The name at which a repetition begins: the one with the longest median idle time before it.

    Only names that occur once in the typical piece are considered.
    """
    first, count = np.unique(typical, return_index=True, return_counts=True)[1:]
    once = np.sort(first[count == 1])
    at = at[at + len(typical) <= len(codes)]
    idle = np.median(idle_before[at[:, None] + once[None, :]], axis=0)
    return int(typical[once[int(np.argmax(idle))]])


def _repeats(codes: Int64s, at: Int64s, length: int) -> Period | None:
    """The repetitions that begin at these places and are about as long as the typical piece; None if they are too few."""
    last = len(codes) - int(at[-1])
    starts = at[_about(np.append(np.diff(at), min(last, length)), length)]
    typical = _typical(codes, at, length)
    if typical is None:
        return None
    # A piece of about this length but with other kernels, before the first repetition, is no repetition. It may be a prefill.
    starts = starts[int(np.argmax(_alike(codes, starts, typical) >= SOME_NAMES)) :]
    if len(starts) < MIN_REPEATS:
        return None
    same = (_pieces(codes, starts, length) == typical).sum()
    return Period(starts, length, float(same / (len(codes) - int(starts[0]))), _repeats_inside(typical))
