"""Do the predictions hold? Each variant's trace predicts other variants; their manifests tell what they measured.

    python benchmarks/predictions.py [traces/] [--keep]

Only traces of one device, host, model, workload, attention and maker of kernels are held against each other, and a step is
predicted from its own trace and manifest alone. It measures nothing itself.
`--keep` writes benchmarks/results/predictions.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.analyze.work.predict import BF16, FP16, MATRIX_FAMILIES, Change, MeanStep, changed_busy_ns, changed_ns, mean_steps
from tracekit.manifest import RunManifest
from tracekit.taxonomy import Taxonomy

HERE = Path(__file__).resolve().parent
CHANGES: dict[tuple[str, str], Change | None] = {
    ("float32", "float16"): FP16,
    ("float32", "bfloat16"): BF16,
    **{(dtype, dtype): None for dtype in ("float32", "float16", "bfloat16")},
}
"""The pairs of precisions, from one to another, for which there is a prediction, and what changes."""


@dataclass(frozen=True)
class Pair:
    """A decode step of one run, predicted from the trace of another run. Times are in ns.

    `measured_ns` is the median of the runs without the profiler. `busy_ns` is the GPU's busy time in the trace of the predicted
    run, with the profiler. `known_share` is the share of the source's kernel time whose work is known.
    """

    source: str
    target: str
    change: str
    known_share: float
    predicted_ns: int
    measured_ns: int
    error_percent: float
    predicted_busy_ns: int
    busy_ns: int
    busy_error_percent: float


@dataclass(frozen=True)
class DecodeRun:
    """The mean decode step of a trace, and the manifest beside the trace."""

    analysis: Analysis
    manifest: RunManifest
    step: MeanStep

    @property
    def has_graph(self) -> bool:
        """Whether a decode step is one CUDA graph."""
        return "graphs" in self.manifest.variant.split("-")

    @property
    def kernels(self) -> str:
        """Who made the kernels of the run: `compiled`, `fused` or empty. A prediction does not change the kernels."""
        made = {"compiled", "fused"} & set(self.manifest.variant.split("-"))
        return " ".join(sorted(made))

    @property
    def conditions(self) -> tuple[object, ...]:
        """Everything that two runs must have in common to be compared."""
        run = self.manifest
        shape = (run.workload.kind, run.workload.batch, run.workload.prompt_tokens, run.workload.new_tokens)
        return (run.device.name, run.host.cpu, run.model, shape, run.attention, run.versions.torch, self.kernels)


def runs(directory: Path) -> Iterator[DecodeRun]:
    """The runs that have a decode step on a GPU."""
    taxonomy = Taxonomy.default()
    for path in sorted(directory.glob("*.json.gz")):
        analysis = Analysis(load(path), taxonomy)
        manifest = analysis.manifest
        if manifest is None or analysis.gpu is None:
            continue
        means = mean_steps(analysis.trace, analysis.steps, analysis.work, manifest)
        found = next((step for step in means if step.name == "decode"), None)
        if found is not None:
            yield DecodeRun(analysis, manifest, found)


def pairs(found: list[DecodeRun]) -> Iterator[Pair]:
    """Every prediction that can be compared with a measurement."""
    for source in found:
        for target in found:
            key = (source.manifest.dtype, target.manifest.dtype)
            same = source.conditions == target.conditions and key in CHANGES
            if source is target or not same or source.has_graph:
                continue
            if key[0] != key[1] or target.has_graph:
                yield _pair(source, target, CHANGES[key])


def _pair(source: DecodeRun, target: DecodeRun, change: Change | None) -> Pair:
    analysis, step = source.analysis, source.step
    busy, names = step.busy_ns, []
    if change is not None:
        sheet = analysis.datasheet
        assert sheet is not None, "the device has no datasheet"
        changed = changed_ns(analysis.work, analysis.facts.of_family(*MATRIX_FAMILIES), sheet, change)
        busy = changed_busy_ns(analysis.trace, analysis.steps, analysis.work, changed, step)
        names.append(target.manifest.dtype)
    if target.has_graph:
        names.append("graph")
    predicted = step.graph_ns(busy) if target.has_graph else step.eager_ns(busy)
    assert predicted is not None, "the run was not timed without the profiler"
    measured = target.manifest.timings.decode_token.median_ns
    return Pair(
        source=source.manifest.run,
        target=target.manifest.run,
        change=" + ".join(names),
        known_share=round(step.known_share, 4),
        predicted_ns=round(predicted),
        measured_ns=measured,
        error_percent=_error(predicted, measured),
        predicted_busy_ns=round(busy),
        busy_ns=round(target.step.busy_ns),
        busy_error_percent=_error(busy, target.step.busy_ns),
    )


def _error(predicted: float, measured: float) -> float:
    return round(100 * (predicted / measured - 1), 1)


def short(run: str) -> str:
    """A run's name without the model and the device."""
    return run.removeprefix("gpt2-").removesuffix("-h100-80gb-hbm3")


def line(one: Pair) -> str:
    """A pair as a row of the table in docs/predictions.md."""
    return (
        f"| `{short(one.source)}` | `{short(one.target)}` | {one.change} | {one.predicted_ns / 1e6:.3f} |"
        f" {one.measured_ns / 1e6:.3f} | {one.error_percent:+.1f} % | {one.predicted_busy_ns / 1e6:.3f} |"
        f" {one.busy_ns / 1e6:.3f} | {one.busy_error_percent:+.1f} % |"
    )


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=HERE.parent / "traces")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    found = list(runs(arguments.directory))
    table = list(pairs(found))
    print("| from | predicts | change | predicted, ms | measured, ms | error | busy predicted, ms | busy traced, ms | error |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for one in table:
        print(line(one))
    if arguments.keep:
        devices = sorted({run.manifest.device.name for run in found})
        kept = {"devices": devices, "pairs": [asdict(one) for one in table]}
        (HERE / "results" / "predictions.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
