"""May a new bundle replace this directory, or would the user lose something?"""

from __future__ import annotations

import os
from pathlib import Path

from tracekit.errors import BundleError
from tracekit.schema import DOCUMENT
from tracekit.wording import number

MEND = "choose another directory with -o"
TABLE_SUFFIX = ".parquet"


def refuse_to_destroy(directory: Path) -> None:
    """Return if `directory` is absent or empty, or if it is a bundle that this version can read and holds nothing else.

    Raises BundleError for everything else: a file, a directory without a readable `bundle.json`, and a bundle that contains
    anything that its document does not list.
    """
    try:
        if not directory.exists():
            return
        if not directory.is_dir():
            raise BundleError("is a file, not a directory", where=directory, mend=MEND)
        names = sorted(os.listdir(directory))
        strangers = _strangers(directory, names) if names else []
    except OSError as error:
        raise BundleError(f"cannot be looked into ({error.strerror})", where=directory, mend=MEND) from error
    if strangers:
        more = f" and {number(len(strangers) - 1)} more" if len(strangers) > 1 else ""
        raise BundleError(f"holds {strangers[0]!r}{more}, not of an analysis, which would be lost", where=directory, mend=MEND)


def _strangers(directory: Path, names: list[str]) -> list[str]:
    """What the directory contains that its document does not list, as paths relative to it."""
    if DOCUMENT not in names:
        return names
    folders = _listed_folders(directory)
    found = [name for name in names if name != DOCUMENT and name not in folders]
    found += [DOCUMENT] if (directory / DOCUMENT).is_symlink() else []
    for name in sorted(folders.intersection(names)):
        folder = directory / name
        if folder.is_symlink() or not folder.is_dir():
            found.append(name)
        else:
            found += [f"{name}/{entry.name}" for entry in os.scandir(folder) if not _is_table(entry)]
    return found


def _is_table(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(TABLE_SUFFIX) and entry.is_file(follow_symlinks=False)


def _listed_folders(directory: Path) -> frozenset[str]:
    """The folders that the bundle's document lists.

    Raises BundleError if the document cannot be read, or if it lists a folder outside of the bundle.
    """
    # Imported here because it takes a while, and most often there is no bundle to replace.
    from tracekit.saved import folder_of, read_document

    try:
        document = read_document(directory)
        runs = document.get("runs", [])
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            raise BundleError("has no list of runs", where=directory / DOCUMENT)
        return frozenset(folder_of(directory, entry) for entry in (*document["traces"], *runs))
    except BundleError as error:
        what = f"is no bundle that this version may replace: its {DOCUMENT} {error.what}"
        raise BundleError(what, where=directory, mend=MEND) from error
