"""What do two versions of tracekit print differently about the same traces?

    python benchmarks/same_output.py OLD_TRACEKIT NEW_TRACEKIT TRACE ... [-- OPTION ...]

Runs `analyze TRACE --json` of both versions and prints every value that differs, by its place in the document: rows of a list
are counted together, as `traces[].kernels[].share`. Exit status 1 if anything differs. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

EXAMPLES = 2
"""How many pairs of values are shown for each place."""


def document(tracekit: str, trace: str, options: list[str]) -> Any:
    """What a version prints about a trace, or its error message if it refuses the trace."""
    done = subprocess.run([tracekit, "analyze", trace, "--json", *options], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()}


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The place of each value that differs, with both values. `absent` stands for a value that only one document has."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), f"{place}.{key}" if place else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            yield from differences(one, other, f"{place}[]")
    elif old != new or type(old) is not type(new):
        yield place, old, new


def main() -> None:
    """Compare the outputs, print the differences, and exit with 1 if there are any."""
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="path of the older version's tracekit")
    parser.add_argument("new", help="path of the newer version's tracekit")
    parser.add_argument("traces", nargs="+", help="traces, or directories of a run's ranks")
    chosen = parser.parse_args(arguments)
    differ = 0
    for trace in chosen.traces:
        found = list(differences(document(chosen.old, trace, options), document(chosen.new, trace, options)))
        differ += bool(found)
        print(f"{trace}: {'the same' if not found else f'{len(found)} values differ'}")
        shown: Counter[str] = Counter()
        often = Counter(place for place, _, _ in found)
        for place, old, new in found:
            if shown[place] < EXAMPLES:
                head = f"{place} ({often[place]} ×): " if not shown[place] else "    "
                print(f"  {head}{json.dumps(old, ensure_ascii=False)[:200]} -> {json.dumps(new, ensure_ascii=False)[:200]}")
            shown[place] += 1
    print(f"{differ} of {len(chosen.traces)} differ")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
