"""How do the steps of a trace differ: warm-up, steady state, prefill, decode?

Each step's figures are its share of the whole: a moment in which the GPU is busy belongs to the step of the event that began
first of those that run then, a gap to the step of the event that ends it, as what delayed that one is why the GPU was idle. So
busy time, idle time and its causes add up over the steps and what lies outside them, to the nanosecond.
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
"""The row of what no step launched, or whose launch is not known."""
WARMUP, STEADY = "warmup", "steady"
MIN_STEPS = 3
"""Of fewer steps none can be told to be unlike the others."""
DEVIATIONS = 3.0
"""So many (scaled) median absolute deviations from the median, and TOLERANCE of it, make a step unlike the others."""
TOLERANCE = 0.10
_MAD_TO_SIGMA = 1.4826

MEASURES = ("host_ns", "device_ns", "busy_ns", "idle_ns")


@dataclass(frozen=True)
class Phases:
    """The steps with their figures, and the steps of a phase and state side by side.

    `source`, `confidence` and `told` are those of `Steps`. `steps` has a row a step and last, named `(outside)` and with a
    `number` of None, what no step launched; times in ns: `number`, `name`, `phase`, `state` (warmup, steady or None: too few to
    tell), `flag` (`outlier` for a steady step unlike the others, or None), `start_ns` and `host_ns` (of the host's span),
    `kernels`, `copies` (and fills), `kernel_time_ns`, `gpu_start_ns` and `gpu_end_ns` (of its first and last GPU event, or
    None), `device_ns` (`busy_ns` and `idle_ns` together) and the idle time's six causes.

    `groups` has a row a phase and state: `phase`, `state`, `steps`, `outliers`, `kernels` (median), and for each of `host`,
    `device`, `busy` and `idle` a median, least and largest: `host_median_ns`, `host_min_ns`, `host_max_ns`, … (medians are the
    lower ones, so each is a step's own).
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
    """For each step `warmup`, `steady` or None, as in `Phases.steps`."""
    return phases(trace, steps).steps["state"][: len(steps.table)]


def per_step(table: Table, sums: Sequence[str], steps: int) -> Table:
    """The table with a column `…_per_step` for each of `sums`: doubles, None where the sum is; without steps, as it is."""
    added = {
        f"{name}{PER_STEP}": np.array([None if one is None else one / steps for one in table[name].tolist()], dtype=object)
        for name in sums
        if steps
    }
    return Table({**table.columns, **added})


def _figures(trace: Trace, steps: Steps) -> Table:
    """The columns from `start_ns` on: a row a step, and one for the rest."""
    count = len(steps.table) + 1
    place = steps_of_gpu(trace, steps)  # -1 is the last row, the rest
    event = trace.gpu["event"]
    start, end = trace.start_ns[event], trace.end_ns[event]

    def total(places: Int64s, values: Int64s) -> Int64s:
        sums = np.zeros(count, dtype=np.int64)
        np.add.at(sums, places, values)
        return sums

    found = gaps(trace)
    ends_gap = place[found["after"]]
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
    """For each row of `trace.gpu` how much of the GPU's busy time is its own; they add up to all of it."""
    order = trace.gpu_order
    event = trace.gpu["event"][order]
    start, end = trace.start_ns[event], trace.end_ns[event]
    own = np.empty(len(order), dtype=np.int64)
    own[order] = exclusive(start, end)
    return own


def _known(values: Int64s, known: Bools) -> Objects:
    found: Objects = values.astype(object)
    found[~known] = None
    return found


def _states(phase: Objects, length: Int64s) -> tuple[Objects, Objects]:
    """Each step's state and flag, judged by its length among the steps of its phase."""
    state, flag = np.full(len(phase), None, dtype=object), np.full(len(phase), None, dtype=object)
    for one in dict.fromkeys(phase.tolist()):
        mine = np.flatnonzero(phase == one) if one is not None else np.flatnonzero([value is None for value in phase.tolist()])
        if len(mine) < MIN_STEPS:
            continue
        values = length[mine].astype(np.float64)
        late = values[len(values) // 2 :]  # what a warm-up does not reach
        middle = float(np.median(late))
        margin = max(TOLERANCE * middle, DEVIATIONS * _MAD_TO_SIGMA * float(np.median(np.abs(late - middle))))
        usual = np.flatnonzero(values <= middle + margin)
        warm = min(int(usual[0]) if len(usual) else 0, len(values) // 2)
        state[mine[:warm]], state[mine[warm:]] = WARMUP, STEADY
        unlike = np.abs(values[warm:] - middle) > margin
        # The first step of all has no gap before it, and so may be shorter.
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
    """The (lower) median, least and largest value of each group."""
    ordered = by_key.order_by(values) if len(values) else []
    places = {"median": [(len(rows) - 1) // 2 for rows in ordered], "min": [0] * len(ordered), "max": [-1] * len(ordered)}
    return {
        rank: np.array([values[rows[at]] for rows, at in zip(ordered, places[rank], strict=True)], dtype=np.int64)
        for rank in places
    }
