"""What do the rules look at, and above which limits do they report a finding?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from ..activity.gpu import GpuSummary
from ..activity.idle import IdleCauses, gaps
from ..activity.launches import Launches, launching_calls
from ..activity.lost import lost_within
from ..activity.program import item_shares, item_work
from ..activity.whatif import Program
from ..ranks.communication import Communication
from ..structure.steps import Steps
from ..trace.arrays import Bools, Floats, Int64s, Objects
from ..trace.calls import BEGIN_CAPTURE
from ..trace.trace import Category, Trace, TraceWarning
from ..work.roofline import Roofline
from ..work.step_time import Change, Saved, Timed
from .reasons import Reason, reason_ns, reasons, rows_of

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest


TRAINING = re.compile(r"Optimizer\.(?:step|zero_grad)#|autograd::engine::evaluate_function|## backward ##|\w+Backward\d*\Z")
"""Matches the names of operators and annotations that only training has, at their start."""


@dataclass(frozen=True)
class Thresholds:
    """The limits from which on the rules report a finding. Idle time and communication are shares of the GPU's span.

    `work` is the share of kernel time that a kind of work must have; `gemv` is that share for matrix-vector products.
    `stall` is the least share of the span in which the GPU waits while the host allocates, compiles or collects garbage,
    `graph_launch` that for the launches of graphs, `device_wait` that for queued work that the device does not begin. A
    layer must have at least the share `layer_host` of the host time of the layer around it. This share must be at least
    `layer_ratio` times its share of that layer's GPU time. A matrix product of fewer than `gemv_rows` rows counts as a
    matrix-vector product, because it reads all its weights for only a few tokens. Two matrix products with a softmax
    between them count as attention if at most `attention_steps` kernels run between them. An optimizer whose step launches
    more than `optimizer_kernels` kernels is not fused. A rank is a straggler if it computes longer than the median rank by
    at least the share `straggling`. Where less than `gpu_bound` of the span is idle, the kernels themselves are judged.
    They are taken to reach between `reachable` and `reached_at_most` of their roof, as the best of their family does; a
    kernel that could save less than `far_below` of its time, or is shorter than `long_kernel_ns`, is left as it is. They
    are healthy only if the work of at least the share `known` of their time is known, and if no finding saves more than the
    share `healthy`. `gradients` is the least share of the span that clipping or zeroing gradients takes. Of programs on the
    CPU, `cpu_small`, `cpu_copies` and `cpu_types` are the least shares of the operators' time, and `concurrency` is how
    many threads run operators at once. From the factor `inflation` on, profiled steps are so slow that they do not
    represent the real ones.
    """

    launch_overhead: float = 0.20
    host_sync: float = 0.05
    host_late: float = 0.20
    data_loader: float = 0.05
    stall: float = 0.05
    graph_launch: float = 0.10
    device_wait: float = 0.05
    optimizer_kernels: int = 8
    transfers: float = 0.02
    communication: float = 0.05
    severe: float = 0.25
    notable: float = 0.05
    work: float = 0.05
    gemv: float = 0.20
    gemv_rows: float = 8.0
    attention_steps: int = 8
    straggling: float = 0.10
    inflation: float = 1.5
    gpu_bound: float = 0.10
    reachable: float = 0.50
    reached_at_most: float = 0.70
    far_below: float = 0.25
    known: float = 0.60
    healthy: float = 0.03
    long_kernel_ns: int = 10_000
    gradients: float = 0.02
    cpu_small: float = 0.30
    cpu_copies: float = 0.10
    cpu_types: float = 0.10
    concurrency: float = 1.5
    layer_host: float = 0.10
    layer_ratio: float = 2.0


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Facts:
    """A trace and the results of the analyses, as the rules see them. Masks have one entry for each row of `work`.

    `idle` leaves out the time in which the profiler itself was at work: nothing that the program does would save it.
    """

    trace: Trace
    gpu: GpuSummary | None
    idle: IdleCauses
    launches: Launches
    steps: Steps
    gap_groups: Table
    layers: Table
    kernels: Table
    work: Table
    roofline: Roofline | None = None
    sheet: Datasheet | None = None
    warnings: tuple[TraceWarning, ...] = ()
    manifest: RunManifest | None = None
    ranks: Table | None = None
    rank_waits: Table | None = None
    communication: Communication | None = None
    timed: Timed | None = None
    thresholds: Thresholds = field(default=THRESHOLDS)

    # --- Shares ------------------------------------------------------------------------------------------------

    @property
    def window_ns(self) -> int:
        """The window that all devices of the process share; the GPU's span is the sum over them. 0 without a GPU."""
        return self.gpu.span_ns // max(len(self.trace.by_device), 1) if self.gpu else 0

    def share(self, ns: int) -> float:
        """The time `ns` as a share of the GPU's span; 0 without one."""
        return ns / self.gpu.span_ns if self.gpu and self.gpu.span_ns else 0.0

    @cached_property
    def has_launching_operators(self) -> bool:
        """Whether most launches are of threads with recorded operators. Else dispatch is not told from the rest."""
        threads = self.trace.events["thread"]
        launching = threads[launching_calls(self.trace)]
        known = np.isin(launching, np.unique(threads[self.trace.operators]))
        return len(launching) > 0 and bool(2 * known.sum() >= len(known))

    def explained_by_loss(self, *causes: str) -> bool:
        """Whether lost GPU events could explain most of the idle time of these causes."""
        whole = sum(getattr(self.idle, f"{cause}_ns") for cause in causes)
        return bool(2 * sum(map(self.lost_ns, causes)) > whole > 0)

    def lost_ns(self, cause: str) -> int:
        """How much idle time of this cause lies in gaps in which a call began whose GPU events were lost.

        The GPU may have been busy there.
        """
        found = gaps(self.trace)
        inside = lost_within(self.trace, found["start_ns"], found["end_ns"])
        return int(found[f"{cause}_ns"][inside].sum())

    @cached_property
    def is_capture(self) -> bool:
        """Whether a graph is captured in the trace, and none is launched: what runs is not what the program is for."""
        calls = self.trace.calls
        return bool(self.trace.strings_of(calls, BEGIN_CAPTURE.match).any()) and not self.launches.graph_launches

    @property
    def has_host(self) -> bool:
        """Whether the trace records anything of the host besides its runtime calls: operators or annotations."""
        return bool(len(self.trace.operators) or len(self.trace.where(Category.ANNOTATION)))

    @cached_property
    def trains(self) -> bool:
        """Whether the trace is of training: it has a backward, or an optimizer's step."""
        annotations = self.trace.where(Category.ANNOTATION)
        told = (self.trace.operators_that(TRAINING.match), self.trace.strings_of(annotations, TRAINING.match))
        return any(bool(one.any()) for one in told)

    @property
    def capability(self) -> float | None:
        """The compute capability of an NVIDIA device. None for other devices, and where it is not recorded."""
        device = self.trace.device
        maker = f"{device.name} {self.sheet.architecture if self.sheet else ''}" if device else ""
        if device is None or device.compute_capability is None or re.search("AMD|Instinct|CDNA", maker):
            return None
        try:
            return float(device.compute_capability)
        except ValueError:
            return None

    def work_share(self, mask: Bools) -> float:
        """These kernels' share of all kernel time."""
        return self.time(mask) / max(int(self.work["duration_ns"].sum()), 1)

    def time(self, mask: Bools) -> int:
        """The summed duration of these kernels, in ns."""
        return int(self.work["duration_ns"][mask].sum())

    def severity(self, saved: Saved | int) -> str:
        """How severe a loss is: `high` from the limit `severe` on, `medium` from `notable` on, `low` below it.

        What counts is what the change saves of a step, or else of the span.
        """
        window, of_step = (saved, None) if isinstance(saved, int) else (saved.saving_ns, saved.step_share)
        share = window / max(self.window_ns, 1) if of_step is None else of_step
        return "high" if share >= self.thresholds.severe else "medium" if share >= self.thresholds.notable else "low"

    # --- Kernels -----------------------------------------------------------------------------------------------

    def of_family(self, *families: str) -> Bools:
        """Which kernels do this kind of work."""
        return self._by_name(self.kernels["name"][np.isin(self.kernels["family"].astype(str), families)].tolist())

    def of_kind(self, *kinds: str) -> Bools:
        """Which kernels are of these kinds within their family."""
        return self._by_name(self.kernels["name"][np.isin(self.kernels["kind"].astype(str), kinds)].tolist())

    def named(self, pattern: re.Pattern[str]) -> Bools:
        """Which kernels have a name that contains a match of the pattern."""
        return self._by_name([name for name in self.kernels["name"].tolist() if pattern.search(name)])

    def launched_by(self, pattern: re.Pattern[str]) -> Bools:
        """Which kernels belong to an operator whose name matches the pattern at its start.

        The operator launched the kernel, or it is the owner of the kernel's work.
        """
        matches = np.append(self.trace.strings_that(pattern.match), False)
        codes = np.append(self.trace.events["name"], len(matches) - 1)
        found: Bools = matches[codes[self.work["operator"]]] | matches[codes[self.work["owner"]]]
        return found

    def at_peak(self, *peaks: str) -> Bools:
        """Which kernels are compared with one of these peaks of the device (arithmetic, not bandwidth)."""
        return np.isin(self.work["peak"], [PEAKS.index(peak) for peak in peaks])

    @cached_property
    def families(self) -> Objects:
        """The family of each kernel; text, one entry for each row of `work`."""
        known = dict(zip(self.kernels["name"].tolist(), self.kernels["family"].tolist(), strict=True))
        of_string = np.full(len(self.trace.strings), "other", dtype=object)
        for code in np.unique(self.names).tolist():
            of_string[code] = known.get(self.trace.strings[code], "other")
        found: Objects = of_string[self.names]
        return found

    def _by_name(self, names: list[str]) -> Bools:
        found: Bools = self.trace.strings_that(set(names).__contains__)[self.names]
        return found

    @cached_property
    def names(self) -> Int64s:
        """Each kernel's name, as an index into the trace's strings; int64, one entry for each row of `work`."""
        return self.trace.events["name"][self.trace.gpu["event"][self.work["gpu"]]].astype(np.int64)

    @cached_property
    def in_order(self) -> Int64s:
        """The row numbers of `work`, sorted by device, then by stream, then by start; int64."""
        gpu = self.work["gpu"]
        start = self.trace.start_ns[self.trace.gpu["event"][gpu]]
        return np.lexsort((start, self.trace.gpu["stream"][gpu], self.trace.gpu["device"][gpu])).astype(np.int64)

    @cached_property
    def lane(self) -> Int64s:
        """A number for each kernel's pair of device and stream; int64, one entry for each row of `work`."""
        gpu = self.work["gpu"][self.in_order]
        device, stream = self.trace.gpu["device"][gpu], self.trace.gpu["stream"][gpu]
        lane = np.zeros(len(gpu), dtype=np.int64)
        lane[self.in_order[1:]] = np.cumsum((np.diff(device) != 0) | (np.diff(stream) != 0))
        return lane

    @cached_property
    def rows_per_product(self) -> Floats:
        """How many rows each matrix product multiplies its weights by; NaN where that is not known.

        It follows from the arithmetic intensity: a product does 2 FLOPs for each weight and row.
        """
        known = self.work["has_flops"] & self.work["has_bytes"] & self.of_family("gemm") & (self.work["flops"] > 0)
        rows: Floats = self.work["flops"] * self.item_bytes / (2 * np.maximum(self.work["bytes"], 1))
        return np.where(known, rows, np.nan)

    @cached_property
    def item_bytes(self) -> Int64s:
        """The size in bytes of one operand element, for each row of `work`, judged by the peak it is compared with."""
        wide = [self.at_peak("fp64"), self.at_peak("fp32", "tf32"), self.at_peak("fp8", "int8")]
        return np.select(wide, [8, 4, 1], 2).astype(np.int64)

    # --- What would change ------------------------------------------------------------------------------------

    @cached_property
    def _timed(self) -> Timed:
        return self.timed or Timed(self.trace, self.steps, None, None)

    @property
    def played(self) -> Program:
        """The program as it ran, with the profiler."""
        return self._timed.played

    def saved(self, change: Change) -> Saved:
        """What a change saves of the profiled window, and of a step without the profiler; at most the GPU's span."""
        found = self._timed.saved(change)
        return replace(found, saving_ns=min(found.saving_ns, self.window_ns))

    def reason_ns(self, *wanted: Reason) -> int:
        """All idle time for these reasons, in ns."""
        return reason_ns(self.trace, *wanted)

    def without(self, reason: Reason) -> Saved:
        """What it saves if the host did nothing for this reason.

        Where events tell the reason, it is their whole time, and the waiting in them; else the time in which the GPU was idle.
        """
        rows = rows_of(self.trace, reason)
        if not len(rows):
            share = self.shares(reason)
            return self.saved(lambda program: program.without_share(share))
        waits = np.isin(self.played.row, rows)
        share = self.work_of(reason)
        share[1:][waits[1:] & waits[:-1]] = 1.0  # one after the other: what lies between belongs to them
        return self.saved(lambda program: program.without_waits(waits).without_share(share))

    def work_of(self, reason: Reason) -> Floats:
        """For each item of the program, the share of the host's work that the events are that tell this reason by name."""
        return self.share_of(rows_of(self.trace, reason))

    def share_of(self, rows: Int64s) -> Floats:
        """For each item of the program, the share of the host's work before and in it that these events are."""
        whole = np.maximum(self.played.work_ns + self.played.call_ns, 1.0)
        return np.minimum(item_work(self.trace, self.played, rows) / whole, 1.0)

    def shares(self, *wanted: Reason) -> Floats:
        """For each item of the program, the share of the host's work for these reasons, as far as the GPU was idle."""
        return item_shares(self.trace, self.played, np.isin(reasons(self.trace), wanted))

    def shorter(self, saving: Int64s) -> Saved:
        """What it saves if each kernel takes `saving` ns less. `saving` has one entry for each row of `work`.

        The host is assumed to launch as it did in the trace.
        """
        events = self.of_events(saving)
        return self.saved(lambda program: program.faster(events))

    def fewer(self, saving: Int64s, gone: Bools) -> Saved:
        """The same, where the kernels that are `gone` (one entry for each row of `work`) are not launched any more either."""
        events, items = self.of_events(saving), self.items_of(gone)
        return self.saved(lambda program: program.faster(events).without_items(items))

    def items_of(self, kernels: Bools) -> Bools:
        """Which items of the program launch these kernels and no other GPU event."""
        mine = np.zeros(len(self.trace.gpu) + 1, dtype=np.bool_)
        mine[self.work["gpu"][kernels]] = True
        launched = self.played.item >= 0
        item = self.played.item[launched]
        all_of_them = np.bincount(item, minlength=len(self.played.row))
        these = np.bincount(item[mine[self.played.gpu[launched]]], minlength=len(self.played.row))
        found: Bools = (these > 0) & (these == all_of_them)
        return found

    def of_events(self, saving: Int64s) -> Floats:
        """What is told of each kernel, one entry for each row of `work`, as one entry for each row of `trace.gpu`."""
        events = np.zeros(len(self.trace.gpu))
        events[self.work["gpu"]] = saving
        return events
