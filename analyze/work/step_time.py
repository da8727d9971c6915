"""How long does a step take without the profiler, and what would a change make of it?

The profiler slows the host down, so what a profiled step would save is not what a real one would. If the time of a step without
the profiler is known, the program is played without the profiler's cost, and a change is made to that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tracekit.errors import TracekitError
from tracekit.manifest import RunManifest

from ..activity.program import program
from ..activity.unprofiled import fitted
from ..activity.whatif import Program
from ..structure.steps import DECODE, Steps
from ..trace.arrays import Floats
from ..trace.intervals import merge
from ..trace.trace import Trace

Change = Callable[[Program], Program]

UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(ns|us|µs|ms|s)")
_MU = "\u03bc"
"""The Greek letter, which looks like the sign for micro."""


def parse_step_time(text: str) -> int:
    """The time in ns that `1.48ms` or `900 us` says. Raises TracekitError if the text says none."""
    match = _TIME.fullmatch(text.strip().replace(_MU, "µ"))
    value = round(float(match[1]) * UNITS_NS[match[2]]) if match else 0
    if not 0 < value < 10**15:
        raise TracekitError(
            "this is no time of a step", where=f"--step-time {text}", mend="write a number and ns, us, ms or s, as 1.48ms"
        )
    return value


@dataclass(frozen=True)
class Saved:
    """What a change saves, in ns: of the profiled window, and of a step without the profiler with the time that is left of it.

    These two of a step are None where the time of a step without the profiler is not known. `unlimited_saving_ns` is what the
    window would lose if launches were no limit: if the host took no time and never waited.
    """

    saving_ns: int
    step_saving_ns: int | None = None
    step_after_ns: int | None = None
    unlimited_saving_ns: int | None = None

    @property
    def step_share(self) -> float | None:
        """What it saves as a share of a step without the profiler; None where that is not known."""
        if self.step_saving_ns is None or self.step_after_ns is None:
            return None
        return self.step_saving_ns / max(self.step_saving_ns + self.step_after_ns, 1)

    @property
    def fields(self) -> dict[str, Any]:
        """These figures as the fields of a finding."""
        return asdict(self)


@dataclass(frozen=True)
class Timed:
    """A trace's program, and how long a step takes without the profiler, if that is known.

    `step_ns` is that time and `told` says who told it. `steps` are the steps that take it.
    """

    trace: Trace
    steps: Steps
    step_ns: int | None
    told: str | None

    @cached_property
    def played(self) -> Program:
        """The program as it ran, with the profiler."""
        return program(self.trace)

    @cached_property
    def unprofiled(self) -> Program | None:
        """The program without the profiler's cost. None where the time of a step is not known, or there are no steps."""
        if self.step_ns is None or not len(self.steps.table):
            return None
        return fitted(self.played, self.step_ns * len(self.steps.table), self._steps_take)

    def saved(self, change: Change) -> Saved:
        """What a change saves."""
        window = max(round(self.played.span_ns - change(self.played).span_ns), 0)
        device = self._device_alone
        unlimited = max(round(device.span_ns - change(device).span_ns), 0)
        without = self.unprofiled
        if without is None or self.step_ns is None:
            return Saved(window, unlimited_saving_ns=unlimited)
        takes = self._steps_take(without)
        saved = max(takes - self._steps_take(change(without)), 0.0) / takes if takes else 0.0
        saving = min(round(saved * self.step_ns), self.step_ns)
        return Saved(window, saving, self.step_ns - saving, unlimited)

    @cached_property
    def _device_alone(self) -> Program:
        """The program with a host that takes no time and never waits."""
        return self.played.host_free()

    @cached_property
    def _span(self) -> tuple[int, int, int, int]:
        """The first item of the steps and the one after their last, and the same of the device's events that these launched.

        What ran outside the steps, as a prefill or a warm-up, is no part of what a step saves.
        """
        began = self.trace.start_ns[self.played.row]
        inside = (began >= self.steps.table["start_ns"].min()) & (began < self.steps.table["end_ns"].max())
        items = np.flatnonzero(inside)
        if not len(items):
            return 0, 0, 0, 0
        launched = np.maximum.accumulate(self.played.item)
        events = np.searchsorted(launched, (items[0], items[-1] + 1), side="left")
        return int(items[0]), int(items[-1]) + 1, int(events[0]), int(events[1])

    @cached_property
    def _between(self) -> Floats:
        """For each item, the share of the host's work before it that lies between two steps."""
        row, table = self.played.row, self.steps.table
        start, end = self.trace.start_ns[row], np.maximum.accumulate(self.trace.end_ns[row])
        before = np.minimum(np.concatenate((start[:1], end[:-1])), start)
        steps = merge(table["start_ns"], table["end_ns"])
        inside = steps.within(before, start)
        between = np.where((before >= table["start_ns"].min()) & (start < table["end_ns"].max()), start - before - inside, 0)
        return np.clip(between / np.maximum(self.played.work_ns + self.played.call_ns, 1.0), 0.0, 1.0)

    def _steps_take(self, program: Program) -> float:
        """How long the steps take in a program, in ns, if they are done again and again: what a second round adds to a first.

        So neither what the device still had to do when they began counts, nor what it still has to do when the host is done.
        """
        first, stop, first_event, stop_event = self._span
        if first == stop:
            return 0.0
        # What the host does between two steps is no part of either.
        program = program.without_share(self._between)
        begins = max(int(self.trace.start_ns[self.played.row[first]] - self.steps.table["start_ns"].min()), 0)
        rounds = program.twice((first, stop), (first_event, stop_event), float(begins))
        starts, ends, both = rounds.played()
        last, events = stop - first - 1, stop_event - first_event
        return both - max(float(starts[last] + rounds.call_ns[last]), float(ends[:events].max(initial=0.0)))


def timed(trace: Trace, steps: Steps, asked_ns: int | None, run: RunManifest | None) -> Timed:
    """The program of a trace, and the time of a step that was asked for, or else that the run's manifest tells."""
    decode = steps.take(np.flatnonzero(np.array([phase == DECODE for phase in steps.table["phase"].tolist()], dtype=np.bool_)))
    if asked_ns is not None:
        return Timed(trace, decode if len(decode.table) else steps, asked_ns, "--step-time")
    profile = run.profile if run else None
    if profile is None or profile.inflation <= 0 or not (profile.decode_ns or profile.prefill_ns):
        return Timed(trace, steps, None, None)
    if not profile.decode_ns:
        return Timed(trace, steps, round(profile.prefill_ns / profile.inflation), "the run manifest")
    each = profile.decode_ns / max(profile.decode_tokens, 1)
    return Timed(trace, decode, round(each / profile.inflation), "the run manifest")
