r"""What did one broken piece of JSON, such as an event, mean to say?

The piece is read from left to right. A quote ends a text only if what follows it is plausible JSON. If the rest then makes no
sense, the last quote that could have ended a text later is tried. As few texts as possible are taken to hold raw quotes.

So a piece is mended only if all of it makes sense: every bracket is closed, no key is broken, and no field of an event has
ended up inside a text.

Within a text there are two breaks. Raw quotes are escaped. If some backslash begins no escape (`\U`, `\x`), nobody escaped this
text, so every backslash in it stands for itself: in `C:\new\x.py`, `\n` is no line break.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

FIELDS = (b"ph", b"cat", b"name", b"pid", b"tid", b"ts", b"dur", b"args")
"""The fields of an event. A mend that hides one of them in a text is wrong."""

OWN_FIELD = re.compile(rb'"(?:ph|ts|dur|pid|tid)"\s*:')
"""A field that only an event has. No text with raw quotes reaches beyond one, or it would swallow this event or the next."""

TOKEN = re.compile(rb'\s*(?:([{}\[\],:"])|([^\s{}\[\],:"]+))')
KEY = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"\s*:', re.DOTALL)
MOST_STEPS = 50_000
"""How many tokens are read at most until the piece makes sense."""
SCALAR = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|NaN|-?Infinity")
MOST_WITH_QUOTES = (0, 1, 2, 4)
"""How many texts of one piece may hold raw quotes. The first number with which the piece makes sense is taken."""
NO_VALUE = re.compile(rb"[-+]?(?:nan(?:\([a-z]+\))?|inf(?:inity)?)|N/A|None|undefined", re.IGNORECASE)
"""Words that other languages print for a value that is not there."""

AFTER_IN_OBJECT = re.compile(rb'\s*(?:,\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:|,?\s*\}\s*(?:[,}\]]|\Z))', re.DOTALL)
AFTER_IN_LIST = re.compile(rb'\s*(?:,\s*["{\[\-0-9tfnNIi]|,?\s*\]\s*(?:[,}\]]|\Z))')
AFTER_ALL = re.compile(rb"\s*\Z")
"""What follows a text, by where it stands."""

ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
BACKSLASHES = re.compile(rb'(\\*)(")|\\+')


@dataclass
class Mends:
    """How much was mended, by kind."""

    backslashes: int = 0
    """Texts in which backslashes were not escaped."""
    quotes: int = 0
    """Texts in which quotes were not escaped."""
    values: int = 0
    """Values that were no JSON and became null."""
    commas: int = 0
    """Commas after the last member of a list or an object."""

    def count(self, kinds: Sequence[str]) -> None:
        """Count one more of each of these kinds."""
        for kind in kinds:
            setattr(self, kind, getattr(self, kind) + 1)

    def add(self, other: Mends) -> None:
        """Count those of the other as well."""
        self.backslashes += other.backslashes
        self.quotes += other.quotes
        self.values += other.values
        self.commas += other.commas


class ValueMender:
    """Mends pieces of one file, as long as they are not too many bytes altogether."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    def event(self, piece: bytes, mends: Mends) -> bytes | None:
        """The event, mended, or None if it cannot be. What was mended is added to `mends`."""
        fixed = self._fixed(piece, is_event=True)
        if fixed is None:
            return None
        mends.add(fixed[1])
        return fixed[0]

    def metadata(self, piece: bytes, mends: Mends) -> bytes | None:
        """A value of the metadata, mended, or None if it cannot be.

        A text that holds the JSON of an object or a list is that object or list: somebody put quotes around it.
        """
        inside = piece[1:-1].strip()
        if piece[:1] == b'"' == piece[-1:] and inside[:1] in (b"{", b"[") and _parses(inside):
            mends.quotes += 1
            return inside
        fixed = self._fixed(piece, is_event=False)
        if fixed is None or (fixed[1].quotes and not _balanced(piece)):
            return None
        mends.add(fixed[1])
        return fixed[0]

    def _fixed(self, piece: bytes, *, is_event: bool) -> tuple[bytes, Mends] | None:
        simple = _with_backslashes_doubled(piece)
        if simple is not None:
            return simple
        for most in MOST_WITH_QUOTES:
            self._left -= len(piece)
            fixed = _Reader(piece, is_event, most).read() if self._left > 0 else None
            if fixed is not None:
                return fixed
        return None


