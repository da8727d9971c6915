"""What do we compare of an analysed trace, whether it was analysed just now or read from a bundle?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracekit.errors import BundleError
from tracekit.manifest import raw_manifest
from tracekit.schema import CAUSES, DOCUMENT
from tracekit.schema import TABLES as SCHEMA
from tracekit.table import Table

from ..activity.gpu import GpuSummary
from ..activity.operators import HostSummary
from ..analysis import Analysis
from ..structure.completeness import MISSING
from ..structure.steps import kinds_of

if TYPE_CHECKING:
    import pyarrow as pa

FIGURES: Mapping[str, tuple[str, ...]] = {
    "gpu": tuple(field.name for field in fields(GpuSummary)),
    "idle": tuple(f"{cause}_ns" for cause in CAUSES),
    "launches": ("kernel_launches", "graph_launches"),
    "communication": ("exposed_ns",),
    "host": tuple(field.name for field in fields(HostSummary)),
}
"""The figures that are compared, by the sections of the document that `analyze --json` prints."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "kernels": ("name", "family", "operator", "count", "time_ns"),
    "kernel_origins": ("name", "family", "operator", "operators", "shapes", "outer_shapes", "layer", "count", "time_ns"),
    "generated_kernels": ("name", "source"),
    "operators": ("name", "count", "host_self_ns", "kernel_time_ns", "kernels"),
    "layers": ("path", "depth", "count", "calls", "time_ns", "host_ns"),
    "copies": ("name", "count", "time_ns"),
    "steps": ("number", "name", "phase", "host_ns", *(f"{cause}_ns" for cause in CAUSES)),
}
"""The tables that are compared, and the columns that are used of each."""

ORIGINS = "kernel_origins"
"""The table that bundles of earlier versions lack. Without it kernels are compared by their names alone."""
EXPOSED = "communication.exposed_ns"
"""The figure that is 0 where a trace has GPU events and nothing communicates, but absent where nobody recorded it."""

