"""Which ranks does one file hold, if somebody merged their traces?

Tools that merge the traces of several ranks write a label before the number of each process: `[TP00] 123`. Ids mean something
only within a rank, so each becomes a trace of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from .events import Event, Parsed
from .trace import CALLS, CATEGORIES, GPU

LABEL = re.compile(
    r"\s*(?:\[([^\]]*\d[^\]]*)\]|((?:(?:[TDPECS]P|rank)[ _-]?\d{1,6}[-_ ,]*)+(?=[:_ ]|(?<=[:_ ])))[:_ ]*)\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)
"""A label with a number, in brackets or made of known words (`TP0-PP1`, `Rank 1:`), and the process."""
DIMENSION = re.compile(r"([A-Za-z]*)[ _-]*(\d{1,9})")
"""A part of a label: the name of a kind of parallelism, such as TP or PP, and the place along it."""


@dataclass(frozen=True)
class Part:
    """The events of one rank of a merged file: its label, its place among the ranks, and its events."""

    label: str
    rank: int
    parsed: Parsed


def ranks_of(parsed: Parsed) -> list[Part]:
    """The ranks of a merged file by place, at least two; none for the file of one rank. Events without a label are dropped."""
    label_of = {pid: _label(pid) for pid in set(map(attrgetter("pid"), parsed.events))}
    labels = {label for label, _ in label_of.values() if label is not None}
    if len(labels) < 2 or not _tell_ranks(parsed.events, label_of):
        return []
    of_label: dict[str, list[Event[Any]]] = {label: [] for label in labels}
    for event in parsed.events:
        label, process = label_of[event.pid]
        if label is not None:
            event.pid = process
            of_label[label].append(event)
    return [
        Part(label, rank, replace(parsed, events=of_label[label], entries=len(of_label[label])))
        for label, rank in _places(sorted(labels))
    ]


def _label(pid: int | str | None) -> tuple[str | None, int | str | None]:
    """The label of a process, or None, and the process without it."""
    found = LABEL.fullmatch(pid) if isinstance(pid, str) else None
    if found is None:
        return None, pid
    process = found[3]
    return (found[1] or found[2]).strip(" :_,-"), int(process) if process.isascii() and process.isdigit() and len(
        process
    ) < 19 else process


def _tell_ranks(events: Sequence[Event[Any]], label_of: Mapping[Any, tuple[str | None, Any]]) -> bool:
    """Whether labels tell ranks: the work of a device must have the label of the calls that launched it.

    Else they tell something different, such as host and device, or a program labelled a part of the processes only.
    """
    calls: set[tuple[str | None, Any]] = set()
    work: set[tuple[str | None, Any]] = set()
    for event in events:
        kind = CATEGORIES.get((event.cat or "").lower())
        if kind in CALLS or kind in GPU:
            key = (label_of[event.pid][0], event.args.correlation if event.args is not None else None)
            (calls if kind in CALLS else work).add(key)
    if not work:
        return True
    if any(label is None for label, _ in work):
        return False
    ids = {correlation for _, correlation in calls if correlation is not None}
    linked = [key for key in work if key[1] in ids]
    return 2 * sum(key in calls for key in linked) >= len(linked)


def _places(labels: Sequence[str]) -> list[tuple[str, int]]:
    """The rank of each label: its number where the labels differ in one alone, else its place in their order."""
    dimensions = [tuple((name, int(place)) for name, place in DIMENSION.findall(label)) for label in labels]
    columns = list(zip(*dimensions, strict=False)) if len({len(one) for one in dimensions}) == 1 else []
    differing = [column for column in columns if len(set(column)) > 1]
    if len(differing) == 1 and len({place for _, place in differing[0]}) == len(labels):
        return sorted(zip(labels, (place for _, place in differing[0]), strict=True), key=lambda pair: pair[1])
    order = sorted(range(len(labels)), key=lambda at: ([place for _, place in dimensions[at]], labels[at]))
    return [(labels[at], rank) for rank, at in enumerate(order)]
