"""What text does a file hold? It is read and unpacked, and the next file is read ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from isal import igzip, isal_zlib

from tracekit.errors import TraceError
from tracekit.wording import counted

from .formats import EXPORT_HINT, refuse_other_formats


def read_bytes(path: Path) -> bytes:
    """The file's JSON text, unpacked if the file is gzip by its first bytes.

    Raises TraceError if the file cannot be read, is damaged, is empty or is of a format that is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"cannot be read ({error.strerror})", where=path, mend="check the path and its permissions") from error
    if data[:2] == b"\x1f\x8b":
        try:
            data = _unpack(data)
        except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # isal has no types
            raise TraceError(
                f"the gzip data is cut off or damaged within its {counted(len(data), 'byte')} ({first_line(error)})",
                where=path,
                mend="copy the file again, whole",
            ) from error
    if not data[:4096].strip() and not data.strip():  # the full strip makes a copy
        raise TraceError("the file is empty", where=path, mend=EXPORT_HINT)
    refuse_other_formats(data, path)
    return data.removeprefix(b"\xef\xbb\xbf")


def _unpack(data: bytes) -> bytes:
    unpacked: bytes = igzip.decompress(data)  # type: ignore[no-untyped-call]
    return unpacked


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_ahead(paths: Sequence[Path]) -> Iterator[Callable[[], bytes]]:
    """For each path, a function that returns its text or raises TraceError. The first file is being read from now on.

    While the caller uses one text, another thread reads and unpacks the next file. Unpacking releases the interpreter lock,
    so both run at once.
    """
    reads = [_Read(path) for path in paths]
    if reads:
        reads[0].start()
    return _in_turn(reads)


def _in_turn(reads: list[_Read]) -> Iterator[Callable[[], bytes]]:
    for number, read in enumerate(reads):
        read.join()
        if number + 1 < len(reads):
            reads[number + 1].start()
        yield read.take


class _Read(threading.Thread):
    """Reads one file."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._data = b""
        self._error: TraceError | None = None

    def run(self) -> None:
        try:
            self._data = read_bytes(self._path)
        except TraceError as error:
            self._error = error

    def take(self) -> bytes:
        """The text. It is given out once and not kept here, so the caller decides how long it lives. Raises TraceError."""
        if self._error is not None:
            raise self._error
        data, self._data = self._data, b""
        return data
