from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from tracekit import manifest as schema

rich_console = pytest.importorskip("rich.console")

from tracekit.collect.terminal import RichConsole  # noqa: E402

STATISTICS = schema.Statistics(4_200_000, 4_300_000, 100_000, 4_100_000, 4_500_000)
MANIFEST = schema.RunManifest(
    run="[bold]-baseline-cpu",
    created="2026-01-02T03:04:05+00:00",
    command="tracekit collect",
    variant="baseline",
    dtype="float32",
    device=schema.Device("cpu", "a [red]CPU"),
    host=schema.Host("a CPU", 2, 2, "Linux"),
    workload=schema.Workload("generate", 1, 16, 100),
    weights=schema.Weights("random", seed=0),
    model=schema.Model("[bold]", 512, 128, 2, 2, 64, 141056),
    versions=schema.Versions("0.1.0", "3.11", "2.13.0"),
    tf32=schema.Tf32(False, False),
    seed=0,
    timings=schema.Timings(1, 5, (schema.TimedRun(1, 3),), STATISTICS, STATISTICS, STATISTICS, 23809.5),
    profile=schema.Profile("x.pt.trace.json.gz", 8, 1, 2, 1.25),
)


def shown(terminal: bool, error: Exception | None = None) -> str:
    text = io.StringIO()
    try:
        with RichConsole(rich_console.Console(file=text, force_terminal=terminal, width=200)) as console:
            console.notice("weights are [random]")
            console.progress("baseline: timed runs", 0, 2)
            console.progress("baseline: timed runs", 2, 2)
            console.progress("baseline: profile", 0, 1)
            console.result(Path("x"), MANIFEST)
            console.result(Path("y"), dataclasses.replace(MANIFEST, variant="fp16", profile=None))
            if error:
                raise error
    except RuntimeError:
        pass
    return text.getvalue()


def test_a_pipe_gets_notices_and_the_table_but_no_bar() -> None:
    text = shown(terminal=False)
    assert "note: weights are [random]" in text
    assert "[bold] on a [red]CPU, random weights: batch 1, 16 prompt tokens, 100 new tokens; measured" in text
    for cell in ("23,809.5", "4.20", "0.10", "× 1.25", "fp16"):
        assert cell in text
    assert "timed runs" not in text
    assert "\x1b" not in text


def test_a_terminal_gets_a_bar() -> None:
    assert "baseline: profile" in shown(terminal=True)


def test_what_was_done_is_shown_when_a_later_variant_fails() -> None:
    assert "23,809.5" in shown(terminal=False, error=RuntimeError("later"))
