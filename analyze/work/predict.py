"""How long would a step take in half precision, or replayed as a CUDA graph, on the same device?

Predictions from a trace and the run manifest beside it, by formulas; docs/predictions.md holds them against what was measured.

- On the host's side a step takes what one took without the profiler, if the GPU was not what it waited for: the same operators
  are dispatched in any precision. On the device's side it takes its busy time. The longer of the two is an eager step.
- A step that is replayed as one CUDA graph takes its busy time and a gap between each two of its GPU events: no host takes
  part.
- In half precision a kernel's time changes as its roof does (`roofline`): the bytes of floating-point data halve, and matrix
  kernels run at the peak of FP16. They are taken to reach the same share of their roof as before. Other kernels that reach
  little of it wait rather than work: their time stays, and so does that of kernels whose work is not known. The shortest
  kernel of the trace is what starting one takes, which stays too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from ..structure.steps import DECODE, Steps, step_kinds
from ..trace.arrays import Bools, Floats, Int64s
from ..trace.intervals import merge
from ..trace.trace import Trace
from .roofline import LATENCY_SHARE, peak_tflops

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

GRAPH_GAP_NS = 500
"""Between two nodes of a CUDA graph. Quoted, V100: kernels of 2.9 µs take 3.4 µs each in a graph (NVIDIA Technical Blog,
"Getting Started with CUDA Graphs", 2019)."""

MATRIX_FAMILIES = ("gemm", "convolution", "attention")
"""Families whose FLOPs matrix cores can do."""


@dataclass(frozen=True)
class Change:
    """Another precision: `peaks` maps the peak of matrix kernels to their new one, bytes shrink to `bytes_ratio`."""

    peaks: Mapping[str, str]
    bytes_ratio: float = 1.0


FP16 = Change({"fp32": "fp16", "tf32": "fp16"}, 0.5)
BF16 = Change({"fp32": "bf16", "tf32": "bf16"}, 0.5)
TF32 = Change({"fp32": "tf32"})
FP16_FROM_BF16 = Change({"bf16": "fp16"})


def changed_ns(work: Table, matrix: Bools, sheet: Datasheet, change: Change) -> Int64s:
    """How long each kernel takes after a change, in ns, by its `work` (as of `kernel_work`) and whether it is a `matrix` one.

    With r the roof, the longer of FLOPs / peak and bytes / bandwidth, a kernel takes floor + (t - floor) · r' / r if it is a
    matrix one or reaches `LATENCY_SHARE` of r; every other one takes as long as before, and none longer. Kernels outside the
    matrix families are taken to be in FP32 (`bytes_ratio` shrinks theirs too): ask for them in runs in FP32 only.
    """
    time = work["duration_ns"]
    floor = int(time.min()) if len(time) else 0
    memory = work["bytes"] / sheet.memory_gb_s
    before, after = (_compute_ns(work, sheet, peaks) for peaks in ({}, change.peaks))
    touched = work["has_bytes"] & np.isin(work["peak"], [PEAKS.index(peak) for peak in ("fp32", *change.peaks)])
    touched &= matrix | (change.bytes_ratio < 1)
    roof = np.maximum(before, memory)
    new_roof = np.maximum(np.where(matrix, after, before), memory * change.bytes_ratio)
    works = touched & (matrix | (roof >= LATENCY_SHARE * time)) & (roof > 0)
    ratio = np.minimum(np.divide(new_roof, roof, out=np.ones(len(time)), where=works), 1.0)
    changed: Int64s = np.rint(floor + (time - floor) * ratio).astype(np.int64)
    return changed


def _compute_ns(work: Table, sheet: Datasheet, peaks: Mapping[str, str]) -> Floats:
    """The least time that each kernel's FLOPs take, at the peaks they are mapped to."""
    rates = np.array([*(peak_tflops(sheet, peaks.get(peak, peak)) or np.inf for peak in PEAKS), np.inf])
    least: Floats = work["flops"] / (1e3 * rates[work["peak"]])
    return least


@dataclass(frozen=True)
class MeanStep:
    """A step of one kind, on average over the trace: times in ns.

    `host_ns` is what the step took without the profiler, where that is more than the device needs: then the host is what it
    waited for. `known_share` is how much of its kernel time has known work.
    """

    name: str
    count: int
    gpu_events: float
    busy_ns: float
    host_ns: float | None
    known_share: float

    def eager_ns(self, busy_ns: float | None = None) -> float | None:
        """The longer of host and device, with another busy time if one is given; None where the host's is not known."""
        return None if self.host_ns is None else max(self.host_ns, self.busy_ns if busy_ns is None else busy_ns)

    def graph_ns(self, busy_ns: float | None = None) -> float:
        """The step as one CUDA graph, with another busy time if one is given."""
        return (self.busy_ns if busy_ns is None else busy_ns) + max(self.gpu_events - 1, 0) * GRAPH_GAP_NS


def mean_steps(trace: Trace, steps: Steps, work: Table, run: RunManifest | None = None) -> list[MeanStep]:
    """A mean step of each kind, in the order of their first steps; kinds without GPU events are left out."""
    kinds = step_kinds(trace, steps)
    found = []
    for place, (name, count) in enumerate(zip(kinds.names, kinds.counts.tolist(), strict=True)):
        rows = trace.gpu["event"][kinds.of_gpu == place]
        if not len(rows):
            continue
        mine = kinds.of_gpu[work["gpu"]] == place
        time = work["duration_ns"][mine]
        busy = merge(trace.start_ns[rows], trace.end_ns[rows]).total / count
        found.append(
            MeanStep(
                name=name,
                count=count,
                gpu_events=len(rows) / count,
                busy_ns=busy,
                host_ns=_host_ns(run, name, busy),
                known_share=float(time[work["has_bytes"][mine]].sum() / max(int(time.sum()), 1)),
            )
        )
    return found


def _host_ns(run: RunManifest | None, kind: str, busy_ns: float) -> float | None:
    """What a decode step took without the profiler, if the device needs less."""
    if run is None or kind != DECODE or run.timings.decode_token.median_ns <= busy_ns:
        return None
    return float(run.timings.decode_token.median_ns)


def changed_busy_ns(trace: Trace, steps: Steps, work: Table, changed: Int64s, step: MeanStep) -> float:
    """A step's busy time after a change, given how long each kernel then takes: what they save together is taken off it."""
    kinds = step_kinds(trace, steps)
    mine = kinds.of_gpu[work["gpu"]] == kinds.names.index(step.name)
    return step.busy_ns - float((work["duration_ns"] - changed)[mine].sum()) / step.count
