"""What is a trace, once read? A table of columns, exact to the nanosecond."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from tracekit.table import Table

from .arrays import Bools, Int64s, Objects
from .calls import GRAPH_LAUNCH, LAUNCHES_SEVERAL
from .group import earliest_by_key, is_first_of_key
from .intervals import Forest, merge, nest

Signature = tuple[bytes, bytes, bytes, bytes]
"""An operator's inputs as the trace writes them.

The four parts are the JSON of dimensions, types, strides and values. A part that was not recorded is empty.
"""

HOST_CALL = "record_param_comms"
"""The name of the operator that PyTorch records around a collective's launch."""
COLLECTIVE = (
    *("event", "collective", "process_group", "group_ranks", "dtype"),
    *("group_size", "sequence", "in_elements", "out_elements"),
)
"""The columns of `Trace.collectives`."""

WAIT = ("event", "device", "stream", "on_stream")
"""The columns of `Trace.waits`."""

NO_CORRELATION = np.iinfo(np.int64).min
"""The value of a correlation that was not recorded. Kineto's own correlations are small and non-negative."""


class Category(IntEnum):
    """The kind of an event, independent of the name that a Kineto release gives it."""

    OTHER = 0
    KERNEL = 1
    MEMCPY = 2
    MEMSET = 3
    RUNTIME = 4
    DRIVER = 5
    OPERATOR = 6
    ANNOTATION = 7
    PYTHON = 8
    SYNC = 9
    """A wait of the device or for it, as the device's profiler saw it."""
    OVERHEAD = 10
    """What the profiler itself cost."""
    DEVICE = 11
    """Work of a device that no figure holds, because it is no kernel, copy or fill."""
    IGNORED = 12
    """Known, and neither work nor a call: spans, counters, notes on the GPU's time line."""


# The keys are the lower-cased `cat` of a Chrome trace event: all of Kineto's activity types, and those of PyTorch's own
# exporters. Traces from before 2021 use `memcpy`, `memset`, `runtime` and `operator`. Any other category is OTHER.
CATEGORIES: dict[str, Category] = {
    "kernel": Category.KERNEL,
    "gpu_memcpy": Category.MEMCPY,
    "memcpy": Category.MEMCPY,
    "gpu_memset": Category.MEMSET,
    "memset": Category.MEMSET,
    "cuda_runtime": Category.RUNTIME,
    "runtime": Category.RUNTIME,
    "hip_runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "hip_driver": Category.DRIVER,
    "xpu_runtime": Category.RUNTIME,
    "xpu_driver": Category.DRIVER,
    "mtia_runtime": Category.RUNTIME,
    "glow_runtime": Category.RUNTIME,
    "privateuse1_runtime": Category.RUNTIME,
    "privateuse1_driver": Category.DRIVER,
    "hpu_op": Category.RUNTIME,
    "cpu_op": Category.OPERATOR,
    "operator": Category.OPERATOR,
    "user_annotation": Category.ANNOTATION,
    "python_function": Category.PYTHON,
    "cuda_sync": Category.SYNC,
    "xpu_sync": Category.SYNC,
    "overhead": Category.OVERHEAD,
    "mtia_ccp_events": Category.DEVICE,
    "mtia_insight": Category.DEVICE,
    "gpu_user_annotation": Category.IGNORED,
    "cuda_event": Category.IGNORED,
    "collective_comm": Category.IGNORED,
    "cpu_instant_event": Category.IGNORED,
    "external_correlation": Category.IGNORED,
    "cuda_profiler_range": Category.IGNORED,
    "xpu_scope_profiler": Category.IGNORED,
    "mtia_counters": Category.IGNORED,
    "mtia_workloadd": Category.IGNORED,
    "gpu_pm_counter": Category.IGNORED,
    "hardware_counters": Category.IGNORED,
    "memory": Category.IGNORED,
    "trace": Category.IGNORED,
    "span": Category.IGNORED,
    "ac2g": Category.IGNORED,
    "async_cpu_to_gpu": Category.IGNORED,
    "async_gpu": Category.IGNORED,
    "fwdbwd": Category.IGNORED,
    "forward_backward": Category.IGNORED,
}

