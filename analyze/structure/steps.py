"""Which steps does a trace hold: iterations of a training loop, or tokens of a generation?

Recorded marks are tried first, in this order: annotations that are named like a phase (`prefill`, `decode`), the profiler's own
`ProfilerStep#n`, and any annotation that repeats. The first of these that holds at least half of the launches counts. If none
does, the sequence of kernels may repeat. A step is a span of host time. Everything that was launched in it belongs to it, on
any thread and whenever it ran.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tracekit.table import Table

from ..activity.launches import launching_calls
from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.trace import Category, Trace
from .marks import COMPILER, STEP_NUMBER
from .period import MIN_REPEATS, Period, period

MOST = 0.5
"""The least share of all launches that annotations must hold to count as the steps."""

PROFILER_STEP = re.compile(r"ProfilerStep\s*#?(\d+)")
NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+")
PREFILL_WORDS = frozenset({"prefill", "extend", "prompt"})
DECODE_WORDS = frozenset({"decode", "decoding"})
STEP_WORDS = frozenset({"step", "iter", "iteration", "batch", "token", "train", "forward", "generate", "request", "epoch"})
# vLLM's name for a step says how many requests (and tokens) are in their context phase, and how many generate.
ENGINE_STEP = re.compile(r"execute_(?:\d+_)?context_(\d+)\(.*?\)_generation_(\d+)\(")
# Annotations that frameworks make by themselves are parts of a step, not steps.
NOT_STEPS = ("nccl:", "gloo:", "c10d::", COMPILER, "Torch-Compiled Region", "Optimizer.", "enumerate(DataLoader)")

TRAINING = re.compile(r"autograd::engine|Optimizer\.|.*Backward\d*\Z")

PHASES = PREFILL, DECODE, MIXED = "prefill", "decode", "mixed"
LIKELY = 0.9
"""The confidence in a repeated annotation whose name holds one of STEP_WORDS."""
WHOLE, REPETITION = "(trace)", "step"
"""The kind of the whole trace, if it has no steps, and the kind of a step that is known only from repeating kernels."""
MOST_NAMES = 64
"""How many names of annotations that repeat are tried, those with most time."""


@dataclass(frozen=True)
class Steps:
    """The steps of a trace.

    `source` says what shows the steps: `annotations` (named like a phase), `profiler_steps`, `repeated_annotation`, `kernels`
    (their sequence repeats) or None. `confidence` is 1 for steps that were recorded as such, less for steps that were inferred.
    `told` says in words what shows the steps, or why there are none.

    `table` has a row for each step, in the order of time; no two steps overlap. Columns: `number` (int64: the recorded number
    if every step has one and they ascend, else counted from 0), `name`, `phase` (prefill, decode, mixed, or None if unknown),
    `start_ns` and `end_ns` (int64, times of the host).
    """

    source: str | None
    confidence: float
    told: str
    table: Table

    def of_moments(self, times: Int64s) -> Int64s:
        """For each moment of the host, the place of the step in which it lies, or -1."""
        place = np.searchsorted(self.table["start_ns"], times, side="right") - 1
        if not len(self.table):
            return np.full(len(times), -1, dtype=np.int64)
        return np.where((place >= 0) & (times < self.table["end_ns"][place]), place, -1)

    def take(self, rows: Int64s) -> Steps:
        """Some of the steps, in the order of time."""
        return Steps(self.source, self.confidence, self.told, self.table.take(rows))

    @property
    def kinds(self) -> list[str]:
        """The kind of each step: see `kinds_of`."""
        return kinds_of(self.table["name"].tolist(), self.table["phase"].tolist(), self.source)


def kinds_of(names: Sequence[str], phases: Sequence[str | None], source: str | None) -> list[str]:
    """The kind of each step: its phase, or else its name without the number. Steps of one kind may be averaged."""
    if source == "kernels":
        return [phase or REPETITION for phase in phases]
    return [phase or without_number(name) for name, phase in zip(names, phases, strict=True)]


def without_number(name: str) -> str:
    """The name that all steps of a loop share: `iteration` of `iteration 7`, `ProfilerStep` of `ProfilerStep#7`."""
    return NUMBER.sub("#", STEP_NUMBER.sub("", name)) or REPETITION


@dataclass(frozen=True)
class StepKinds:
    """The kinds of a trace's steps, in the order of their first steps, and what belongs to each kind.

    `counts` has the number of steps for each of `names`. `of_gpu` has the place in `names` for each row of `trace.gpu`, and
    `of_launches` for each of `launching_calls(trace)`. It is -1 for what lies outside all steps.
    """

    names: tuple[str, ...]
    counts: Int64s
    of_gpu: Int64s
    of_launches: Int64s


def step_kinds(trace: Trace, steps: Steps) -> StepKinds:
    """The kinds of these steps of a trace. A trace without steps counts as one step."""
    launching = launching_calls(trace)
    if not len(steps.table):
        nowhere = np.zeros(len(launching), np.int64)
        return StepKinds((WHOLE,), np.ones(1, np.int64), np.zeros(len(trace.gpu), np.int64), nowhere)
    kinds = steps.kinds
    names = tuple(dict.fromkeys(kinds))
    # The last entry is for place -1: what lies in no step.
    kind = np.array([*map(names.index, kinds), -1], dtype=np.int64)
    counts = np.bincount(kind[:-1], minlength=len(names)).astype(np.int64)
    return StepKinds(names, counts, kind[steps_of_gpu(trace, steps)], kind[steps.of_moments(trace.start_ns[launching])])


def find_steps(trace: Trace) -> Steps:
    """The steps of a trace. The table is empty if neither annotations nor kernels show any."""
    launched = _launch_moments(trace)
    for candidate in (*_annotated(trace), *_repeated(trace, launched)):
        inside = (candidate.of_moments(launched) >= 0).sum()
        # If nothing else shows steps, the profiler's own steps count below, however few launches they hold.
        if len(candidate.table) and inside >= MOST * len(launched):
            return candidate
    steps = _profiler_steps(trace)
    return steps if len(steps.table) else _by_kernels(trace)


def steps_of_gpu(trace: Trace, steps: Steps) -> Int64s:
    """For each row of `trace.gpu`, the place of the step that launched it. It is -1 if no step did or its launch is unknown."""
    call = trace.call_of_gpu
    found = np.full(len(call), -1, dtype=np.int64)
    known = call >= 0
    found[known] = steps.of_moments(trace.start_ns[call[known]])
    return found


def _launch_moments(trace: Trace) -> Int64s:
    """The times at which GPU events were launched, where known. If none is known, the times at which operators began."""
    call = trace.call_of_gpu
    rows = call[call >= 0]
    return trace.start_ns[rows if len(rows) else trace.operators]


def _annotated(trace: Trace) -> Iterator[Steps]:
    """Two candidates for the steps: annotations named like a phase, then the profiler's steps."""
    phases = objects([phase_of(text) for text in trace.strings])
    rows = trace.where(Category.ANNOTATION)
    rows = rows[phases[trace.events["name"][rows]] != None]  # noqa: E711 (of each element)
    yield _from_rows(trace, rows, "annotations", 1.0, "annotations named like a phase", phases)
    yield _profiler_steps(trace)


