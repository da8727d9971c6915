"""What several commands share: options, exit codes and where to print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

GATE_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

Rules = Annotated[Path | None, typer.Option(help="A TOML file of your own kernel rules, tried first.")]
Repeat = Annotated[bool, typer.Option("--repeat", help="Each side is several traces: repeats of one program.")]
SIDE = "A trace, a directory with one, or a bundle; BUNDLE:NAME of several."


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """The console for everything that is not a result, such as warnings and progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def tell(message: str, style: str) -> None:
    """Print a line to standard error as plain text: nothing in it is read as markup."""
    stderr().print(message, style=style, markup=False, soft_wrap=True)


def print_json(document: dict[str, Any]) -> None:
    """Print one document to standard output, and nothing else."""
    json.dump(document, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
