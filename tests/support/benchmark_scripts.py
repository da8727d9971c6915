"""Loads a script of `benchmarks/` as a module, so that tests can ask it what its page should say."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType

from repository import ROOT


@cache
def script(name: str) -> ModuleType:
    """The script `benchmarks/NAME.py`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
