"""How does text from a trace get into a cell of a terminal, which it must not take over or overflow?"""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tracekit.names import shorten

NARROWEST = 16


def name_cell(name: str, width: int) -> Text:
    """A name from the trace, shortened to `width` cells: numbers are not to be cut for it."""
    width = max(width, NARROWEST)
    return fitted(shorten(printable(name), width), width)


def fitted(short: str, width: int) -> Text:
    """Text that was shortened by characters, some of which take two cells."""
    return Text(short if cell_len(short) <= width else f"{set_cell_size(short, width - 1)}…")


def printable(text: str) -> str:
    """The text without control characters: a terminal must not be told what to do by a kernel's name."""
    return "".join(c if c.isprintable() else "�" for c in text)
