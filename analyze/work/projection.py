"""How long would this trace's work take on another device?

A projection, not a measurement: every kernel is given the least time that the roofline model allows on the target, so real
ones are slower; docs/projection.md says by how much one was. Kernels of unknown work have no projected time, and are said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from ..activity.launch_costs import launch_costs
from ..structure.steps import DECODE, Steps, step_kinds
from ..trace.arrays import Floats, Int64s, Objects
from ..trace.group import group
from ..trace.trace import Trace
from .decode_model import DecodeStep, decode_step
from .roofline import peak_tflops

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

KNOWN = 0.95
"""A step gets a projected time if the work of this share of its kernel time is known."""


@dataclass(frozen=True)
class Inputs:
    """What a projection reckons with: each figure with where it is from.

    `memory_gb_s` was measured on such a device where `memory_source` says so; else it is the datasheet's. Launch costs, in
    ns, are the target's where they were measured, else those of the trace's own host and device, with the profiler's cost.
    """

    device: str
    memory_gb_s: float
    memory_source: str
    tflops: Mapping[str, float]
    tflops_source: str
    gap_ns: int | None
    launch_ns: int | None
    launch_source: str


@dataclass(frozen=True)
class DecodeProjection:
    """One decode step by the model alone (see `decode_model`), for runs whose kernels tell no shapes.

    `kernel_ns` is the roof of its bytes and FLOPs, `gap_ns` the gaps between its `gpu_events`, `host_ns` the host's time for
    its `launches`; `step_ns` is the longer of the device's and the host's, and `bound` says whose: `memory`, `compute` or
    `host`.
    """

    model: DecodeStep
    batch: int
    gpu_events: float
    launches: float
    kernel_ns: int
    gap_ns: int
    host_ns: int
    step_ns: int
    bound: str

    @property
    def tokens_per_second(self) -> float:
        """New tokens of the whole batch."""
        return self.batch * 1e9 / max(self.step_ns, 1)


@dataclass(frozen=True)
class Projection:
    """A trace's kernels on another device, times in ns.

    `known_ns` of `kernel_time_ns`, both measured, have a projected time: `projected_ns` together.
    """

    source: str | None
    inputs: Inputs
    kernel_time_ns: int
    known_ns: int
    projected_ns: int
    kernels: Table
    steps: Table
    decode: DecodeProjection | None

    @property
    def known_share(self) -> float:
        """Share of the kernel time that has a projected time."""
        return self.known_ns / max(self.kernel_time_ns, 1)


def project(
    trace: Trace, steps: Steps, work: Table, family_of: Mapping[str, str], target: Datasheet, run: RunManifest | None = None
) -> Projection | None:
    """Project a trace, whose `work` is as of `kernel_work`, onto a device; None without a kernel.

    `kernels` has one row a kernel name, by projected time: `name`, `family`, `count`, `time_ns` (measured), `known_ns` (of runs
    whose work is known), `flops`, `bytes`, `projected_ns` (of those; None where none is) and `bound` on the target. `steps`
    has one row a kind of step: `step`, `calls` (how many steps), and of one on average `gpu_events`, `host_launches`, `time_ns`
    (of kernels, measured), `known_share`, `projected_ns` (of kernels), `gap_ns` (all gaps between them), `host_ns` (of all
    launches) and `step_ns` (the longer of kernels with gaps and host; None where too little is known).
    """
    if not len(work):
        return None
    inputs = _inputs(trace, target)
    compute, memory = _least_times(work, inputs)
    known = work["has_bytes"]
    projected = np.where(known, np.maximum(compute, memory), 0.0)
    means = _mean_steps(trace, steps, work, projected, inputs)
    return Projection(
        source=trace.device.name if trace.device else None,
        inputs=inputs,
        kernel_time_ns=int(work["duration_ns"].sum()),
        known_ns=int(work["duration_ns"][known].sum()),
        projected_ns=round(float(projected.sum())),
        kernels=_kernels(trace, work, family_of, compute, memory),
        steps=means,
        decode=_decode(run, means, inputs) if run else None,
    )


def _inputs(trace: Trace, target: Datasheet) -> Inputs:
    measured = target.measured
    has_bandwidth = measured.memory_gb_s is not None
    own = launch_costs(trace)
    has_launch = measured.gap_ns is not None or measured.launch_ns is not None
    peaks = {peak: value for peak in PEAKS if (value := peak_tflops(target, peak)) is not None}
    return Inputs(
        device=target.name,
        memory_gb_s=measured.memory_gb_s or target.memory_gb_s,
        memory_source=measured.memory_source if has_bandwidth else f"not measured; {target.source}",
        tflops=peaks,
        tflops_source=target.source,
        gap_ns=measured.gap_ns if has_launch else own.gap_ns,
        launch_ns=measured.launch_ns if has_launch else own.launch_ns,
        launch_source=measured.launch_source if has_launch else "this trace, profiler on: not the target's",
    )


def _least_times(work: Table, inputs: Inputs) -> tuple[Floats, Floats]:
    """The least time in ns that each run's FLOPs and bytes take on the target; FLOPs of a peak that is not known take none."""
    peaks = np.array([*(inputs.tflops.get(peak, np.inf) for peak in PEAKS), np.inf])
    return work["flops"] / (1e3 * peaks[work["peak"]]), work["bytes"] / inputs.memory_gb_s


