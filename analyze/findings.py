"""What should one do next, and how much would it bring at most?

A rule is a function from the analysed figures to a Finding or None. Savings here are upper bounds: the idle time that was
measured and that the action removes if it works fully. The trace alone cannot say more, and where it says less there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from tracekit.names import shorten_path
from tracekit.table import Table

from .gpu import GpuSummary
from .idle import IdleCauses
from .launches import Launches
from .roofline import Roofline
from .trace import TraceWarning


@dataclass(frozen=True)
class Thresholds:
    """Shares of the GPU's span from which a cause of idleness is worth a finding, and what makes a layer's host time one.

    A layer must have `layer_host` of the host time of the layer around it, and `layer_ratio` times its share of GPU time.
    """

    launch_overhead: float = 0.20
    host_sync: float = 0.05
    host_other: float = 0.20
    severe: float = 0.50
    layer_host: float = 0.10
    layer_ratio: float = 2.0


THRESHOLDS = Thresholds()
NAMED = 3
"""So many layers, or operators, are named in a finding about them."""


@dataclass(frozen=True)
class Finding:
    """One thing to act on. Times in ns; `saving_ns` is None where the trace cannot tell it."""

    code: str
    title: str
    severity: str
    affected_ns: int
    saving_ns: int | None
    evidence: str
    action: str


@dataclass(frozen=True)
class Evidence:
    """What the rules look at."""

    gpu: GpuSummary | None
    idle: IdleCauses
    launches: Launches
    gap_groups: Table
    layers: Table
    warnings: tuple[TraceWarning, ...] = ()
    roofline: Roofline | None = None
    thresholds: Thresholds = field(default=THRESHOLDS)

    def share(self, ns: int) -> float:
        """Share of the GPU's span."""
        return ns / self.gpu.span_ns if self.gpu and self.gpu.span_ns else 0.0

    def severity(self, ns: int) -> str:
        """`high` from the severe share of the span on, else `medium`."""
        return "high" if self.share(ns) >= self.thresholds.severe else "medium"

    def worst_operator(self, cause: str) -> str:
        """The operator or call before whose kernels most of this cause's idle time lies, as a clause; may be empty."""
        column = self.gap_groups[f"{cause}_ns"]
        if not len(column) or not column.max():
            return ""
        row = int(column.argmax())
        where = self.gap_groups["operator"][row] or self.gap_groups["call"][row]
        return f"; most of it before kernels of {where} ({_ms(int(column[row]))})" if where else ""


def findings(
    gpu: GpuSummary | None,
    idle: IdleCauses,
    launches: Launches,
    gap_groups: Table,
    layers: Table,
    warnings: tuple[TraceWarning, ...],
    roofline: Roofline | None = None,
) -> tuple[Finding, ...]:
    """All findings: first what makes the trace incomplete, then the largest saving first, and last those that tell none."""
    found = list(_rules(Evidence(gpu, idle, launches, gap_groups, layers, warnings, roofline)))
    return tuple(sorted(found, key=lambda f: (f.code != "incomplete_trace", f.saving_ns is None, -(f.saving_ns or 0), f.code)))


def _rules(evidence: Evidence) -> Iterator[Finding]:
    for rule in (incomplete_trace, launch_overhead, host_sync, host_late, layer_launch_cost, above_peak):
        finding = rule(evidence)
        if finding is not None:
            yield finding


def incomplete_trace(evidence: Evidence) -> Finding | None:
    """Launches whose kernels were not recorded make every GPU figure too low."""
    missing = evidence.launches.launches_without_kernel
    if not missing:
        return None
    return Finding(
        code="incomplete_trace",
        title="The trace lost GPU events",
        severity="high",
        affected_ns=evidence.gpu.span_ns if evidence.gpu else 0,
        saving_ns=None,
        evidence=f"{missing:,} of {evidence.launches.kernel_launches:,} launches have no kernel",
        action="Profile a shorter window (fewer steps, after a warm-up) and call torch.cuda.synchronize() before the profiler "
        "stops; until then read GPU times as lower bounds.",
    )


def launch_overhead(evidence: Evidence) -> Finding | None:
    """The GPU waits for kernels to be dispatched and launched one by one."""
    overhead = evidence.idle.launch_overhead_ns
    if evidence.share(overhead) < evidence.thresholds.launch_overhead:
        return None
    launches = evidence.launches.kernel_launches + evidence.launches.graph_launches
    return Finding(
        code="launch_overhead",
        title="The GPU waits for launches",
        severity=evidence.severity(overhead),
        affected_ns=overhead,
        saving_ns=overhead,
        evidence=f"{_percent(evidence.share(overhead))} of the span is idle while the host dispatches "
        f"({_ms(evidence.idle.dispatch_ns)}) or a launch is under way ({_ms(evidence.idle.launch_latency_ns)}), over "
        f"{launches:,} launches" + evidence.worst_operator("dispatch"),
        action="Launch many kernels at once: torch.compile(model, mode='reduce-overhead') or torch.cuda.CUDAGraph with static "
        "shapes; else fuse small operators (torch.compile) or give each launch more work (a larger batch). The saving is an "
        "upper bound: all of this idle time.",
    )


