"""What do the variants of a collection share?

They share the device, the model, its weights and the prompt. All of these are checked before any work begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tracekit.errors import TracekitError
from tracekit.files import unwritable
from tracekit.manifest import Device

from . import environment
from .candidate import Assignment
from .options import CollectOptions, Console
from .variants import Variant
from .weights import LoadedWeights, ModelSpec, load_weights, resolve_model, tokenize
from .workload import WORKLOADS, random_prompt

_REPEATS = {"cuda": 20, "cpu": 3}
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

    @property
    def assignment(self) -> Assignment:
        """What each variant has to do."""
        return Assignment(
            task=WORKLOADS[self.options.workload],
            prompt=self.prompt,
            length=_longest(self.options, self.prompt.shape[1]),
            sampling=self.options.sampling,
            attention=self.options.attention,
            seed=self.options.seed,
        )

    def marks_layers(self, variant: Variant) -> bool:
        """Whether the variant's trace marks the model's layers."""
        return self.options.layers and variant.annotatable

    def doubts(self, variant: Variant) -> tuple[str, ...]:
        """What a reader of the variant's figures must know in addition to `notices`."""
        doubt = variant.doubt(self.description)
        if self.options.layers and not variant.annotatable:
            return ("layers are annotated in eager variants alone, not in this one", *([doubt] if doubt else []))
        return (doubt,) if doubt else ()


def prepare(options: CollectOptions, console: Console) -> Session:
    """Find the device, model, prompt and weights. The cheapest checks come first, so that errors show before the work begins.

    Raises the errors of `run`.
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
    return Session(
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


def _notices(options: CollectOptions, device: torch.device, weights: LoadedWeights, repeats: int) -> Iterator[str]:
    origin = weights.origin
    if origin.source == "random":
        reason = f": {origin.reason}" if origin.reason else ""
        yield f"weights are random (seed {origin.seed}): fine for timing, not for text{reason}"
    if device.type == "cpu":
        yield "running on the CPU: no number of this run says anything about a GPU"
    if device.type == "cpu" and options.repeats is None:
        yield f"{repeats} timed runs, as a CPU is slow: --repeats asks for more"


def _longest(options: CollectOptions, prompt_tokens: int) -> int:
    """The length of the longest sequence of all runs, in tokens.

    That is a timed run, or the profiled window, which starts again from the prompt.
    """
    return prompt_tokens + max(options.new_length, options.profiled_length)


def _check_context(spec: ModelSpec, options: CollectOptions, prompt_tokens: int) -> None:
    length = _longest(options, prompt_tokens)
    if length > spec.config.context:
        raise TracekitError(
            f"{prompt_tokens} prompt and {length - prompt_tokens} new tokens exceed {spec.config.context} of context",
            where=spec.name,
            mend="use a smaller --prompt-tokens, --new-tokens or --profile-tokens, or a shorter --prompt",
        )


def _check_output(directory: Path) -> None:
    """Check that a file can be written there, now and not only after minutes of measuring. Raises TracekitError if not."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise unwritable(directory, error) from error
