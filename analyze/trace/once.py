"""How is a result that many analyses need computed only once for each trace?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from .trace import Trace

Result = TypeVar("Result")


def once(function: Callable[[Trace], Result]) -> Callable[[Trace], Result]:
    """Store the result of a function with the trace, as a cached property would. The trace must be its only argument.

    The result lives as long as the trace. A trace made by `dataclasses.replace` has no stored results. A stored result must
    not be changed.
    """
    key = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def kept(trace: Trace) -> Result:
        if key not in trace.results:
            trace.results[key] = function(trace)
        result: Result = trace.results[key]
        return result

    return kept
