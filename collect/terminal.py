"""How does a collection look in a terminal? Notices and progress while it runs, a table of the results at its end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from tracekit.manifest import RunManifest


class RichConsole:
    """The `Console` of the command line, over a rich console on standard error.

    A context: the progress bar lives inside it, on a terminal only, and the table comes when it ends, also for the
    variants that were done when a later one failed.
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
        if self._results:
            self._console.print(escape(conditions(self._results[0][1])), soft_wrap=True, style="bold")
            self._console.print(results_table([manifest for _, manifest in self._results]))

    def notice(self, message: str) -> None:
        """Show one line above the progress bar."""
        self._console.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Move the bar, or begin a new one."""
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
    """What the runs of one collection share, on one line."""
    work = manifest.workload
    return (
        f"{manifest.model.name} on {manifest.device.name}, {manifest.weights.source} weights: batch {work.batch}, "
        f"{work.prompt_tokens} prompt tokens, {work.new_tokens} new tokens; measured, without the profiler"
    )


def results_table(manifests: list[RunManifest]) -> Table:
    """The runs of one collection side by side: medians, except where the heading says otherwise."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("variant", no_wrap=True)
    for heading in ("tok/s", "run ms", "± std", "first ms", "token ms", "start-up s", "profiled"):
        table.add_column(heading, justify="right", no_wrap=True)
    for manifest in manifests:
        table.add_row(*_cells(manifest))
    return table


def _cells(manifest: RunManifest) -> list[str]:
    timings = manifest.timings
    total = timings.total
    return [
        escape(manifest.variant),
        f"{timings.tokens_per_second:,.1f}",
        _ms(total.median_ns),
        _ms(total.std_ns),
        _ms(timings.first_token.median_ns),
        _ms(timings.decode_token.median_ns),
        f"{timings.startup_ns / 1e9:.2f}",
        "" if manifest.profile is None else f"× {manifest.profile.inflation:.2f}",
    ]


def _ms(nanoseconds: int) -> str:
    milliseconds = nanoseconds / 1e6
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.2f}"
