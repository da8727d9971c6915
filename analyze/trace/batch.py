"""Which traces do many files hold, if some of the files hold none?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tracekit.errors import TraceError

from .formats import EXPORT_HINT
from .inputs import Candidate, Skipped
from .loader import parse
from .trace import Trace


def load_all(
    candidates: Sequence[Candidate],
    texts: Iterable[Callable[[], bytes]],
    on_skip: Callable[[Skipped], None],
    on_next: Callable[[str], None],
) -> tuple[list[Trace], list[Skipped]]:
    """Read every candidate. `texts` is what `read_ahead` returns for the candidates' paths.

    `on_next` is told the name of each file before it is read. A bad file that was found in a directory is passed to `on_skip`
    and left out. Raises TraceError for a bad file that the user named, for a bad file that is the only candidate, and if no
    candidate is a trace.
    """
    traces: list[Trace] = []
    skipped: list[Skipped] = []
    for candidate, text in zip(candidates, texts, strict=True):
        on_next(candidate.path.name)
        try:
            traces += parse(text(), candidate.path)
        except TraceError as error:
            if candidate.named or len(candidates) == 1:
                raise
            one = Skipped(str(candidate.path), error.what)
            skipped.append(one)
            on_skip(one)
    if not traces:
        raise TraceError(
            f"none of the {len(skipped)} files is a profiler trace (the first, {skipped[0].path}: {skipped[0].reason})",
            where=candidates[0].path.parent,
            mend=EXPORT_HINT,
        )
    return traces, skipped
