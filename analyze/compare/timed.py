"""How long did two runs take without the profiler, which slows the host down?"""

from __future__ import annotations

from dataclasses import dataclass

from .side import Side


@dataclass(frozen=True)
class Timed:
    """The median and the standard deviation of the wall-clock time of each run, in ns, from its manifest."""

    a_ns: int
    a_std_ns: int
    b_ns: int
    b_std_ns: int


def timed(a: Side, b: Side) -> Timed | None:
    """The timings of two runs. None unless both have a manifest with timings and they ran the same workload."""
    of_a, of_b = _total(a), _total(b)
    if of_a is None or of_b is None or a.manifest.get("workload") != b.manifest.get("workload"):
        return None
    return Timed(*of_a, *of_b)


def _total(side: Side) -> tuple[int, int] | None:
    timings = side.manifest.get("timings")
    total = timings.get("total") if isinstance(timings, dict) else None
    if not isinstance(total, dict):
        return None
    median, std = total.get("median_ns"), total.get("std_ns")
    return (median, std) if type(median) is int and type(std) is int and median > 0 else None