def _kernels(trace: Trace, work: Table, family_of: Mapping[str, str], compute: Floats, memory: Floats) -> Table:
    by_name = group(trace.events["name"][trace.gpu["event"][work["gpu"]]])
    names: Objects = trace.strings[by_name.keys]
    known = work["has_bytes"]
    has_time = by_name.sum(known.astype(np.int64)) > 0
    projected = by_name.sum_of_floats(np.where(known, np.maximum(compute, memory), 0.0))
    bound = np.where(by_name.sum_of_floats(compute) > by_name.sum_of_floats(memory), "compute", "memory").astype(object)
    bound[~has_time] = None
    table = Table(
        {
            "name": names,
            "family": np.array([family_of.get(name, "other") for name in names], dtype=object),
            "count": by_name.count,
            "time_ns": by_name.sum(work["duration_ns"]),
            "known_ns": by_name.sum(np.where(known, work["duration_ns"], 0)),
            "flops": by_name.sum(work["flops"]),
            "bytes": by_name.sum(work["bytes"]),
            "projected_ns": _whole(projected, has_time),
            "bound": bound,
        }
    )
    return table.take(np.lexsort((-table["time_ns"], -projected)))


def _mean_steps(trace: Trace, steps: Steps, work: Table, projected: Floats, inputs: Inputs) -> Table:
    kinds = step_kinds(trace, steps)
    of_run = kinds.of_gpu[work["gpu"]]

    def mean(places: Int64s, values: npt.NDArray[np.float64]) -> Floats:
        """The sum of what lies in the steps of each kind, over their number."""
        inside = places >= 0
        return np.bincount(places[inside], weights=values[inside], minlength=len(kinds.names)) / kinds.counts

    time, events = mean(of_run, work["duration_ns"]), mean(kinds.of_gpu, np.ones(len(kinds.of_gpu)))
    known = mean(of_run, np.where(work["has_bytes"], work["duration_ns"], 0.0))
    launches, kernels = mean(kinds.of_launches, np.ones(len(kinds.of_launches))), mean(of_run, projected)
    gap, host = events * (inputs.gap_ns or 0), launches * (inputs.launch_ns or 0)
    share = known / np.maximum(time, 1)
    every = np.ones(len(kinds.names), dtype=np.bool_)
    table = Table(
        {
            "step": np.array(kinds.names, dtype=object),
            "calls": kinds.counts,
            "gpu_events": events,
            "host_launches": launches,
            "time_ns": _whole(time, every),
            "known_share": share,
            "projected_ns": _whole(kernels, every),
            "gap_ns": _whole(gap, every),
            "host_ns": _whole(host, every),
            "step_ns": _whole(np.maximum(kernels + gap, host), share >= KNOWN),
        }
    )
    return table.take(np.flatnonzero(events > 0))


def _decode(run: RunManifest, steps: Table, inputs: Inputs) -> DecodeProjection | None:
    """The decode step of a run whose manifest tells the model and whose trace tells how many kernels and launches it takes."""
    model = decode_step(run)
    found = np.flatnonzero(steps["step"] == DECODE)
    if model is None or not len(found):
        return None
    return project_decode(
        model, run.workload.batch, float(steps["gpu_events"][found[0]]), float(steps["host_launches"][found[0]]), inputs
    )


def project_decode(model: DecodeStep, batch: int, gpu_events: float, launches: float, inputs: Inputs) -> DecodeProjection:
    """A decode step of so many kernels (copies and fills included) and so many launches by the host."""
    compute, memory = model.flops / (1e3 * inputs.tflops.get(model.peak, np.inf)), model.bytes / inputs.memory_gb_s
    kernels, gap, host = max(compute, memory), gpu_events * (inputs.gap_ns or 0), launches * (inputs.launch_ns or 0)
    bound = "host" if host > kernels + gap else "compute" if compute > memory else "memory"
    return DecodeProjection(
        model=model,
        batch=batch,
        gpu_events=gpu_events,
        launches=launches,
        kernel_ns=round(kernels),
        gap_ns=round(gap),
        host_ns=round(host),
        step_ns=round(max(kernels + gap, host)),
        bound=bound,
    )


def _whole(values: Floats, known: npt.NDArray[np.bool_]) -> Objects:
    """Whole nanoseconds, None where not known."""
    whole: Objects = np.rint(values).astype(np.int64).astype(object)
    whole[~known] = None
    return whole
