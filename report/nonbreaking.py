"""How does a figure stay on one line with its unit?

These are the functions of `tracekit.wording` whose texts hold a figure and its unit. Here, the space between the two is one at
which no browser breaks a line. None of these functions takes text from a trace, so every space of a result can be replaced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from tracekit import wording

NBSP = "\u00a0"
P = ParamSpec("P")


def _bound(show: Callable[P, str]) -> Callable[P, str]:
    @functools.wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> str:
        return show(*args, **kwargs).replace(" ", NBSP)

    return shown


binary_size = _bound(wording.binary_size)
duration = _bound(wording.duration)
durations = _bound(wording.durations)
millions = _bound(wording.millions)
operations = _bound(wording.operations)
percent = _bound(wording.percent)
quantity = _bound(wording.quantity)
rate = _bound(wording.rate)
rough_percent = _bound(wording.rough_percent)
size = _bound(wording.size)
