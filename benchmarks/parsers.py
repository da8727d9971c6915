"""Which parser should read a trace? Time and peak memory of each, a process each, runs interleaved.

    pip install orjson && python benchmarks/parsers.py TRACE.json.gz [--runs 5]

Every parser is asked for what the loader needs: name, category, track, times and a few arguments of each event.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

UNPACK = {
    "gzip (zlib)": "import gzip; data = gzip.decompress(raw)",
    "isal": "from isal import igzip; data = igzip.decompress(raw)",
}
PARSE = {
    "json (stdlib)": "import json; parsed = json.loads(data)",
    "orjson": "import orjson; parsed = orjson.loads(data)",
    "msgspec, untyped": "import msgspec; parsed = msgspec.json.decode(data)",
    "msgspec, typed structs": "from tracekit.analyze.trace.events import parse_typed; parsed = parse_typed(data, float)",
}
TEMPLATE = """
import sys, time, resource
raw = open(sys.argv[1], "rb").read()
{before}
start = time.perf_counter()
{measured}
wall = time.perf_counter() - start
print(wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def run(before: str, measured: str, trace: str) -> tuple[float, int]:
    """How many seconds `measured` takes in a new process, including imports, and the peak memory of that process in MiB."""
    code = TEMPLATE.format(before=before, measured=measured)
    out = subprocess.run([sys.executable, "-c", code, trace], capture_output=True, text=True, check=True, env=os.environ)
    wall, peak = out.stdout.split()
    return float(wall), int(peak)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    contestants = {name: ("", code) for name, code in UNPACK.items()}
    contestants |= {name: (UNPACK["isal"], code) for name, code in PARSE.items()}
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in contestants}
    for _ in range(arguments.runs):
        for name, (before, measured) in contestants.items():
            taken[name].append(run(before, measured, arguments.trace))
    print(f"{'what':<26} {'min s':>7} {'median':>7} {'peak MiB':>9}")
    for name, results in taken.items():
        walls = [wall for wall, _ in results]
        print(f"{name:<26} {min(walls):7.3f} {statistics.median(walls):7.3f} {max(peak for _, peak in results):9}")


if __name__ == "__main__":
    main()
