"""Does the page on trust explain every warning?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CODE = re.compile(r"[a-z]+(_[a-z]+)*\Z")


def makes_warnings(function: ast.AST) -> bool:
    return any(isinstance(node, ast.Call) and getattr(node.func, "id", "") == "TraceWarning" for node in ast.walk(function))


def codes(function: ast.AST) -> Iterator[str]:
    """The codes of a function that makes warnings: first arguments, first parts of tuples, keys of dictionaries."""
    for node in ast.walk(function):
        firsts: list[ast.expr | None] = []
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "TraceWarning":
            firsts = [*node.args[:1]]
        elif isinstance(node, ast.Tuple) and len(node.elts) > 2:
            firsts = [*node.elts[:1]]
        elif isinstance(node, ast.Dict):
            firsts = [*node.keys]
        for first in firsts:
            firsts += [first.body, first.orelse] if isinstance(first, ast.IfExp) else []
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and CODE.match(first.value):
                yield first.value


def all_codes() -> set[str]:
    found: set[str] = set()
    for path in sorted((REPOSITORY / "analyze").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and makes_warnings(node):
                found.update(codes(node))
    return found


def test_every_warning_code_is_explained() -> None:
    page = (REPOSITORY / "docs/trust.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))

    assert all_codes() >= {
        "launches_without_kernel",
        "unescaped_quotes",
        "negative_durations",
        "moved",
        "unknown_categories",
        "graph_launches_uneven",
    }
    assert all_codes() - explained == set()


def test_every_warning_code_is_asked_for_by_a_test() -> None:
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py") if path != Path(__file__)
    )
    assert {code for code in all_codes() if f'"{code}"' not in tests} == set()