def phase_of(name: str) -> str | None:
    """The phase of a generation that an annotation's name says: prefill, decode, mixed (both at once), or None."""
    if engine := ENGINE_STEP.match(name):
        context, generation = (int(count) > 0 for count in engine.groups())
        return MIXED if context and generation else PREFILL if context else DECODE if generation else None
    if name.startswith(NOT_STEPS):
        return None
    words = set(_WORD.findall(name.lower()))
    prefill, decode = bool(words & PREFILL_WORDS), bool(words & DECODE_WORDS)
    return MIXED if prefill and decode else PREFILL if prefill else DECODE if decode else None


def _profiler_steps(trace: Trace) -> Steps:
    # The oldest profilers record their steps as operators.
    rows = trace.named(trace.where(Category.ANNOTATION, Category.OPERATOR), PROFILER_STEP.match)
    return _from_rows(trace, rows, "profiler_steps", 1.0, "the profiler's steps (ProfilerStep#n)")


def _repeated(trace: Trace, launched: Int64s) -> Iterator[Steps]:
    """The steps by the annotation that repeats and holds most launches. Of equals the one with most time is taken."""
    rows = trace.named(trace.where(Category.ANNOTATION), lambda text: not text.startswith((*NOT_STEPS, "ProfilerStep")))
    if not len(rows):
        return
    codes, code = np.unique(trace.events["name"][rows], return_inverse=True)
    labels = [NUMBER.sub("#", str(trace.strings[one])) for one in codes.tolist()]
    known = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    label = np.array([known[one] for one in labels], dtype=np.int64)[code.reshape(-1)]
    time = np.zeros(len(known), dtype=np.int64)
    np.add.at(time, label, trace.events["duration_ns"][rows])
    repeats = np.bincount(label, minlength=len(known)) > 1
    order = [one for one in np.argsort(-time, kind="stable").tolist() if repeats[one]][:MOST_NAMES]
    found = []
    for one in order:
        name = list(known)[one]
        sure = LIKELY if set(_WORD.findall(name.lower())) & STEP_WORDS else 0.6
        steps = _from_rows(trace, rows[label == one], "repeated_annotation", sure, f"the annotation {name}, which repeats")
        if len(steps.table) > 1:
            found.append((int((steps.of_moments(launched) >= 0).sum()), steps))
    if found:
        yield max(found, key=lambda pair: pair[0])[1]


