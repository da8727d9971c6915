from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tracekit.manifest import RunManifest


@dataclass
class Recorder:
    """A console that keeps what it is told."""

    notices: list[str] = field(default_factory=list)
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    results: list[tuple[Path, RunManifest]] = field(default_factory=list)

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def progress(self, label: str, done: int, total: int) -> None:
        self.steps.append((label, done, total))

    def result(self, trace: Path, manifest: RunManifest) -> None:
        self.results.append((trace, manifest))


@pytest.fixture
def console() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for the hub; those about reaching it say otherwise themselves."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
