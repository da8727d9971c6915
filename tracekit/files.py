"""How do we write a file or a directory so that nobody ever sees it half written?"""

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
    """Yield a temporary path beside `target`. When the block ends, it replaces `target`; if the block raises, it is deleted.

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
    """Write `data` to `target` completely or not at all. Raises TracekitError if that fails."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory. When the block ends, it replaces `target`; if the block raises, it is deleted.

    The old directory is deleted only once the new one is in its place. The caller must know that it may be lost. If `target` is
    a symbolic link, the link stays, and the directory that it leads to is replaced. Raises TracekitError if anything cannot be
    created or written.
    """
    # Without this, the new directory would replace the link itself.
    place = Path(os.path.realpath(target))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp makes a private folder. The new directory is created inside it, so it gets the usual permissions.
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
        # An old directory that could not be moved back stays in this folder, which is then not empty and not removed.
        with suppress(OSError):
            scratch.rmdir()


def _swap(place: Path, new: Path, old: Path) -> None:
    """Move what is at `place` to `old` and put `new` there. If that fails, move the old one back."""
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
    """The error for a path that cannot be written, as one line."""
    reason = error.strerror or type(error).__name__
    return TracekitError(f"cannot be written ({reason})", where=target, mend="choose another path with -o")


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
