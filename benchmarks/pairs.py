"""Do the savings that tracekit predicts come true? Programs are measured before and after one change each.

    python benchmarks/pairs.py measure build/pairs [NAME ...]     # on a machine with a GPU: traces and timings; or --round 3
    python benchmarks/pairs.py predict build/pairs [--keep FILE]  # anywhere: what tracekit says about the traces of "before"

`measure` writes NAME.json.gz, the profiled trace of three steps before the change, and NAME.pair.json, what a step took without
the profiler before and after it. `predict` prints predicted against measured, as in docs/predictions.md; `--keep FILE` writes
it as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pair_programs import Program, Step

HERE = Path(__file__).resolve().parent
ROUNDS, ROUND_S, WARM_UP, LONGEST_S = 9, 0.2, 8, 240

LEAST_SAVED = 0.03
"""A change that saves a smaller share of a step is not worth a finding."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "one CUDA graph": ("CUDAGraph", "reduce-overhead"),
    "torch.compile, reduce-overhead": ("CUDAGraph", "reduce-overhead"),
    "torch.compile": ("torch.compile",),
    "bfloat16 autocast": ("bfloat16", "autocast"),
    "TF32": ("tf32",),
    "channels_last": ("channels_last",),
    "scaled_dot_product_attention": ("scaled_dot_product_attention",),
    "no .item() in the loop": (".item()",),
    "no empty_cache() in the loop": ("empty_cache",),
    "num_workers=8": ("num_workers",),
    "pinned memory, non_blocking": ("pin_memory",),
    "fused=True": ("fused=True",),
    "no other work in the loop": ("out of the loop", "Python between the operators"),
    "no gc.collect() in the loop": ("gc.collect()",),
    "weights cast once": ("cast the weights once",),
    "foreach clipping": ("foreach=True",),
    "set_to_none=True": ("set_to_none=True",),
    "weights dequantised once": ("dequantise",),
    "copies on a stream of their own": ("torch.cuda.stream",),
    "no recomputation": ("checkpoint",),
    "no waiting for a thread": ("get_nowait",),
    "no logging in the loop": ("log once in many steps",),
    "the next graph before the result": ("launch the next one before",),
    "no split over K": ("forbid cublas to split",),
    "sizes that are aligned": ("multiple of",),
}
"""A finding names a change if its action contains one of these."""


# --- Measuring --------------------------------------------------------------------------------------------------------------


def measure(out: Path, names: list[str]) -> None:
    """Measure each program in a process of its own, so that no setting of one reaches the next."""
    import pair_programs
    import timm  # noqa: F401 (so that no process has to load it again)
    import transformers.models.auto  # noqa: F401

    out.mkdir(parents=True, exist_ok=True)
    for name, program in pair_programs.chosen(names):
        process = multiprocessing.get_context("fork").Process(target=one, args=(out, name, program))
        process.start()
        process.join(LONGEST_S)
        if process.is_alive():
            process.kill()
            print(f"{name:36s} takes more than {LONGEST_S} s", flush=True)


def one(out: Path, name: str, program: Program) -> None:
    """Measure one program before and after its change, in turns, and profile it before."""
    import timm
    import torch
    import transformers

    torch.manual_seed(0)
    steps = {False: program.build(False), True: program.build(True)}
    rounds = {side: _steps_a_round(step) for side, step in steps.items()}
    runs: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for side, step in steps.items():
            runs[side].append(_timed(step, rounds[side]))
    _profiled(steps[False], out / f"{name}.json.gz", program.stack)
    before, after = (statistics.median(runs[side]) for side in (False, True))
    record = {
        "pair": name,
        "change": program.change,
        "made": program.made,
        "before_loop_ns": before,
        "after_loop_ns": after,
        "before_runs_ns": runs[False],
        "after_runs_ns": runs[True],
        "device": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "timm": timm.__version__},
    }
    (out / f"{name}.pair.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name:36s} {before / 1e6:9.3f} -> {after / 1e6:9.3f} ms a step", flush=True)


def _steps_a_round(step: Step) -> int:
    """How many steps fill a round, after warming up."""
    _timed(step, WARM_UP)
    return max(min(round(ROUND_S * 1e9 / _timed(step, WARM_UP)), 500), 3)


def _timed(step: Step, count: int) -> float:
    """What a step takes in a loop, in ns, without the profiler."""
    import torch

    for _ in range(2):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / count


def _profiled(step: Step, path: Path, stack: bool) -> None:
    """Write the trace of three steps."""
    from torch.profiler import ProfilerActivity, profile, schedule

    with profile(
        activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA],
        schedule=schedule(wait=0, warmup=2, active=3, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
        record_shapes=True,
        with_stack=stack,
    ) as profiler:
        for _ in range(5):
            step()
            profiler.step()


