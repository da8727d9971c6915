"""What did a file mean to say whose text is not quite JSON?

Some releases of PyTorch write names and metadata without escaping what is in them: backslashes of Windows paths, quotes of
generated code, values such as `nan`. The text is cut between its events, so that a break touches one event only. Events that
are JSON stay as they are; the others are mended one by one (`mend_value.py`). Metadata that cannot be mended is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from tracekit.wording import counted, listed

from .mend_value import Mends, ValueMender
from .trace import TraceWarning

EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
BETWEEN = re.compile(rb'\}\s*,\s*(?=\{\s*["}])')
"""From the end of one event to the start of the next. It can also lie inside an event."""
END = re.compile(rb"\}\s*(,?)\s*\](?=\s*(?:[,}]|\Z))")
"""From the end of the last event to the end of the list. It can also lie inside an event."""
MEMBER = re.compile(rb'\s*"([^"\\]*)"\s*:\s*')
NEXT_MEMBER = re.compile(rb',\s*(?="[^"\\]*"\s*:)')
NEXT_LINE = re.compile(rb',[ \t]*\r?\n\s*(?="[^"\\]*"\s*:)')
"""Kineto begins a line with each member of the file's metadata."""
SPACE = re.compile(rb"\s*")

MOST_CUTS = 256
"""How many places are tried as the end of one event, or of one member of the metadata."""
MOST_MENDED_CUTS = 8
"""At how many of these places it is tried to mend an event that ends there."""


class BrokenTextError(Exception):
    """The text cannot be mended. `at` is the byte from which on it cannot, `cut_off` whether its end is missing."""

    def __init__(self, at: int, *, cut_off: bool = False) -> None:
        super().__init__(f"broken at byte {at}")
        self.at = at
        self.cut_off = cut_off


@dataclass(frozen=True)
class Mended:
    """The text as JSON, as far as it was not JSON, and what was mended."""

    text: bytes
    mends: Mends
    skipped: tuple[str, ...]
    """The keys of the metadata that was left out."""


def mend(data: bytes) -> Mended:
    """The text of a trace, mended. Raises BrokenTextError if some event cannot be mended or the end is missing."""
    return _Text(data).mended()


