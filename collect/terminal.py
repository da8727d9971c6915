"""How does a collection look at a terminal?

It shows notices and progress while it runs, and a table of the results at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tracekit.wording import counted, percent, ratio, scientific

if TYPE_CHECKING:
    from rich.console import Console

    from tracekit.manifest import RunManifest

WIDEST = 100
_BAR_WIDTH = 10
_EIGHTHS = "█▏▎▍▌▋▊▉"
_GAP = 2


class RichConsole:
    """The `Console` of the command line, over a rich console on standard error.

    It is a context. Inside it, a terminal shows the progress bar. When the context ends, the table is printed. If a later
    variant failed, the table still shows those that were done.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._results: list[tuple[Path, RunManifest]] = []

    def __enter__(self) -> RichConsole:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        manifests = [manifest for _, manifest in self._results]
        if not manifests:
            return
        self._console.print(escape(conditions(manifests[0])), soft_wrap=True, style="bold")
        self._console.print(results_table(manifests, self._console.width))
        for manifest in manifests:
            if manifest.workload.text is not None:
                self._console.print(f"[bold]{escape(manifest.variant)}:[/] {escape(_said(manifest))}", soft_wrap=True)

    def notice(self, message: str) -> None:
        """Show one line above the progress bar."""
        self._console.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Move the bar, or begin a new one if `done` is 0."""
        if done == 0:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(escape(label), total=total)
        elif self._task is not None:
            self._progress.update(self._task, completed=done)

    def result(self, trace: Path, manifest: RunManifest) -> None:
        """Keep a variant's result for the table."""
        self._results.append((trace, manifest))


def conditions(manifest: RunManifest) -> str:
    """What the runs of one collection have in common, on one line."""
    work = manifest.workload
    return (
        f"{manifest.model.name} on {manifest.device.name}, {manifest.weights.source} weights: {work.kind}, "
        f"batch {work.batch}, {counted(work.prompt_tokens, 'prompt token')}, {counted(work.new_tokens, 'new token')}, "
        f"{work.decoding}, {manifest.attention} attention; measured, without the profiler"
    )


@dataclass(frozen=True)
class _Column:
    """A column of the results.

    `rank` says how soon the column is left out at a narrow terminal: the highest first, and 0 never.
    """

    heading: str
    cell: Callable[[RunManifest], str]
    rank: int = 0
    justify: Literal["left", "right"] = "right"


def results_table(manifests: list[RunManifest], width: int = WIDEST) -> Table:
    """The runs of one collection side by side, at most `width` columns wide and never wider than 100.

    Figures are medians, unless the heading says otherwise. "less time" is against the baseline. "error" is how far the logits
    are from those of the FP32 baseline.
    """
    # All figures of a column have the same unit and number of decimals, so that a reader can compare them digit by digit.
    fastest = max(manifest.timings.tokens_per_second for manifest in manifests)
    columns = [
        _Column("variant", lambda manifest: manifest.variant, justify="left"),
        _Column("tok/s", lambda manifest: f"{manifest.timings.tokens_per_second:,.1f}"),
        _Column("", lambda manifest: bar(manifest.timings.tokens_per_second / fastest), 2, "left"),
        _Column("run ms", lambda manifest: _ms(manifest.timings.total.median_ns)),
        _Column("± std", lambda manifest: _ms(manifest.timings.total.std_ns), 1),
        _Column("less time", _reduction, 1),
        _Column("error", _error, 1),
        _Column("token ms", _token, 3),
        _Column("first ms", lambda manifest: _ms(manifest.timings.first_token.median_ns), 4),
        _Column("start-up s", lambda manifest: f"{manifest.timings.startup_ns / 1e9:.2f}", 6),
        _Column("profiled", _inflation, 5),
        _Column("peak MB", _peak, 7),
    ]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    shown = _fitting(columns, manifests, min(width, WIDEST))
    for column in shown:
        table.add_column(column.heading, justify=column.justify, no_wrap=True)
    for manifest in manifests:
        table.add_row(*(escape(column.cell(manifest)) for column in shown))
    return table


def bar(share: float) -> str:
    """A bar as long as `share`, from 0 to 1, of its column, exact to an eighth of a character. It is never empty."""
    eighths = max(1, round(share * _BAR_WIDTH * 8))
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else _EIGHTHS[eighths % 8])


def _fitting(columns: list[_Column], manifests: list[RunManifest], width: int) -> list[_Column]:
    """The columns that have values. If they do not fit, those of the highest rank are left out until the rest fits."""
    shown = [column for column in columns if any(column.cell(manifest) for manifest in manifests)]
    while sum(_width(column, manifests) for column in shown) - _GAP > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    return shown


def _width(column: _Column, manifests: list[RunManifest]) -> int:
    return max(len(column.heading), *(len(column.cell(manifest)) for manifest in manifests)) + _GAP


def _reduction(manifest: RunManifest) -> str:
    reduction = manifest.timings.reduction_percent
    return "" if reduction is None else percent(reduction / 100)


def _error(manifest: RunManifest) -> str:
    return "" if manifest.accuracy is None else scientific(manifest.accuracy.relative_error)


def _inflation(manifest: RunManifest) -> str:
    return "" if manifest.profile is None else ratio(manifest.profile.inflation)


def _peak(manifest: RunManifest) -> str:
    peak = manifest.timings.peak_memory_bytes
    return "" if peak is None else f"{peak / 1e6:,.0f}"


def _token(manifest: RunManifest) -> str:
    """The median time of a decode step, by the GPU's clock, or by the host's if there is no GPU time.

    Empty if there is no decode step.
    """
    timings = manifest.timings
    return _ms((timings.event_token or timings.decode_token).median_ns) if manifest.workload.new_tokens > 1 else ""


def _said(manifest: RunManifest) -> str:
    return " ".join(f"{manifest.workload.prompt or ''}{manifest.workload.text}".split())


def _ms(nanoseconds: int) -> str:
    milliseconds = nanoseconds / 1e6
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.2f}"
