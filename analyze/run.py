"""What does `tracekit analyze` do? The same from Python: find, load, select, analyse, group into runs, write.

from tracekit.analyze import analyze
found = analyze(["traces/"], steps="steady")
found.analyses[0].kernels.to_pandas()
found.document()["traces"][0]["gpu"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .trace.inputs import Skipped, find
from .trace.source import read_ahead

if TYPE_CHECKING:
    from .analysis import Analysis
    from .path.critical_path import Scope
    from .ranks.distributed_run import DistributedRun

Progress = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""Is told how many files there are; what it yields is told the name of each before it is read."""


@contextmanager
def silent(total: int) -> Iterator[Callable[[str], None]]:
    """Show no progress."""
    yield lambda name: None


@dataclass(frozen=True)
class Analyses:
    """The traces of one call in the order of their files, the runs that several of them are ranks of, the files left out."""

    analyses: tuple[Analysis, ...]
    runs: tuple[DistributedRun, ...]
    skipped: tuple[Skipped, ...]

    def document(self) -> dict[str, Any]:
        """What `analyze --json` prints, of JSON values only; docs/json.md describes it."""
        from .output.document import document

        return document(self.analyses, self.skipped, self.runs)

    def write(self, directory: Path) -> Path:
        """Write the bundle that `report` reads; docs/bundle.md describes it. Raises TracekitError."""
        from .output.bundle import write_bundle

        return write_bundle(self.analyses, self.skipped, directory, self.runs)


def analyze(
    paths: Sequence[Path | str],
    *,
    output: Path | str | None = None,
    rules: Path | None = None,
    device_table: Path | None = None,
    project: str | None = None,
    steps: str | None = None,
    step_time: str | None = None,
    per_step: bool = False,
    critical_path: bool = False,
    critical_path_in: str | None = None,
    on_skip: Callable[[Skipped], None] = lambda skipped: None,
    progress: Progress = silent,
) -> Analyses:
    """Analyse traces, or directories of them; the arguments are the options of `tracekit analyze`.

    With `output` the bundle is written there too. `on_skip` is told of each file of a directory that is no trace. Raises
    TracekitError for what is wrong with an argument or a file that was named, before anything is written.
    """
    directory = Path(output) if output is not None else None
    if directory is not None and directory.exists():
        from .output.replaceable import refuse_to_destroy

        refuse_to_destroy(directory)  # before the work, not after it
    candidates = find([Path(path) for path in paths])
    # The first file is unpacked while the rest is imported: on a large trace both take about as long.
    texts = read_ahead([candidate.path for candidate in candidates])

    from tracekit.devices import choose_datasheet, load_datasheets
    from tracekit.taxonomy import Taxonomy

    from .analysis import Analysis, among_ranks
    from .ranks.distributed_run import find_runs
    from .structure.selection import select
    from .trace.batch import load_all
    from .work.step_time import parse_step_time

    step_ns = parse_step_time(step_time) if step_time is not None else None
    scope = _scope(critical_path, critical_path_in)
    taxonomy, sheets = Taxonomy.load(rules), load_datasheets(device_table)
    target = choose_datasheet(project, sheets) if project is not None else None
    with progress(len(candidates)) as on_next:
        traces, skipped = load_all(candidates, texts, on_skip, on_next)
        chosen = [(trace, None) if steps is None else select(trace, steps) for trace in traces]
        analyses = [
            Analysis(trace, taxonomy, sheets, target, picked, per_step, scope, step_ns=step_ns) for trace, picked in chosen
        ]
        runs = find_runs([one.trace for one in analyses], [one.communication for one in analyses])
        found = Analyses(tuple(among_ranks(analyses, runs)), runs, tuple(skipped))
        if directory is not None:
            found.write(directory)
    return found


def _scope(critical_path: bool, critical_path_in: str | None) -> Scope | None:
    """Where the critical path is looked for; None where nobody asked. Raises MissingExtraError without HTA."""
    if not critical_path and critical_path_in is None:
        return None
    from .path.critical_path import Scope
    from .path.hta_graph import require_hta

    require_hta()
    return Scope.parse(critical_path_in) if critical_path_in is not None else Scope()
