"""How does one variant become a trace and a manifest? Build, start up, warm up, time, profile, write."""

from __future__ import annotations

import gc
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from tracekit.errors import TracekitError
from tracekit.files import atomic_path, unwritable
from tracekit.manifest import TRACE_SUFFIX, Device, Model, RunManifest, Timings, Workload, manifest_path, to_json

from . import bench, environment, profile
from .failures import explained
from .gpt2 import parameter_count
from .options import CollectOptions, Console
from .variants import Variant
from .weights import LoadedWeights, ModelSpec, build_model, load_weights, resolve_model, tokenize
from .workload import Generation, Step, generate, random_prompt

_REPEATS = {"cuda": 10, "cpu": 3}
_WARMUP = {"cuda": 3, "cpu": 1}


@dataclass(frozen=True)
class Session:
    """What every variant of a collection shares. `prompt` is int64 [batch, prompt tokens] on the device."""

    options: CollectOptions
    console: Console
    spec: ModelSpec
    weights: LoadedWeights
    device: torch.device
    description: Device
    prompt: Tensor
    repeats: int
    warmup: int
    notices: tuple[str, ...]

    @classmethod
    def prepare(cls, options: CollectOptions, console: Console) -> Session:
        """Find the device, model, prompt and weights, cheapest first, so that what is wrong shows before the work.

        Raises TracekitError as `run` does.
        """
        device = environment.resolve_device(options.device)
        spec = resolve_model(options.model)
        _check_output(options.output)
        if options.prompt is None:
            _check_context(spec, options, options.prompt_length)
            prompt = random_prompt(spec.config, options.batch, options.prompt_length, options.seed)
        else:
            prompt = tokenize(spec, options.prompt).expand(options.batch, -1)
            _check_context(spec, options, prompt.shape[1])
        weights = load_weights(spec, options.weights, options.seed)
        repeats = options.repeats or _REPEATS[device.type]
        notices = tuple(_notices(options, device, weights, repeats))
        for notice in notices:
            console.notice(notice)
        return cls(
            options=options,
            console=console,
            spec=spec,
            weights=weights,
            device=device,
            description=environment.describe_device(device),
            prompt=prompt.to(device),
            repeats=repeats,
            warmup=_WARMUP[device.type] if options.warmup is None else options.warmup,
            notices=notices,
        )

    def collect(self, variant: Variant) -> Path:
        """Run one variant and write its files, both or neither. Returns the trace's path; raises as `run` does."""
        with _cleared(self.device), explained(variant, self.device), _on(self.device), _tf32(variant.tf32):
            trace, manifest = self._run(variant)
        self.console.result(trace, manifest)
        return trace

    def _run(self, variant: Variant) -> tuple[Path, RunManifest]:
        name = "-".join([environment.slug(self.spec.name), variant.name, environment.device_slug(self.description)])
        trace = self.options.output / f"{name}{TRACE_SUFFIX}"
        step = self._build(variant)
        timings = self._measure(variant, step)
        # Both are replaced at the end: what is interrupted before leaves an earlier run's files as they were.
        with atomic_path(trace) as trace_file, atomic_path(manifest_path(trace)) as manifest_file:
            self.console.progress(f"{variant.name}: profile", 0, 1)
            profiled = self._profile(step, trace_file)
            manifest = self._manifest(name, variant, timings, trace, profiled, self._trace_notices(trace_file))
            manifest_file.write_text(to_json(manifest), encoding="utf-8")
        self.console.progress(f"{variant.name}: profile", 1, 1)
        return trace, manifest

    def _build(self, variant: Variant) -> Step:
        model = build_model(self.spec.config, self.weights.state)
        model.to(self.device, getattr(torch, variant.dtype))
        model.allocate_cache(self.options.batch, _cache_length(self.options, self.prompt.shape[1]))
        return variant.build(model)

    def _measure(self, variant: Variant, step: Step) -> Timings:
        def run(new_tokens: int) -> Generation:
            return generate(step, self.prompt, new_tokens)

        self.console.progress(f"{variant.name}: start-up", 0, 1)
        startup_ns = bench.measure_startup(run)
        self.console.progress(f"{variant.name}: start-up", 1, 1)
        self._repeat(f"{variant.name}: warm-up", run, self.warmup)
        bench.reset_peak_memory(self.device)
        runs = self._repeat(f"{variant.name}: timed runs", run, self.repeats)
        return bench.summarise(runs, startup_ns, self.warmup, bench.peak_memory(self.device))

    def _repeat(self, label: str, run: Callable[[int], Generation], times: int) -> list[Generation]:
        self.console.progress(label, 0, times)
        generations = []
        for done in range(1, times + 1):
            generations.append(run(self.options.new_tokens))
            self.console.progress(label, done, times)
        return generations

    def _profile(self, step: Step, trace: Path) -> Generation:
        return profile.record_window(
            lambda new_tokens: generate(step, self.prompt, new_tokens, profile.annotation),
            self.options.profile_tokens,
            self.device,
            trace,
        )

    def _trace_notices(self, trace: Path) -> tuple[str, ...]:
        if self.device.type != "cuda" or profile.has_kernels(trace):
            return ()
        notice = "the profiler recorded no GPU kernel: CUPTI is out of reach, so the trace shows the host only"
        self.console.notice(notice)
        return (notice,)

    def _command(self, variant: Variant) -> str:
        """The command that repeats the run, whatever the defaults and the hub then say."""
        origin = self.weights.origin
        return self.options.command(
            variant=variant.name,
            device=str(self.device),
            weights=origin.location if origin.source == "path" and origin.location else origin.source,
            repeats=self.repeats,
            warmup=self.warmup,
        )

    def _manifest(
        self,
        name: str,
        variant: Variant,
        timings: Timings,
        trace: Path,
        profiled: Generation,
        trace_notices: tuple[str, ...],
    ) -> RunManifest:
        config = self.spec.config
        return RunManifest(
            run=name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=self._command(variant),
            variant=variant.name,
            dtype=variant.dtype,
            device=self.description,
            host=environment.describe_host(),
            workload=Workload(
                kind="generate",
                batch=self.options.batch,
                prompt_tokens=self.prompt.shape[1],
                new_tokens=self.options.new_tokens,
                prompt=self.options.prompt,
            ),
            weights=self.weights.origin,
            model=Model(
                name=self.spec.name,
                vocab_size=config.vocab_size,
                context=config.context,
                layers=config.layers,
                heads=config.heads,
                width=config.width,
                parameters=parameter_count(config),
            ),
            versions=environment.describe_versions(),
            tf32=environment.describe_tf32(),
            seed=self.options.seed,
            timings=timings,
            profile=profile.summarise(trace, profiled, timings.decode_token.median_ns),
            notices=self.notices + trace_notices,
        )


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Make the device the current one, for what does not look at its tensors: compiled kernels, the profiler."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _notices(options: CollectOptions, device: torch.device, weights: LoadedWeights, repeats: int) -> Iterator[str]:
    origin = weights.origin
    if origin.source == "random":
        reason = f": {origin.reason}" if origin.reason else ""
        yield f"weights are random (seed {origin.seed}): fine for timing, not for text{reason}"
    if device.type == "cpu":
        yield "running on the CPU: no number of this run says anything about a GPU"
    if device.type == "cpu" and options.repeats is None:
        yield f"{repeats} timed runs, as a CPU is slow: --repeats asks for more"


def _cache_length(options: CollectOptions, prompt_tokens: int) -> int:
    """The longest sequence of all runs: that of a timed one, or of the profiled window, which begins anew."""
    return prompt_tokens + max(options.new_tokens, options.profile_tokens + 1)


def _check_context(spec: ModelSpec, options: CollectOptions, prompt_tokens: int) -> None:
    length = _cache_length(options, prompt_tokens)
    if length > spec.config.context:
        raise TracekitError(
            f"{prompt_tokens} prompt and {length - prompt_tokens} new tokens exceed {spec.config.context} of context",
            where=spec.name,
            mend="use a smaller --prompt-tokens, --new-tokens or --profile-tokens, or a shorter --prompt",
        )


def _check_output(directory: Path) -> None:
    """Find out whether a file can be written there now, not after minutes of measuring."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise unwritable(directory, error) from error


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Set both TF32 switches for the block and put them back."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _cleared(device: torch.device) -> Iterator[None]:
    """Drop what the block leaves behind, so that it counts neither as the next variant's memory nor as its recompiles."""
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
