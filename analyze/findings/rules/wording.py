"""How does a finding state its figures?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.wording import duration, percent

from ...trace.arrays import Bools, Int64s
from ...trace.group import group
from ..facts import Facts

HALF = 0.5
WORST = 5
"""How many rows of figures a finding has at most."""

Rows = tuple[Mapping[str, Any], ...]


def worst_place(facts: Facts, cause: str) -> str:
    """The operator or call before whose kernels the largest part of the idle time of this cause lies, as a clause.

    It is called most only from one half on. The clause is empty where nothing is known.
    """
    rows = places(facts, cause)
    where = rows[0]["operator"] or rows[0]["call"] if rows else None
    if not where:
        return ""
    share = rows[0]["idle_ns"] / max(int(facts.gap_groups[f"{cause}_ns"].sum()), 1)
    part = "most of it" if share >= HALF else f"the largest part, {percent(share)},"
    return f"; {part} before kernels of {where} ({duration(rows[0]['idle_ns'])})"


def places(facts: Facts, cause: str) -> Rows:
    """The operators and calls before whose kernels most of the idle time of this cause lies, the largest first."""
    table, column = facts.gap_groups, facts.gap_groups[f"{cause}_ns"]
    order = [row for row in np.argsort(-column, kind="stable")[:WORST].tolist() if column[row]]
    return tuple({"operator": table["operator"][row], "call": table["call"][row], "idle_ns": int(column[row])} for row in order)


def kernels(facts: Facts, mask: Bools, faster: Int64s) -> Rows:
    """The kernels that the mask selects, added up by name: those with the most time first, with the time they would save."""
    by_name = group(facts.names[mask])
    time, less = by_name.sum(facts.work["duration_ns"][mask]), by_name.sum(faster[mask])
    moved = by_name.sum(facts.work["bytes"][mask])
    return tuple(
        {
            "kernel": str(facts.trace.strings[by_name.keys[row]]),
            "count": int(by_name.count[row]),
            "time_ns": int(time[row]),
            "bytes": int(moved[row]) or None,
            "faster_ns": int(less[row]),
        }
        for row in np.lexsort((by_name.keys, -time))[:WORST].tolist()
    )


def kept(gain_ns: int, saving_ns: int) -> str:
    """A sentence that says how much shorter the span gets if kernels together take `gain_ns` less."""
    if saving_ns >= gain_ns:
        return f"Together {duration(gain_ns)}."
    return (
        f"Together {duration(gain_ns)}, of which the span gets {duration(saving_ns)} shorter, as the host launched here: for "
        "the rest the GPU would wait for its next launch."
    )
