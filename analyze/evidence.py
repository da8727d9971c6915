"""What do the rules look at, and what may one of them answer?

A rule is a function from an Evidence to a Finding, to None (it looked, and there is nothing to find), or to a CannotTell: the
trace does not say. What a rule needs before it can look at all is declared on it, each need with the reason it gives.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from .gpu import GpuSummary
from .idle import IdleCauses
from .launches import Launches
from .replay import Replay, replay
from .roofline import Roofline
from .trace import Bools, Category, Int64s, Trace, TraceWarning

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest


@dataclass(frozen=True)
class Thresholds:
    """From when something is worth a finding. Shares of idle time and of communication are of the GPU's span.

    `work` is the share of kernel time that a kind of work must have, `gemv` that of matrix-vector products. A layer must have
    `layer_host` of the host time of the layer around it, and `layer_ratio` times its share of GPU time. A matrix product of
    fewer than `gemv_rows` rows reads its weights for so few tokens that it is a matrix-vector product. Two matrix products
    with a softmax between them are attention if at most `attention_steps` kernels lie between. Communication is hidden well
    if at least `overlap` of it runs beside other work. Ranks straggle if the slowest computes `straggling` longer than the
    median. From `inflation` on, a profiled step is too slow to be read as the step itself.
    """

    launch_overhead: float = 0.20
    host_sync: float = 0.05
    host_late: float = 0.20
    data_loader: float = 0.05
    transfers: float = 0.02
    communication: float = 0.05
    severe: float = 0.50
    notable: float = 0.05
    work: float = 0.05
    gemv: float = 0.20
    gemv_rows: float = 8.0
    attention_steps: int = 8
    overlap: float = 0.50
    straggling: float = 0.10
    inflation: float = 1.5
    layer_host: float = 0.10
    layer_ratio: float = 2.0


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Finding:
    """One thing to act on. Times in ns.

    `saving_ns` is an estimate, None where the trace gives no ground for one; `reasoning` says how it was computed and from
    what. `evidence` is a sentence, `rows` are the figures behind it: plain values, the worst first.
    """

    code: str
    title: str
    severity: str
    affected_ns: int
    saving_ns: int | None
    evidence: str
    action: str
    reasoning: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class CannotTell:
    """A rule that could not look: its code, and why."""

    code: str
    because: str


Answer = Finding | CannotTell | None


@dataclass(frozen=True)
class Evidence:
    """A trace and what the analyses say of it, as the rules see it. Masks have an entry for each row of `work`."""

    trace: Trace
    gpu: GpuSummary | None
    idle: IdleCauses
    launches: Launches
    gap_groups: Table
    layers: Table
    kernels: Table
    work: Table
    roofline: Roofline | None = None
    sheet: Datasheet | None = None
    warnings: tuple[TraceWarning, ...] = ()
    manifest: RunManifest | None = None
    ranks: Table | None = None
    thresholds: Thresholds = field(default=THRESHOLDS)

    # --- Shares ------------------------------------------------------------------------------------------------

    def share(self, ns: int) -> float:
        """Share of the GPU's span."""
        return ns / self.gpu.span_ns if self.gpu and self.gpu.span_ns else 0.0

    @property
    def has_host(self) -> bool:
        """Whether anything was recorded of the host but its calls."""
        return bool(len(self.trace.operators) or len(self.trace.where(Category.ANNOTATION)))

    @property
    def capability(self) -> float | None:
        """The compute capability of an NVIDIA device; None of any other, and where it is not recorded."""
        device = self.trace.device
        maker = f"{device.name} {self.sheet.architecture if self.sheet else ''}" if device else ""
        if device is None or device.compute_capability is None or re.search("AMD|Instinct|CDNA", maker):
            return None
        try:
            return float(device.compute_capability)
        except ValueError:
            return None

    def work_share(self, mask: Bools) -> float:
        """Share of all kernel time."""
        return self.time(mask) / max(int(self.work["duration_ns"].sum()), 1)

    def time(self, mask: Bools) -> int:
        """The kernels' time, added up."""
        return int(self.work["duration_ns"][mask].sum())

    def severity(self, ns: int) -> str:
        """How bad it is to lose this much: `high` from the severe share of the span on, `low` below the notable one."""
        share = self.share(ns)
        return "high" if share >= self.thresholds.severe else "medium" if share >= self.thresholds.notable else "low"

    # --- Kernels -----------------------------------------------------------------------------------------------

    def of_family(self, *families: str) -> Bools:
        """Which kernels do this kind of work."""
        return self._by_name(self.kernels["name"][np.isin(self.kernels["family"].astype(str), families)].tolist())

    def of_kind(self, *kinds: str) -> Bools:
        """Which kernels are of these kinds within their family."""
        return self._by_name(self.kernels["name"][np.isin(self.kernels["kind"].astype(str), kinds)].tolist())

    def named(self, pattern: re.Pattern[str]) -> Bools:
        """Which kernels have a name in which the pattern is found."""
        return self._by_name([name for name in self.kernels["name"].tolist() if pattern.search(name)])

    def launched_by(self, pattern: re.Pattern[str]) -> Bools:
        """Which kernels an operator launched whose name the pattern matches at its start, or did the work of one."""
        matches = np.fromiter((pattern.match(text) is not None for text in self.trace.strings), np.bool_)
        matches = np.append(matches, False)
        codes = np.append(self.trace.events["name"], len(matches) - 1)
        found: Bools = matches[codes[self.work["operator"]]] | matches[codes[self.work["owner"]]]
        return found

    def at_peak(self, *peaks: str) -> Bools:
        """Which kernels' FLOPs are held against one of these peaks."""
        return np.isin(self.work["peak"], [PEAKS.index(peak) for peak in peaks])

    def _by_name(self, names: list[str]) -> Bools:
        wanted = set(names)
        known = np.fromiter((text in wanted for text in self.trace.strings), np.bool_, len(self.trace.strings))
        found: Bools = known[self.names]
        return found

    @cached_property
    def names(self) -> Int64s:
        """Each kernel's name, into the trace's strings."""
        return self.trace.events["name"][self.trace.gpu["event"][self.work["gpu"]]].astype(np.int64)

    @cached_property
    def in_order(self) -> Int64s:
        """Rows of `work` by device and stream, and on each by start."""
        gpu = self.work["gpu"]
        start = self.trace.start_ns[self.trace.gpu["event"][gpu]]
        return np.lexsort((start, self.trace.gpu["stream"][gpu], self.trace.gpu["device"][gpu])).astype(np.int64)

    @cached_property
    def lane(self) -> Int64s:
        """Each kernel's device and stream, as a number."""
        gpu = self.work["gpu"]
        pairs = np.stack((self.trace.gpu["device"][gpu], self.trace.gpu["stream"][gpu]))
        lane: Int64s = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return lane

    @cached_property
    def rows_per_product(self) -> Any:
        """Rows of the smaller operand of each matrix product, by its intensity: 2·M FLOPs for each weight read; NaN if unknown."""
        known = self.work["has_flops"] & self.work["has_bytes"] & self.of_family("gemm") & (self.work["flops"] > 0)
        item = np.select([self.at_peak("fp64"), self.at_peak("fp32", "tf32"), self.at_peak("fp8", "int8")], [8, 4, 1], 2)
        return np.where(known, self.work["flops"] * item / (2 * np.maximum(self.work["bytes"], 1)), np.nan)

    # --- What would change ------------------------------------------------------------------------------------

    @cached_property
    def _replay(self) -> Replay:
        return replay(self.trace)

    def shorter(self, saving: Int64s) -> int:
        """How much shorter the GPU's span gets if each kernel takes `saving` ns less and the host launches as it did."""
        events = np.zeros(len(self.trace.gpu), dtype=np.int64)
        events[self.work["gpu"]] = saving
        return self._replay.saved_ns(events)

    def worst_operator(self, cause: str) -> str:
        """The operator or call before whose kernels most of this cause's idle time lies, as a clause; may be empty."""
        column = self.gap_groups[f"{cause}_ns"]
        if not len(column) or not column.max():
            return ""
        row = int(column.argmax())
        where = self.gap_groups["operator"][row] or self.gap_groups["call"][row]
        return f"; most of it before kernels of {where} ({ms(int(column[row]))})" if where else ""

    def worst_groups(self, cause: str, rows: int = 5) -> tuple[Mapping[str, Any], ...]:
        """What most of this cause's idle time lies before."""
        column = self.gap_groups[f"{cause}_ns"]
        order = [row for row in np.argsort(-column, kind="stable")[:rows].tolist() if column[row]]
        return tuple(
            {
                "operator": self.gap_groups["operator"][row],
                "call": self.gap_groups["call"][row],
                "idle_ns": int(column[row]),
            }
            for row in order
        )


