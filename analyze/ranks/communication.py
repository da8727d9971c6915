"""How long does a rank communicate, and does it compute meanwhile?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.group import group
from ..trace.intervals import Union, merge
from ..trace.trace import HOST_CALL, Category, Trace

FAMILY = "communication"
MARKS = ("nccl:", "gloo:", "ucc:", "mpi:", "xccl:", "hccl:")
"""The beginnings of the annotations that PyTorch's backends write around a collective."""

# The words in a collective's name as PyTorch, NCCL and RCCL write it, reduced to letters. The first kind with a match counts.
KINDS: Mapping[str, tuple[str, ...]] = {
    "all_reduce": ("allreduce", "crossdevicereduce"),
    "all_gather": ("allgather",),
    "reduce_scatter": ("reducescatter",),
    "all_to_all": ("alltoall",),
    "broadcast": ("broadcast",),
    "barrier": ("barrier",),
    "gather": ("gather",),
    "scatter": ("scatter",),
    "reduce": ("reduce",),
    "send_recv": ("sendrecv",),
    "send": ("send",),
    "recv": ("recv",),
}
POINT_TO_POINT = frozenset({"send_recv", "send", "recv"})
"""The kinds of communication between two ranks. The other ranks of the group take no part."""
UNKNOWN = "unknown"