# Kineto means calls by these, yet some makers write the work of their device under them. Where a trace holds no kernel, copy or
# fill, nobody can tell, and they count as work that is not read.
CALLS_OR_WORK = ("hpu_op", "privateuse1_driver")

GPU = (Category.KERNEL, Category.MEMCPY, Category.MEMSET)
CALLS = (Category.RUNTIME, Category.DRIVER)


@dataclass(frozen=True)
class Device:
    """The GPU as the trace's `deviceProperties` describe it. A field that was not recorded is None.

    The last three fields are what one multiprocessor holds at a time.
    """

    name: str
    compute_capability: str | None
    multiprocessors: int | None
    memory_bytes: int | None
    threads_each: int | None = None
    registers_each: int | None = None
    shared_memory_each: int | None = None


@dataclass(frozen=True)
class TraceWarning:
    """Something that the reader of a result must know about its trace."""

    code: str
    message: str
    count: int


@dataclass(frozen=True)
class Trace:
    """One process's profiler trace.

    `events` has a row for each usable complete event (`ph` X), in the file's order: `category` (int8, Category),
    `name` (int32, into `strings`), `start_ns` and `duration_ns` (int64; `start_ns` counts from the start of the first event),
    `thread` (int32, into `threads`), `correlation` (int64 or NO_CORRELATION), `signature` (int32, into `signatures`; -1 for an
    event without recorded inputs).

    `gpu` has a row for each kernel, copy and fill: `event` (row of `events`), `device`, `stream` and `context` (int64; -1 for
    a context that was not recorded), `operator` (row of the operator with its External id, sought only where no call has its
    correlation; else -1). Its other columns hold objects, None where not recorded: `bytes`, `grid`, `block`, `registers`,
    `shared_memory_bytes`, `occupancy_percent`, `graph_id` and `graph_node_id` (of a kernel that a graph replayed) and `label`
    (the label of a CUDA graph's kernel).

    `collectives` has a row for each kernel and host call that names its collective: `event` (row of `events`). Its other
    columns hold objects, None where not recorded: `collective`, `process_group`, `group_ranks`, `dtype` (text), `group_size`,
    `sequence`, `in_elements` and `out_elements` (int).

    `waits` has a row for each wait that the device's profiler saw (`cuda_sync`): `event` (row of `events`), `device`, `stream`
    (the one that waits or is waited for) and `on_stream` (the one whose event is waited for); -1 where not recorded.

    `left_out` holds the correlations of GPU events that are not in the trace because their times cannot be.

    `origin_ns` is the moment at which `start_ns` is 0, on the clock of the recording. It counts from 1970, unless the recorded
    times were relative.
    """

    name: str
    path: str
    entries: int
    rank: int | None
    device: Device | None
    strings: Objects
    threads: tuple[tuple[str, str], ...]
    events: Table
    gpu: Table
    signatures: tuple[Signature, ...] = ()
    collectives: Table = field(default_factory=lambda: Table({column: np.empty(0, dtype=object) for column in COLLECTIVE}))
    waits: Table = field(default_factory=lambda: Table({column: np.empty(0, dtype=np.int64) for column in WAIT}))
    left_out: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    origin_ns: int = 0
    device_names: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[TraceWarning, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The stored results of functions of this trace: see `once`."""

    def __len__(self) -> int:
        return len(self.events)

    def where(self, *categories: Category) -> Int64s:
        """Rows of `events` of these categories, in the file's order."""
        return np.flatnonzero(np.isin(self.events["category"], categories)).astype(np.int64)

    def named(self, rows: Int64s, matches: Callable[[str], object]) -> Int64s:
        """The rows, among these rows of `events`, whose name matches. Each distinct name of the trace is tested once."""
        found: Int64s = rows[self.strings_that(matches)[self.events["name"][rows]]]
        return found

    def strings_that(self, matches: Callable[[str], object]) -> Bools:
        """For each of `strings`, whether it matches."""
        return np.fromiter((bool(matches(text)) for text in self.strings), np.bool_, len(self.strings))

    def strings_of(self, rows: Int64s, matches: Callable[[str], object]) -> Bools:
        """For each of `strings`, whether it is the name of one of these rows of `events` and matches. Others are not tested."""
        found = np.zeros(len(self.strings), dtype=np.bool_)
        found[self.events["name"][rows]] = True
        found[found] = [bool(matches(text)) for text in self.strings[found].tolist()]
        return found

    def operators_that(self, matches: Callable[[str], object]) -> Bools:
        """For each of `strings`, whether it is the name of an operator and matches. Others are not tested."""
        found: Bools = self._is_operator_name.copy()
        found[found] = [bool(matches(text)) for text in self.strings[found].tolist()]
        return found

    @cached_property
    def _is_operator_name(self) -> Bools:
        return self.strings_of(self.operators, lambda name: True)

    def names(self, rows: Int64s) -> Objects:
        """The names of these rows of `events`."""
        named: Objects = self.strings[self.events["name"][rows]]
        return named

    @cached_property
    def start_ns(self) -> Int64s:
        """Start of every event, in ns from the start of the first."""
        return self.events["start_ns"]

    @cached_property
    def end_ns(self) -> Int64s:
        """End of every event, in ns from the start of the first."""
        end: Int64s = self.events["start_ns"] + self.events["duration_ns"]
        return end

    @cached_property
    def calls(self) -> Int64s:
        """Rows of the runtime and driver calls."""
        return self.where(*CALLS)

    @cached_property
    def operators(self) -> Int64s:
        """Rows of the framework's host operators (`cpu_op`)."""
        return self.where(Category.OPERATOR)

    @cached_property
    def kernels(self) -> Int64s:
        """Rows of the GPU kernels."""
        return self.where(Category.KERNEL)

    @cached_property
    def by_device(self) -> dict[int, Int64s]:
        """The rows of `gpu` on each device, in the order of their start."""
        device = self.gpu["device"][self.gpu_order]
        return {one: self.gpu_order[device == one] for one in np.unique(device).tolist()}

    @cached_property
    def window(self) -> tuple[int, int]:
        """When the first GPU event of the process starts and the last one ends; 0 and 0 without any."""
        if not len(self.gpu):
            return 0, 0
        event = self.gpu["event"]
        return int(self.start_ns[event].min()), int(self.end_ns[event].max())

    @cached_property
    def is_kernel(self) -> Bools:
        """For each row of `gpu`, whether it is a kernel. The others are copies and fills."""
        found: Bools = self.events["category"][self.gpu["event"]] == Category.KERNEL
        return found

    @cached_property
    def gpu_kernels(self) -> Int64s:
        """Rows of `gpu` that are kernels."""
        return np.flatnonzero(self.is_kernel).astype(np.int64)

    @cached_property
    def kernels_in_order(self) -> Int64s:
        """Rows of `gpu` that are kernels, in the order of their start."""
        found: Int64s = self.gpu_order[self.is_kernel[self.gpu_order]]
        return found

    @cached_property
    def gpu_order(self) -> Int64s:
        """Rows of `gpu` in the order of their start. Of equal starts the lowest stream comes first."""
        start = self.start_ns[self.gpu["event"]]
        return np.lexsort((self.gpu["stream"], start)).astype(np.int64)

    @cached_property
    def call_of_gpu(self) -> Int64s:
        """For each row of `gpu`, the call that launched it (row of `events`), or -1.

        It is the runtime or driver call with the same correlation; of several, the one that starts first. A graph's launch has
        many GPU events. Any other call launches one thing, so of several GPU events only the first is its own.
        """
        return np.where(self.is_own_of_launch, self._call_with_correlation, -1)

    @cached_property
    def is_own_of_launch(self) -> Bools:
        """For each row of `gpu`, whether the call with its correlation, if there is one, launched it and not another event."""
        return self._is_first_with_correlation | self._is_of_several | (self._call_with_correlation < 0)

    @cached_property
    def first_of_launch(self) -> Bools:
        """For each row of `gpu`, whether it is the first GPU event of its launch.

        Only a graph's launch has later ones. Where the call was not recorded, events that share a correlation are taken for
        such nodes.
        """
        later_node = self._is_of_several | (self._call_with_correlation < 0)
        return self._is_first_with_correlation | ~later_node

    @cached_property
    def _call_with_correlation(self) -> Int64s:
        """For each row of `gpu`, the first call with the same correlation, or -1."""
        return earliest_by_key(
            keys=self._gpu_correlation,
            table_keys=self.events["correlation"][self.calls],
            table_times=self.start_ns[self.calls],
            table_rows=self.calls,
            missing=NO_CORRELATION,
        )

    @cached_property
    def is_replayed(self) -> Bools:
        """For each row of `gpu`, whether the call with its correlation launches a graph."""
        return np.isin(self._call_with_correlation, self.named(self.calls, GRAPH_LAUNCH.match))

    @cached_property
    def _is_of_several(self) -> Bools:
        """For each row of `gpu`, whether the call with its correlation may launch several things."""
        several = self.named(self.calls, LAUNCHES_SEVERAL.match)
        return self.is_replayed | np.isin(self._call_with_correlation, several)

    @cached_property
    def _is_first_with_correlation(self) -> Bools:
        """For each row of `gpu`, whether it is the first GPU event with its correlation, or has none."""
        first = np.empty(len(self.gpu), dtype=np.bool_)
        first[self.gpu_order] = is_first_of_key(self._gpu_correlation[self.gpu_order])
        first |= self._gpu_correlation == NO_CORRELATION
        return first

    @cached_property
    def operator_forest(self) -> Forest:
        """The host operators, nested by time on each thread."""
        return self.nested(self.operators)

    @cached_property
    def operator_of_gpu(self) -> Int64s:
        """For each row of `gpu`, the innermost operator (row of `events`) in which its launching call ran, or -1.

        Where no call was recorded, it is the operator that the event's External id names.
        """
        by_call = self.enclosing(self.operator_forest, self.call_of_gpu)
        return np.where(self._call_with_correlation < 0, self.gpu["operator"], by_call)

    def nested(self, rows: Int64s, cut: bool = False) -> Forest:
        """These rows of `events` as intervals nested by time on each thread."""
        return nest(rows, self.events["thread"][rows], self.start_ns[rows], self.end_ns[rows], cut)

    def covered(self, rows: Int64s, threads: Int64s, start: Int64s, end: Int64s) -> Int64s:
        """For each span [start, end), the time in ns that its thread spends inside these rows of `events`.

        A moment inside several rows counts once. A span of thread -1 gets 0.
        """
        total = np.zeros(len(start), dtype=np.int64)
        of_row = self.events["thread"][rows]
        for thread in np.intersect1d(threads, of_row).tolist():
            mine, here = rows[of_row == thread], threads == thread
            total[here] = merge(self.start_ns[mine], self.end_ns[mine]).within(start[here], end[here])
        return total

    def enclosing(self, forest: Forest, rows: Int64s) -> Int64s:
        """For each row of `events`, the innermost interval of `forest` that is open at its start, or -1. Row -1 gets -1."""
        found = np.full(len(rows), -1, dtype=np.int64)
        known = rows >= 0
        found[known] = forest.innermost(self.events["thread"][rows[known]], self.start_ns[rows[known]])
        return found

    @cached_property
    def _gpu_correlation(self) -> Int64s:
        correlation: Int64s = self.events["correlation"][self.gpu["event"]]
        return correlation