def _with_backslashes_doubled(piece: bytes) -> tuple[bytes, Mends] | None:
    """The piece, mended, if backslashes are all that is wrong with it. Most broken events are of this kind."""
    parts, mends = piece.split(b'"'), Mends()
    for place in range(1, len(parts), 2):
        if b"\\" in parts[place]:
            if parts[place].endswith(b"\\"):
                return None
            parts[place], kinds = _escaped(parts[place])
            mends.count(kinds)
    text = b'"'.join(parts)
    return (text, mends) if _parses(text) else None


def _parses(piece: bytes) -> bool:
    try:
        msgspec.json.decode(piece)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _balanced(piece: bytes) -> bool:
    return piece.count(b"{") == piece.count(b"}") and piece.count(b"[") == piece.count(b"]")


@dataclass(frozen=True)
class _Choice:
    """A text that may end at other places than the one that was tried."""

    begin: int
    ends: Iterator[int]
    open: tuple[int, ...]
    edits: int
    seen: int
    mended: int


@dataclass(frozen=True)
class _Edit:
    """A part of the piece that has to be written differently, and which breaks it had."""

    begin: int
    end: int
    text: bytes
    kinds: tuple[str, ...]


OBJECT, LIST = ord("{"), ord("[")
VALUE, KEY_NEXT, AFTER = range(3)
"""What is expected next: a value, a key, or what follows a value."""
NEEDED, EMPTY = -1, -2
"""Instead of the place of the last comma: a bracket may not close here; it may, because it holds nothing."""


class _DeadEndError(Exception):
    """From here on, the piece makes no sense."""


