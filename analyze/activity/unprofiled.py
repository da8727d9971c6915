"""How does a program run without the profiler?

The profiler makes the host slower, by about as much for each operator and Python function that it records, and by less for each
call. If the real time of a step is known, that cost is found, and the host is played without it. Kernels keep their times,
unless the device alone took longer than the step really takes: then it ran more slowly while it was profiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

import numpy as np

from .whatif import LEAST_WORK, Program

MOST_OVERHEAD_NS = 20_000
"""The profiler's cost of one recorded event is sought below this."""
LEAST_HOST, MOST_HOST = 0.3, 0.75
"""The share of its profiled time that the host takes without the profiler, at least and at most.

Of 46 programs whose time the host decides, 41 lie between 0.33 and 0.78 (docs/predictions.md).
"""
USUAL_HOST = 0.55
"""The share of its profiled time that the host takes without the profiler, where the device hides it.

Chosen from the first of these programs. The median of all 46 is 0.52.
"""
MOST_SLOWER = 100.0
"""The host is taken to be at most so much slower without the profiler than its recorded work tells."""
OFTEN = 0.05
"""A program waits often if it waits at least so often for each launch. Then a time that the host's work does not explain is
taken to be what waiting costs: to sleep, and to be woken."""
CLOSE = 0.02
"""Two times of a step are the same if they differ by less than this share."""

Takes = Callable[[Program], float]


def fitted(played: Program, target_ns: float, takes: Takes = attrgetter("total_ns")) -> Program:
    """The program as it runs without the profiler: what `takes` measures of it is `target_ns`.

    The profiler's cost for each recorded event is chosen so. Where the device limits, many costs give the same time: then the
    host takes its usual share. If the program still takes too long, the device is made faster. If it takes less with the
    profiler than without, it is played at the profiler's usual cost and then made slower: what is not recorded took longer.
    Where none of this explains the time, all of it is scaled.
    """
    found = _fitted(played, target_ns, takes)
    took = takes(found)
    is_close = abs(took - target_ns) <= 2 * CLOSE * target_ns
    return found if is_close or not took else found.slower(max(target_ns / took, LEAST_HOST))


def _fitted(played: Program, target_ns: float, takes: Takes) -> Program:
    usual, least = (_cost_that_leaves(played, share) for share in (USUAL_HOST, LEAST_HOST))
    hidden = played.unprofiled(usual)
    if (1 - CLOSE) * takes(played) <= takes(hidden):  # the device limits with and without the profiler
        return _device_fitted(hidden, target_ns, takes)
    if abs(takes(played) - target_ns) <= CLOSE * target_ns:
        return played
    if takes(played) <= target_ns:
        factor = _least(1.0, MOST_SLOWER, lambda one: takes(hidden.host_slower(one)) >= target_ns)
        return hidden.host_slower(factor or MOST_SLOWER)
    cost = _least(0.0, least, lambda one: takes(played.unprofiled(one)) <= (1 + CLOSE) * target_ns)
    if cost is None or (cost < usual and takes(hidden) >= (1 - CLOSE) * target_ns):
        return _device_fitted(hidden, target_ns, takes)
    if takes(played.unprofiled(least)) >= (1 - CLOSE) * target_ns:  # the device hides a host that takes so much, or less
        share = _host_ns(played.unprofiled(cost)) / _host_ns(played)
        return _device_fitted(played.unprofiled(_cost_that_leaves(played, (share + LEAST_HOST) / 2)), target_ns, takes)
    exact = _least(0.0, least, lambda one: takes(played.unprofiled(one)) <= target_ns)
    most = _cost_that_leaves(played, MOST_HOST)
    if exact is not None and exact < most and (played.waits_for >= 0).sum() > OFTEN * (played.item >= 0).sum():
        return _waits_fitted(played.unprofiled(most), target_ns, takes)
    return played.unprofiled(cost if exact is None else exact)


def _waits_fitted(program: Program, target_ns: float, takes: Takes) -> Program:
    """The program with waits that each cost the host so much more that it takes the target."""
    waits = program.waits_for >= 0

    def longer(ns: float) -> Program:
        return replace(program, call_ns=program.call_ns + np.where(waits, ns, 0.0))

    more = _least(0.0, target_ns, lambda ns: takes(longer(ns)) >= target_ns)
    return program if more is None else longer(more)


def _device_fitted(program: Program, target_ns: float, takes: Takes) -> Program:
    """The program with a device that is so much faster, or slower, that it takes the target, if it can be."""
    if takes(program) < target_ns:
        return program.slower(target_ns / max(takes(program), 1.0))
    less = _least(0.0, 1 - LEAST_WORK, lambda less: takes(program.device_faster(less)) <= target_ns)
    return program.device_faster(less) if less is not None else program


def _host_ns(program: Program) -> float:
    """The host's time, without the launches of graphs: the profiler makes these longer by any factor, node by node."""
    launched = np.maximum.accumulate(program.item) if len(program.item) else program.item
    single = np.bincount(launched[launched >= 0], minlength=len(program.row)) <= 1
    time = program.work_ns + program.call_ns
    return float(time[single].sum() if single.any() else time.sum())


def _cost_that_leaves(played: Program, share: float) -> float:
    """The profiler's cost for a recorded event that leaves this share of the host's time."""
    whole = _host_ns(played)
    found = _least(0.0, float(MOST_OVERHEAD_NS), lambda cost: _host_ns(played.unprofiled(cost)) <= share * whole)
    return float(MOST_OVERHEAD_NS) if found is None else found


def _least(low: float, high: float, holds: Callable[[float], bool]) -> float | None:
    """About the least number between these for which something holds that holds for all above it; None if for none."""
    if not holds(high):
        return None
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