def _from_rows(trace: Trace, rows: Int64s, source: str, confidence: float, told: str, phases: Objects | None = None) -> Steps:
    """Annotations as steps. An annotation that begins inside an earlier one is part of that one and no step."""
    start, end = trace.start_ns[rows], trace.end_ns[rows]
    order = np.lexsort((-end, start))
    rows, start, end = rows[order], start[order], end[order]
    before = np.maximum.accumulate(end) if len(end) else end
    apart: Bools = np.ones(len(rows), dtype=np.bool_)
    apart[1:] = start[1:] >= before[:-1]
    rows = rows[apart & (end > start)]
    names = trace.names(rows)
    told_phases = np.full(len(rows), None, dtype=object) if phases is None else phases[trace.events["name"][rows]]
    return Steps(source, confidence, told, _table(names, told_phases, trace.start_ns[rows], trace.end_ns[rows]))


def _table(names: Objects, phases: Objects, start: Int64s, end: Int64s) -> Table:
    matches = [PROFILER_STEP.match(str(name)) for name in names]
    recorded = [int(match.group(1)) for match in matches if match]
    distinct = len(recorded) == len(names) and all(low < high for low, high in pairwise(recorded))
    number = recorded if distinct and max(recorded, default=0) < 2**62 else range(len(names))
    return Table({"number": np.array(number, dtype=np.int64), "name": names, "phase": phases, "start_ns": start, "end_ns": end})


def _by_kernels(trace: Trace) -> Steps:
    """Steps by the repeating sequence of kernels on the stream with most kernels. The kernels before it may be a prefill."""
    order = trace.kernels_in_order
    if not len(order):
        return _cannot_tell("no annotation repeats, and there are no kernels")
    lanes = np.stack((trace.gpu["device"][order], trace.gpu["stream"][order]), axis=1)
    lane, kernels = np.unique(lanes, axis=0, return_inverse=True, return_counts=True)[1:]
    order = order[lane.reshape(-1) == int(np.argmax(kernels))]
    event = trace.gpu["event"][order]
    idle = np.zeros(len(order), dtype=np.int64)
    idle[1:] = trace.start_ns[event[1:]] - trace.end_ns[event[:-1]]
    found = period(trace.events["name"][event].astype(np.int64), idle)
    if found is None:
        return _cannot_tell("no annotation repeats, and neither does the sequence of kernels")
    trained = _is_training(trace)
    if not trained and not found.nested:
        return _cannot_tell(f"a sequence of {found.length} kernels repeats, which may be the layers of one step as well")
    return _of_period(trace, trace.call_of_gpu[order], found, may_decode=not trained)


def _of_period(trace: Trace, call: Int64s, found: Period, may_decode: bool) -> Steps:
    """The repetitions as spans of the host. Each runs from the launch of its first kernel to the next repetition's launch."""
    starts = found.starts[call[found.starts] >= 0]
    start = trace.start_ns[call[starts]]
    if len(starts) < MIN_REPEATS or (np.diff(start) <= 0).any():
        return _cannot_tell("kernels repeat, but their launches were not recorded one by one")
    beyond = call[int(starts[-1]) + found.length :][:1]
    ends = trace.start_ns[beyond[(beyond >= 0) & (trace.start_ns[beyond] > start[-1])]]
    end = np.concatenate((start[1:], ends if len(ends) else [_last(trace) + 1]))
    names = np.full(len(start), f"{found.length} kernels", dtype=object)
    phases = np.full(len(start), None, dtype=object)
    lead = call[: int(starts[0])]
    if may_decode and _is_prefill(lead, found.length) and trace.start_ns[lead[0]] < start[0]:
        start, end = np.insert(start, 0, trace.start_ns[lead[0]]), np.insert(end, 0, start[0])
        names = np.insert(names, 0, f"{len(lead)} kernels")
        phases = np.array([PREFILL, *[DECODE] * len(phases)], dtype=object)
    told = f"a sequence of {found.length} kernels that repeats {len(starts)} times"
    return Steps("kernels", found.confidence, told, _table(names, phases, start, end))


def _is_prefill(lead: Int64s, length: int) -> bool:
    """Whether the kernels before the first repetition are about as many as in one: the same model with another input."""
    return bool(len(lead) and (lead >= 0).all() and 0.5 * length <= len(lead) <= 2 * length)


def _is_training(trace: Trace) -> bool:
    """Whether there was a backward pass. If so, a sequence that repeats is a step: it cannot be a single layer."""
    return any(TRAINING.match(text) for text in trace.strings)


def _last(trace: Trace) -> int:
    """The time at which the last call or operator began."""
    rows = np.concatenate((trace.calls, trace.operators))
    return int(trace.start_ns[rows].max(initial=0))


def _cannot_tell(why: str) -> Steps:
    nothing = np.empty(0, dtype=np.int64)
    return Steps(None, 0.0, why, _table(nothing.astype(object), nothing.astype(object), nothing, nothing))