# --- Predicting -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted:
    """What tracekit says about a program before its change, and what the change brought. Times in ns a step, unprofiled.

    `first` are the codes of its two findings of largest saving. `named` is the code of the one of these that names the change,
    and `predicted_ns` its saving; both are None if none does. `noise` is how far the rounds of the two programs spread (the sum
    of their interquartile ranges) as a share of what the change saved.
    """

    pair: str
    change: str
    made: int
    before_ns: float
    after_ns: float
    first: tuple[str, ...]
    named: str | None
    predicted_ns: int | None
    error: float | None
    noise: float

    @property
    def is_graded(self) -> bool:
        """Whether the change saved more than the noise, and enough to be told."""
        return self.noise < 1 and self.saved_ns >= LEAST_SAVED * self.before_ns

    @property
    def saved_ns(self) -> float:
        """What the change really saved."""
        return self.before_ns - self.after_ns

    @property
    def is_close(self) -> bool:
        """Whether the prediction is within 25 %."""
        return self.error is not None and abs(self.error) <= 0.25


def predictions(directory: Path) -> Iterator[Predicted]:
    """What tracekit says about each pair in a directory."""
    from tracekit.analyze.analysis import Analysis
    from tracekit.analyze.trace.loader import load
    from tracekit.taxonomy import Taxonomy

    taxonomy = Taxonomy.default()
    for path in sorted(directory.glob("*.pair.json")):
        pair: dict[str, Any] = json.loads(path.read_text())
        before, after = pair["before_loop_ns"], pair["after_loop_ns"]
        found = Analysis(load(path.with_name(f"{pair['pair']}.json.gz")), taxonomy, step_ns=round(before)).findings
        ranked = sorted(found, key=lambda finding: -(finding.step_saving_ns or 0))
        first = [finding for finding in ranked if finding.step_saving_ns][:2]
        words = WORDS[pair["change"]]
        named = next((one for one in first if any(word.lower() in one.action.lower() for word in words)), None)
        saving = named.step_saving_ns if named else None
        yield Predicted(
            pair=pair["pair"],
            change=pair["change"],
            made=pair.get("made", 1),
            before_ns=before,
            after_ns=after,
            first=tuple(one.code for one in first),
            named=named.code if named else None,
            predicted_ns=saving,
            error=None if saving is None else (saving - (before - after)) / (before - after),
            noise=sum(_spread(pair.get(runs, [])) for runs in ("before_runs_ns", "after_runs_ns"))
            / max(abs(before - after), 1.0),
        )


def _spread(runs: list[float]) -> float:
    """The interquartile range; 0 of runs that were not kept."""
    if len(runs) < 2:
        return 0.0
    quarters = statistics.quantiles(runs, n=4)
    return quarters[2] - quarters[0]


def totals(table: list[Predicted]) -> Iterator[str]:
    """How many pairs are named and predicted within 25 %, of each round and of all."""
    rounds = sorted({pair.made for pair in table})
    for text, mine in [*((f"round {made}", [one for one in table if one.made == made]) for made in rounds), ("all", table)]:
        graded = [one for one in mine if one.is_graded]
        named, close = sum(one.named is not None for one in graded), sum(one.is_close for one in graded)
        lost = len(mine) - len(graded)
        left = f"; {lost} not graded, as they save less than the noise or 3 %" if lost else ""
        yield f"{text}: {named} of {len(graded)} named, {close} of {len(graded)} within 25 %{left}"


def line(one: Predicted) -> str:
    """A pair as a row of the table in docs/predictions.md."""
    told = f"{one.predicted_ns / 1e6:.3f} | {one.error:+.0%}" if one.predicted_ns is not None else "– | –"
    code = f"`{one.named}`" if one.named else f"not named: {', '.join(one.first) or 'nothing'}"
    saved = f"{one.saved_ns / 1e6:.3f}{'' if one.is_graded else ' (not graded)'}"
    return f"| `{one.pair}` | {one.change} | {one.made} | {one.before_ns / 1e6:.3f} | {saved} | {told} | {code} |"


def _keep(path: Path, directory: Path, table: list[Predicted]) -> None:
    """Write the predictions with the device, the versions and the commit of the rules that made them."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    measured = [json.loads(one.read_text()) for one in sorted(directory.glob("*.pair.json"))]
    kept = {
        "devices": sorted({one["device"] for one in measured if "device" in one}),
        "versions": next((one["versions"] for one in measured if "versions" in one), {}),
        "commit": commit,
        "pairs": [asdict(pair) for pair in table],
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Measure, or predict and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "predict"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--round", type=int, help="only the programs of this round")
    parser.add_argument("--keep", type=Path, help="write the predictions to this file as JSON")
    asked = parser.parse_args()
    if asked.what == "measure":
        from pair_programs import PROGRAMS

        of_round = [name for name, program in PROGRAMS.items() if program.made == asked.round]
        measure(asked.directory, asked.names or of_round)
    else:
        table = list(predictions(asked.directory))
        print("| pair | change | round | a step before, ms | saved, ms | predicted, ms | error | by |")
        print("|---|---|---:|---:|---:|---:|---:|---|")
        for pair in table:
            print(line(pair))
        print("", *totals(table), sep="\n")
        if asked.keep:
            _keep(asked.keep, asked.directory, table)


if __name__ == "__main__":
    main()
