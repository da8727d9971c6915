"""How do the steps of a trace differ: warm-up, steady state, prefill, decode?

Each step's figures are its share of the whole. Several events may run at one busy moment of the GPU; the moment belongs to the
step of the event that began first. A gap belongs to the step of the event after it, because the GPU was idle until that event
came. So busy time, idle time and its causes add up over the steps and what lies outside them, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracekit.schema import CAUSES, PER_STEP
from tracekit.table import Table

from ..activity.idle import gaps
from ..trace.arrays import Bools, Int64s, Objects
from ..trace.group import Groups, group
from ..trace.intervals import exclusive
from ..trace.trace import Trace
from .steps import Steps, steps_of_gpu

OUTSIDE = "(outside)"
"""The row of everything that no step launched, or whose launch is not known."""
WARMUP, STEADY = "warmup", "steady"
MIN_STEPS = 3
"""The least number of steps of a phase that get a state. Among fewer, no step can be called unlike the others."""
DEVIATIONS = 3.0
"""A step is unlike the others if it is more than this many scaled median absolute deviations from the median.

It must also be more than TOLERANCE of the median away from it.
"""
TOLERANCE = 0.10
_MAD_TO_SIGMA = 1.4826

MEASURES = ("host_ns", "device_ns", "busy_ns", "idle_ns")


@dataclass(frozen=True)
class Phases:
    """The steps with their figures, and the steps of each phase and state together.

    `source`, `confidence` and `told` are those of `Steps`.

    `steps` has a row for each step; times in ns. Its last row, with the name `(outside)` and the number None, holds what no
    step launched. Columns: `number`, `name`, `phase`, `state` (warmup, steady, or None if there are too few steps to tell),
    `flag` (`outlier` for a steady step unlike the others, or None), `start_ns` and `host_ns` (start and length of its span on
    the host), `kernels`, `copies` (and fills), `kernel_time_ns`, `gpu_start_ns` and `gpu_end_ns` (start of its first GPU event
    and end of its last, or None), `device_ns` (the sum of the next two), `busy_ns`, `idle_ns` and the idle time's six causes.

    `groups` has a row for each phase and state: `phase`, `state`, `steps`, `outliers` and `kernels` (median). For each of
    `host`, `device`, `busy` and `idle` it has the median, least and largest time: `host_median_ns`, `host_min_ns`,
    `host_max_ns`, … The medians are lower medians, so each is the time of a real step.
    """

    source: str | None
    confidence: float
    told: str
    steps: Table
    groups: Table


def phases(trace: Trace, steps: Steps) -> Phases:
    """The figures of these steps of a trace."""
    figures = _figures(trace, steps)
    length = figures["device_ns"] if len(trace.gpu) else figures["host_ns"]
    state, flag = _states(steps.table["phase"], length[:-1])
    table = Table(
        {
            "number": np.array([*steps.table["number"].tolist(), None], dtype=object),
            "name": np.array([*steps.table["name"].tolist(), OUTSIDE], dtype=object),
            **{
                name: np.array([*column.tolist(), None], dtype=object)
                for name, column in (("phase", steps.table["phase"]), ("state", state), ("flag", flag))
            },
            **figures.columns,
        }
    )
    return Phases(steps.source, steps.confidence, steps.told, table, _groups(table.head(len(steps.table))))


def states(trace: Trace, steps: Steps) -> Objects:
    """For each step, `warmup`, `steady` or None, as in `Phases.steps`."""
    return phases(trace, steps).steps["state"][: len(steps.table)]


def per_step(table: Table, sums: Sequence[str], steps: int) -> Table:
    """The table with one more column `…_per_step` for each of `sums`: the sum divided by the number of steps, as a double.

    It is None where the sum is None. If there are no steps, no column is added.
    """
    added = {
        f"{name}{PER_STEP}": np.array([None if one is None else one / steps for one in table[name].tolist()], dtype=object)
        for name in sums
        if steps
    }
    return Table({**table.columns, **added})


def _figures(trace: Trace, steps: Steps) -> Table:
    """The columns of `Phases.steps` from `start_ns` on: a row for each step, and a last one for the rest."""
    count = len(steps.table) + 1
    place = steps_of_gpu(trace, steps)  # -1 stands for the last row, the rest
    event = trace.gpu["event"]
    start, end = trace.start_ns[event], trace.end_ns[event]

    def total(places: Int64s, values: Int64s) -> Int64s:
        sums = np.zeros(count, dtype=np.int64)
        np.add.at(sums, places, values)
        return sums

    found = gaps(trace)
    ends_gap = np.where(found["after"] >= 0, place[found["after"]], -1) if len(place) else found["after"]
    causes = {f"{cause}_ns": total(ends_gap, found[f"{cause}_ns"]) for cause in CAUSES}
    busy, idle = total(place, _own(trace)), total(ends_gap, found["end_ns"] - found["start_ns"])
    host_start = np.append(steps.table["start_ns"], 0)
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(first, place, start)
    np.maximum.at(last, place, end)
    has_events = total(place, np.ones(len(place), dtype=np.int64)) > 0
    return Table(
        {
            "start_ns": host_start,
            "host_ns": np.append(steps.table["end_ns"], 0) - host_start,
            "kernels": total(place, trace.is_kernel.astype(np.int64)),
            "copies": total(place, (~trace.is_kernel).astype(np.int64)),
            "kernel_time_ns": total(place, np.where(trace.is_kernel, end - start, 0)),
            "gpu_start_ns": _known(first, has_events),
            "gpu_end_ns": _known(last, has_events),
            "device_ns": busy + idle,
            "busy_ns": busy,
            "idle_ns": idle,
            **causes,
        }
    )


def _own(trace: Trace) -> Int64s:
    """For each row of `trace.gpu`, its own part of its device's busy time. The parts add up to all busy time."""
    own = np.empty(len(trace.gpu), dtype=np.int64)
    for rows in trace.by_device.values():
        event = trace.gpu["event"][rows]
        own[rows] = exclusive(trace.start_ns[event], trace.end_ns[event])
    return own


