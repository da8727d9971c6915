"""What is in an analysis bundle, and is it complete?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracekit.errors import ManifestError
from tracekit.manifest import RunManifest, from_json
from tracekit.saved import read_document, read_tables
from tracekit.schema import RUN_TABLES, TABLES, TableSchema


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
    def has_manifest(self) -> bool:
        """Whether a run manifest lay beside the trace, readable or not."""
        found = self.document.get("manifest")
        return isinstance(found, dict) and bool(found)

    @cached_property
    def manifest(self) -> RunManifest | None:
        """The run manifest, or None where there is none that this version can read."""
        if not self.has_manifest:
            return None
        try:
            return from_json(json.dumps(self.document["manifest"]))
        except (ManifestError, ValueError):
            return None

    @property
    def device(self) -> Mapping[str, Any]:
        device = self.document.get("device")
        return device if isinstance(device, dict) else {}

    def rows(self, table: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The first `limit` rows of a table as dicts; all rows without a limit."""
        whole = self.tables[table]
        rows: list[dict[str, Any]] = (whole if limit is None else whole.slice(0, limit)).to_pylist()
        return rows

    def column(self, table: str, name: str) -> list[Any]:
        """One column of a table as plain values."""
        values: list[Any] = self.tables[table].column(name).to_pylist()
        return values

    def documents(self, key: str) -> list[dict[str, Any]]:
        """A list of objects from the document, such as `families`; empty if it is absent."""
        return [entry for entry in self.document.get(key) or () if isinstance(entry, dict)]


@dataclass(frozen=True)
class RunBundle:
    """A run of several ranks: its entry in `bundle.json` and its tables."""

    document: Mapping[str, Any]
    tables: Mapping[str, pa.Table]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table as dicts."""
        rows: list[dict[str, Any]] = self.tables[table].to_pylist()
        return rows


@dataclass(frozen=True)
class Skipped:
    """A file that was given to `tracekit analyze` but could not be analysed."""

    path: str
    reason: str


@dataclass(frozen=True)
class Bundle:
    """A whole analysis, as `tracekit analyze` wrote it to a directory."""

    version: str
    traces: tuple[TraceBundle, ...]
    skipped: tuple[Skipped, ...] = ()
    runs: tuple[RunBundle, ...] = ()


def read_bundle(directory: Path) -> Bundle:
    """Read and check the bundle in `directory`. Raises BundleError, which names what is wrong, where, and how to correct it."""
    document = read_document(directory)
    traces = tuple(TraceBundle(entry, read_tables(directory, entry, _columns(TABLES))) for entry in document["traces"])
    found = document.get("runs")
    runs = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return Bundle(
        str(document.get("tracekit_version") or "unknown"),
        traces,
        _skipped(document.get("skipped")),
        tuple(RunBundle(entry, read_tables(directory, entry, _columns(RUN_TABLES))) for entry in runs),
    )


def _columns(tables: Mapping[str, TableSchema]) -> dict[str, tuple[str, ...]]:
    return {name: table.names for name, table in tables.items()}


def _skipped(entries: object) -> tuple[Skipped, ...]:
    known = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return tuple(Skipped(str(entry.get("path")), str(entry.get("reason"))) for entry in known)
