"""What do the ranks of one run do to each other?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.wording import MISSING, counted, form, number

from . import figures
from .bundle import RunBundle
from .legend import FAMILIES, Term
from .nonbreaking import duration, percent
from .steps import BANDWIDTH_COLUMNS, bandwidth_cells, message_cells
from .tables import Cell, Column, Row, TableView, count_cell, time_cell

RANKS = 64
"""How many ranks are shown. If there are more, those that come last most often are shown."""
CHARTED = 16

_COMPUTE = Term("gemm", "compute", "kernels, and nothing communicates")
_OVERLAP = Term("indexing", "both", "compute and communication at once")
_EXPOSED = FAMILIES["communication"]
_COPIES = FAMILIES["memory"]
_IDLE = Term("device_wait", "idle", "the GPU does nothing")


@dataclass(frozen=True)
class RunView:
    """The section on one run of several ranks."""

    key: str
    title: str
    headline: str
    notes: tuple[str, ...]
    chart: dict[str, Any] | None
    ranks: TableView
    collectives: TableView


def run_views(runs: Sequence[RunBundle]) -> list[RunView]:
    """The sections on runs of which the bundle has at least two ranks."""
    return [_view(f"r{at}", run) for at, run in enumerate(runs) if run.tables["ranks"].num_rows > 1]


def _view(key: str, run: RunBundle) -> RunView:
    rows = sorted(run.rows("ranks"), key=lambda row: (-row["last"], row["rank"]))
    shown = sorted(rows[:RANKS], key=lambda row: row["rank"])
    charted = [row for row in sorted(rows[:CHARTED], key=lambda row: row["rank"]) if row["span_ns"]]
    notes = tuple(str(note) for note in run.document.get("notes") or ())
    return RunView(
        key=key,
        title=f"{counted(len(rows), 'rank')} of {run.document.get('name') or 'a run'}",
        headline=_headline(run),
        notes=notes,
        chart=_chart(charted) if charted else None,
        ranks=_ranks(shown, len(rows), key),
        collectives=_collectives(run, key),
    )


def _headline(run: RunBundle) -> str:
    document = run.document
    matched = document.get("collectives")
    text = f"{counted(matched, 'collective')} {form(matched, 'was', 'were')} matched across ranks"
    text += f", by {document['matched_by']}." if document.get("matched_by") else "."
    if document.get("straggler") is not None:
        share, decided = percent(document.get("straggler_share")), number(document.get("decided"))
        text += f" Rank {document['straggler']} is a straggler: it comes last at {share} of {decided} of them."
    waited = sum(row["wait_ns"] or 0 for row in run.rows("ranks"))
    return f"{text} All ranks together wait {duration(waited)} inside collectives for the one that comes last."


def _chart(rows: Sequence[Row]) -> dict[str, Any]:
    parts = [
        (_COMPUTE, [row["compute_ns"] - row["overlap_ns"] for row in rows]),
        (_OVERLAP, [row["overlap_ns"] for row in rows]),
        (_EXPOSED, [row["exposed_ns"] for row in rows]),
        (_COPIES, [row["copies_ns"] for row in rows]),
        (_IDLE, [row["idle_ns"] for row in rows]),
    ]
    return figures.stacked_bars([f"rank {row['rank']}" for row in rows], parts)


def _ranks(rows: Sequence[Row], total: int, key: str) -> TableView:
    columns = (
        Column("Rank", "number"),
        Column("Device", "text"),
        Column("Span", "number", "first to last GPU event"),
        Column("Busy", "number"),
        Column("Compute", "number", "all kernels that do not communicate"),
        Column("Communication", "number"),
        Column("Overlap", "number", "of communication: while other kernels compute"),
        Column("Exposed", "number", "of communication: while none does"),
        Column("Idle", "number"),
        Column("Wait", "number", "how much longer its kernels took than the shortest of each collective"),
        Column("Last", "number", "collectives at which it came last"),
        Column("Clock", "number", "distance of its collectives' ends from the median of all ranks: none was shifted"),
    )
    figures_of = ("span_ns", "busy_ns", "compute_ns", "communication_ns", "overlap_ns", "exposed_ns", "idle_ns", "wait_ns")
    cells = [
        (
            Cell(str(row["rank"]), float(row["rank"])),
            Cell(str(row["device_name"] or MISSING)),
            *(time_cell(row[name]) for name in figures_of),
            count_cell(row["last"]),
            time_cell(row["clock_offset_ns"]),
        )
        for row in rows
    ]
    return TableView(f"{key}-ranks", "Ranks", columns, tuple(cells), total, "ranks.parquet")


def _collectives(run: RunBundle, key: str) -> TableView:
    columns = (
        Column("Collective", "text"),
        Column("Process group", "text"),
        Column("Ranks", "number"),
        Column("Size", "number", "of the whole array"),
        Column("Count", "number"),
        Column("Time", "number", "of all ranks' kernels"),
        Column("Waiting", "number", "of that: for the rank that came last"),
        *BANDWIDTH_COLUMNS,
    )
    cells = [
        (
            *message_cells(row),
            count_cell(row["count"]),
            time_cell(row["time_ns"]),
            time_cell(row["wait_ns"]),
            *bandwidth_cells(row),
        )
        for row in run.rows("collectives")[:RANKS]
    ]
    note = "Bandwidth is over the shortest kernel of each collective, so without waiting."
    total = run.tables["collectives"].num_rows
    return TableView(f"{key}-collectives", "Matched collectives", columns, tuple(cells), total, "collectives.parquet", note)
