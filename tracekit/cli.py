"""The `tracekit` command: one thin command a stage.

Each command imports its stage when it runs, so that `--help` is instant and analysing a trace never imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tracekit import __version__
from tracekit.errors import TracekitError

if TYPE_CHECKING:
    from rich.console import Console

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

GATE_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


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
        # The reader has gone, as `head` does; keep Python from complaining about it at exit.
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


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _tell(message: str, style: str) -> None:
    """Print a line to standard error, whatever it holds."""
    _stderr().print(message, style=style, markup=False, soft_wrap=True)


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


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tracekit collect --all\n\n"
    "tracekit collect --variant baseline --variant fp16-compiled-graphs --batch 16\n\n"
    "tracekit collect --variant baseline --attention explicit --layers\n\n"
    "tracekit collect --model tiny --weights random --device cpu --new-tokens 16"
)
def collect(
    variant: Annotated[
        list[str] | None, typer.Option(help="What to run, baseline by default; may be repeated. --list names them all.")
    ] = None,
    all_variants: Annotated[bool, typer.Option("--all", help="Run every variant that the device supports.")] = False,
    list_variants: Annotated[bool, typer.Option("--list", help="List the variants and exit.")] = False,
    workload: Annotated[
        str, typer.Option(help="generate (with a KV cache), recompute (without) or prefill (the prompt alone).")
    ] = "generate",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    model: Annotated[str, typer.Option(help="A preset (tiny, gpt2, gpt2-medium, …) or a checkpoint directory.")] = "gpt2",
    weights: Annotated[str, typer.Option(help="auto, pretrained, random or a path.")] = "auto",
    batch: Annotated[int, typer.Option(help="Sequences at a time.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="Text to go on from, where the tokenizer can be had.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="Length of a random prompt; 16 by default.")] = None,
    new_tokens: Annotated[int | None, typer.Option(help="Tokens to generate; 100 by default.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Draw tokens at this temperature; greedy by default.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the most likely tokens alone.")] = None,
    attention: Annotated[str, typer.Option(help="sdpa (fused) or explicit (an operator a step).")] = "sdpa",
    layers: Annotated[bool, typer.Option("--layers", help="Mark the layers in the traces of eager variants.")] = False,
    tf32: Annotated[bool, typer.Option("--tf32/--no-tf32", help="Let FP32 variants round to TF32.")] = False,
    profile_tokens: Annotated[int, typer.Option(help="Tokens inside the profiled window.")] = 8,
    repeats: Annotated[int | None, typer.Option(help="Timed runs without the profiler; 20, or 3 on a CPU.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before the timed ones.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random weights and prompts.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the traces go.")] = Path("traces"),
    resume: Annotated[bool, typer.Option("--resume", help="Keep what was collected with these very settings.")] = False,
) -> None:
    """Run GPT-2 variants, time them in turns, and save a profiler trace of each."""
    from tracekit.collect.options import CollectOptions
    from tracekit.collect.run import run
    from tracekit.collect.terminal import RichConsole
    from tracekit.collect.variants import VARIANTS

    if list_variants:
        for one in VARIANTS:
            print(f"{one.name:<21} {one.summary}; needs {one.needs}")
        return
    if variant and all_variants:
        raise TracekitError("cannot be given along with --variant", where="--all", mend="leave one out")
    options = CollectOptions(
        variants=tuple(variant or ("baseline",)),
        all_variants=all_variants,
        workload=workload,
        attention=attention,
        layers=layers,
        tf32=tf32,
        device=device,
        model=model,
        weights=weights,
        batch=batch,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        temperature=temperature,
        top_k=top_k,
        profile_tokens=profile_tokens,
        repeats=repeats,
        warmup=warmup,
        seed=seed,
        output=output,
        resume=resume,
    )
    with RichConsole(_stderr()) as console:
        traces = run(options, console)
    for trace in traces:
        print(trace)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tracekit analyze traces/\n\n"
    "tracekit analyze rank0.json.gz rank1.json.gz -o ranks\n\n"
    "tracekit analyze traces/ --project T4\n\n"
    "tracekit analyze trace.json --steps steady\n\n"
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
    rules: Annotated[Path | None, typer.Option(help="A TOML file of your own kernel rules, tried first.")] = None,
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
    from tracekit.analyze.trace.inputs import Skipped, find
    from tracekit.analyze.trace.source import read_ahead

    directory = None if as_json and output is None else output or Path("analysis")
    if directory is not None and directory.exists():
        from tracekit.analyze.output.replaceable import refuse_to_destroy

        refuse_to_destroy(directory)  # before the work, not after it
    candidates = find(paths or [Path("traces")])
    # The first file is unpacked while the rest is imported: on a large trace both take about as long.
    texts = read_ahead([candidate.path for candidate in candidates])

    from tracekit.analyze.analysis import Analysis, among_ranks
    from tracekit.analyze.ranks.job import find_runs
    from tracekit.analyze.structure.selection import select
    from tracekit.analyze.trace.batch import load_all
    from tracekit.devices import choose_datasheet, load_datasheets
    from tracekit.progress import progress
    from tracekit.taxonomy import Taxonomy

    def report_skipped(skipped: Skipped) -> None:
        _tell(f"skipped {skipped.path}: {skipped.reason}", style="yellow")

    window = None
    if critical_path or critical_path_in is not None:
        from tracekit.analyze.path.critical_path import Window
        from tracekit.analyze.path.hta_graph import require_hta

        require_hta()
        window = Window.parse(critical_path_in) if critical_path_in is not None else Window()
    taxonomy, sheets = Taxonomy.load(rules), load_datasheets(device_table)
    target = choose_datasheet(project, sheets) if project is not None else None
    with progress(len(candidates)) as advance:
        traces, skipped = load_all(candidates, texts, report_skipped, advance)
        chosen = [(trace, None) if steps is None else select(trace, steps) for trace in traces]
        analyses = [Analysis(trace, taxonomy, sheets, target, picked, per_step, window) for trace, picked in chosen]
        runs = find_runs([one.trace for one in analyses], [one.communication for one in analyses])
        analyses = among_ranks(analyses, runs)
        if directory is not None:
            from tracekit.analyze.output.bundle import write_bundle

            write_bundle(analyses, skipped, directory, runs)
    if as_json:
        from tracekit.analyze.output.document import document

        _print_json(document(analyses, skipped, runs))
        return
    from rich.console import Console

    from tracekit.analyze.output.terminal import show, show_run

    for analysis in analyses:
        show(analysis, Console(highlight=False))
    for run in runs:
        show_run(run, Console(highlight=False))
    _tell(f"\nwrote {directory}/ — next: tracekit report -o report.html", style="dim")


@app.command(epilog="[bold]Examples[/]\n\ntracekit report -o report.html\n\ntracekit report ranks -o ranks.html")
def report(
    bundle: Annotated[Path, typer.Argument(help="The directory that `tracekit analyze` wrote.")] = Path("analysis"),
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Render an analysis as one self-contained HTML dossier."""
    from tracekit.report.render import render

    print(render(bundle, output))


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tracekit diff before.json.gz after.json.gz\n\n"
    "tracekit diff analysis:gpt2-fp16-h100 analysis:gpt2-graphs\n\n"
    "tracekit diff main/ branch/ --markdown > comment.md"
)
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A trace, a directory with one, or a bundle; BUNDLE:NAME of several.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, to be compared with A.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request instead.")] = False,
    rules: Annotated[Path | None, typer.Option(help="A TOML file of your own kernel rules, tried first.")] = None,
) -> None:
    """Compare two traces: what got faster or slower, and what explains it."""
    if as_json and as_markdown:
        raise TracekitError("cannot be given along with --json", where="--markdown", mend="leave one out")
    from tracekit.analyze.compare.comparison import compare
    from tracekit.analyze.compare.open_side import open_side
    from tracekit.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(rules)
    comparison = compare(open_side(a, taxonomy), open_side(b, taxonomy))
    if as_json:
        from tracekit.analyze.output.comparison_document import comparison_document

        _print_json(comparison_document(comparison))
        return
    from tracekit.analyze.output.comparison_view import view

    if as_markdown:
        from tracekit.analyze.output.comparison_markdown import markdown

        print(markdown(view(comparison)))
        return
    from rich.console import Console

    from tracekit.analyze.output.comparison_terminal import show_comparison

    show_comparison(view(comparison), Console(highlight=False))


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tracekit check new.json.gz --against old.json.gz\n\n"
    "tracekit check new.json.gz --against old-bundle --max-regression 10%\n\n"
    "tracekit check new.json.gz --budget budgets.toml"
)
def check(
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="A trace, a directory with one, or a bundle; BUNDLE:NAME of several.")
    ],
    against: Annotated[str | None, typer.Option(metavar="OLD", help="The same: what NEW may not be slower than.")] = None,
    max_regression: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="By how much NEW may be slower; 5% without --budget.")
    ] = None,
    budget: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of budgets.")] = None,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Check NEW even where the profiler lost events.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    rules: Annotated[Path | None, typer.Option(help="A TOML file of your own kernel rules, tried first.")] = None,
) -> None:
    """Hold a trace against another one or against budgets; exits 1 if it fails."""
    from tracekit.analyze.compare.budgets import choose_budgets
    from tracekit.analyze.compare.gates import complete, hold
    from tracekit.analyze.compare.open_side import open_side
    from tracekit.analyze.output.gate_report import cautions, document, lines
    from tracekit.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(rules)
    old = open_side(against, taxonomy) if against is not None else None
    budgets = choose_budgets(budget, max_regression, old)
    side = open_side(new, taxonomy)
    gates = (*(() if allow_incomplete else (complete(side),)), *hold(side, old, budgets))
    for caution in cautions(side, old):
        _tell(caution, style="yellow")
    if as_json:
        _print_json(document(side, old, gates))
    else:
        for line in lines(gates):
            print(line)
    if not all(gate.passed for gate in gates):
        raise typer.Exit(GATE_FAILED)


def _print_json(document: dict[str, Any]) -> None:
    """Print one document to standard output, and nothing else."""
    json.dump(document, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
