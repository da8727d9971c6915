"""Which chain of events determined the time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.vocabulary import PATH_SEGMENTS, label, term

from . import figures
from .bundle import TraceBundle
from .nonbreaking import duration, percent
from .tables import Cell, Column, Row, TableView, count_cell, name_cell, share_cell, time_cell

EVENTS = 60


@dataclass(frozen=True)
class CriticalPathView:
    """The section on the critical path. If there is no path, `reason` says why and the rest is empty."""

    reason: str
    headline: str = ""
    chart: dict[str, Any] | None = None
    events: TableView | None = None
    notes: tuple[str, ...] = ()


def critical_path_view(trace: TraceBundle) -> CriticalPathView | None:
    """The section on the critical path of a trace. None if the path was not asked for."""
    found = trace.document.get("critical_path")
    if not isinstance(found, dict):
        return None
    if found.get("reason"):
        return CriticalPathView(str(found["reason"]))
    bounds = [row for row in found.get("bounds") or () if isinstance(row, dict)]
    notes = tuple(str(note.get("message")) for note in found.get("notes") or () if isinstance(note, dict))
    return CriticalPathView("", _headline(found, bounds), _chart(bounds), _events(trace), notes)


def _headline(found: Mapping[str, Any], bounds: Sequence[Row]) -> str:
    window = found.get("window") or "the whole trace"
    by_bound: dict[str, float] = {}
    for row in bounds:
        bound = label(row.get("bound"))
        by_bound[bound] = by_bound.get(bound, 0.0) + (row.get("share") or 0.0)
    told = ", ".join(f"{bound} {percent(share)}" for bound, share in sorted(by_bound.items(), key=lambda one: -one[1]))
    return (
        f"Through {window} it takes {duration(found.get('length_ns'))}: {told}. What is not on it could be slower at no cost."
    )


def _chart(bounds: Sequence[Row]) -> dict[str, Any]:
    """One bar for each kind of time; its length is the time."""
    return figures.ranked([(str(term(PATH_SEGMENTS, row["kind"])), row["time_ns"]) for row in bounds], "--busy")


def _events(trace: TraceBundle) -> TableView:
    columns = (
        Column("Event", "name"),
        Column("What", "text", "kind of time"),
        Column("Share", "bar", "of the path"),
        Column("Time", "number", "on the path"),
        Column("Parts", "number"),
    )
    rows = trace.rows("critical_path_events", EVENTS)
    cells = tuple(
        (
            name_cell(row["name"] or "no event"),
            Cell(label(row["kind"])),
            share_cell(row["share"]),
            time_cell(row["time_ns"]),
            count_cell(row["count"]),
        )
        for row in rows
    )
    key = "critical_path_events"
    return TableView(key, "By event", columns, cells, trace.tables[key].num_rows, f"{key}.parquet")
