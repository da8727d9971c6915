"""Which analysed traces does an argument such as `run.json.gz`, `traces/`, `analysis/` or `analysis/:NAME` mean?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracekit.errors import BundleError, TraceError, TracekitError
from tracekit.manifest import MANIFEST_SUFFIX, manifest_path
from tracekit.schema import DOCUMENT
from tracekit.taxonomy import Taxonomy

from ..analysis import Analysis
from ..trace.inputs import find
from ..trace.loader import load
from .repeats import checked_repeats
from .side import Side, analysed, saved

NAMED = 8
"""How many traces an error message lists as choices."""


def open_side(argument: str, taxonomy: Taxonomy) -> Side:
    """Read what the argument means: a trace, a directory with one, or a bundle.

    If there are several traces, `DIRECTORY:NAME` chooses one. Raises TracekitError if the argument means no trace, if the trace
    cannot be read, or if nothing chooses one of several.
    """
    path, name = _split(argument)
    found = _found(path, taxonomy)
    return found.read(found.only if name is None and found.only is not None else _choose(found, name, path))


def open_sides(argument: str, taxonomy: Taxonomy, repeat: bool) -> tuple[Side, ...]:
    """Read the trace that the argument means, or with `repeat` all of them. Raises TracekitError as these functions do."""
    return open_repeats(argument, taxonomy) if repeat else (open_side(argument, taxonomy),)


def open_repeats(argument: str, taxonomy: Taxonomy) -> tuple[Side, ...]:
    """Read all traces that the argument means, which are repeats of one program.

    They are all traces of a directory or a bundle; with `DIRECTORY:NAME` those whose names begin with NAME. Raises
    TracekitError as `open_side` does, and if something tells that the traces are not of one program.
    """
    path, name = _split(argument)
    found = _found(path, taxonomy)
    wanted = [label for label, own in found.names.items() if not name or label.startswith(name) or own.startswith(name)]
    if not wanted:
        raise _no_choice(found, name, path)
    return checked_repeats([found.read(label) for label in wanted], argument)


@dataclass(frozen=True)
class _Found:
    """The traces at a path: the name of each by its label, how one is read, and the error for a wrong choice."""

    names: Mapping[str, str]
    read: Callable[[str], Side]
    error: type[TracekitError]

    @property
    def only(self) -> str | None:
        """The label of the trace, if there is a single one."""
        return next(iter(self.names)) if len(self.names) == 1 else None


def _found(path: Path, taxonomy: Taxonomy) -> _Found:
    if (path / DOCUMENT).is_file():
        return _of_bundle(path)
    files = {_label(candidate.path, path): candidate.path for candidate in find([path])}
    names = {label: file.name for label, file in files.items()}
    return _Found(names, lambda label: analysed(Analysis(load(files[label]), taxonomy)), TraceError)


def _of_bundle(directory: Path) -> _Found:
    # Imported here because only bundles need it and importing it takes a while.
    from tracekit.saved import read_document

    entries: dict[str, Mapping[str, Any]] = {str(entry.get("folder")): entry for entry in read_document(directory)["traces"]}
    names = {folder: str(entry.get("name") or "trace") for folder, entry in entries.items()}
    return _Found(names, lambda folder: saved(directory, entries[folder]), BundleError)


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


def _choose(traces: _Found, wanted: str | None, directory: Path) -> str:
    """The label of the trace that is wanted. Raises TracekitError if none or several are meant.

    `wanted` may be the label or the trace's name, with or without its ending; else it may be the beginning of a single name.
    """
    names = traces.names
    if wanted:
        exact = [label for label, name in names.items() if wanted in (label, name, _run(name))]
        found = exact or [label for label, name in names.items() if name.startswith(wanted)]
        if len(found) == 1:
            return found[0]
    raise _no_choice(traces, wanted, directory)


def _no_choice(traces: _Found, wanted: str | None, directory: Path) -> TracekitError:
    """The error that lists the traces, because none or several of them are meant."""
    names = traces.names
    often = Counter(names.values())
    choices = [name if often[name] == 1 else label for label, name in names.items()]
    listed = ", ".join(choices[:NAMED]) + (f" and {len(choices) - NAMED} more" if len(choices) > NAMED else "")
    what = f"holds {len(names)} traces" if not wanted else f"{wanted!r} does not choose one of its {len(names)} traces"
    repeats = "" if wanted else ", or compare all of them with --repeat if they are repeats of one program"
    return traces.error(f"{what}: {listed}", where=directory, mend=f"choose one, as in {directory}:{choices[0]}{repeats}")


def _run(name: str) -> str:
    """A trace's name without its ending, such as `.json.gz`."""
    return manifest_path(Path(name)).name.removesuffix(MANIFEST_SUFFIX)
