"""How is a comparison written for a pull request, in GitHub's Markdown?"""

from __future__ import annotations

from collections.abc import Iterator

from tracekit.names import renamed, shorten
from tracekit.wording import MISSING

from .comparison_view import Cell, Name, Section, View
from .terminal_text import printable

LIMIT = 90
"""Longer names are shortened in tables, as they are at a terminal."""
SPECIAL = frozenset("\\`")
"""Characters that could end a code span, or escape the character that ends it.

No name of a kernel, an operator or a layer contains them.
"""


def markdown(view: View) -> str:
    """The comparison as one Markdown text. Names from the traces are code spans, so that nothing in them acts as markup."""
    return "\n".join(_lines(view))


def _lines(view: View) -> Iterator[str]:
    yield f"### {view.headline}"
    yield ""
    yield f"A: {code(view.a.text)}  "
    yield f"B: {code(view.b.text)}"
    if view.conditions or view.cautions:
        yield ""
    for condition in view.conditions:
        a, b = (code(value) if value is not None else "not said" for value in (condition.a, condition.b))
        yield f"- ⚠ {condition.name} differs: {a} → {b}"
    for caution, quoted in view.cautions:
        yield f"- ⚠ {caution}{code(quoted.text) if quoted else ''}"
    if view.answer:
        yield ""
    for line in view.answer:
        yield f"- {line}"
    if view.facts:
        yield ""
    for fact, quoted in view.facts:
        yield f"- {fact}{code(quoted.text) if quoted else ''}"
    for section in view.sections:
        yield ""
        yield from _section(section)
    yield ""


def _section(section: Section) -> Iterator[str]:
    """A table under its title. A table that is not open is folded, and a reader can unfold it."""
    if not section.open:
        yield f"<details><summary>{section.title}{section.some}</summary>"
    else:
        yield f"**{section.title}{section.some}**"
    yield ""
    yield _row(section.columns)
    yield _row(["---" if isinstance(cell, Name) else "---:" for cell in section.rows[0]])
    for row in section.rows:
        yield _row([_cell(cell) for cell in row])
    if not section.open:
        yield ""
        yield "</details>"


def _row(cells: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Name):
        return cell
    if cell.renamed is not None:
        old, new, word = (code(text) if text else "" for text in renamed(cell.text, cell.renamed, LIMIT))
        return f"{old} → {new} for {word}" if word else f"{old} → {new}"
    return code(shorten(cell.text, LIMIT))


def code(text: str) -> str:
    """Text from a trace as a code span on one line that is safe in a cell of a table."""
    safe = "".join("�" if c in SPECIAL else c for c in printable(text)).strip()
    return "`{}`".format(safe.replace("|", "\\|")) if safe else MISSING
