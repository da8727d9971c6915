"""Does every module import only what stands below its room?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FLOORS = (
    {"trace"},
    {"activity"},
    {"structure"},
    {"work", "ranks", "path"},
    {"findings"},
    {"analysis"},
    {"compare"},
    {"output"},
    {"run"},
)
"""The rooms of `analyze/`, the lowest first; those of one floor know nothing of each other."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
STAGES = {
    "analyze": set(),
    "collect": {"kernels"},
    "kernels": set(),
    "report": {"templates"},
    "templates": set(),
}
"""What each stage may import beside the core and itself."""
CORE_THAT_SEES_STAGES = {"cli", "commands"}


def imported(path: Path, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The modules below `tracekit` that a file imports anywhere in it, as parts of their dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*(module[: len(module) - node.level] if node.level else ()), *(node.module or "").split(".")]
            base = [part for part in base if part]
            # `from . import idle` names a module after `import`, where no module comes before it.
            found = [base] if node.module else [[*base, alias.name] for alias in node.names]
        else:
            continue
        yield from (tuple(parts) for parts in found if parts[0] == "tracekit")


def modules(folder: str) -> list[tuple[Path, tuple[str, ...]]]:
    """Every Python file below a folder at the top, with its installed name; a package's own file is called `__init__`."""
    prefix = () if folder == "tracekit" else ("tracekit",)
    paths = sorted((REPOSITORY / folder).rglob("*.py"))
    return [(path, (*prefix, *path.relative_to(REPOSITORY).with_suffix("").parts)) for path in paths]


def test_rooms_import_downward() -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {'.'.join(name)}"
        for path, module in modules("analyze")
        if module[2] != "__init__"
        for name in imported(path, module)
        if name[1:2] == ("analyze",) and name[2:] and name[2] != module[2] and FLOOR[name[2]] >= FLOOR[module[2]]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_floor() -> None:
    rooms = {path.stem for path in (REPOSITORY / "analyze").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == FLOOR.keys()


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_import_each_other(stage: str) -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {'.'.join(name)}"
        for path, module in modules(stage)
        for name in imported(path, module)
        if len(name) > 1 and name[1] in STAGES.keys() - STAGES[stage] - {stage}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_no_stage() -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {'.'.join(name)}"
        for path, module in modules("tracekit")
        if module[1] not in CORE_THAT_SEES_STAGES
        for name in imported(path, module)
        if len(name) > 1 and name[1] in STAGES
    ]
    assert not wrong, "\n".join(wrong)
