"""Which changes to the code do its own room's tests not notice?

    python benchmarks/mutants.py [--room ROOM ...] [--only MODULE ...] [--keep]

mutmut changes one thing at a time in `analyze/trace/` and `analyze/activity/` and runs that room's tests, the quickest first,
until one fails. A mutant that no test notices is printed with its reason from `equivalent_mutants.toml`, or as not killed.
Nothing outside `build/mutants/` is changed. A second run tests only what has survived or has changed since. Exit status 1 if a
module's tests notice too few.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutmut.mutation.diff_apply import get_diff_for_mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutants"
REASONS = Path(__file__).with_name("equivalent_mutants.toml")
KEPT = Path(__file__).parent / "results" / "mutants.json"
ROOMS = ("trace", "activity")
PACKAGES = ("analyze", "collect", "kernels", "report", "templates")
"""The rooms at the top of the repository that are installed below `tracekit`."""
PAGE = ROOT / "docs" / "mutants.md"
BEGIN, END = "<!-- results: written by python benchmarks/mutants.py --keep -->", "<!-- end of results -->"
LEAST = 0.9
"""The share of a module's mutants that its tests must notice, of those that can be noticed."""
PROCESSES = 2
MEMORY = Path("/dev/shm")
"""Where tests write their many small traces, if there is such a folder: on a disk they take three times as long."""
STATUS = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests"}
"""What pytest's and mutmut's exit codes mean. Other positive ones are broken runs, negative ones are signals."""
TIMEOUTS = (-24, 24, 36, 152, 255)

