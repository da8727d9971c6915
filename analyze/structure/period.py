"""Where does a sequence of kernels repeat?

A name that occurs once a repetition cuts the sequence into equal pieces. Rare names are tried first, as what is run once a step
(an embedding, a sampler) is rarer than what is run once a layer. Pieces made of the same smaller piece several times over are
no repetition: then the name that cut them is run every second or third step only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Floats, Int64s
from ..trace.group import group

MIN_REPEATS = 3
"""Fewer pieces may be alike by chance."""
MIN_LENGTH = 4
"""Shorter pieces are a loop over a kernel, not a step of a model."""
SAME_NAMES = 0.9
"""A repetition has this share of the names of the typical one, place by place: a kernel or two may be chosen by shape."""
SOME_NAMES = 0.5
"""What comes before the first that has this share of them is none."""
SAME_PIECES = 0.8
"""This share of the pieces must be repetitions."""
COVERED = 0.5
"""Of the sequence from the first repetition on, at least this share must be repetitions, and that from its first half on."""
TRIED = 32
"""So many rare names are tried."""


@dataclass(frozen=True)
class Period:
    """Repetitions in a sequence: the place where each starts, in order, the typical length, and how sure that is.

    `confidence` is the share of the places from the first start on that have the name of the typical repetition; `nested`,
    whether something repeats within that again, as the layers of a model do.
    """

    starts: Int64s
    length: int
    confidence: float
    nested: bool


def period(names: Int64s, idle_before: Int64s) -> Period | None:
    """The repetitions of a sequence of name codes, or None; each starts where there is most idle time before it, as a rule."""
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
    """Whether most of a repetition is made of smaller ones."""
    inside = period(typical, np.zeros(len(typical), dtype=np.int64))
    return inside is not None and 2 * len(inside.starts) * inside.length >= len(typical)


def _length(at: Int64s) -> int:
    """The (lower) median distance between neighbours."""
    distances = np.sort(np.diff(at))
    return int(distances[(len(distances) - 1) // 2])


def _pieces(codes: Int64s, at: Int64s, length: int) -> Int64s:
    """The pieces that begin at these places and fit, a row each."""
    at = at[at + length <= len(codes)]
    found: Int64s = codes[at[:, None] + np.arange(length)]
    return found


def _typical(codes: Int64s, at: Int64s, length: int) -> Int64s | None:
    """The piece that most pieces between neighbours are like, or None."""
    if length < MIN_LENGTH:
        return None
    exact = at[:-1][np.diff(at) == length]
    if not len(exact):  # the length is that between other names
        return None
    typical: Int64s = codes[int(exact[len(exact) // 2]) + np.arange(length)]
    alike = _alike(codes, at[:-1][_about(np.diff(at), length)], typical) >= SAME_NAMES
    return typical if alike.sum() >= SAME_PIECES * (len(at) - 1) else None


def _about(distance: Int64s, length: int) -> Bools:
    """Which distances are about as long as the typical piece: a kernel or two may be more or less."""
    close: Bools = (3 * distance >= 2 * length) & (2 * distance <= 3 * length)
    return close


def _alike(codes: Int64s, at: Int64s, typical: Int64s) -> Floats:
    """The share of names that each of the pieces which begin at these places and fit has in common with the typical one."""
    share: Floats = (_pieces(codes, at, len(typical)) == typical).mean(axis=1)
    return share


def _is_multiple(typical: Int64s) -> bool:
    """Whether all names but the first, which cut the piece, are there several times over as often."""
    rest = np.unique(typical[typical != typical[0]], return_counts=True)[1]
    return bool(np.gcd.reduce(rest) > 1) if len(rest) else False


def _begins(codes: Int64s, at: Int64s, typical: Int64s, idle_before: Int64s) -> int:
    """Of the names that are once in the typical piece the one with most idle time before it, of the median piece."""
    first, count = np.unique(typical, return_index=True, return_counts=True)[1:]
    once = np.sort(first[count == 1])
    at = at[at + len(typical) <= len(codes)]
    idle = np.median(idle_before[at[:, None] + once[None, :]], axis=0)
    return int(typical[once[int(np.argmax(idle))]])


def _repeats(codes: Int64s, at: Int64s, length: int) -> Period | None:
    """What begins at these places, as far as it is about as long as the typical piece; None if that leaves too little."""
    last = len(codes) - int(at[-1])
    starts = at[_about(np.append(np.diff(at), min(last, length)), length)]
    typical = _typical(codes, at, length)
    if typical is None:
        return None
    # What is about as long but of other kernels is no repetition: a prefill, before the first.
    starts = starts[int(np.argmax(_alike(codes, starts, typical) >= SOME_NAMES)) :]
    if len(starts) < MIN_REPEATS:
        return None
    same = (_pieces(codes, starts, length) == typical).sum()
    return Period(starts, length, float(same / (len(codes) - int(starts[0]))), _repeats_inside(typical))
