"""How does an analysis become a directory that `report`, pandas or DuckDB can read?"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tracekit.bundle import COLUMNS, DOCUMENT, REAL, RUN_COLUMNS, TEXT
from tracekit.errors import BundleError
from tracekit.files import unwritable
from tracekit.manifest import raw_manifest
from tracekit.table import Table

from .analysis import Analysis
from .document import document
from .inputs import Skipped
from .phases import PER_STEP
from .ranks import Run

FOLDER = re.compile(r"(?:run-)?\d\d+-")
"""How the name of a trace's folder begins, and that of a run of several."""


def write_bundle(analyses: Sequence[Analysis], skipped: Sequence[Skipped], directory: Path, runs: Sequence[Run] = ()) -> Path:
    """Write a bundle as `directory`, replacing an older bundle there only once the new one is whole.

    Raises BundleError if something that is no bundle stands there, TracekitError if it cannot be written.
    """
    _refuse_to_destroy(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Within a folder of its own, so that the bundle's folder gets the usual permissions.
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise unwritable(directory, error) from error
    try:
        _write(analyses, skipped, scratch / "new", runs)
        _replace(directory, scratch / "new", scratch / "old")
    except OSError as error:
        raise unwritable(directory, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def _replace(directory: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `directory`, which goes to `old`, or comes back if that fails."""
    existed = directory.exists()
    if existed:
        directory.rename(old)
    try:
        new.rename(directory)
    except OSError:
        if existed:
            old.rename(directory)
        raise


def _refuse_to_destroy(directory: Path) -> None:
    if directory.is_dir():
        if all(child.name == DOCUMENT or FOLDER.match(child.name) for child in directory.iterdir()):
            return
        what = "is a directory with other files in it, which would be lost"
    elif directory.exists():
        what = "is a file, not a directory"
    else:
        return
    raise BundleError(what, where=directory, mend="choose another directory with -o")


def _write(analyses: Sequence[Analysis], skipped: Sequence[Skipped], directory: Path, runs: Sequence[Run]) -> None:
    directory.mkdir()
    whole = document(analyses, skipped, runs)
    for number, (analysis, entry) in enumerate(zip(analyses, whole["traces"], strict=True)):
        folder = f"{number:02d}-{_slug(analysis.trace.name)}"
        entry["folder"] = folder
        entry["manifest"] = raw_manifest(Path(analysis.trace.path))
        (directory / folder).mkdir()
        for name, table in analysis.tables().items():
            pq.write_table(_arrow(COLUMNS[name], table), directory / folder / f"{name}.parquet")
    for number, (run, entry) in enumerate(zip(runs, whole["runs"], strict=True)):
        entry["folder"] = folder = f"run-{number:02d}-{_slug(run.name)}"
        (directory / folder).mkdir()
        for name, table in (("ranks", run.ranks), ("collectives", run.groups)):
            pq.write_table(_arrow(RUN_COLUMNS[name], table), directory / folder / f"{name}.parquet")
    (directory / DOCUMENT).write_text(json.dumps(whole, allow_nan=False), encoding="ascii")


def _slug(name: str) -> str:
    """The trace's name as a folder's: short, and safe on any file system."""
    stem = re.sub(r"(\.pt)?(\.trace)?\.json(\.gz)?\Z", "", name)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "trace"


def _arrow(columns: Sequence[str], table: Table) -> pa.Table:
    """The table with a fixed type a column, so that an empty or all-null column has one too."""
    more = [column for column in table.columns if column.endswith(PER_STEP)]
    types = {column: _type(column) for column in (*columns, *more)}
    arrays = [pa.array(table[column].tolist(), type=kind) for column, kind in types.items()]
    return pa.table(arrays, names=list(types))


def _type(column: str) -> pa.DataType:
    if column in TEXT:
        return pa.string()
    return pa.float64() if column in REAL or column.endswith(PER_STEP) else pa.int64()
