"""The `tracekit` command, with one thin module for each command in `commands/`.

Each command imports its stage only when it runs. So `--help` is instant, and analysing a trace never imports torch.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from tracekit import __version__
from tracekit.commands import analyze, check, collect, diff, report
from tracekit.commands.common import BAD_INPUT, INTERRUPTED
from tracekit.errors import TracekitError

app = typer.Typer(
    name="tracekit",
    help="Where a PyTorch model's time goes, why, and what to do about it.",
    epilog="[bold]Examples[/]\n\n"
    "tracekit collect --variant baseline   [dim]run GPT-2 and save a trace[/]\n\n"
    "tracekit analyze traces/              [dim]where its time goes[/]\n\n"
    "tracekit report -o report.html        [dim]the same as a page to send around[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line. Exits 0 when done, 1 when a gate failed, 2 with one line when the input is wrong."""
    try:
        # Typer returns the code of an Exit, and 130 for Ctrl-C, instead of raising.
        code = app(standalone_mode=False) or 0
    except TracekitError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Without this, Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()}; see tracekit --help")
    if code == INTERRUPTED:
        print("tracekit: interrupted", file=sys.stderr)
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    print(f"tracekit: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tracekit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Where a PyTorch model's time goes, why, and what to do about it."""


app.command(epilog=collect.EXAMPLES)(collect.collect)
app.command(epilog=analyze.EXAMPLES)(analyze.analyze)
app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=diff.EXAMPLES)(diff.diff)
app.command(epilog=check.EXAMPLES)(check.check)


if __name__ == "__main__":
    main()
