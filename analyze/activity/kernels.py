"""Which kernels take the GPU's time, and what kind of work are they?"""

from __future__ import annotations

import numpy as np

from tracekit.table import Table
from tracekit.taxonomy import Family, Taxonomy

from ..trace.arrays import Int64s, Objects, objects
from ..trace.group import Groups, group
from ..trace.trace import Trace
from .overlap import busy_ns


def kernels(trace: Trace, taxonomy: Taxonomy) -> Table:
    """One row for each kernel name, the most time first; times in ns.

    Columns: `name`, `family`, `kind`, `rule`, `confidence`, `operator` (the operator that launched most of the kernel's time,
    or None), `count`, `time_ns`, `share` (of all kernel time), `busy_ns` (its time if each moment of a stream counts once: see
    `overlap`), `min_ns`, `median_ns` (the lower median) and `max_ns`. The launch configuration is that of its longest run,
    None where not recorded: `grid`, `block`, `registers`, `shared_memory_bytes` and `occupancy_percent`.
    """
    mine = trace.gpu_kernels
    rows = trace.gpu["event"][mine]
    duration = trace.events["duration_ns"][rows]
    by_name = group(trace.events["name"][rows])
    names = trace.strings[by_name.keys]
    operator = _main_operators(trace, mine, duration, by_name)
    labels = [taxonomy.classify(name, op) for name, op in zip(names.tolist(), operator.tolist(), strict=True)]
    ordered = by_name.order_by(duration) if len(mine) else []
    longest = mine[[part[-1] for part in ordered]] if ordered else mine
    time = by_name.sum(duration)
    table = Table(
        {
            "name": names,
            "family": objects([label.family for label in labels]),
            "kind": objects([label.kind for label in labels]),
            "rule": objects([label.rule for label in labels]),
            "confidence": np.array([label.confidence for label in labels], dtype=np.float64),
            "operator": operator,
            "count": by_name.count,
            "time_ns": time,
            "share": time / max(int(time.sum()), 1),
            "busy_ns": by_name.sum(busy_ns(trace)[mine]),
            "min_ns": duration[[part[0] for part in ordered]] if ordered else duration,
            "median_ns": duration[[part[(len(part) - 1) // 2] for part in ordered]] if ordered else duration,
            "max_ns": duration[[part[-1] for part in ordered]] if ordered else duration,
            **{column: objects([_dims(d) for d in trace.gpu[column][longest]]) for column in ("grid", "block")},
            **{column: trace.gpu[column][longest] for column in ("registers", "shared_memory_bytes", "occupancy_percent")},
        }
    )
    return table.sorted_by("time_ns", "name", descending=True)


def families(kernels: Table) -> Table:
    """One row for each family, the most kernel time first: `family`, `time_ns`, `share`, `count`.

    The times add up to all kernel time.
    """
    order = {family.value: place for place, family in enumerate(Family)}
    by_family = group(np.array([order[family] for family in kernels["family"]], dtype=np.int64))
    time = by_family.sum(kernels["time_ns"])
    return Table(
        {
            "family": objects([list(order)[key] for key in by_family.keys.tolist()]),
            "time_ns": time,
            "share": time / max(int(time.sum()), 1),
            "count": by_family.sum(kernels["count"]),
        }
    ).sorted_by("time_ns", descending=True)


def _main_operators(trace: Trace, mine: Int64s, duration: Int64s, by_name: Groups) -> Objects:
    """For each kernel name, the name of the operator that launched most of its time, or None."""
    operator = trace.operator_of_gpu[mine]
    known = operator >= 0
    # Each pair of codes becomes one integer, so that both are grouped at once.
    size = len(trace.strings)
    pairs = group(by_name.code[known] * size + trace.events["name"][operator[known]])
    time = pairs.sum(duration[known])
    found: Objects = np.full(len(by_name.keys), None, dtype=object)
    # The last one written has most time. Of equal times it is the first by name, wherever the file names it.
    alphabetical = np.argsort(np.argsort(trace.strings.astype(str), kind="stable"))
    rank = alphabetical[pairs.keys % size]
    for place in np.lexsort((-rank, time)).tolist():
        kernel, name = divmod(int(pairs.keys[place]), size)
        found[kernel] = trace.strings[name]
    return found


def _dims(dims: list[int] | None) -> str | None:
    return ", ".join(map(str, dims)) if dims else None
