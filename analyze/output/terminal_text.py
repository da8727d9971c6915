"""How is text from a trace put into a cell at a terminal, so that it neither controls the terminal nor overflows the cell?"""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tracekit.names import shorten

NARROWEST = 16


def name_cell(name: str, width: int) -> Text:
    """A name from the trace, shortened to `width` cells or NARROWEST, whichever is more, so that numbers keep their space."""
    width = max(width, NARROWEST)
    return fitted(shorten(printable(name), width), width)


def fitted(short: str, width: int) -> Text:
    """Text that already has at most `width` characters, cut to `width` cells: some characters take two cells."""
    return Text(short if cell_len(short) <= width else f"{set_cell_size(short, width - 1)}…")


def printable(text: str) -> str:
    """The text without control characters, so that a kernel's name cannot control the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)
