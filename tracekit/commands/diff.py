"""`tracekit diff`: what changed from one trace to another."""

from __future__ import annotations

from typing import Annotated

import typer

from tracekit.commands.common import SIDE, Repeat, Rules, print_json, stdout
from tracekit.errors import TracekitError

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tracekit diff before.json.gz after.json.gz\n\n"
    "tracekit diff analysis:gpt2-fp16-h100 analysis:gpt2-graphs\n\n"
    "tracekit diff main/ branch/ --repeat\n\n"
    "tracekit diff main/ branch/ --markdown > comment.md"
)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, to be compared with A.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request instead.")] = False,
    repeat: Repeat = False,
    rules: Rules = None,
) -> None:
    """Compare two traces: what got faster or slower, and what explains it."""
    if as_json and as_markdown:
        raise TracekitError("cannot be given along with --json", where="--markdown", mend="leave one out")
    from tracekit.analyze.compare.comparison import compare_repeats
    from tracekit.analyze.compare.open_side import open_sides
    from tracekit.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(rules)
    comparison = compare_repeats(open_sides(a, taxonomy, repeat), open_sides(b, taxonomy, repeat))
    if as_json:
        from tracekit.analyze.output.comparison_document import comparison_document

        print_json(comparison_document(comparison))
        return
    from tracekit.analyze.output.comparison_view import view

    if as_markdown:
        from tracekit.analyze.output.comparison_markdown import markdown

        print(markdown(view(comparison)))
        return
    from tracekit.analyze.output.comparison_terminal import show_comparison

    show_comparison(view(comparison), stdout())
