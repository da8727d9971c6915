"""From a profiler trace to exact figures: pure functions over columns, one module a question."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekit.taxonomy import Taxonomy

    from .analysis import Analysis
    from .run import Analyses, analyze
    from .trace.loader import load, load_ranks
    from .trace.trace import Trace

__all__ = ["Analyses", "Analysis", "Taxonomy", "Trace", "analyze", "load", "load_ranks"]

_HOMES = {
    "Analyses": "tracekit.analyze.run",
    "Analysis": "tracekit.analyze.analysis",
    "Taxonomy": "tracekit.taxonomy",
    "Trace": "tracekit.analyze.trace.trace",
    "analyze": "tracekit.analyze.run",
    "load": "tracekit.analyze.trace.loader",
    "load_ranks": "tracekit.analyze.trace.loader",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: reading a file can then begin before NumPy is there."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
