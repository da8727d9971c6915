"""How long would this trace's work take on another device?

The answer is a projection, not a measurement. Every kernel gets the least time that the roofline model allows on the target
device, so real kernels are slower; docs/projection.md says by how much they were on one T4. Kernels of unknown work get no
projected time, and the result says how much time they have.
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
"""A step gets a projected time only if the work is known for at least this share of its kernel time."""


@dataclass(frozen=True)
class Inputs:
    """The figures that a projection uses, each with its source.

    `memory_gb_s` was measured on such a device if `memory_source` says so; else it is the datasheet's. The launch costs, in ns,
    are the target's if they were measured. Else they are those of the trace's own host and device, including the profiler's
    cost.
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
    """One decode step, projected from the model alone (see `decode_model`), for runs whose kernels have no recorded shapes.

    `kernel_ns` is the roof of its bytes and FLOPs, `gap_ns` the gaps after its `gpu_events`, and `host_ns` the host's time for
    its `launches`. `step_ns` is the longer of the device's time (kernels and gaps) and the host's time. `bound` says what
    limits the step: `memory`, `compute` or `host`.
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
        """New tokens a second of the whole batch."""
        return self.batch * 1e9 / max(self.step_ns, 1)


@dataclass(frozen=True)
class Projection:
    """A trace's kernels on another device, times in ns.

    `kernel_time_ns` is the measured time of all kernels, `known_ns` that of the kernels with a projected time.
    `projected_ns` is the sum of these projected times.
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
        """The share of the measured kernel time whose kernels have a projected time."""
        return self.known_ns / max(self.kernel_time_ns, 1)


def project(
    trace: Trace, steps: Steps, work: Table, family_of: Mapping[str, str], target: Datasheet, run: RunManifest | None = None
) -> Projection | None:
    """Project a trace onto a device; `work` is what `kernel_work` returns. None if the trace has no kernels.

    `kernels` has one row for each kernel name, the most projected time first: `name`, `family`, `count`, `time_ns` (measured),
    `known_ns` (measured time of the runs whose work is known), `flops`, `bytes`, `projected_ns` (of these runs; None if there
    are none) and `bound` on the target.

    `steps` has one row for each kind of step: `step` and `calls` (how many steps). The other columns are means over these
    steps: `gpu_events`, `host_launches`, `time_ns` (of kernels, measured), `known_share`, `projected_ns` (of kernels), `gap_ns`
    (all gaps), `host_ns` (of all launches) and `step_ns` (the longer of kernels with gaps and host; None if too little is
    known).
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
    """The least time in ns that each run's FLOPs, and its bytes, take on the target. FLOPs with an unknown peak take 0."""
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
        """For each kind, the sum of the values in its steps, divided by the number of steps."""
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
    """The decode step of a run. The manifest describes the model; the trace says how many GPU events and launches it takes.

    None if the run has no such step, or the trace shows none.
    """
    model = decode_step(run)
    found = np.flatnonzero(steps["step"] == DECODE)
    if model is None or not len(found):
        return None
    return project_decode(
        model, run.workload.batch, float(steps["gpu_events"][found[0]]), float(steps["host_launches"][found[0]]), inputs
    )


def project_decode(model: DecodeStep, batch: int, gpu_events: float, launches: float, inputs: Inputs) -> DecodeProjection:
    """The projection of a decode step.

    The step has `gpu_events` kernels, including copies and fills, and `launches` launches by the host.
    """
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
    """The values as whole nanoseconds, None where not known."""
    whole: Objects = np.rint(values).astype(np.int64).astype(object)
    whole[~known] = None
    return whole
