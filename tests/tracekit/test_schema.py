"""Do the tables keep what the schema says of them, column by column?"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import shared_data
from repository import ROOT, TRACES
from step_traces import Periodic

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.schema import CAUSES, DOCUMENT_TABLES, PER_STEP, RUN_TABLES, TABLES, with_tables
from tracekit.table import Table

TAXONOMY = Taxonomy.default()
OF_A_TRACE = {**TABLES, **DOCUMENT_TABLES}
KEYS = {
    "compiled_regions": ("region", "fx_graph"),
    "copies": ("name",),
    "families": ("family",),
    "gap_groups": ("after", "operator", "call"),
    "graphs": ("graph",),
    "layers": ("path",),
    "phases": ("phase", "state"),
    "projection_steps": ("step",),
    "roofline_operators": ("operator", "shapes"),
    "streams": ("device", "stream"),
    "collectives": ("kind", "process_group", "group_size", "bytes"),
}
"""What a row of a table is about; `name` where nothing else is said."""
EDGES = ("devices", "idle_activity")
"""Tables whose sums the edges of the window are part of: the fill before the first step, the host before its first launch."""
NOT_COMPARED = ("gaps", "graph_launches", "steps", "critical_path", "timeline", "critical_path_events", *EDGES)
SINGLE = ("gaps", "graph_launches", "steps", "critical_path", "timeline")
"""The tables whose rows are single things of one moment: twice the time gives more rows, not larger figures."""


def test_every_column_is_described_once() -> None:
    for tables in (OF_A_TRACE, RUN_TABLES):
        for name, table in tables.items():
            assert len(set(table.names)) == len(table.names), name
            for column in table.columns:
                assert column.meaning, (name, column.name)
                assert ("null" in column.meaning) == column.nullable, (name, column.name)
                assert column.name.endswith("_ns") == (column.unit == "ns"), (name, column.name)
                assert not (column.adds_up and column.type == "text"), (name, column.name)
            assert all(f"{cause}_ns" in table.names for cause in CAUSES) or "dispatch_ns" not in table.names


def test_the_page_says_what_the_schema_says() -> None:
    page = (ROOT / "docs" / "bundle.md").read_text()
    assert page == with_tables(page), "run: python -m tracekit.schema docs/bundle.md"


def traces() -> list[Path]:
    return [*sorted(TRACES.glob("*.trace.json.gz")), *shared_data.traces()]


@pytest.mark.parametrize("path", traces(), ids=lambda path: path.name.split(".")[0])
def test_real_tables_are_as_described(path: Path) -> None:
    analysis = Analysis(load(path), TAXONOMY, divided=True)
    steps = len(analysis.phases.steps) - 1
    for name, schema in OF_A_TRACE.items():
        table = analysis.table(name)
        twins = tuple(column.removesuffix(PER_STEP) for column in table.columns if column.endswith(PER_STEP))
        assert tuple(column for column in table.columns if not column.endswith(PER_STEP)) == schema.names, name
        assert twins == (schema.sums if steps else ()), name
        for column in schema.columns:
            kind = {"text": str, "int": int, "real": float}[column.type]
            wrong = [
                one for one in table[column.name].tolist() if type(one) is not kind and not (one is None and column.nullable)
            ]
            assert not wrong, (name, column.name, wrong[:3])


# --- What adds up does, and nothing else ------------------------------------------------------------------------------


@cache
def periodic(steps: int) -> Analysis:
    """A trace of so many equal steps with all that a table may be about, projected onto some device."""
    analysis = Analysis(Periodic(steps).builder.trace(), TAXONOMY)
    return Analysis(analysis.trace, TAXONOMY, target=analysis.datasheets[0])


def rows(table: Table, name: str) -> dict[tuple[object, ...], dict[str, object]]:
    keys = KEYS.get(name, ("name",))
    found = {tuple(row[key] for key in keys): row for row in table.records()}
    return {key: row for key, row in found.items() if not {"Memset (lead)", Periodic.LEAD_STREAM}.intersection(key)}


@pytest.mark.parametrize("name", [name for name in OF_A_TRACE if name not in NOT_COMPARED])
def test_of_twice_as_many_steps_what_adds_up_is_twice_as_much_and_all_else_is_the_same(name: str) -> None:
    """The claim of `adds_up`, held against the figures themselves."""
    one, other = (rows(periodic(steps).whole(name), name) for steps in (8, 16))
    assert one, name
    assert one.keys() == other.keys()
    for key, row in one.items():
        for column in OF_A_TRACE[name].columns:
            before, after = row[column.name], other[key][column.name]
            if column.name in ("share", "host_share"):
                assert after == pytest.approx(before, rel=0.1)
            elif column.adds_up and before is not None:
                assert after == pytest.approx(2 * before, abs=1), (key, column.name)
            elif (name, column.name) != ("phases", "steps"):
                assert after == pytest.approx(before, rel=1e-9) if isinstance(before, float) else after == before, (
                    key,
                    column.name,
                )


@pytest.mark.parametrize("name", [*SINGLE, "critical_path_events"])
def test_single_things_have_no_sums(name: str) -> None:
    assert TABLES[name].sums == ()
