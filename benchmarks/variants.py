"""How fast is each variant, and how exact? A table of run manifests, kept as JSON with device, versions and commit.

    tracekit collect --all -o traces && python benchmarks/variants.py traces [--commit SHA] [--keep] [--name NAME]

It measures nothing itself: `tracekit collect` did, interleaved and without the profiler; each manifest says how.
`--keep` writes benchmarks/results/variants-<device>[-<workload>][-<name>].json, a file for each device and workload.
"""

from __future__ import annotations

import argparse
import json
import re
from itertools import groupby
from pathlib import Path

from tracekit.manifest import RunManifest, read_manifest

HERE = Path(__file__).resolve().parent


def row(manifest: RunManifest) -> dict[str, object]:
    """The results of one run. Times are in ns."""
    timings, accuracy = manifest.timings, manifest.accuracy
    return {
        "run": manifest.run,
        "variant": manifest.variant,
        "created": manifest.created,
        "command": manifest.command,
        "runs": len(timings.runs),
        "interleaved_with": list(timings.interleaved_with),
        "tokens_per_second": round(timings.tokens_per_second, 1),
        "median_ns": timings.total.median_ns,
        "std_ns": timings.total.std_ns,
        "p10_ns": timings.total.p10_ns,
        "p90_ns": timings.total.p90_ns,
        "first_token_ns": timings.first_token.median_ns,
        "event_token_ns": timings.event_token.median_ns if timings.event_token else None,
        "reduction_percent": timings.reduction_percent,
        "peak_memory_bytes": timings.peak_memory_bytes,
        "inflation": manifest.profile.inflation if manifest.profile else None,
        "relative_error": accuracy.relative_error if accuracy else None,
        "equal_tokens": f"{accuracy.equal_tokens}/{accuracy.tokens}" if accuracy else None,
        "weights": manifest.weights.source,
    }


def main() -> None:
    """Print a table for each device and workload; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=HERE.parent / "traces")
    parser.add_argument("--commit", help="the commit that collected them, where the manifests cannot tell")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--name", default="", help="tells these runs from others that are kept")
    arguments = parser.parse_args()
    manifests = sorted(map(read_manifest, arguments.directory.glob("*.run.json")), key=lambda m: (*place(m), m.run))
    for (device, workload), group in groupby(manifests, key=place):
        runs = list(group)
        print(f"\n{device}: measured, {workload or 'batch 1'}, {runs[0].weights.source} weights")
        print(f"{'run':<46} {'tok/s':>8} {'median ms':>10} {'± std':>7} {'less':>7} {'token ms':>9} {'error':>8}")
        rows = [row(manifest) for manifest in runs]
        for manifest, one in zip(runs, rows, strict=True):
            timings = manifest.timings
            less = "" if timings.reduction_percent is None else f"{timings.reduction_percent:.1f} %"
            error = "" if manifest.accuracy is None else f"{manifest.accuracy.relative_error:.1e}"
            print(
                f"{one['run']:<46} {timings.tokens_per_second:8.1f} {timings.total.median_ns / 1e6:10.2f}"
                f" {timings.total.std_ns / 1e6:7.2f} {less:>7} {timings.decode_token.median_ns / 1e6:9.3f} {error:>8}"
            )
        if arguments.keep:
            keep(runs, rows, arguments.commit, "-".join(filter(None, ("variants", device, workload, arguments.name))))


def place(manifest: RunManifest) -> tuple[str, str]:
    """The device, and how the workload differs from the default one."""
    work = manifest.workload
    kind = "" if work.kind == "generate" else f"{work.kind} {work.prompt_tokens}"
    return manifest.device.name, " ".join(filter(None, (kind, f"batch {work.batch}" if work.batch > 1 else "")))


def keep(runs: list[RunManifest], rows: list[dict[str, object]], commit: str | None, name: str) -> None:
    """Write rows to a file whose name is derived from `name`, together with what all of them have in common."""
    first = runs[0]
    versions = {key: value for key, value in vars(first.versions).items() if value is not None}
    kept = {
        "device": vars(first.device),
        "host": vars(first.host),
        "versions": {**versions, "commit": commit or versions.get("commit")},
        "workload": vars(first.workload),
        "rows": rows,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{slug}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
