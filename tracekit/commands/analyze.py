"""`tracekit analyze`: figures, findings and a bundle of any torch.profiler traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracekit.commands.common import Rules, print_json, stdout, tell

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tracekit analyze traces/\n\n"
    "tracekit analyze rank0.json.gz rank1.json.gz -o ranks\n\n"
    "tracekit analyze traces/ --project T4\n\n"
    "tracekit analyze trace.json --steps steady\n\n"
    "tracekit analyze trace.json --step-time 1.48ms\n\n"
    "tracekit analyze trace.json --critical-path-in ProfilerStep\n\n"
    "tracekit analyze trace.json --json > figures.json"
)


def analyze(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Traces (.json, .json.gz) or directories of them; traces/ by default.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the bundle goes; analysis/ by default.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of tables; a bundle only with -o.")
    ] = False,
    rules: Rules = None,
    device_table: Annotated[
        Path | None, typer.Option(help="A TOML file of your own devices' peaks, tried first; entries as in devices.toml.")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Project the kernels onto another device, as T4 or L4 (not measured).")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS", help="Analyse some steps alone: 3-8, steady, warmup, decode, prefill, first:5 or last:5."
        ),
    ] = None,
    step_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long a step takes without the profiler, as 1.48ms: savings are then told of such a step."
        ),
    ] = None,
    per_step: Annotated[
        bool, typer.Option("--per-step", help="Add columns per step to the tables of --json and of the bundle.")
    ] = False,
    critical_path: Annotated[
        bool, typer.Option("--critical-path", help="Find the chain of events that the time depended on, through HTA.")
    ] = False,
    critical_path_in: Annotated[
        str | None,
        typer.Option(metavar="NAME[:INDEX]", help="The same within an annotation, its longest instance or the one numbered."),
    ] = None,
) -> None:
    """Analyse torch.profiler traces: kernels, idle time, launches, what to do."""
    from tracekit.analyze.run import analyze as run
    from tracekit.progress import progress

    directory = None if as_json and output is None else output or Path("analysis")
    found = run(
        paths or [Path("traces")],
        output=directory,
        rules=rules,
        device_table=device_table,
        project=project,
        steps=steps,
        step_time=step_time,
        per_step=per_step,
        critical_path=critical_path,
        critical_path_in=critical_path_in,
        on_skip=lambda skipped: tell(f"skipped {skipped.path}: {skipped.reason}", style="yellow"),
        progress=progress,
    )
    if as_json:
        print_json(found.document())
        return
    from tracekit.analyze.output.terminal import show, show_run

    console = stdout()
    for analysis in found.analyses:
        show(analysis, console)
    for one in found.runs:
        show_run(one, console)
    tell(f"\nwrote {directory}/ — next: tracekit report -o report.html", style="dim")
