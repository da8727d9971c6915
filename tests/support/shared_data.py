"""Finds real traces and their reference figures in a folder `shared` beside the checkout.

The project does not own these files, so it holds no copy. Tests that need them are skipped without them.
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
    """The paths of all real traces; empty without the folder."""
    return sorted(path for path in SHARED.glob("traces/*") if ".json" in path.name)


def needed(name: str) -> Path:
    """The path of one file. Skips the test if the file does not exist."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}")
    return path


def script(name: str) -> ModuleType:
    """One of the folder's scripts, as a module. Skips the test if the script does not exist."""
    spec = importlib.util.spec_from_file_location(f"shared_{name}", needed(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SHARED))  # the scripts import each other by name
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SHARED))
    return module


def labels() -> dict[str, dict[str, str]]:
    """The rows of the kernel names that were labelled by hand, by name. Skips the test if the file does not exist."""
    with needed("kernel_labels.tsv").open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
