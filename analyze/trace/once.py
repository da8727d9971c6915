"""How is a result that many analyses need computed only once for each trace?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from .trace import Trace

Result = TypeVar("Result")


def once(function: Callable[[Trace], Result]) -> Callable[[Trace], Result]:
    """Let a function of a trace alone keep its result with the trace, as a cached property would.

    The result lives as long as the trace, and `dataclasses.replace` makes a trace that has none. It must not be changed.
    """
    key = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def kept(trace: Trace) -> Result:
        if key not in trace.results:
            trace.results[key] = function(trace)
        result: Result = trace.results[key]
        return result

    return kept
