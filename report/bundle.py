"""What does an analysis bundle hold, and is it whole?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracekit.bundle import COLUMNS, DOCUMENT, SCHEMA_VERSION
from tracekit.errors import BundleError

_AGAIN = "run `tracekit analyze` again"


@dataclass(frozen=True)
class TraceBundle:
    """One trace: its entry in `bundle.json` and its tables."""

    document: Mapping[str, Any]
    tables: Mapping[str, pa.Table]

    @property
    def name(self) -> str:
        return str(self.document.get("name") or "trace")

    @property
    def gpu(self) -> Mapping[str, Any] | None:
        return self.document.get("gpu") or None

    @property
    def manifest(self) -> Mapping[str, Any]:
        manifest = self.document.get("manifest")
        return manifest if isinstance(manifest, dict) else {}

    @property
    def device(self) -> Mapping[str, Any]:
        device = self.document.get("device")
        return device if isinstance(device, dict) else {}

    def rows(self, table: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The first `limit` rows of a table, or all, as dicts."""
        whole = self.tables[table]
        rows: list[dict[str, Any]] = (whole if limit is None else whole.slice(0, limit)).to_pylist()
        return rows

    def column(self, table: str, name: str) -> list[Any]:
        """One column of a table as plain values."""
        values: list[Any] = self.tables[table].column(name).to_pylist()
        return values

    def documents(self, key: str) -> list[dict[str, Any]]:
        """A list of objects from the document, such as `families`; empty where it is absent."""
        return [entry for entry in self.document.get(key) or () if isinstance(entry, dict)]


@dataclass(frozen=True)
class Skipped:
    """A file that was given and could not be analysed."""

    path: str
    reason: str


@dataclass(frozen=True)
class Bundle:
    """A whole analysis: what `tracekit analyze` left in a directory."""

    version: str
    traces: tuple[TraceBundle, ...]
    skipped: tuple[Skipped, ...] = ()


def read_bundle(directory: Path) -> Bundle:
    """Read and validate `directory`. Raises BundleError, naming what is wrong, where, and the mend."""
    document = _read_document(directory)
    entries = document.get("traces")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BundleError("has no list of traces", where=directory / DOCUMENT, mend=_AGAIN)
    if not entries:
        raise BundleError("holds no trace", where=directory, mend="run `tracekit analyze` on at least one trace")
    traces = tuple(_read_trace(directory, entry) for entry in entries)
    return Bundle(str(document.get("tracekit_version") or "unknown"), traces, _skipped(document.get("skipped")))


def _skipped(entries: object) -> tuple[Skipped, ...]:
    known = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return tuple(Skipped(str(entry.get("path")), str(entry.get("reason"))) for entry in known)


def _read_document(directory: Path) -> dict[str, Any]:
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
        raise BundleError(f"is not valid JSON ({error})", where=path, mend=_AGAIN) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version is None:
        raise BundleError("is not an analysis bundle (no schema_version)", where=path, mend=_AGAIN)
    if version != SCHEMA_VERSION:
        mend = f"{_AGAIN} with this version, which reads schema version {SCHEMA_VERSION}"
        raise BundleError(f"has the unknown schema version {version!r}", where=path, mend=mend)
    return document


def _read_trace(directory: Path, entry: dict[str, Any]) -> TraceBundle:
    folder = entry.get("folder")
    # A bundle may come from anybody: its folder must not lead out of it.
    if not isinstance(folder, str) or not folder or Path(folder).name != folder or folder == "..":
        raise BundleError(f"a trace has no usable folder ({folder!r})", where=directory / DOCUMENT, mend=_AGAIN)
    tables = {name: _read_table(directory / folder / f"{name}.parquet", columns) for name, columns in COLUMNS.items()}
    return TraceBundle(entry, tables)


def _read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if not path.is_file():
        raise BundleError("this table of the bundle is missing", where=path, mend=_AGAIN)
    try:
        # Without threads: these tables are small, and starting a pool costs more than reading them.
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BundleError(f"is not a readable Parquet table ({reason})", where=path, mend=_AGAIN) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BundleError(f"lacks the column {', '.join(missing)}", where=path, mend=_AGAIN)
    return table
