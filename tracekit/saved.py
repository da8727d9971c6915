"""How is an analysis bundle read that anybody may have written?

Whatever is broken in it, the error is one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracekit.errors import BundleError
from tracekit.schema import DOCUMENT, SCHEMA_VERSION

AGAIN = "run `tracekit analyze` again"


def read_document(directory: Path) -> dict[str, Any]:
    """The document of the bundle in `directory`. Its `traces` are one or more objects.

    Raises BundleError if the document cannot be read, or if it holds no trace.
    """
    document = _read_json(directory)
    entries = document.get("traces")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BundleError("has no list of traces", where=directory / DOCUMENT, mend=AGAIN)
    if not entries:
        raise BundleError("holds no trace", where=directory, mend="run `tracekit analyze` on at least one trace")
    return document


def read_tables(directory: Path, entry: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> dict[str, pa.Table]:
    """The tables of one trace or run of the document. Each has at least the columns that are asked for.

    Raises BundleError if a table cannot be read or lacks a column.
    """
    folder = directory / folder_of(directory, entry)
    return {name: _read_table(folder / f"{name}.parquet", wanted) for name, wanted in columns.items()}


def folder_of(directory: Path, entry: Mapping[str, Any]) -> str:
    """The name of the folder that holds the tables of a trace or a run. Raises BundleError if it is not usable."""
    folder = entry.get("folder")
    # Anybody may have written the bundle, so a folder must not lead out of it.
    if not isinstance(folder, str) or not folder or "\0" in folder or Path(folder).name != folder or folder == "..":
        raise BundleError(f"has a trace with no usable folder ({folder!r})", where=directory / DOCUMENT, mend=AGAIN)
    return folder


def _read_json(directory: Path) -> dict[str, Any]:
    path = directory / DOCUMENT
    if not directory.exists():
        raise BundleError("no such directory", where=directory, mend="run `tracekit analyze` first, or name its output")
    if not path.is_file():
        raise BundleError(
            "is not an analysis bundle (no bundle.json)",
            where=directory,
            mend="name the directory that `tracekit analyze` wrote",
        )
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})", where=path, mend="check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"is not valid JSON ({error})", where=path, mend=AGAIN) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version is None:
        raise BundleError("is not an analysis bundle (no schema_version)", where=path, mend=AGAIN)
    if version != SCHEMA_VERSION:
        mend = f"{AGAIN} with this version, which reads schema version {SCHEMA_VERSION}"
        raise BundleError(f"has the unknown schema version {version!r}", where=path, mend=mend)
    return document


def _read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if not path.is_file():
        raise BundleError("this table of the bundle is missing", where=path, mend=AGAIN)
    try:
        # Without threads, because these tables are small: starting a thread pool costs more than reading them.
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BundleError(f"is not a readable Parquet table ({reason})", where=path, mend=AGAIN) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BundleError(f"lacks the column {', '.join(missing)}", where=path, mend=AGAIN)
    return table
