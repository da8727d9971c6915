"""`tracekit collect`: run GPT-2 variants and save a profiler trace of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracekit.commands.common import stderr
from tracekit.errors import TracekitError

EXAMPLES = (
    "[bold]Examples[/]\n\n"
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
    with RichConsole(stderr()) as console:
        traces = run(options, console)
    for trace in traces:
        print(trace)