# --- Rules ---------------------------------------------------------------------------------------------------------

Rule = Callable[[Evidence], Answer]


@dataclass(frozen=True)
class Need:
    """What a rule cannot do without, and what it says where that is missing."""

    because: str
    met: Callable[[Evidence], bool]


def needs(*wanted: Need) -> Callable[[Rule], Rule]:
    """Let a rule answer CannotTell, with the first reason that holds, before it looks; its name is its code."""

    def declare(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def ask(evidence: Evidence) -> Answer:
            missing = next((need for need in wanted if not need.met(evidence)), None)
            return CannotTell(rule.__name__, missing.because) if missing else rule(evidence)

        return ask

    return declare


GPU = Need("the trace has no GPU events", lambda e: e.gpu is not None)
KERNELS = Need("the trace has no kernels", lambda e: len(e.work) > 0)
CALLS = Need("the trace has no runtime calls: what the host did is not known", lambda e: len(e.trace.calls) > 0)
HOST = Need("the trace has no host operators or annotations", lambda e: e.has_host)
OPERATORS = Need("no operator launched a kernel", lambda e: bool((e.work["operator"] >= 0).any()))
SHAPES = Need("the shapes of operators were not recorded (record_shapes=True)", lambda e: bool(e.work["has_bytes"].any()))
DATASHEET = Need("the device is not in the table of datasheets (--device-table)", lambda e: e.sheet is not None)
CAPABILITY = Need("the device's compute capability is not known", lambda e: e.capability is not None)


# --- Wording -------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.1f} %"


def ms(ns: float) -> str:
    """A time as text."""
    return f"{ns / 1e6:,.2f} ms"