class _Reader:
    """Reads one piece, and remembers what has to be changed in it."""

    def __init__(self, piece: bytes, is_event: bool, most_with_quotes: int) -> None:
        self._piece = piece
        self._is_event = is_event
        self._most = most_with_quotes
        self._mended = 0  # how many texts with raw quotes there are so far
        self._at = 0
        self._expected = VALUE
        self._comma = NEEDED
        self._open: tuple[int, ...] = ()
        self._edits: list[_Edit] = []
        self._seen: list[bytes] = []
        self._choices: list[_Choice] = []
        self._steps = min(200 + 8 * piece.count(b'"'), MOST_STEPS)

    def read(self) -> tuple[bytes, Mends] | None:
        """The mended piece and what was mended; None if the piece makes no sense."""
        while True:
            try:
                while not self._finished():
                    self._step()
                return self._edited()
            except _DeadEndError:
                if not self._took_another_end():
                    return None

    def _finished(self) -> bool:
        if self._open or self._expected != AFTER:
            return False
        if not AFTER_ALL.match(self._piece, self._at):
            raise _DeadEndError
        if self._is_event and any(self._hidden(name) for name in FIELDS):
            raise _DeadEndError
        return True

    def _hidden(self, name: bytes) -> bool:
        """Whether the piece seems to have this field, but the event has not."""
        return name not in self._seen and re.search(rb'"%b"\s*:' % name, self._piece) is not None

    def _took_another_end(self) -> bool:
        """Go back to the last text that may end later. False if there is none."""
        while self._choices and self._steps > 0:
            choice = self._choices[-1]
            end = next(choice.ends, None)
            if end is None:
                self._choices.pop()
                continue
            self._open, self._mended = choice.open, choice.mended
            del self._edits[choice.edits :], self._seen[choice.seen :]
            self._take(choice.begin, end)
            return True
        return False

    def _step(self) -> None:
        self._steps -= 1
        found = TOKEN.match(self._piece, self._at)
        if found is None or self._steps <= 0:
            raise _DeadEndError
        mark, word = found.groups()
        if mark == b'"':
            self._text(found.end() - 1)
        elif word is not None:
            self._word(found.start(2), word)
        elif mark in b"{[":
            self._opened(mark[0])
        elif mark == b",":
            self._separated(found.end() - 1)
        elif mark in b"}]":
            self._closed(OBJECT if mark == b"}" else LIST)
        else:
            raise _DeadEndError
        if mark != b'"':
            self._at = found.end()

    def _opened(self, mark: int) -> None:
        if self._expected != VALUE:
            raise _DeadEndError
        self._open = (*self._open, mark)
        self._expected = KEY_NEXT if mark == OBJECT else VALUE
        self._comma = EMPTY

    def _separated(self, at: int) -> None:
        if self._expected != AFTER or not self._open:
            raise _DeadEndError
        self._expected = KEY_NEXT if self._open[-1] == OBJECT else VALUE
        self._comma = at

    def _closed(self, mark: int) -> None:
        """A bracket closes after a value, at once, or after a comma that has to go."""
        if not self._open or self._open[-1] != mark or (self._expected != AFTER and self._comma == NEEDED):
            raise _DeadEndError
        if self._expected != AFTER and self._comma >= 0:
            self._edits.append(_Edit(self._comma, self._comma + 1, b"", ("commas",)))
        self._open = self._open[:-1]
        self._done()

    def _done(self) -> None:
        """A value has been read."""
        self._expected = AFTER
        self._comma = NEEDED

    def _word(self, at: int, word: bytes) -> None:
        if self._expected != VALUE:
            raise _DeadEndError
        if not SCALAR.fullmatch(word):
            if not NO_VALUE.fullmatch(word):
                raise _DeadEndError
            self._edits.append(_Edit(at, at + len(word), b"null", ("values",)))
        self._done()

    def _text(self, begin: int) -> None:
        if self._expected == KEY_NEXT:
            self._key(begin)
        elif self._expected == VALUE:
            ends = self._ends(begin)
            end = next(ends, None)
            if end is None:
                raise _DeadEndError
            self._choices.append(_Choice(begin, ends, self._open, len(self._edits), len(self._seen), self._mended))
            self._take(begin, end)
        else:
            raise _DeadEndError

    def _key(self, begin: int) -> None:
        found = KEY.match(self._piece, begin)
        if found is None or b"\\" in ESCAPE.sub(b"", found.group(1)):
            raise _DeadEndError
        name = found.group(1)
        if len(self._open) == 1:
            if name in FIELDS and name in self._seen:
                raise _DeadEndError
            self._seen.append(name)
        self._at = found.end()
        self._expected = VALUE
        self._comma = NEEDED

    def _ends(self, begin: int) -> Iterator[int]:
        """The quotes that may end the text that begins here."""
        after = AFTER_ALL if not self._open else AFTER_IN_OBJECT if self._open[-1] == OBJECT else AFTER_IN_LIST
        may_hold_quotes = self._mended < self._most
        field = OWN_FIELD.search(self._piece, begin + 1) if self._is_event else None
        limit = len(self._piece) if field is None else field.start()
        at = self._piece.find(b'"', begin + 1)
        while 0 <= at < limit and self._steps > 0:
            if after.match(self._piece, at + 1):
                yield at
            if not may_hold_quotes and not self._is_escaped(at):
                return
            self._steps -= 1
            at = self._piece.find(b'"', at + 1)

    def _is_escaped(self, quote: int) -> bool:
        """Whether an odd number of backslashes stands before the quote."""
        at = quote
        while self._piece[at - 1 : at] == b"\\":
            at -= 1
        return (quote - at) % 2 == 1

    def _take(self, begin: int, end: int) -> None:
        """Take the text between these quotes for the value."""
        written = self._piece[begin + 1 : end]
        if b"\\" in written or b'"' in written:
            text, kinds = _escaped(written)
            if kinds:
                self._edits.append(_Edit(begin + 1, end, text, kinds))
                self._mended += "quotes" in kinds
        self._at = end + 1
        self._done()

    def _edited(self) -> tuple[bytes, Mends]:
        mends, kept = Mends(), 0
        parts: list[bytes] = []
        for edit in self._edits:
            parts += (self._piece[kept : edit.begin], edit.text)
            kept = edit.end
            mends.count(edit.kinds)
        return b"".join((*parts, self._piece[kept:])), mends


def _escaped(written: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A text as JSON writes it, and which breaks it had."""
    raw = b"\\" in ESCAPE.sub(b"", written)
    inner = any(found.group(2) and len(found.group(1)) % 2 == 0 for found in BACKSLASHES.finditer(written))

    def escape(found: re.Match[bytes]) -> bytes:
        run, quote = found.group(1) or b"", found.group(2)
        if not quote:
            return found.group() * (2 if raw else 1)
        if len(run) % 2:
            run = run[:-1]  # the last one escapes the quote
        return run * (2 if raw else 1) + b'\\"'

    kinds = (*(("backslashes",) if raw else ()), *(("quotes",) if inner else ()))
    return BACKSLASHES.sub(escape, written), kinds
