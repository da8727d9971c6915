"""`tracekit report`: a bundle as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "[bold]Examples[/]\n\ntracekit report -o report.html\n\ntracekit report ranks -o ranks.html"


def report(
    bundle: Annotated[Path, typer.Argument(help="The directory that `tracekit analyze` wrote.")] = Path("analysis"),
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Render an analysis as one self-contained HTML dossier."""
    from tracekit.report.render import render

    print(render(bundle, output))
