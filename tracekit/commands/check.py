"""`tracekit check`: hold a trace against another one or against budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracekit.commands.common import GATE_FAILED, SIDE, Repeat, Rules, print_json, tell

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tracekit check new.json.gz --against old.json.gz\n\n"
    "tracekit check new.json.gz --against old-bundle --max-regression 10%\n\n"
    "tracekit check new/ --against old/ --repeat\n\n"
    "tracekit check new.json.gz --budget budgets.toml"
)


def check(
    new: Annotated[str, typer.Argument(metavar="NEW", help=SIDE)],
    against: Annotated[str | None, typer.Option(metavar="OLD", help="The same: what NEW may not be slower than.")] = None,
    max_regression: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="By how much NEW may be slower; 5% without --budget.")
    ] = None,
    budget: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of budgets.")] = None,
    idle: Annotated[bool, typer.Option("--idle", help="Check the GPU's span and each cause of idle time as well.")] = False,
    repeat: Repeat = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Check NEW even where the profiler lost events.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    rules: Rules = None,
) -> None:
    """Hold a trace against another one or against budgets; exits 1 if it fails."""
    from tracekit.analyze.compare.budgets import choose_budgets
    from tracekit.analyze.compare.gates import complete, hold
    from tracekit.analyze.compare.open_side import open_sides
    from tracekit.analyze.output.gate_report import cautions, document, lines
    from tracekit.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(rules)
    old = open_sides(against, taxonomy, repeat) if against is not None else None
    sides = open_sides(new, taxonomy, repeat)
    chosen = choose_budgets(budget, max_regression, old, sides, idle)
    gates = (*(() if allow_incomplete else (complete(sides),)), *hold(sides, old, chosen.budgets))
    for caution in cautions(sides, old, chosen.notes):
        tell(caution, style="yellow")
    if as_json:
        print_json(document(sides, old, gates))
    else:
        for line in lines(gates):
            print(line)
    if not all(gate.passed for gate in gates):
        raise typer.Exit(GATE_FAILED)
