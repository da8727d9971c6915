"""What kept the GPU idle: which kind of work of the host, and where in the program?

Each piece of idle time that the host causes has one reason. It follows from the names of all that the launching thread was in
(see `idle_pieces`). If they tell several reasons, the first in the order of `Reason` counts. So an operator in a DataLoader's
fetch is data loading, whatever it computes, and a `cudaMalloc` in an operator is the allocator's work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from tracekit.schema import CAUSES
from tracekit.table import Table

from ..activity.idle_activity import HOST, around, idle_forest, idle_pieces
from ..trace.arrays import Bools, Int64s
from ..trace.calls import BLOCKING_CALL, GRAPH_LAUNCH
from ..trace.once import once
from ..trace.trace import Category, Trace


class Reason(IntEnum):
    """Why the GPU was idle. Of the kinds of work that may lie around each other, the one that stands first counts."""

    LOADING = 0
    """Fetching a batch on the launching thread."""
    COMPILING = 1
    """Compiling, or loading compiled code onto the device."""
    COLLECTING = 2
    """Python's garbage collector."""
    ALLOCATING = 3
    """The device's memory: `cudaMalloc`, `cudaFree` and the like."""
    PINNING = 4
    """Pinned memory of the host."""
    WAITING = 5
    """A blocking call: the host waited for the device."""
    LAUNCHING_GRAPHS = 6
    """The launch of a graph."""
    LAUNCHING = 7
    """Dispatching operators and launching kernels one by one."""
    BETWEEN = 8
    """Python between two operators, for less than `BETWEEN_NS` at a time: what eager execution costs besides dispatch."""
    ELSE = 9
    """Anything else on the host: other Python, or nothing that is recorded."""
    NOT_HOST = 10
    """The device's own waiting, what no launch was recorded for, and the profiler's work."""


BETWEEN_NS = 300_000
"""Python that takes less than this from one operator to the next is part of the model: a module's call, a loop over layers."""

OF_NAMES: Mapping[Reason, re.Pattern[str]] = {
    Reason.LOADING: re.compile(r"enumerate\(DataLoader\)|.*\bdataloader\.py\(\d+\): (?:__next__|_next_data)"),
    Reason.COMPILING: re.compile(
        r"(?:entire_frame_compile|backend_compile|inductor_compile|compile_(?:fx|attempt|inner|file)|_compile\.|dynamo_timed"
        r"|TritonBundler|triton_?compile|CachingAutotuner\.(?:precompile|benchmark))"
        r"|.*triton/(?:compiler/compiler\.py\(\d+\): (?:compile|parse)\b"
        r"|[\w/]*\.py\(\d+\): (?:_do_compile|make_(?:ir|tt\w*|llir|ptx|cubin|amdgcn|hsaco)\b)"
        r"|runtime/build\.py|runtime/autotuner\.py\(\d+\): (?:_bench|benchmark|prune_configs|warmup))"
        r"|.*torch/_(?:dynamo/(?:convert_frame|symbolic)|inductor/(?:compile_fx|codecache|async_compile|graph|scheduler))"
        r"\w*\.py\(\d+\): (?!wrapper\b|__call__|call\b|run\b)"
        r"|(?:cu|hip|cuda)(?:ModuleLoad|LibraryLoad|LinkComplete)"
    ),
    Reason.COLLECTING: re.compile(r"Python GC|.*built-in (?:function|method) (?:gc\.)?collect\b|.*\bgc\.py\(\d+\): collect"),
    Reason.ALLOCATING: re.compile(
        r"(?:cuda|hip)(?:Malloc(?!Host)|Free(?!Host)|MemPool|ExtMalloc)|(?:cu|hip)Mem(?:Create|Map|Unmap|Release|SetAccess|Address|Alloc(?!Host)|Free(?!Host))"
    ),
    Reason.PINNING: re.compile(
        r"(?:cuda|hip)(?:HostAlloc|HostMalloc|MallocHost|FreeHost|HostFree|HostRegister|HostUnregister)|cuMem(?:HostAlloc|AllocHost|FreeHost|HostRegister)"
    ),
    Reason.WAITING: BLOCKING_CALL,
    Reason.LAUNCHING_GRAPHS: GRAPH_LAUNCH,
}
"""What tells a reason by the start of an event's name, or of one around it."""


@once
def reasons(trace: Trace) -> Int64s:
    """The reason of each of `idle_pieces`."""
    pieces = idle_pieces(trace)
    cause = pieces["cause"]
    of_activity = np.append(_of_events(trace), int(Reason.ELSE)).astype(np.int64)
    told: Int64s = of_activity[np.where(pieces["activity"] >= 0, pieces["activity"], len(trace))]
    launching = np.isin(cause, [CAUSES.index("dispatch"), CAUSES.index("launch_latency")])
    found: Int64s = told.copy()
    found[(told == Reason.ELSE) & launching] = Reason.LAUNCHING
    is_profiler = (pieces["activity"] >= 0) & (trace.events["category"][pieces["activity"]] == Category.OVERHEAD)
    of_device = np.isin(cause, [CAUSES.index("device_wait"), CAUSES.index("unattributed")])
    found[of_device | is_profiler] = Reason.NOT_HOST
    found[(found == Reason.ELSE) & (_run_ns(pieces, found == Reason.ELSE) < BETWEEN_NS)] = Reason.BETWEEN
    return found


def _run_ns(pieces: Table, mine: Bools) -> Int64s:
    """For each piece, how long the pieces that follow each other without a break take together, if they are all `mine`."""
    order = np.lexsort((pieces["start_ns"], pieces["gap"]))
    start, end, gap = (pieces[name][order] for name in ("start_ns", "end_ns", "gap"))
    goes_on = np.zeros(len(order), dtype=np.bool_)
    goes_on[1:] = mine[order][1:] & mine[order][:-1] & (gap[1:] == gap[:-1]) & (start[1:] == end[:-1])
    run = np.cumsum(~goes_on) - 1
    length = np.bincount(run, weights=end - start).astype(np.int64) if len(order) else np.empty(0, dtype=np.int64)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = length[run]
    return found


def _of_events(trace: Trace) -> Int64s:
    """For each event, the first of the reasons that its name or that of an event around it tells; else ELSE."""
    of_string = np.full(len(trace.strings), int(Reason.ELSE), dtype=np.int64)
    for reason, pattern in reversed(tuple(OF_NAMES.items())):
        of_string[trace.strings_that(pattern.match)] = reason
    own = np.full(len(trace), int(Reason.ELSE), dtype=np.int64)
    rows = trace.where(*HOST)
    own[rows] = of_string[trace.events["name"][rows]]
    found: Int64s = own.copy()
    inner = idle_forest(trace).rows
    outer = around(trace)[inner]
    while len(inner):
        inner, outer = inner[outer >= 0], outer[outer >= 0]
        found[inner] = np.minimum(found[inner], own[outer])
        outer = around(trace)[outer]
    return found


def reason_ns(trace: Trace, *wanted: Reason) -> int:
    """All idle time for these reasons, in ns."""
    pieces = idle_pieces(trace)
    mine = np.isin(reasons(trace), wanted)
    return int((pieces["end_ns"] - pieces["start_ns"])[mine].sum())


def rows_of(trace: Trace, reason: Reason) -> Int64s:
    """The rows of the events whose own names tell this reason."""
    pattern = OF_NAMES.get(reason)
    return trace.named(trace.where(*HOST), pattern.match) if pattern else np.empty(0, dtype=np.int64)
