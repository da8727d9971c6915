"""How long does `tracekit analyze TRACE --json` take as a whole process, and how much memory?

    python benchmarks/analyze_speed.py [TRACE ...] [--runs 7] [--keep]

Runs of the traces are interleaved, so that a drift of the machine favours none. `--keep` writes the table as JSON to
benchmarks/results/. Compare figures of one run only: machines and days differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch-tracekit", "msgspec", "isal", "numpy", "typer")


def run(trace: Path) -> tuple[float, int]:
    """Wall time in seconds and peak resident memory in MiB of one process."""
    command = [str(Path(sys.executable).parent / "tracekit"), "analyze", str(trace), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited {process.returncode}")
    return wall, usage.ru_maxrss >> 10


def measure(traces: list[Path], runs: int) -> list[dict[str, object]]:
    """One row for each trace. The first run of each trace is not counted."""
    taken: dict[Path, list[tuple[float, int]]] = {trace: [] for trace in traces}
    for number in range(runs + 1):
        for trace in traces:
            taken[trace].append(run(trace))
            if number == 0:
                taken[trace].clear()
    rows = []
    for trace, results in taken.items():
        walls = [wall for wall, _ in results]
        rows.append(
            {
                "trace": trace.name,
                "bytes": trace.stat().st_size,
                "runs": runs,
                "wall_s": {"min": min(walls), "median": statistics.median(walls), "max": max(walls)},
                "peak_mib": max(peak for _, peak in results),
            }
        )
    return rows


def main() -> None:
    """Measure and print a table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="*", type=Path, help="default: the shipped traces")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/analyze_speed.json")
    arguments = parser.parse_args()
    rows = measure(arguments.traces or sorted((HERE.parent / "traces").glob("*.trace.json.gz")), arguments.runs)
    print(f"{'trace':<52} {'min s':>7} {'median':>7} {'max':>7} {'peak MiB':>9}")
    for row in rows:
        wall = row["wall_s"]
        print(f"{row['trace']:<52} {wall['min']:7.3f} {wall['median']:7.3f} {wall['max']:7.3f} {row['peak_mib']:9}")
    if arguments.keep:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
        kept = {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": commit,
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {name: version(name) for name in PACKAGES},
            "rows": rows,
        }
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "analyze_speed.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