def host_sync(evidence: Evidence) -> Finding | None:
    """The host waited for the device before it launched on, so the device then waited for the host."""
    waited = evidence.idle.host_sync_ns
    if evidence.share(waited) < evidence.thresholds.host_sync:
        return None
    return Finding(
        code="host_sync",
        title="The host waits for the GPU, then the GPU for the host",
        severity=evidence.severity(waited),
        affected_ns=waited,
        saving_ns=waited,
        evidence=f"{_percent(evidence.share(waited))} of the span is idle inside blocking calls of the launching thread"
        + evidence.worst_operator("host_sync"),
        action="Take .item(), .cpu(), print(tensor), boolean masks and torch.cuda.synchronize() out of the loop; keep flags "
        "and positions on the device and copy with non_blocking=True from pinned memory.",
    )


def host_late(evidence: Evidence) -> Finding | None:
    """The launching thread was in no operator at all: Python, data loading or nothing."""
    late = evidence.idle.host_other_ns
    if evidence.share(late) < evidence.thresholds.host_other:
        return None
    return Finding(
        code="host_late",
        title="The GPU waits while the host is outside PyTorch",
        severity=evidence.severity(late),
        affected_ns=late,
        saving_ns=late,
        evidence=f"{_percent(evidence.share(late))} of the span is idle while the launching thread is in no operator"
        + evidence.worst_operator("host_other"),
        action="Look at the Python between the operators: data loading (num_workers, pin_memory, prefetch), logging, "
        "tokenising, a Python loop over tokens. Profile with with_stack=True to see its lines.",
    )


def layer_launch_cost(evidence: Evidence) -> Finding | None:
    """A stopwatch around these layers shows what launching their kernels costs the host, not what the kernels cost."""
    found = sorted(_launch_bound(evidence), key=lambda layer: (-layer.host_ns, layer.path))
    if not found:
        return None
    named = "; ".join(
        f"{shorten_path(layer.path)}: {_percent(layer.host_share)} of the host time around it, "
        f"{_percent(layer.gpu_share)} of the GPU time"
        for layer in found[:NAMED]
    )
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return Finding(
        code="layer_launch_cost",
        title="A stopwatch around these layers measures their launches, not their work",
        severity="low",
        affected_ns=sum(layer.host_ns for layer in found),
        saving_ns=None,
        evidence=named + more,
        action="Judge these layers by their GPU time. What they cost the host is operators and launches: fuse them with their "
        "neighbours (torch.compile) or replay the step as a CUDA graph; a faster kernel would not show. What that saves is "
        "part of the launch overhead, if the GPU waits for it, and nothing if it does not.",
    )


def above_peak(evidence: Evidence) -> Finding | None:
    """Nothing is faster than its device: the count of its work is wrong, or the clock is, or the datasheet."""
    if evidence.roofline is None:
        return None
    table = evidence.roofline.operators
    found = [row for row in table.records() if row["flag"] == "above_peak"]
    if not found:
        return None
    named = "; ".join(f"{row['operator']} {row['shapes'] or ''}: {_peak_reached(row)}" for row in found[:NAMED])
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return Finding(
        code="above_peak",
        title="Kernels seem faster than the device can be: the model or the clock is wrong",
        severity="low",
        affected_ns=sum(row["known_ns"] for row in found),
        saving_ns=None,
        evidence=named + more,
        action=f"Do not trust the roofline of these rows. Check that the device is {evidence.roofline.device} and not another "
        "model of that name, and whether FP32 was computed as TF32 (a kernel's name tells it only sometimes); a table of "
        "your own peaks goes into --device-table.",
    )


def _peak_reached(row: dict[str, Any]) -> str:
    """By how much the row is above the device's peak, the worse of the two."""
    compute, memory = row["compute_share"] or 0.0, row["memory_share"] or 0.0
    return f"{_percent(compute)} of its {row['peak']} peak" if compute > memory else f"{_percent(memory)} of its bandwidth"


@dataclass(frozen=True)
class _LaunchBound:
    """A layer and its shares of the layer around it; `host_ns` is without waiting for the device."""

    path: str
    host_ns: int
    host_share: float
    gpu_share: float


def _launch_bound(evidence: Evidence) -> Iterator[_LaunchBound]:
    """The layers without layers inside whose share of host time is far above their share of GPU time, in their parent."""
    rows = evidence.layers.records()
    around: list[dict[str, Any]] = []  # the rows that hold the one at hand, the outermost first
    limits = evidence.thresholds
    for row, following in zip_longest(rows, rows[1:]):
        around[row["depth"] :] = [row]
        holds_others = following is not None and following["depth"] > row["depth"]
        if not row["depth"] or not row["calls"] or holds_others:
            continue
        outer = around[-2]
        # Waiting for the device is no launch cost, so neither counts it.
        host, outer_host = row["host_ns"] - row["wait_ns"], outer["host_ns"] - outer["wait_ns"]
        if not outer["time_ns"] or not outer_host:
            continue
        host_share, gpu_share = host / outer_host, row["time_ns"] / outer["time_ns"]
        if host_share >= limits.layer_host and host_share >= limits.layer_ratio * gpu_share:
            yield _LaunchBound(row["path"], host, host_share, gpu_share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ms(ns: int) -> str:
    return f"{ns / 1e6:,.2f} ms"
