"""How long would a step take in half precision, or replayed as a CUDA graph, on the same device?

Formulas predict it from a trace and the run manifest beside it. docs/predictions.md compares the predictions with measurements.

- An eager step takes the longer of two times. The host's time is what the step took without the profiler, if that is more than
  the GPU needs; it does not change with the precision, because the same operators are dispatched. The device's time is its busy
  time.
- A step that is replayed as one CUDA graph takes its busy time plus a gap between each two of its GPU events. The host takes no
  part.
- In half precision a kernel's time changes as its roof does (`roofline`). The bytes of floating-point data halve, and matrix
  kernels run at the peak of FP16. Kernels are assumed to reach the same share of their roof as before.
- Some times stay as they are: the time of kernels whose work is unknown, and of other than matrix kernels that reach only a
  small share of their roof, because those wait rather than work. The cost of starting a kernel also stays. It is taken to be
  the time of the shortest kernel in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from ..activity.whatif import GRAPH_GAP_NS
from ..structure.steps import DECODE, Steps, step_kinds
from ..trace.arrays import Bools, Floats, Int64s
from ..trace.intervals import merge
from ..trace.trace import Trace
from .roofline import LATENCY_SHARE, peak_tflops

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

MATRIX_FAMILIES = ("gemm", "convolution", "attention")
"""The families of kernels whose FLOPs can run on matrix cores (Tensor Cores)."""


@dataclass(frozen=True)
class Change:
    """A change of precision. `peaks` maps the peak of matrix kernels to the new one; bytes are multiplied by `bytes_ratio`."""

    peaks: Mapping[str, str]
    bytes_ratio: float = 1.0


FP16 = Change({"fp32": "fp16", "tf32": "fp16"}, 0.5)
BF16 = Change({"fp32": "bf16", "tf32": "bf16"}, 0.5)
TF32 = Change({"fp32": "tf32"})
FP16_FROM_BF16 = Change({"bf16": "fp16"})


def changed_ns(work: Table, matrix: Bools, sheet: Datasheet, change: Change) -> Int64s:
    """How long each kernel takes after a change, in ns.

    `work` is what `kernel_work` returns; `matrix` says for each kernel whether it belongs to a matrix family. The roof r is the
    longer of FLOPs / peak and bytes / bandwidth, before the change; r' is the roof after it. Let t be the kernel's time and
    floor that of the shortest kernel. A matrix kernel of known work takes floor + (t - floor) · r' / r, and so does another
    kernel whose roof is at least `LATENCY_SHARE` of its time. All others take as long as before, and no kernel takes longer.

    Kernels outside the matrix families are assumed to be in FP32, and `bytes_ratio` applies to them too. So use a `bytes_ratio`
    below 1 only for runs in FP32.
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
    """The least time in ns that each kernel's FLOPs take, at the peaks that `peaks` maps to."""
    rates = np.array([*(peak_tflops(sheet, peaks.get(peak, peak)) or np.inf for peak in PEAKS), np.inf])
    least: Floats = work["flops"] / (1e3 * rates[work["peak"]])
    return least


@dataclass(frozen=True)
class MeanStep:
    """The mean step of one kind over the trace; times in ns.

    `host_ns` is the time that the step took without the profiler, if that is more than the device needs, so that the host
    limits the step. Else it is None. `known_share` is the share of its kernel time whose work is known.
    """

    name: str
    count: int
    gpu_events: float
    busy_ns: float
    host_ns: float | None
    known_share: float

    def eager_ns(self, busy_ns: float | None = None) -> float | None:
        """The longer of the host's time and the busy time, in ns. None if the host's time is not known.

        `busy_ns` replaces the busy time if it is given.
        """
        return None if self.host_ns is None else max(self.host_ns, self.busy_ns if busy_ns is None else busy_ns)

    def graph_ns(self, busy_ns: float | None = None) -> float:
        """The time of the step as one CUDA graph, in ns. `busy_ns` replaces the busy time if it is given."""
        return (self.busy_ns if busy_ns is None else busy_ns) + max(self.gpu_events - 1, 0) * GRAPH_GAP_NS


def mean_steps(trace: Trace, steps: Steps, work: Table, run: RunManifest | None = None) -> list[MeanStep]:
    """The mean step of each kind, in the order of their first steps. Kinds without GPU events are left out."""
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
    """The time that a decode step took without the profiler, if the device needs less, else None."""
    if run is None or kind != DECODE or run.timings.decode_token.median_ns <= busy_ns:
        return None
    return float(run.timings.decode_token.median_ns)


def changed_busy_ns(trace: Trace, steps: Steps, work: Table, changed: Int64s, step: MeanStep) -> float:
    """A step's busy time after a change, in ns: the busy time before, less what the step's kernels save together.

    `changed` has the time of each kernel after the change, as `changed_ns` returns it.
    """
    kinds = step_kinds(trace, steps)
    mine = kinds.of_gpu[work["gpu"]] == kinds.names.index(step.name)
    return step.busy_ns - float((work["duration_ns"] - changed)[mine].sum()) / step.count