def _known(values: Int64s, known: Bools) -> Objects:
    found: Objects = values.astype(object)
    found[~known] = None
    return found


def _states(phase: Objects, length: Int64s) -> tuple[Objects, Objects]:
    """Each step's state and flag. They follow from its length, compared with the other steps of its phase."""
    state, flag = np.full(len(phase), None, dtype=object), np.full(len(phase), None, dtype=object)
    for one in dict.fromkeys(phase.tolist()):
        mine = np.flatnonzero(phase == one) if one is not None else np.flatnonzero([value is None for value in phase.tolist()])
        if len(mine) < MIN_STEPS:
            continue
        values = length[mine].astype(np.float64)
        late = values[len(values) // 2 :]  # the later half, which a warm-up does not reach
        middle = float(np.median(late))
        margin = max(TOLERANCE * middle, DEVIATIONS * _MAD_TO_SIGMA * float(np.median(np.abs(late - middle))))
        usual = np.flatnonzero(values <= middle + margin)
        warm = min(int(usual[0]) if len(usual) else 0, len(values) // 2)
        state[mine[:warm]], state[mine[warm:]] = WARMUP, STEADY
        unlike = np.abs(values[warm:] - middle) > margin
        # The very first step has no gap before it, so it may be shorter without being an outlier.
        unlike &= (mine[warm:] > 0) | (values[warm:] > middle)
        flag[mine[warm:][unlike]] = "outlier"
    return state, flag


def _groups(table: Table) -> Table:
    keys = list(zip(table["phase"].tolist(), table["state"].tolist(), strict=True))
    known = list(dict.fromkeys(keys))
    by_key = group(np.array([known.index(key) for key in keys], dtype=np.int64))
    outliers = np.array([flag is not None for flag in table["flag"].tolist()], dtype=np.int64)
    return Table(
        {
            "phase": np.array([phase for phase, _ in known], dtype=object),
            "state": np.array([state for _, state in known], dtype=object),
            "steps": by_key.count,
            "outliers": by_key.sum(outliers),
            "kernels": _ranked(by_key, table["kernels"])["median"],
            **{
                f"{measure.removesuffix('_ns')}_{rank}_ns": values
                for measure in MEASURES
                for rank, values in _ranked(by_key, table[measure]).items()
            },
        }
    )


def _ranked(by_key: Groups, values: Int64s) -> dict[str, Int64s]:
    """The lower median, the least and the largest value of each group."""
    ordered = by_key.order_by(values) if len(values) else []
    places = {"median": [(len(rows) - 1) // 2 for rows in ordered], "min": [0] * len(ordered), "max": [-1] * len(ordered)}
    return {
        rank: np.array([values[rows[at]] for rows, at in zip(ordered, places[rank], strict=True)], dtype=np.int64)
        for rank in places
    }
