from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from tracekit import manifest as schema

rich_console = pytest.importorskip("rich.console")

from tracekit.collect.terminal import RichConsole, bar, results_table  # noqa: E402

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


def of(variant: str, tokens_per_second: float, **timings: object) -> schema.RunManifest:
    changed = dataclasses.replace(MANIFEST.timings, tokens_per_second=tokens_per_second, **timings)
    return dataclasses.replace(MANIFEST, variant=variant, timings=changed)


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
    assert "[bold] on a [red]CPU, random weights: generate, batch 1, 16 prompt tokens, 100 new tokens, greedy" in text
    for cell in ("23,809.5", "4.20", "0.10", "1.25×", "fp16"):
        assert cell in text
    assert "timed runs" not in text
    assert "\x1b" not in text


def test_a_terminal_gets_a_bar() -> None:
    assert "baseline: profile" in shown(terminal=True)


def test_what_was_done_is_shown_when_a_later_variant_fails() -> None:
    assert "23,809.5" in shown(terminal=False, error=RuntimeError("later"))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_table_fits_and_keeps_what_matters(width: int) -> None:
    fast = of(
        "fp16-compiled-graphs",
        2_621.4,
        event_token=STATISTICS,
        reduction_percent=87.65,
        baseline="x",
        peak_memory_bytes=1_234_567_890,
    )
    fast = dataclasses.replace(fast, accuracy=schema.Accuracy("baseline", 0.00123, 5e-3, 99, 100))
    manifests = [of("baseline", 284.0), of("fp16", 196.0, reduction_percent=-44.9, baseline="x"), fast]
    text = io.StringIO()
    rich_console.Console(file=text, width=width).print(results_table(manifests, width))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert len(lines) == 4
    assert max(map(len, lines)) <= min(width, 100)
    assert "fp16-compiled-graphs" in lines[3]
    assert "2,621.4" in lines[3]
    if width >= 80:
        for cell in ("██████████", "87.7 %", "1.2e-3"):
            assert cell in lines[3]
        assert "−44.9 %" in lines[2]
        assert " █▏ " in lines[1]
    if width >= 100:
        assert "first ms" in lines[0]


def test_a_column_that_says_nothing_is_left_out() -> None:
    headings = [column.header for column in results_table([MANIFEST]).columns]
    assert "less time" not in headings
    assert "peak MB" not in headings
    assert "run ms" in headings


def test_a_bar_is_never_nothing_and_full_at_one() -> None:
    assert (bar(1.0), bar(0.5), bar(0.0)) == ("█" * 10, "█" * 5, "▏")
    assert bar(0.56) == "█████▋"


def test_the_text_is_shown_below_the_table() -> None:
    text = io.StringIO()
    with RichConsole(rich_console.Console(file=text, width=100)) as console:
        work = dataclasses.replace(MANIFEST.workload, prompt="Hello from [HPC]", text=" and\nmore")
        console.result(Path("x"), dataclasses.replace(MANIFEST, workload=work))
    assert "baseline: Hello from [HPC] and more" in text.getvalue()
