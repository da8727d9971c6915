"""How is a run kept?

It has a name and two files: the trace and the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from tracekit.errors import ManifestError
from tracekit.files import atomic_path
from tracekit.manifest import (
    TRACE_SUFFIX,
    Accuracy,
    Model,
    Profile,
    RunManifest,
    Timings,
    Workload,
    manifest_path,
    read_manifest,
    to_json,
)

from . import environment, profile
from .candidate import Candidate
from .gpt2 import parameter_count
from .session import Session
from .variants import Variant


@dataclass(frozen=True)
class Measured:
    """What is known of a candidate after its timed runs. `text` is the text that it generated, if its prompt was a text."""

    candidate: Candidate
    accuracy: Accuracy
    timings: Timings
    text: str | None = None


def run_name(session: Session, variant: Variant) -> str:
    """The name of a run: model, variant, everything that differs from the default, and device."""
    parts = [environment.slug(session.spec.name), variant.name, *_marks(session, variant)]
    return "-".join([*parts, environment.device_slug(session.description)])


def trace_path(session: Session, variant: Variant) -> Path:
    """The path of the trace of a run."""
    return session.options.output / f"{run_name(session, variant)}{TRACE_SUFFIX}"


def kept(session: Session, variant: Variant) -> Path | None:
    """The trace of an earlier run with exactly these settings, on this device and with this torch. None if there is none."""
    trace = trace_path(session, variant)
    try:
        manifest = read_manifest(manifest_path(trace))
    except ManifestError:
        return None
    same = (
        manifest.command == command(session, variant)
        and manifest.device == session.description
        and manifest.versions.torch == environment.describe_versions().torch
    )
    return trace if same and trace.is_file() else None


def command(session: Session, variant: Variant) -> str:
    """The command that repeats the run, even if the defaults or the hub change later."""
    origin = session.weights.origin
    return session.options.command(
        variant=variant.name,
        layers=session.marks_layers(variant),
        device=str(session.device),
        weights=origin.location if origin.source == "path" and origin.location else origin.source,
        repeats=session.repeats,
        warmup=session.warmup,
    )


def write(session: Session, measured: Measured) -> tuple[Path, RunManifest]:
    """Profile the candidate and write its trace and its manifest: both or neither.

    Both files are replaced at the end, so an interruption leaves the files of an earlier run as they were. Raises TracekitError
    if a file cannot be written.
    """
    variant = measured.candidate.variant
    trace = trace_path(session, variant)
    session.console.progress(f"{variant.name}: profile", 0, 1)
    with atomic_path(trace) as trace_file, atomic_path(manifest_path(trace)) as manifest_file:
        layers = session.marks_layers(variant)
        profiled = profile.record_window(
            measured.candidate, session.options.profiled_length, layers, session.device, trace_file
        )
        window = profile.summarise(trace, profiled, measured.timings, layers)
        notices = (*session.notices, *session.doubts(variant), *_trace_notices(session, trace_file))
        manifest = _manifest(session, measured, window, notices)
        manifest_file.write_text(to_json(manifest), encoding="utf-8")
    session.console.progress(f"{variant.name}: profile", 1, 1)
    return trace, manifest


def _marks(session: Session, variant: Variant) -> Iterator[str]:
    options = session.options
    if options.workload != "generate":
        yield options.workload
    if options.attention != "sdpa":
        yield options.attention
    if options.tf32 and variant.dtype == "float32":
        yield "tf32"
    if options.sampling is not None:
        yield "sampled"
    if options.batch != 1:
        yield f"batch{options.batch}"
    if session.marks_layers(variant):
        yield "layers"


def _trace_notices(session: Session, trace: Path) -> tuple[str, ...]:
    if session.device.type != "cuda" or profile.has_kernels(trace):
        return ()
    notice = "the profiler recorded no GPU kernel: CUPTI is out of reach, so the trace shows the host only"
    session.console.notice(notice)
    return (notice,)


def _manifest(session: Session, measured: Measured, window: Profile, notices: tuple[str, ...]) -> RunManifest:
    options, config = session.options, session.spec.config
    variant = measured.candidate.variant
    return RunManifest(
        run=run_name(session, variant),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command(session, variant),
        variant=variant.name,
        dtype=variant.dtype,
        device=session.description,
        host=environment.describe_host(),
        workload=Workload(
            kind=options.workload,
            batch=options.batch,
            prompt_tokens=session.prompt.shape[1],
            new_tokens=options.new_length,
            decoding="greedy" if options.sampling is None else str(options.sampling),
            prompt=options.prompt,
            text=measured.text,
        ),
        weights=replace(session.weights.origin, dtype=variant.weights),
        model=Model(
            name=session.spec.name,
            vocab_size=config.vocab_size,
            context=config.context,
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            parameters=parameter_count(config),
        ),
        versions=environment.describe_versions(),
        tf32=environment.describe_tf32(),
        seed=options.seed,
        timings=measured.timings,
        profile=window,
        notices=notices,
        attention=options.attention,
        accuracy=measured.accuracy,
    )
