"""How is a comparison shown at a terminal?"""

from __future__ import annotations

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tracekit.names import renamed, shorten_path

from ..compare.conditions import Condition
from .comparison_view import Cell, Name, Section, View
from .terminal_text import NARROWEST, fitted, name_cell, printable

WIDE = 100
BAR = 12
ARROW = "→ "
PADDING = 3
"""How many cells a column takes in addition to its text."""
BETTER, WORSE = "green", "red"


def show_comparison(view: View, console: Console) -> None:
    """Print a comparison. Names from the traces are printed as plain text, never as markup."""
    console.print()
    for label, name in (("A", view.a), ("B", view.b)):
        console.print(Text.assemble((f"{label}  ", "bold"), printable(name.text)), overflow="fold")
    for condition in view.conditions:
        console.print(Text(f"! differs: {_condition(condition)}", style="yellow"), overflow="fold")
    for caution, quoted in view.cautions:
        console.print(Text(f"! {caution}{printable(quoted.text) if quoted else ''}", style="yellow"), overflow="fold")
    console.print(Text(f"\n{view.headline}", style="bold"))
    for line in view.answer:
        console.print(Text(line))
    for fact, quoted in view.facts:
        console.print(Text(f"{fact}{printable(quoted.text) if quoted else ''}", style="dim"))
    for section in view.sections:
        console.print(_title(section))
        console.print(_table(section, console.width))


def _condition(condition: Condition) -> str:
    a, b = (printable(value) if value is not None else "not said" for value in (condition.a, condition.b))
    return f"{condition.name}: {a} → {b}"


def _title(section: Section) -> Text:
    return Text.assemble("\n", (section.title, "bold"), (section.some, "dim"))


def _table(section: Section, width: int) -> RichTable:
    shown = [place for place, column in enumerate(section.columns) if width >= WIDE or column not in section.wide]
    names = [place for place in shown if isinstance(section.rows[0][place], Name)]
    widths = _widths(section, shown, names, width - (BAR + PADDING if section.shares else 0))
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for place in shown:
        table.add_column(section.columns[place], justify="left" if place in names else "right", no_wrap=True)
    if section.shares:
        table.add_column("", no_wrap=True)
    for number, row in enumerate(section.rows):
        bar = [_bar(section.shares[number])] if section.shares else []
        is_total = bool(section.shares) and number == len(section.rows) - 1
        table.add_row(*(_cell(row[place], widths[place]) for place in shown), *bar, style="bold" if is_total else "")
    return table


def _widths(section: Section, shown: list[int], names: list[int], width: int) -> dict[int, int]:
    """The width of each column, in cells: numbers get what they need, and names share the rest.

    The first column of names gets the largest part of it.
    """
    texts = {place: [section.columns[place], *(_plain(row[place]) for row in section.rows)] for place in shown}
    needed = {place: max(map(cell_len, texts[place])) for place in shown}
    room = width - sum(PADDING + (0 if place in names else needed[place]) for place in shown)
    for place in reversed(names[1:]):
        needed[place] = min(needed[place], room // 3)
        room -= needed[place]
    return needed | {names[0]: room}


def _plain(cell: Cell) -> str:
    return cell.text if isinstance(cell, Name) else cell


def _cell(cell: Cell, width: int) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    if cell.renamed is not None:
        # The new name stands below the old one, after an arrow.
        room = max(width, NARROWEST) - len(ARROW)
        old, new, word = renamed(printable(cell.text), printable(cell.renamed), room)
        return Text.assemble(fitted(old, room), "\n", ARROW, fitted(f"{new} for {word}" if word else new, room))
    if cell.is_path:
        return fitted(shorten_path(printable(cell.text), width), width)
    return name_cell(cell.text, width)


def _bar(part: float) -> Text:
    """A bar whose length shows the change as a share of A's span. A full bar is a change by the whole span or more."""
    return Text("█" * min(round(abs(part) * BAR), BAR), style=BETTER if part < 0 else WORSE)