# The types' names in c10, which `dtype` holds, and their sizes.
ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Float8_e4m3fn", "Float8_e5m2", "Float8_e4m3fnuz", "Float8_e5m2fnuz"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short", "UInt16"), 2),
    **dict.fromkeys(("Float", "Int", "UInt32", "ComplexHalf"), 4),
    **dict.fromkeys(("Double", "Long", "UInt64", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


@dataclass(frozen=True)
class Communication:
    """A rank's GPU time by what the GPU does, in ns.

    `communication_ns` is the union of the communication kernels, and `compute_ns` the union of all other kernels.
    `overlap_ns` is the time when both run, and `exposed_ns` = communication - overlap. `copies_ns` is the time when only copies
    and fills run. So compute + exposed + copies = busy, and busy + idle = span. `kernel_time_ns` is the sum of the
    communication kernels' durations, which is more than their union if they overlap each other.

    `collectives` has a row for each communication kernel, in the order of their starts: `gpu` (row of `trace.gpu`), `start_ns`,
    `duration_ns`, `name`, `kind` (a key of KINDS, or `unknown`), `process_group` and `group_ranks` (text), `sequence`,
    `group_size` and `bytes`. The last five are None where not recorded.
    """

    span_ns: int
    busy_ns: int
    idle_ns: int
    compute_ns: int
    communication_ns: int
    overlap_ns: int
    exposed_ns: int
    copies_ns: int
    kernel_time_ns: int
    collectives: Table


def communication(trace: Trace, family_of: Mapping[str, str]) -> Communication | None:
    """A rank's communication, or None if there are no GPU events. `family_of` maps a kernel's name to its family."""
    event = trace.gpu["event"]
    if not len(event):
        return None
    talks = trace.is_kernel & _talks(trace, event, family_of)
    busy = compute = communicating = overlap = 0
    for rows in trace.by_device.values():
        start, end = trace.start_ns[event[rows]], trace.end_ns[event[rows]]
        computing, talking = _union(start, end, (trace.is_kernel & ~talks)[rows]), _union(start, end, talks[rows])
        busy += merge(start, end).total
        compute += computing.total
        communicating += talking.total
        overlap += int(computing.within(talking.start, talking.end).sum())
    span, exposed = len(trace.by_device) * (trace.window[1] - trace.window[0]), communicating - overlap
    return Communication(
        span_ns=span,
        busy_ns=busy,
        idle_ns=span - busy,
        compute_ns=compute,
        communication_ns=communicating,
        overlap_ns=overlap,
        exposed_ns=exposed,
        copies_ns=busy - compute - exposed,
        kernel_time_ns=int(trace.events["duration_ns"][event][talks].sum()),
        collectives=_collectives(trace, np.flatnonzero(talks).astype(np.int64)),
    )


def collective_groups(collectives: Table) -> Table:
    """A row for all collectives of one kind, process group and size, the most time first.

    Columns: `kind`, `process_group`, `group_size`, `bytes` (or None), `count`, `time_ns`, `min_ns` and `median_ns` (the lower
    median). `algorithm_gb_s` and `bus_gb_s` are the bandwidth of the shortest collective, None where the size is not recorded:
    see `bandwidth`. All times include waiting.
    """
    names = ("kind", "process_group", "group_size", "bytes")
    keys = list(zip(*(collectives[name].tolist() for name in names), strict=True))
    known = list(dict.fromkeys(keys))
    code = {key: place for place, key in enumerate(known)}
    by_key = group(np.array([code[key] for key in keys], dtype=np.int64))
    duration = collectives["duration_ns"]
    ordered = by_key.order_by(duration) if len(keys) else []
    least = [int(duration[rows[0]]) for rows in ordered]
    rates = [bandwidth(kind, size, ranks, ns) for (kind, _, ranks, size), ns in zip(known, least, strict=True)]
    return Table(
        {
            **{name: objects([key[at] for key in known]) for at, name in enumerate(names)},
            "count": by_key.count,
            "time_ns": by_key.sum(duration),
            "min_ns": np.array(least, dtype=np.int64),
            "median_ns": np.array([duration[rows[(len(rows) - 1) // 2]] for rows in ordered], dtype=np.int64),
            "algorithm_gb_s": objects([rate[0] for rate in rates]),
            "bus_gb_s": objects([rate[1] for rate in rates]),
        }
    ).sorted_by("time_ns", descending=True)


def bandwidth(kind: str, size: int | None, ranks: int | None, time_ns: int) -> tuple[float | None, float | None]:
    """Algorithm and bus bandwidth in GB/s of a collective of `size` bytes among `ranks` ranks. Each is None if it is not known.

    algbw = S/t. busbw is algbw times a factor: 2(n-1)/n for an all-reduce, (n-1)/n for an all-gather, reduce-scatter and
    all-to-all, 1 for a broadcast, a reduce and point to point. S is the size of the whole array, as in nccl-tests: everything
    that is gathered or scattered. Source: https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    """
    if not size or time_ns <= 0:
        return None, None
    algorithm = size / time_ns
    if kind in ("broadcast", "reduce", *POINT_TO_POINT):
        return algorithm, algorithm
    factors = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1}
    if kind not in factors or not ranks or ranks < 1:
        return algorithm, None
    return algorithm, algorithm * factors[kind] * (ranks - 1) / ranks


def kind_of(*names: str | None) -> str:
    """The kind of a collective, by the first of these names that says it, or `unknown`."""
    for name in names:
        letters = re.sub(r"[^a-z]", "", (name or "").lower())
        for kind, words in KINDS.items():
            if any(word in letters for word in words):
                return kind
    return UNKNOWN


def _talks(trace: Trace, event: Int64s, family_of: Mapping[str, str]) -> Bools:
    return trace.strings_that(lambda text: family_of.get(text) == FAMILY)[trace.events["name"][event]]


def _union(start: Int64s, end: Int64s, which: Bools) -> Union:
    return merge(start[which], end[which])


def _collectives(trace: Trace, gpu: Int64s) -> Table:
    gpu = gpu[np.lexsort((trace.gpu["stream"][gpu], trace.start_ns[trace.gpu["event"][gpu]]))]
    event = trace.gpu["event"][gpu]
    told = _told(trace, gpu)
    mark = _marks(trace, gpu)
    names = trace.names(event)
    by = list(zip(told["collective"].tolist(), mark.tolist(), names.tolist(), strict=True))
    kind_by = {one: kind_of(*one) for one in dict.fromkeys(by)}
    kinds = [kind_by[one] for one in by]
    messages = zip(kinds, *(told[column].tolist() for column in ("dtype", "in_elements", "out_elements")), strict=True)
    sizes = [None if dtype is None else _bytes(kind, dtype, *elements) for kind, dtype, *elements in messages]
    return Table(
        {
            "gpu": gpu,
            "start_ns": trace.start_ns[event],
            "duration_ns": trace.events["duration_ns"][event],
            "name": names,
            "kind": objects(kinds),
            **{column: told[column] for column in ("process_group", "group_ranks", "sequence", "group_size")},
            "bytes": objects(sizes),
        }
    )


def _told(trace: Trace, gpu: Int64s) -> Table:
    """The recorded description of each kernel's collective: the kernel's own, or else that of its host call."""
    columns = [column for column in trace.collectives.columns if column != "event"]
    if not len(trace.collectives):
        return Table({column: np.full(len(gpu), None, dtype=object) for column in columns})
    row_of = np.full(len(trace) + 1, -1, dtype=np.int64)
    row_of[trace.collectives["event"].astype(np.int64)] = np.arange(len(trace.collectives))
    own, around = row_of[trace.gpu["event"][gpu]], row_of[_host_calls(trace, gpu)]
    row = np.where(own >= 0, own, around)
    found = {}
    for column in columns:
        found[column] = np.full(len(gpu), None, dtype=object)
        found[column][row >= 0] = trace.collectives[column][row[row >= 0]]
    # In older releases kernels have no sequence number, but their host calls may have one.
    missing = (own >= 0) & (around >= 0)
    sequence = trace.collectives["sequence"]
    found["sequence"][missing] = [
        of_call if of_kernel is None else of_kernel
        for of_kernel, of_call in zip(sequence[own[missing]].tolist(), sequence[around[missing]].tolist(), strict=True)
    ]
    return Table(found)


def _host_calls(trace: Trace, gpu: Int64s) -> Int64s:
    """For each kernel, the host call (row of `events`) around its launch that describes its collective, or -1."""
    rows = trace.named(trace.operators, HOST_CALL.__eq__)
    return trace.enclosing(trace.nested(rows), trace.call_of_gpu[gpu])


def _marks(trace: Trace, gpu: Int64s) -> Objects:
    """For each kernel, the name in the `nccl:` (or other backend's) annotation around its launch, or None."""
    rows = trace.named(trace.where(Category.ANNOTATION), lambda text: text.startswith(MARKS))
    around = trace.enclosing(trace.nested(rows), trace.call_of_gpu[gpu])
    found: Objects = np.full(len(gpu), None, dtype=object)
    found[around >= 0] = [text.partition(":")[2] for text in trace.names(around[around >= 0]).tolist()]
    return found


def _bytes(kind: str, dtype: str, *elements: int | None) -> int | None:
    """The size in bytes of the whole array: the larger of the input and the output. For an all-gather that is the output."""
    item, known = ITEM_BYTES.get(dtype), [count for count in elements if count is not None]
    if item is None or not known or kind in ("barrier", UNKNOWN):
        return None
    return max(*known, 0) * item
