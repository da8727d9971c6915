"""Which files did the user mean, and which of them are traces?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracekit.errors import TraceError
from tracekit.manifest import is_manifest_path
from tracekit.schema import DOCUMENT

from .source import EXPORT_HINT

SUFFIXES = (".json", ".json.gz")


@dataclass(frozen=True)
class Skipped:
    """A file of a directory that could not be read as a trace, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A file to read; one that the user named himself must be a trace, one found in a directory may turn out not to be."""

    path: Path
    named: bool


def find(paths: Sequence[Path]) -> list[Candidate]:
    """The files that these files and directories stand for, each once, a directory's in the order of their names.

    Raises TraceError for a path that does not exist and for a directory without a candidate.
    """
    found: dict[Path, Candidate] = {}
    for path in paths:
        try:
            inside = _candidates(path)
        except OSError as error:
            raise TraceError(
                f"cannot be read ({error.strerror})", where=path, mend="check the path and its permissions"
            ) from error
        for candidate in inside:
            found.setdefault(candidate.path.resolve(), candidate)
    # `traces/*` names the run manifests too; on its own, one is an error that the loader words.
    traces = [candidate for candidate in found.values() if not is_manifest_path(candidate.path)]
    return traces or list(found.values())


def _candidates(path: Path) -> list[Candidate]:
    if path.is_dir():
        inside = [Candidate(file, named=False) for file in sorted(_files(path, set()))]
        if not inside:
            raise TraceError("no .json or .json.gz file in this directory", where=path, mend=EXPORT_HINT)
        return inside
    if not path.exists():
        raise TraceError("no such file or directory", where=path, mend="check the path, or make traces with tracekit collect")
    return [Candidate(path, named=True)]


def _files(directory: Path, seen: set[Path]) -> list[Path]:
    """JSON files below the directory; hidden folders, analysis bundles and run manifests are none of ours.

    `seen` holds the folders that were looked into before: links may lead in a circle.
    """
    files: list[Path] = []
    real = directory.resolve()
    if real in seen:
        return files
    seen.add(real)
    try:
        children = sorted(directory.iterdir())
    except OSError as error:
        raise TraceError(f"cannot be listed ({error.strerror})", where=directory, mend="check its permissions") from error
    if any(child.name == DOCUMENT for child in children):
        return files
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            files += _files(child, seen)
        elif child.name.endswith(SUFFIXES) and not is_manifest_path(child):
            files.append(child)
    return files
