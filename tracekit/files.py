"""How do we write a file or a directory so that nobody ever sees half of it?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracekit.errors import TracekitError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that replaces it when the block ends, and vanishes if the block raises.

    Raises TracekitError if the directory cannot be created or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes) -> None:
    """Write `data` to `target` as a whole or not at all. Raises TracekitError if that fails."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory that takes the place of `target` when the block ends, and vanishes if the block raises.

    What stood there is deleted only once the new one is in its place; whether it may be lost is the caller's to know. Where
    `target` is a symbolic link, the link stays, and what it leads to is replaced. Raises TracekitError if anything cannot be
    created or written.
    """
    # A link's own place would be taken by the new directory.
    place = Path(os.path.realpath(target))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Within a folder of its own, so that the new directory gets the usual permissions.
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise unwritable(target, error) from error
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()
        yield new
        _swap(place, new, old)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        # What could not be brought back stays where it is: then the folder is not empty, and not removed.
        with suppress(OSError):
            scratch.rmdir()


def _swap(place: Path, new: Path, old: Path) -> None:
    """Put `new` in its place and what stood there into `old`; whatever goes wrong, it comes back."""
    existed = place.exists()
    if existed:
        place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        if existed:
            old.rename(place)
        raise


def unwritable(target: Path, error: OSError) -> TracekitError:
    """The one line for a path that cannot be written."""
    reason = error.strerror or type(error).__name__
    return TracekitError(f"cannot be written ({reason})", where=target, mend="choose another path with -o")


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