SETTINGS = """\
[tool.mutmut]
source_paths = ["tracekit"]
only_mutate = ["tracekit/analyze/{room}/*.py"]
# Python's own tracebacks: for pytest's, each failing test parses the source with all its mutants, which takes seconds.
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=native"]
pytest_add_cli_args_test_selection = ["tests/analyze/{room}"]
timeout_multiplier = 4.0
timeout_constant = 5.0
use_setproctitle = false
use_git_change_detection = false

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["tests/support"]
addopts = "--strict-markers --import-mode=importlib"
timeout = 10
markers = ["gpu: needs a CUDA device", "browser: needs a Chromium"]
"""


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed, and why. It is equivalent if no test could notice it."""

    module: str
    function: str
    was: str
    becomes: str
    why: str
    equivalent: bool


@dataclass(frozen=True)
class Row:
    """What became of the mutants of one module, or of all. `unknown` ones were not tested, or their tests broke."""

    module: str
    mutants: int
    noticed: int
    equivalent: int
    alive: int
    unknown: int

    @property
    def share(self) -> float:
        """How many of those that could be noticed were noticed."""
        return self.noticed / max(self.mutants - self.equivalent, 1)


def undecorated(source: str) -> str:
    """The source with every `@decorator` above a function written as `name = decorator(name)` below it, which means the same.

    mutmut leaves decorated functions alone, and much of the code is in such.
    """
    lines = source.splitlines(keepends=True)
    for node in sorted(_functions(ast.parse(source)), key=lambda node: node.lineno, reverse=True):
        indent = " " * node.col_offset
        after = [f"{indent}{node.name} = {ast.unparse(one)}({node.name})\n" for one in reversed(node.decorator_list)]
        assert node.end_lineno is not None
        lines[node.end_lineno : node.end_lineno] = after
        for one in reversed(node.decorator_list):
            assert one.end_lineno is not None
            del lines[one.lineno - 1 : one.end_lineno]
    return "".join(lines)


def _functions(module: ast.Module) -> list[ast.FunctionDef]:
    """The decorated functions of a module and the decorated methods of its classes."""
    bodies = [module.body, *(node.body for node in module.body if isinstance(node, ast.ClassDef))]
    return [node for body in bodies for node in body if isinstance(node, ast.FunctionDef) and node.decorator_list]


def prepare(room: str) -> Path:
    """Copy what the room's tests need to a folder of its own, where the package lies as it is installed. Return the folder."""
    folder = WORK / room
    package = folder / "tracekit"
    for stale in (package, folder / "tests", folder / "mutants" / "tests"):
        shutil.rmtree(stale, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tracekit", package, ignore=ignore)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, package / name, ignore=ignore)
    for path in (package / "analyze" / room).glob("*.py"):
        path.write_text(undecorated(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name in ("support", f"analyze/{room}"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=ignore)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    # What the tests reach is found anew: mutmut would look at new tests alone, and old ones may reach new functions.
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    (folder / "pyproject.toml").write_text(SETTINGS.format(room=room), encoding="utf-8")
    return folder


def run(room: str, only: list[str], reasons: list[dict[str, Any]]) -> None:
    """Make the room's mutants and test those that have no result yet, or those of the modules in `only`."""
    folder = prepare(room)
    names = [f"tracekit.analyze.{room}.{module}.*" for module in only]
    retry(room, reasons)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(PROCESSES), *names]
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "HYPOTHESIS_PROFILE": "quick"}
    if MEMORY.is_dir():
        environment["TMPDIR"] = str(MEMORY)
    subprocess.run(command, cwd=folder, env=environment, check=True)


def meta(room: str) -> list[Path]:
    """Where mutmut keeps the results of each module of the room, without those of modules that are gone."""
    found = sorted((WORK / room / "mutants" / "tracekit" / "analyze" / room).glob("*.py.meta"))
    return [path for path in found if (ROOT / "analyze" / room / path.name.removesuffix(".meta")).exists()]


def retry(room: str, reasons: list[dict[str, Any]]) -> None:
    """Forget which mutants survived without a reason, or took too long: a test may notice them now, or the machine was busy.

    mutmut itself forgets those of functions that changed.
    """
    for path in meta(room):
        kept = json.loads(path.read_text())
        codes = kept["exit_code_by_key"]
        for name, code in codes.items():
            if code != 0 or not survivor(room, name, reasons).equivalent:
                codes[name] = code if status(code) == "killed" else None
        path.write_text(json.dumps(kept))


def results(room: str) -> dict[str, dict[str, int | None]]:
    """For each module of the room, the exit code of each mutant's tests, by the mutant's name."""
    return {path.name.removesuffix(".py.meta"): json.loads(path.read_text())["exit_code_by_key"] for path in meta(room)}


def status(code: int | None) -> str:
    """What an exit code says about a mutant."""
    if code in TIMEOUTS:
        return "timeout"
    return STATUS.get(code, "broken") if code is not None else "untested"


def changed_so(was: str, becomes: str, part: str, to: list[str]) -> bool:
    """Whether a line becomes the other if one occurrence of a part of it is replaced."""
    places = [found.start() for found in re.finditer(re.escape(part), was)]
    return any(was[:at] + new + was[at + len(part) :] == becomes for at in places for new in to)


def survivor(room: str, name: str, reasons: list[dict[str, Any]]) -> Survivor:
    """What a mutant changed, and why it may live."""
    module, _, mutant = name.removeprefix("tracekit.analyze.").rpartition(".")
    os.chdir(WORK / room)  # where mutmut looks for its files
    shown = get_diff_for_mutant(name, path=f"tracekit/analyze/{module.replace('.', '/')}.py")
    changed = {
        sign: [line[1:].strip() for line in shown.splitlines() if re.match(rf"\{sign}(?!\{sign})", line)] for sign in "-+"
    }
    function = re.sub(r"\Ax_|\Ax\u01c1|__mutmut_\d+\Z", "", mutant).replace("\u01c1", ".")
    was, becomes = (" ".join(changed[sign]) for sign in "-+")
    matching = (
        reason
        for reason in reasons
        if f"{module}.{function}".startswith(reason.get("in", "")) and changed_so(was, becomes, reason["change"], reason["to"])
    )
    reason = next(matching, {})
    return Survivor(module, function, was, becomes, reason.get("why", ""), bool(reason) and not reason.get("alive", False))


def rows_of(room: str, reasons: list[dict[str, Any]]) -> tuple[list[Row], list[Survivor]]:
    """What became of the mutants of each module of a room, and those that survived."""
    rows: list[Row] = []
    survivors: list[Survivor] = []
    for module, codes in results(room).items():
        found = [survivor(room, name, reasons) for name, code in codes.items() if status(code) in ("survived", "no tests")]
        count = Counter(map(status, codes.values()))
        noticed, equivalent = count["killed"] + count["timeout"], sum(one.equivalent for one in found)
        unknown = len(codes) - noticed - len(found)
        if codes:
            rows.append(Row(f"{room}.{module}", len(codes), noticed, equivalent, len(found) - equivalent, unknown))
        survivors += found
    return rows, survivors


def lines(rows: list[Row]) -> Iterator[str]:
    """The table of the modules, as Markdown."""
    yield "| module | mutants | noticed | equivalent | alive | unknown | noticed of those that can be |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        numbers = (row.mutants, row.noticed, row.equivalent, row.alive, row.unknown)
        yield f"| {row.module} | {' | '.join(f'{value:,}' for value in numbers)} | {row.share:.1%} |"


def told(survivors: list[Survivor]) -> Iterator[str]:
    """The survivors that a test could notice, as Markdown."""
    for one in survivors:
        if not one.equivalent:
            why = f": {one.why}" if one.why else ""
            yield f"- `{one.module}.{one.function}`: `` {one.was} `` → `` {one.becomes} ``{why}"


def keep(rows: list[Row], survivors: list[Survivor]) -> None:
    """Write the results, with versions and commit, as JSON and into the page."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    commit, versions = found.stdout.strip(), {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("mutmut", "pytest", "hypothesis", "numpy")}
    told_rows = [{**asdict(row), "share": round(row.share, 4)} for row in rows]
    kept = {"commit": commit, "versions": versions, "modules": told_rows, "survivors": [asdict(one) for one in survivors]}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    told_from = f"Code of commit {commit}, with the tests that came with this page; {named}."
    parts = (BEGIN, told_from, "", *lines(rows), "", "Alive:", "", *told(survivors), END)
    before, after = PAGE.read_text(encoding="utf-8").split(BEGIN)[0], PAGE.read_text(encoding="utf-8").split(END)[1]
    PAGE.write_text(before + "\n".join(parts) + after, encoding="utf-8")


def main() -> int:
    """Run the mutants, print a table and the survivors, and keep them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=ROOMS, help="only this room; may be repeated")
    parser.add_argument("--only", action="append", default=[], help="test this module's mutants again; may be repeated")
    parser.add_argument("--show", action="store_true", help="run nothing, show the results so far")
    parser.add_argument("--keep", action="store_true", help="write results/mutants.json and the table of docs/mutants.md")
    chosen = parser.parse_args()
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))["mutant"]
    rows: list[Row] = []
    survivors: list[Survivor] = []
    for room in chosen.room or ROOMS:
        if not chosen.show:
            run(room, [module for module in chosen.only if (ROOT / "analyze" / room / f"{module}.py").exists()], reasons)
        found = rows_of(room, reasons)
        rows += found[0]
        survivors += found[1]
    sums = (sum(getattr(row, name) for row in rows) for name in ("mutants", "noticed", "equivalent", "alive", "unknown"))
    rows.append(Row("all", *sums))
    print(*lines(rows), "", *told(survivors), sep="\n")
    if chosen.keep:
        keep(rows, survivors)
    return int(any(row.share < LEAST for row in rows))


if __name__ == "__main__":
    sys.exit(main())
