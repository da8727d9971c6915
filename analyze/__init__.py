"""From a profiler trace to exact figures: pure functions over columns, one module a question."""

from tracekit.taxonomy import Taxonomy

from .analysis import Analysis
from .load import load
from .trace import Trace

__all__ = ["Analysis", "Taxonomy", "Trace", "load"]
