"""How does an analysis become a directory that `report`, pandas or DuckDB can read?"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tracekit.files import replaced_directory
from tracekit.manifest import raw_manifest
from tracekit.schema import DOCUMENT, PER_STEP, RUN_TABLES, TABLES, TableSchema
from tracekit.table import Table

from ..analysis import Analysis
from ..ranks.distributed_run import DistributedRun
from ..trace.inputs import Skipped
from .document import document
from .replaceable import refuse_to_destroy

ARROW = {"text": pa.string, "int": pa.int64, "real": pa.float64}


def write_bundle(
    analyses: Sequence[Analysis], skipped: Sequence[Skipped], directory: Path, runs: Sequence[DistributedRun] = ()
) -> Path:
    """Write a bundle to `directory`. An older bundle there is replaced only once the new one is complete.

    Raises BundleError if anything but an older bundle is there, TracekitError if the bundle cannot be written.
    """
    refuse_to_destroy(directory)
    with replaced_directory(directory) as new:
        _write(analyses, skipped, new, runs)
        # Writing takes a while: somebody may have put a file there meanwhile.
        refuse_to_destroy(directory)
    return directory


def _write(analyses: Sequence[Analysis], skipped: Sequence[Skipped], directory: Path, runs: Sequence[DistributedRun]) -> None:
    whole = document(analyses, skipped, runs)
    for number, (analysis, entry) in enumerate(zip(analyses, whole["traces"], strict=True)):
        folder = f"{number:02d}-{_slug(analysis.trace.name)}"
        entry["folder"] = folder
        entry["manifest"] = raw_manifest(Path(analysis.trace.path))
        (directory / folder).mkdir()
        for name, table in analysis.tables().items():
            pq.write_table(_arrow(TABLES[name], table), directory / folder / f"{name}.parquet")
    for number, (run, entry) in enumerate(zip(runs, whole["runs"], strict=True)):
        entry["folder"] = folder = f"run-{number:02d}-{_slug(run.name)}"
        (directory / folder).mkdir()
        for name, table in (("ranks", run.ranks), ("collectives", run.groups)):
            pq.write_table(_arrow(RUN_TABLES[name], table), directory / folder / f"{name}.parquet")
    (directory / DOCUMENT).write_text(json.dumps(whole, allow_nan=False), encoding="ascii")


def _slug(name: str) -> str:
    """A trace's name turned into the name of a folder: short, and safe on any file system."""
    stem = re.sub(r"(\.pt)?(\.trace)?\.json(\.gz)?\Z", "", name)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "trace"


def _arrow(schema: TableSchema, table: Table) -> pa.Table:
    """The table with a fixed type for each column, so that a column without rows or with nulls only has a type too."""
    types = {column.name: ARROW[column.type]() for column in schema.columns}
    types |= {name: pa.float64() for name in table.columns if name.endswith(PER_STEP)}
    arrays = [pa.array(table[name].tolist(), type=kind) for name, kind in types.items()]
    return pa.table(arrays, names=list(types))
