"""What is left of a trace if only some of its steps count?

What is left are the host events that begin in the chosen steps, and the GPU events that were launched in them, whenever they
ran. The GPU's span then runs from the start of the first of these GPU events to the end of the last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tracekit.errors import TracekitError
from tracekit.wording import counted

from ..trace.arrays import Bools, Int64s
from ..trace.subset import subset
from ..trace.trace import GPU, Trace, TraceWarning
from .phases import STEADY, WARMUP, states
from .steps import DECODE, MIXED, PREFILL, Steps, find_steps

EXAMPLES = "3-8, 2,4,6, steady, warmup, decode, prefill, first:5 or last:5"
_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?\Z")
_END = re.compile(r"(first|last):(\d{1,9})\Z")


@dataclass(frozen=True)
class Selection:
    """Which steps were chosen.

    `asked` is the text of the request and `numbers` the chosen steps' numbers (`3-8, 10`). `count` steps were chosen of the
    trace's `of` steps.
    """

    asked: str
    numbers: str
    count: int
    of: int
    steps: Steps


def select(trace: Trace, asked: str) -> tuple[Trace, Selection]:
    """The trace with only the steps that `asked` names (see EXAMPLES), and which steps these are.

    Raises TracekitError if `asked` names no steps, or if the trace has no steps.
    """
    steps = find_steps(trace)
    if not len(steps.table):
        raise TracekitError(
            f"the trace has no steps: {steps.told}", where=f"--steps {asked} on {trace.path}", mend="analyse it without --steps"
        )
    number = steps.table["number"]
    try:
        rows = np.flatnonzero(_chosen(trace, steps, asked)).astype(np.int64)
    except _NoSuchStepError as error:
        held = f"{trace.name} has {counted(len(number), 'step')}, {_ranges(number)}"
        raise TracekitError(f"{error}; {held}", where=f"--steps {asked}", mend=f"write {EXAMPLES}") from error
    chosen = steps.take(rows)
    selection = Selection(asked, _ranges(chosen.table["number"]), len(rows), len(steps.table), chosen)
    return restrict(trace, chosen, contiguous=bool((np.diff(rows) == 1).all())), selection


def restrict(trace: Trace, steps: Steps, contiguous: bool = True) -> Trace:
    """The trace with only the events of these steps. Its clock and its strings stay the same.

    A warning is added if the steps are not `contiguous`.
    """
    keep = steps.of_moments(trace.start_ns) >= 0
    keep[np.isin(trace.events["category"], GPU)] = False
    launched = _launched(trace, steps)
    keep[trace.gpu["event"][launched]] = True
    warnings = trace.warnings
    if not contiguous:
        message = "the chosen steps are not one run: what lies between them counts as idle time"
        warnings = (*warnings, TraceWarning("steps_apart", message, 1))
    return subset(trace, keep, launched, warnings)


def _launched(trace: Trace, steps: Steps) -> Bools:
    """For each row of `trace.gpu`, whether one of the steps launched it."""
    call = trace.call_of_gpu
    found: Bools = (call >= 0) & (steps.of_moments(trace.start_ns[call]) >= 0)
    return found


class _NoSuchStepError(Exception):
    """No step was chosen; the message says why."""


def _chosen(trace: Trace, steps: Steps, asked: str) -> Bools:
    """For each step, whether it is asked for. Raises _NoSuchStepError if no step is."""
    text, place = asked.strip().lower(), np.arange(len(steps.table))
    if end := _END.match(text):
        count = int(end.group(2))
        return _some(place < count if end.group(1) == "first" else place >= len(place) - count, "none is asked for")
    if text in (STEADY, WARMUP):
        state = states(trace, steps)
        return _some(state == text, f"none is {text}" if any(state) else "they are too few to tell warm-up from steady state")
    if text in (PREFILL, DECODE, MIXED):
        return _some(steps.table["phase"] == text, f"none is known to be {text}")
    return _numbered(steps.table["number"], text)


def _numbered(number: Int64s, text: str) -> Bools:
    chosen = np.zeros(len(number), dtype=np.bool_)
    for part in map(str.strip, text.split(",")):
        match = _RANGE.match(part)
        if match is None:
            raise _NoSuchStepError(f"{part or 'nothing'} names no steps")
        low, high = int(match.group(1)), int(match.group(2) or match.group(1))
        chosen |= _some((number >= low) & (number <= high), f"there is no step {part}")
    return chosen


def _some(chosen: Bools, why: str) -> Bools:
    if not np.any(chosen):
        raise _NoSuchStepError(why)
    return chosen


def _ranges(numbers: Int64s) -> str:
    """Text like `3-8, 10` for numbers in ascending order."""
    first = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 2) != 1)
    runs = [(int(run[0]), int(run[-1])) for run in np.split(numbers, first[1:])]
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
