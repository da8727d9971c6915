"""How long did two programs take without the profiler, and do they differ by more than the noise?

The profiler slows the host down, and not every program alike. So where both run manifests have timings of runs without it,
these are the answer, and the profile is only the explanation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import stdev
from typing import Any

from .interval import Interval, interval
from .side import Side

DECODE_STEP, PREFILL, RUN = "decode step", "prefill", "run"
"""What is timed: a decode step; the whole of a workload that is only a prefill; the whole run."""
STEP_METRIC, RUN_METRIC = "unprofiled.step_ns", "unprofiled.run_ns"


@dataclass(frozen=True)
class Timing:
    """How long something takes without the profiler, in ns: the median of the timed runs, its interval and their spread.

    `std_ns` is the standard deviation of the runs. `inflation` is how many times as long a step
    takes under the profiler; None where not recorded.
    """

    what: str
    median: Interval
    std_ns: Fraction
    inflation: float | None = None


@dataclass(frozen=True)
class Unprofiled:
    """The timings of two programs of the same thing. `a` and `b` are as `Timing` describes them."""

    a: Timing
    b: Timing

    @property
    def what(self) -> str:
        """What is timed: DECODE_STEP, PREFILL or RUN."""
        return self.a.what

    @property
    def exceeds_noise(self) -> bool:
        """Whether the two differ by more than the noise: the intervals of their medians have nothing in common."""
        return not self.a.median.overlaps(self.b.median)


def unprofiled(a: Sequence[Side], b: Sequence[Side]) -> Unprofiled | None:
    """The timings of two programs, each of one run of the profiler or of several.

    A decode step is compared if all have its time, else the whole run. None unless all sides have a manifest with timings and
    ran the same workload.
    """
    if not same_workload((*a, *b)):
        return None
    for what in (DECODE_STEP, PREFILL, RUN):
        of_a, of_b = timing(a, what), timing(b, what)
        if of_a and of_b:
            return Unprofiled(of_a, of_b)
    return None


def same_workload(sides: Sequence[Side]) -> bool:
    """Whether all sides have a manifest and ran the same workload.

    What the model wrote is no part of it: in another dtype it may well write another text.
    """
    workloads = [side.manifest.get("workload") for side in sides]
    asked = [{**one, "text": None} if isinstance(one, dict) else one for one in workloads]
    return all(side.manifest for side in sides) and all(one == asked[0] for one in asked)


def timing(sides: Sequence[Side], what: str) -> Timing | None:
    """How long `what` takes in these repeats of one program; None where not all of them know it.

    Of one repeat the noise is that of its timed runs. Of several it is that of their medians: a new process may be faster or
    slower as a whole, and its own runs do not tell that.
    """
    each = [_timing(side, what) for side in sides]
    known = [one for one in each if one is not None]
    if len(known) < len(each) or not known:
        return None
    if len(known) == 1:
        return known[0]
    medians = [one.median.median for one in known]
    inflations = sorted(one.inflation for one in known if one.inflation is not None)
    return Timing(what, interval(medians), Fraction(stdev(medians)), inflations[len(inflations) // 2] if inflations else None)


def unprofiled_value(side: Side, metric: str) -> Interval | None:
    """The time of a step or of a run without the profiler, in ns; None where not recorded."""
    found = [_timing(side, what) for what in ((DECODE_STEP, PREFILL) if metric == STEP_METRIC else (RUN,))]
    return next((one.median for one in found if one is not None), None)


def _timing(side: Side, what: str) -> Timing | None:
    """What one manifest says. It is taken as it was written, so anything may be in it."""
    timings, workload = _mapping(side.manifest.get("timings")), _mapping(side.manifest.get("workload"))
    if what == PREFILL and workload.get("kind") != PREFILL:
        return None
    told = _mapping(timings.get("decode_token" if what == DECODE_STEP else "total"))
    median, std = told.get("median_ns"), told.get("std_ns")
    if type(median) is not int or type(std) is not int or median <= 0 or std < 0:
        return None
    runs = _runs(timings.get("runs"), workload.get("new_tokens"), what)
    noise = interval(runs) if runs else Interval(Fraction(median), Fraction(median - std), Fraction(median + std))
    inflation = _mapping(side.manifest.get("profile")).get("inflation")
    return Timing(
        what,
        # The manifest's median is the one that is shown everywhere. It is rounded, and must not leave its interval for that.
        Interval(Fraction(median), min(noise.low, Fraction(median)), max(noise.high, Fraction(median))),
        Fraction(std),
        float(inflation) if isinstance(inflation, int | float) and 0 < inflation < math.inf else None,
    )


def _runs(runs: Any, new_tokens: Any, what: str) -> list[Fraction]:
    """The time of each timed run, or of a decode step in each; empty where they were not recorded one by one."""
    if not isinstance(runs, list):
        return []
    times = [(told.get("first_token_ns"), told.get("total_ns")) for told in map(_mapping, runs)]
    known = [(first, total) for first, total in times if type(first) is int and type(total) is int]
    if len(known) < len(times):
        return []
    if what != DECODE_STEP:
        return [Fraction(total) for _, total in known]
    if type(new_tokens) is not int or new_tokens < 2:
        return []
    return [Fraction(total - first, new_tokens - 1) for first, total in known]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