LARGEST = 2**62
AGAIN = "run `tracekit analyze` again"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    `figures` have the names of the document, such as `gpu.span_ns` or `idle.dispatch_ns`. Those of `gpu` or `host` are absent
    if the trace has no such events, and those that an earlier version did not record are absent too. `tables` are those of
    TABLES; `steps` lacks the row for what lies outside of steps. `step_source` is what told the steps, or None if nothing did.
    `manifest` is the run manifest as it was written, or empty without one. `missing` says what an incomplete trace lacks.
    `rank` is the trace's place in a run of several.
    """

    name: str
    device: str | None
    missing: tuple[str, ...]
    figures: Mapping[str, int]
    tables: Mapping[str, Table]
    step_source: str | None
    manifest: Mapping[str, Any]
    rank: int | None = None
    knows_origins: bool = True
    """Whether it is recorded what launched each kernel: not in a bundle of an earlier version."""

    def has(self, section: str) -> bool:
        """Whether the trace has the figures of a section, `gpu` or `host`."""
        return f"{section}.span_ns" in self.figures

    @cached_property
    def step_kinds(self) -> list[str]:
        """The kind of each step, in the order of time; `kinds_of` explains the kinds."""
        steps = self.tables["steps"]
        return kinds_of(steps["name"].tolist(), steps["phase"].tolist(), self.step_source)

    @cached_property
    def step_counts(self) -> Counter[str]:
        """How many steps of each kind there are."""
        return Counter(self.step_kinds)


def analysed(analysis: Analysis) -> Side:
    """A trace that was analysed just now, as a side of a comparison."""
    trace = analysis.trace
    sections = {"gpu": analysis.gpu, "idle": analysis.idle, "launches": analysis.launches, "host": analysis.host}
    exposed = {EXPOSED: analysis.communication.exposed_ns} if analysis.communication else {}
    whole = {name: analysis.whole(name) for name in TABLES}
    return Side(
        name=trace.name,
        device=trace.device.name if trace.device else None,
        missing=tuple(warning.message for warning in analysis.warnings if warning.code in MISSING),
        figures=_flat({name: asdict(section) for name, section in sections.items() if section is not None}) | exposed,
        tables=_inside({name: Table({column: whole[name][column] for column in columns}) for name, columns in TABLES.items()}),
        step_source=analysis.steps.source,
        manifest=raw_manifest(Path(trace.path)) or {},
        rank=trace.rank,
    )


def saved(directory: Path, entry: Mapping[str, Any]) -> Side:
    """A trace of the bundle in `directory`, as a side of a comparison. `entry` is its entry in the document.

    Raises BundleError if the entry or a table breaks the contract, or if its times do not add up.
    """
    # Imported here because only bundles need it and importing it takes a while.
    from tracekit.saved import folder_of, read_tables

    device, manifest = entry.get("device"), entry.get("manifest")
    figures = _flat({name: section for name in FIGURES if isinstance(section := entry.get(name), dict)})
    # The document has null where nothing communicates. A bundle of an earlier version may lack the key: nobody knows.
    if "gpu.span_ns" in figures and entry.get("communication", "absent") is None:
        figures[EXPOSED] = 0
    if wrong := _wrong(figures):
        raise BundleError(wrong, where=directory / DOCUMENT, mend=AGAIN)
    columns = dict(TABLES)
    knows_origins = (directory / folder_of(directory, entry) / f"{ORIGINS}.parquet").is_file()
    if not knows_origins:
        del columns[ORIGINS]
    tables = {name: _table(name, table, directory) for name, table in read_tables(directory, entry, columns).items()}
    if not knows_origins:
        tables[ORIGINS] = _no_rows(ORIGINS)
    elif not _adds_up(tables):
        raise BundleError("kernels and their origins do not add up", where=directory, mend=AGAIN)
    return Side(
        name=str(entry.get("name") or "trace"),
        device=str(device.get("name")) if isinstance(device, dict) else None,
        missing=tuple(_missing(entry.get("warnings"))),
        figures=figures,
        tables=_inside(tables),
        step_source=steps.get("source") if isinstance(steps := entry.get("steps"), dict) else None,
        manifest=manifest if isinstance(manifest, dict) else {},
        rank=rank if type(rank := entry.get("rank")) is int else None,
        knows_origins=knows_origins,
    )


def _no_rows(name: str) -> Table:
    return Table.empty([SCHEMA[name][column] for column in TABLES[name]])


def _adds_up(tables: Mapping[str, Table]) -> bool:
    """Whether the origins of each kernel hold all of its runs and time. Pairs of kernels are made of these parts."""
    return all(_by_name(tables["kernels"], figure) == _by_name(tables[ORIGINS], figure) for figure in ("count", "time_ns"))


def _by_name(table: Table, figure: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, value in zip(table["name"].tolist(), table[figure].tolist(), strict=True):
        total[name] += value
    return total


def _inside(tables: dict[str, Table]) -> dict[str, Table]:
    """The tables, with `steps` reduced to its steps: the row for what lies outside of them has no number and is left out."""
    steps = tables["steps"]
    inside = np.array([number is not None for number in steps["number"].tolist()], dtype=np.bool_)
    return tables | {"steps": steps.take(inside)}


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of these sections under names such as `gpu.span_ns`. A figure that a section lacks is None."""
    return {f"{name}.{figure}": values.get(figure) for name, values in sections.items() for figure in FIGURES[name]}


def _wrong(figures: Mapping[str, Any]) -> str | None:
    """What is wrong with the figures of a bundle; None if nothing is. Anybody may have written the bundle."""
    for name, value in figures.items():
        if type(value) is not int or abs(value) > LARGEST:
            return f"`{name}` is not a whole number"
    causes = [f"idle.{cause}_ns" for cause in CAUSES]
    if missing := [name for name in (*causes, "launches.kernel_launches") if name not in figures]:
        return f"`{missing[0]}` is missing"
    if "gpu.span_ns" in figures and figures["gpu.span_ns"] != figures["gpu.busy_ns"] + sum(figures[name] for name in causes):
        return "busy time and the causes of idle time do not add up to the span"
    return None


def _missing(warnings: Any) -> list[str]:
    known = [warning for warning in warnings if isinstance(warning, dict)] if isinstance(warnings, list) else []
    return [str(warning.get("message")) for warning in known if warning.get("code") in MISSING]


def _table(name: str, stored: pa.Table, directory: Path) -> Table:
    """The columns that are compared of a table from a bundle. Raises BundleError if a column holds another type of values.

    Columns of numbers are int64; columns of text and nullable columns have dtype `object`.
    """
    columns = {}
    for column in TABLES[name]:
        values = stored.column(column).to_pylist()
        told = SCHEMA[name][column]
        kind: type = str if told.type == "text" else int
        optional = told.nullable
        if not all(type(value) is kind or (optional and value is None) for value in values):
            raise BundleError(f"the column {column} of {name} is not what it should be", where=directory, mend=AGAIN)
        columns[column] = np.fromiter(values, dtype=object if kind is str or optional else np.int64, count=len(values))
    return Table(columns)
