"""Real traces and their reference figures, where a checkout has them beside it.

The project does not own them, so it holds no copy: tests that need them are skipped without them.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

SHARED = ROOT.parent / "shared"


def traces() -> list[Path]:
    """All of them; empty without the folder."""
    return sorted(path for path in SHARED.glob("traces/*") if ".json" in path.name)


def needed(name: str) -> Path:
    """The path of one file; skips the test without it."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}")
    return path


def script(name: str) -> ModuleType:
    """One of the scripts there as a module; skips the test without it."""
    spec = importlib.util.spec_from_file_location(f"shared_{name}", needed(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SHARED))  # they import each other by name
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SHARED))
    return module


def labels() -> dict[str, dict[str, str]]:
    """The kernel names labelled by hand, by name; skips the test without them."""
    with needed("kernel_labels.tsv").open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
