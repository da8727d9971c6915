"""How do we write a file so that nobody ever sees half of it?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def unwritable(target: Path, error: OSError) -> TracekitError:
    """The one line for a path that cannot be written."""
    reason = error.strerror or type(error).__name__
    return TracekitError(f"cannot be written ({reason})", where=target, mend="choose another path with -o")


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
