"""What kind of event is each, and which events do the figures not hold?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracekit.wording import counted, form, listed

from .arrays import Bools
from .events import Event
from .trace import CALLS_OR_WORK, CATEGORIES, GPU, Category, TraceWarning

UNNAMED = "no category"
"""Stands for the category of events that have none."""


OF_DEVICE = re.compile(r"(?i)kernel|memcpy|memset|gpu_op|device_op")
"""What a category of a device's work is called, if it is none of Kineto's."""


@dataclass(frozen=True)
class Categories:
    """The category of each event, and for each that is not read, the `cat` that the file gives it."""

    of_event: npt.NDArray[np.int8]
    known: bool
    """Whether any event is of a category that a PyTorch profiler writes."""
    unread_work: dict[str, int]
    """How many events of each `cat` are work of a device that no figure holds, the most frequent first."""
    unknown: dict[str, int]
    """How many other events of each `cat` are not read."""


def categorize(events: Sequence[Event[Any]]) -> Categories:
    """The categories of a trace's events.

    An event of an unknown category is taken for work of a device if it says on which device or stream it ran, or if its
    category is called so.
    """
    cats = [event.cat or "" for event in events]
    distinct = list(dict.fromkeys(cats))
    place = {cat: number for number, cat in enumerate(distinct)}
    code = np.fromiter(map(place.__getitem__, cats), np.int32, len(cats))
    by_cat = np.array([CATEGORIES.get(cat.lower(), Category.OTHER) for cat in distinct], dtype=np.int8)
    known = bool((by_cat != Category.OTHER).any())
    if not np.isin(by_cat, GPU).any():
        by_cat[[cat.lower() in CALLS_OR_WORK for cat in distinct]] = Category.DEVICE
    by_cat[[number for number, cat in enumerate(distinct) if by_cat[number] == Category.OTHER and OF_DEVICE.search(cat)]] = (
        Category.DEVICE
    )
    category = by_cat[code]
    unknown = np.flatnonzero(category == Category.OTHER)
    category[unknown[_ran_on_device(events, unknown)]] = Category.DEVICE
    return Categories(
        category,
        known,
        _counts(distinct, code[category == Category.DEVICE]),
        _counts(distinct, code[category == Category.OTHER]),
    )


def _ran_on_device(events: Sequence[Event[Any]], rows: npt.NDArray[np.intp]) -> Bools:
    args = (events[row].args for row in rows.tolist())
    told = (a is not None and (a.device is not None or a.stream is not None) for a in args)
    return np.fromiter(told, np.bool_, len(rows))


def _counts(distinct: Sequence[str], codes: npt.NDArray[np.int32]) -> dict[str, int]:
    count = np.bincount(codes, minlength=len(distinct))
    order = np.argsort(-count, kind="stable")
    return {distinct[place] or UNNAMED: int(count[place]) for place in order.tolist() if count[place]}


def warnings(found: Categories) -> Iterator[TraceWarning]:
    """What the reader must know about events that are not read."""
    if found.unread_work:
        count = sum(found.unread_work.values())
        meaning = form(
            count, "it is work of a device, and no figure holds it", "they are work of a device, and no figure holds them"
        )
        yield TraceWarning("unread_device_events", f"{_told(found.unread_work)} not read: {meaning}", count)
    if found.unknown:
        yield TraceWarning("unknown_categories", f"{_told(found.unknown)} not read", sum(found.unknown.values()))


def _told(counts: dict[str, int]) -> str:
    count, names = sum(counts.values()), list(counts)
    one = f"{form(len(names), 'the category', 'the categories')} {listed(names)}" if names != [UNNAMED] else UNNAMED
    return f"{counted(count, 'complete event')} of {one} {form(count, 'is', 'are')}"
