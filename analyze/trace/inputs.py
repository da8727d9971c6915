"""Which files did the user mean, and which of them are traces?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracekit.errors import TraceError
from tracekit.manifest import is_manifest_path
from tracekit.schema import DOCUMENT

from .formats import EXPORT_HINT

SUFFIXES = (".json", ".json.gz")


@dataclass(frozen=True)
class Skipped:
    """A file of a directory that could not be read as a trace, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A file to read. A file that the user named must be a trace; a file found in a directory need not be one."""

    path: Path
    named: bool


def find(paths: Sequence[Path]) -> list[Candidate]:
    """The files among these paths and inside the directories among them. Each file appears once.

    The files of a directory are in the order of their names. Raises TraceError for a path that does not exist and for a
    directory without a candidate.
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
    # `traces/*` matches the run manifests too. If only manifests were named, they stay, and the loader reports the error.
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
    """The JSON files below the directory, without hidden files and folders, analysis bundles and run manifests.

    `seen` holds the folders that were visited before, because links may form a cycle.
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
