"""Which analysed trace does an argument such as `run.json.gz`, `traces/`, `analysis/` or `analysis/:NAME` mean?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracekit.errors import BundleError, TraceError, TracekitError
from tracekit.manifest import MANIFEST_SUFFIX, manifest_path
from tracekit.schema import DOCUMENT
from tracekit.taxonomy import Taxonomy

from ..analysis import Analysis
from ..trace.inputs import find
from ..trace.loader import load
from .side import Side, analysed, saved

NAMED = 8
"""How many traces an error message lists as choices."""


def open_side(argument: str, taxonomy: Taxonomy) -> Side:
    """Read what the argument means: a trace, a directory with one, or a bundle.

    If there are several traces, `DIRECTORY:NAME` chooses one. Raises TracekitError if the argument means no trace, if the trace
    cannot be read, or if nothing chooses one of several.
    """
    path, name = _split(argument)
    if (path / DOCUMENT).is_file():
        return _of_bundle(path, name)
    candidates = {_label(candidate.path, path): candidate.path for candidate in find([path])}
    if name is None and len(candidates) == 1:
        (chosen,) = candidates
    else:
        chosen = _choose({label: file.name for label, file in candidates.items()}, name, path, TraceError)
    return analysed(Analysis(load(candidates[chosen]), taxonomy))


def _of_bundle(directory: Path, name: str | None) -> Side:
    # Imported here because only bundles need it and importing it takes a while.
    from tracekit.saved import read_document

    entries: dict[str, Mapping[str, Any]] = {str(entry.get("folder")): entry for entry in read_document(directory)["traces"]}
    if name is None and len(entries) == 1:
        (chosen,) = entries
    else:
        names = {folder: str(entry.get("name") or "trace") for folder, entry in entries.items()}
        chosen = _choose(names, name, directory, BundleError)
    return saved(directory, entries[chosen])


def _split(argument: str) -> tuple[Path, str | None]:
    """The path, and the name after a colon; the name is None if the whole argument is an existing path."""
    if not Path(argument).exists():
        parts = argument.split(":")
        for end in range(len(parts) - 1, 0, -1):
            path = Path(":".join(parts[:end]))
            if path.is_dir():
                return path, ":".join(parts[end:])
    return Path(argument), None


def _label(file: Path, directory: Path) -> str:
    return str(file.relative_to(directory)) if directory.is_dir() else file.name


def _choose(names: Mapping[str, str], wanted: str | None, directory: Path, error: type[TracekitError]) -> str:
    """The label of the trace that is wanted. Raises `error` if none or several are meant.

    `wanted` may be the label or the trace's name, with or without its ending; else it may be the beginning of a single name.
    """
    if wanted:
        exact = [label for label, name in names.items() if wanted in (label, name, _run(name))]
        found = exact or [label for label, name in names.items() if name.startswith(wanted)]
        if len(found) == 1:
            return found[0]
    often = Counter(names.values())
    choices = [name if often[name] == 1 else label for label, name in names.items()]
    listed = ", ".join(choices[:NAMED]) + (f" and {len(choices) - NAMED} more" if len(choices) > NAMED else "")
    what = f"holds {len(names)} traces" if not wanted else f"{wanted!r} does not choose one of its {len(names)} traces"
    raise error(f"{what}: {listed}", where=directory, mend=f"choose one, as in {directory}:{choices[0]}")


def _run(name: str) -> str:
    """A trace's name without its ending, such as `.json.gz`."""
    return manifest_path(Path(name)).name.removesuffix(MANIFEST_SUFFIX)
