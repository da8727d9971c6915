"""Where are the repository and the traces that it ships? A test in any folder can ask."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT / "traces"
