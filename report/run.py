"""What was run, where, and how much did profiling slow it down?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tracekit.manifest import RunManifest
from tracekit.wording import counted, number, scientific

from .budget import figure
from .bundle import TraceBundle
from .nonbreaking import binary_size, duration, millions, quantity


@dataclass(frozen=True)
class Fact:
    """A line of the header. `mark` is a short note after the value."""

    label: str
    value: str
    mark: str = ""


@dataclass(frozen=True)
class Slowdown:
    """The time of one decode step without the profiler and with it, in ns."""

    plain_ns: int
    profiled_ns: float
    inflation: float


def device_name(trace: TraceBundle) -> str:
    """The name of the device that the trace was recorded on: from the trace, or else from the manifest."""
    name = trace.device.get("name")
    if name:
        return str(name)
    run = trace.manifest
    return run.device.name if run else "not recorded"


def facts(trace: TraceBundle) -> list[Fact]:
    """What was run and where, in the order in which it is read."""
    run = trace.manifest
    found = [*_place(trace, run)]
    if run is not None:
        found += [*_work(run), *_versions(run)]
    elif trace.has_manifest:
        found.append(Fact("Run manifest", "present, but not one that this version can read"))
    found.append(Fact("Trace", counted(figure(trace.document, "events"), "event")))
    return found


def slowdown(trace: TraceBundle) -> Slowdown | None:
    """A decode step with and without the profiler. None unless the run was timed both ways."""
    run = trace.manifest
    if run is None or run.profile is None or not run.profile.decode_tokens:
        return None
    return Slowdown(
        run.timings.decode_token.median_ns, run.profile.decode_ns / run.profile.decode_tokens, run.profile.inflation
    )


def conditions(trace: TraceBundle) -> str:
    """A run's conditions for a comparison, in one line; empty without a manifest."""
    run = trace.manifest
    if run is None:
        return ""
    return ", ".join((run.variant, run.dtype, f"batch {run.workload.batch}", _tokens(run), f"{run.weights.source} weights"))


def _place(trace: TraceBundle, run: RunManifest | None) -> Iterator[Fact]:
    yield Fact("Measured on", device_name(trace), _device_detail(trace.device))
    rank = trace.document.get("rank")
    if rank is not None:
        yield Fact("Rank", str(rank))
    if run is not None:
        driver = f", driver {run.device.driver}" if run.device.driver else ""
        yield Fact(
            "Host",
            f"{run.host.cpu}, {number(run.host.threads)} of {counted(run.host.cores, 'core')}{driver}",
            run.host.system,
        )


def _work(run: RunManifest) -> Iterator[Fact]:
    yield Fact("Variant", run.variant, f"{run.dtype}, {run.attention} attention")
    yield Fact("Model", run.model.name, f"{millions(run.model.parameters)} parameters")
    yield Fact("Workload", f"{run.workload.kind}, batch {run.workload.batch}, {_tokens(run)}", run.workload.decoding)
    yield _weights(run)
    timings = run.timings
    yield Fact(
        "Speed, unprofiled",
        quantity(timings.tokens_per_second, "tokens/s"),
        f"median of {counted(len(timings.runs), 'run')}",
    )
    yield Fact("First token", duration(timings.first_token.median_ns))
    if timings.event_token:
        yield Fact("Per token", duration(timings.event_token.median_ns), "by CUDA events")
    if run.accuracy:
        error, bound = run.accuracy.relative_error, run.accuracy.bound
        yield Fact("Error of its logits", scientific(error), f"against {run.accuracy.reference}; may be {scientific(bound)}")
    if timings.peak_memory_bytes:
        yield Fact("Peak memory", binary_size(timings.peak_memory_bytes))


def _weights(run: RunManifest) -> Fact:
    weights = run.weights
    if weights.source == "random":
        seed = f", seed {weights.seed}" if weights.seed is not None else ""
        return Fact("Weights", f"random{seed}", "the text it writes is noise; timings hold")
    return Fact("Weights", weights.source, weights.location or "")


def _versions(run: RunManifest) -> Iterator[Fact]:
    versions: Mapping[str, str | None] = {
        "torch": run.versions.torch,
        "CUDA": run.versions.cuda,
        "cuDNN": run.versions.cudnn,
        "transformers": run.versions.transformers,
        "Python": run.versions.python,
        "tracekit": run.versions.tracekit,
    }
    yield Fact("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    yield Fact("Collected", run.created)


def _tokens(run: RunManifest) -> str:
    return f"{number(run.workload.prompt_tokens)} + {counted(run.workload.new_tokens, 'token')}"


def _device_detail(device: Mapping[str, object]) -> str:
    parts = []
    if device.get("compute_capability"):
        parts.append(f"compute capability {device['compute_capability']}")
    if multiprocessors := figure(device, "multiprocessors"):
        parts.append(counted(multiprocessors, "multiprocessor"))
    if memory := figure(device, "memory_bytes"):
        parts.append(binary_size(memory))
    return ", ".join(parts)
