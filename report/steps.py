"""How do the steps of a trace differ, and how long does the trace communicate?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracekit.wording import MISSING, counted, is_number, number, three_digits

from .bundle import TraceBundle
from .nonbreaking import duration, percent, size
from .tables import Cell, Column, TableView, count_cell, name_cell, time_cell

STEPS = 100
COLLECTIVES = 40


@dataclass(frozen=True)
class StepsView:
    """The section on steps: a sentence that says what tells them, and two tables."""

    headline: str
    groups: TableView
    steps: TableView


@dataclass(frozen=True)
class CommunicationView:
    """The section on a rank's communication."""

    headline: str
    collectives: TableView


def steps_view(trace: TraceBundle) -> StepsView | None:
    """The section on the steps of a trace. None if it has fewer than two steps."""
    found = trace.document.get("steps")
    if not isinstance(found, dict) or trace.tables["steps"].num_rows < 3:
        return None
    return StepsView(_headline(found), _groups(trace), _steps(trace))


def _headline(found: Mapping[str, Any]) -> str:
    text = f"Steps are told by {found.get('told')}"
    confidence = found.get("confidence")
    text += f", with a confidence of {percent(confidence, 0)}." if is_number(confidence) and confidence < 1 else "."
    chosen = found.get("chosen")
    if isinstance(chosen, dict):
        some = f"{number(chosen.get('count'))} of {counted(chosen.get('of'), 'step')} ({chosen.get('numbers')})"
        text += f" Everything about this trace is about {some} alone."
    return text


def _groups(trace: TraceBundle) -> TableView:
    gpu = trace.gpu is not None
    measures = ("device", "busy", "idle", "host") if gpu else ("host",)
    labels = {"device": "GPU time", "busy": "Busy", "idle": "Idle", "host": "Host time"}
    whole = labels[measures[0]]
    columns = (
        Column("Phase", "text"),
        Column("State", "text", "warm-up: the first steps that take longer than the later ones"),
        Column("Steps", "number"),
        Column("Unlike", "number", "steady steps that take much longer or shorter than the others"),
        *(Column(f"{labels[measure]}, median", "number", _MEANING[measure]) for measure in measures),
        Column(f"{whole}, min", "number"),
        Column(f"{whole}, max", "number"),
    )
    cells = [
        (
            Cell(str(row["phase"] or "all")),
            Cell(str(row["state"] or MISSING)),
            count_cell(row["steps"]),
            count_cell(row["outliers"]),
            *(time_cell(row[f"{measure}_median_ns"]) for measure in measures),
            *(time_cell(row[f"{measures[0]}_{end}_ns"]) for end in ("min", "max")),
        )
        for row in trace.rows("phases")
    ]
    return TableView("phases", "Steps by phase and state", columns, tuple(cells), len(cells), "phases.parquet")


_MEANING = {
    "device": "the step's share of the GPU's span: busy and idle time together",
    "busy": "a moment counts for the step whose kernel began first",
    "idle": "a gap counts for the step that ends it",
    "host": "from the step's beginning to its end on the host",
}


def _steps(trace: TraceBundle) -> TableView:
    gpu = trace.gpu is not None
    columns = (
        Column("Step", "text"),
        Column("Name", "name"),
        Column("Phase", "text"),
        Column("State", "text"),
        *(
            (Column("GPU time", "number", _MEANING["device"]), Column("Busy", "number"), Column("Idle", "number"))
            if gpu
            else ()
        ),
        Column("Host time", "number"),
        *((Column("Kernels", "number"),) if gpu else ()),
    )
    cells = [
        (
            Cell(MISSING if row["number"] is None else str(row["number"]), row["number"]),
            name_cell(row["name"]),
            Cell(str(row["phase"] or MISSING)),
            Cell(str(row["flag"] or row["state"] or MISSING)),
            *((time_cell(row["device_ns"]), time_cell(row["busy_ns"]), time_cell(row["idle_ns"])) if gpu else ()),
            time_cell(row["host_ns"] if row["number"] is not None else None),
            *((count_cell(row["kernels"]),) if gpu else ()),
        )
        for row in trace.rows("steps", STEPS)
    ]
    return TableView("steps", "Step by step", columns, tuple(cells), trace.tables["steps"].num_rows, "steps.parquet")


def communication_view(trace: TraceBundle) -> CommunicationView | None:
    """The section on the communication of a rank. None if it does not communicate."""
    found = trace.document.get("communication")
    if not isinstance(found, dict) or not found.get("communication_ns"):
        return None
    span, talking = found.get("span_ns") or 0, found.get("communication_ns") or 0
    headline = (
        f"Communication takes {duration(talking)}, {percent(talking / span if span else None)} of the GPU's span: "
        f"{duration(found.get('overlap_ns'))} of it while other kernels compute, {duration(found.get('exposed_ns'))} exposed. "
        "A communication kernel's time holds its waiting for other ranks, so the bandwidth, of the shortest, is a lower bound."
    )
    return CommunicationView(headline, _collectives(trace))


def _collectives(trace: TraceBundle) -> TableView:
    columns = (
        Column("Collective", "text"),
        Column("Process group", "text"),
        Column("Ranks", "number"),
        Column("Size", "number", "of the whole array"),
        Column("Count", "number"),
        Column("Time", "number", "sum over all runs"),
        Column("Shortest", "number"),
        Column("Median", "number"),
        *BANDWIDTH_COLUMNS,
    )
    cells = [
        (
            *message_cells(row),
            count_cell(row["count"]),
            *(time_cell(row[key]) for key in ("time_ns", "min_ns", "median_ns")),
            *bandwidth_cells(row),
        )
        for row in trace.rows("collectives", COLLECTIVES)
    ]
    total = trace.tables["collectives"].num_rows
    return TableView("collectives", "Collectives", columns, tuple(cells), total, "collectives.parquet")


BANDWIDTH_COLUMNS = (
    Column("Alg. GB/s", "number", "the size over the time"),
    Column("Bus GB/s", "number", "what the links carry, as nccl-tests reckon it"),
)


def message_cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The cells that say what a collective is: its kind, process group, number of ranks and size."""
    return (
        Cell(str(row["kind"])),
        Cell(str(row["process_group"] if row["process_group"] is not None else MISSING)),
        count_cell(row["group_size"]),
        Cell(size(row["bytes"]), float(row["bytes"])) if is_number(row["bytes"]) else Cell(MISSING),
    )


def bandwidth_cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The cells with the two bandwidths that a collective reached."""
    rates = (row["algorithm_gb_s"], row["bus_gb_s"])
    return tuple(Cell(three_digits(rate), float(rate)) if is_number(rate) else Cell(MISSING) for rate in rates)