@dataclass
class _Text:
    data: bytes
    mends: Mends = field(default_factory=Mends)
    skipped: list[str] = field(default_factory=list)
    _mender: ValueMender = field(init=False)

    def __post_init__(self) -> None:
        self._mender = ValueMender(4 * len(self.data) + (1 << 16))

    def mended(self) -> Mended:
        begin, last = _end(SPACE, self.data, 0), self._last_byte()
        if self.data[last : last + 1] != (b"]" if self.data[begin : begin + 1] == b"[" else b"}"):
            raise BrokenTextError(len(self.data), cut_off=True)
        if self.data[begin : begin + 1] == b"[":
            events, after = self._events(begin + 1)
            if _end(SPACE, self.data, after) < len(self.data):
                raise BrokenTextError(after)
            return Mended(b"".join((b"[", *events, b"]")), self.mends, ())
        found = EVENTS.search(self.data)
        if self.data[begin : begin + 1] != b"{" or found is None:
            raise BrokenTextError(begin)
        before = self._before(begin + 1, found.start())
        events, after = self._events(found.end())
        if last < after:
            raise BrokenTextError(len(self.data), cut_off=True)
        behind = self._behind(after, last)
        listed = b"".join((b'"traceEvents": [', *events, b"]"))
        text = b"".join((b"{", b",\n".join((*before, listed, *behind)), b"}"))
        return Mended(text, self.mends, tuple(self.skipped))

    def _last_byte(self) -> int:
        """Where the last byte is that is no space; -1 if there is none."""
        at = len(self.data) - 1
        while at >= 0 and self.data[at : at + 1].isspace():
            at -= 1
        return at

    # --- Events ------------------------------------------------------------------------------------------------

    def _events(self, begin: int) -> tuple[list[bytes], int]:
        """The text of the events, in parts to be joined, and where their list has ended."""
        data, parts = self.data, list[bytes]()
        start = kept = _end(SPACE, data, begin)
        if data[start : start + 1] == b"]":
            return parts, start + 1
        tried = 0
        for cut in BETWEEN.finditer(data, start):
            end = cut.start() + 1
            fixed = self._event(start, end, may_mend=tried < MOST_MENDED_CUTS)
            if fixed is None:
                last = self._last_event(start, end)
                if last is not None:
                    break
                tried += 1
                if tried == MOST_CUTS:
                    raise BrokenTextError(start)
                continue
            if fixed is not UNCHANGED:
                parts += (data[kept:start], fixed)
                kept = end
            start, tried = cut.end(), 0
        else:
            last = self._last_event(start, len(data))
        if last is None:
            # A name may look like the end of the list, but then more fields follow.
            closed = END.search(data, max(start, data.rfind(b'"ph"'), data.rfind(b'"ts"'))) is not None
            raise BrokenTextError(start if closed else len(data), cut_off=not closed)
        fixed, end, after = last
        parts += (data[kept:end],) if fixed is UNCHANGED else (data[kept:start], fixed)
        return parts, after

    def _last_event(self, start: int, limit: int) -> tuple[bytes, int, int] | None:
        """The last event if it begins at `start` and ends before `limit`: its text, its end and the end of the list."""
        for number, end in enumerate(END.finditer(self.data, start, limit)):
            if number == MOST_CUTS:
                return None
            fixed = self._event(start, end.start() + 1, may_mend=number < MOST_MENDED_CUTS)
            if fixed is not None:
                self.mends.commas += bool(end.group(1))
                return fixed, end.start() + 1, end.end()
        return None

    def _event(self, start: int, end: int, *, may_mend: bool) -> bytes | None:
        """The text of the event that stands here; UNCHANGED if it is JSON, None if it cannot be mended."""
        piece = self.data[start:end]
        if _is_json(piece):
            return UNCHANGED
        return self._mender.event(piece, self.mends) if may_mend else None

    # --- Metadata ----------------------------------------------------------------------------------------------

    def _before(self, begin: int, end: int) -> list[bytes]:
        """The members of the document before the list of events."""
        return self._members(begin, begin + len(self.data[begin:end].rstrip().removesuffix(b",")))

    def _behind(self, begin: int, end: int) -> list[bytes]:
        """The members of the document after the list of events."""
        written = self.data[begin:end].rstrip()
        if written.endswith(b","):
            self.mends.commas += 1
            written = written[:-1]
        end = begin + len(written)
        begin = _end(SPACE, self.data, begin)
        return self._members(begin + (self.data[begin:end][:1] == b","), end)

    def _members(self, begin: int, end: int) -> list[bytes]:
        """The members of the document that stand here, each as `"key": value`."""
        end = begin + len(self.data[begin:end].rstrip())
        found = []
        while begin < end:
            key = MEMBER.match(self.data, begin, end)
            if key is None:
                raise BrokenTextError(_end(SPACE, self.data, begin))
            value, begin = self._value(key.end(), end)
            if value is None:
                self.skipped.append(key.group(1).decode("utf-8", "replace"))
            else:
                found.append(b'"%b": %b' % (key.group(1), value))
        return found

    def _value(self, begin: int, end: int) -> tuple[bytes | None, int]:
        """The value that begins here, mended, and where the next member begins. None for a value that cannot be mended."""
        for stop, after in self._ends(begin, end):
            piece = self.data[begin:stop].rstrip()
            value = piece if _is_json(piece, anything=True) else self._mender.metadata(piece, self.mends)
            if value is not None:
                return value, after
        line = NEXT_LINE.search(self.data, begin, end)
        return None, end if line is None else line.end()

    def _ends(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the value that begins here may end, and where the next member would then begin: first at ends of lines."""
        for pattern in (NEXT_LINE, NEXT_MEMBER):
            for found in islice(pattern.finditer(self.data, begin, end), MOST_CUTS):
                yield found.start(), found.end()
        yield end, end


UNCHANGED = b""
"""Stands for an event that needs no mend."""

_DECODER = msgspec.json.Decoder()


def _is_json(piece: bytes, *, anything: bool = False) -> bool:
    try:
        value = _DECODER.decode(piece)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return anything or isinstance(value, dict)


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the pattern, which matches at any place, ends."""
    found = pattern.match(data, at)
    return at if found is None else found.end()


def warnings(mended: Mended) -> Iterator[TraceWarning]:
    """What the reader of a mended trace must know."""
    mends, skipped = mended.mends, mended.skipped
    told: tuple[tuple[str, int, str, str], ...] = (
        (
            "unescaped_backslashes",
            mends.backslashes,
            "text holds backslashes that are not escaped; it was read as it is written",
            "texts hold backslashes that are not escaped; they were read as they are written",
        ),
        (
            "unescaped_quotes",
            mends.quotes,
            "text holds quotes that are not escaped; it was read as it is written",
            "texts hold quotes that are not escaped; they were read as they are written",
        ),
        (
            "unreadable_values",
            mends.values,
            "value, such as nan, is not JSON; it counts as not recorded",
            "values, such as nan, are not JSON; they count as not recorded",
        ),
        (
            "trailing_commas",
            mends.commas,
            "comma stands before a closing bracket; it was ignored",
            "commas stand before a closing bracket; they were ignored",
        ),
        (
            "skipped_metadata",
            len(skipped),
            f"entry of the file's metadata is not JSON and was left out: {listed(skipped)}",
            f"entries of the file's metadata are not JSON and were left out: {listed(skipped)}",
        ),
    )
    for code, count, one, many in told:
        if count:
            yield TraceWarning(code, counted(count, one, many), count)
