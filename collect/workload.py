"""What is the model asked to do? New tokens after a prompt, with a KV cache or without, or the prompt alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .gpt2 import GPT2Config

PREFILL = "prefill"
DECODE = "decode"


class Next(NamedTuple):
    """What a step yields: the next token, int64 [batch, 1], its position, int64 [1], and the logits, [batch, 1, vocab_size],
    that it was chosen by.

    All are good until the next call. Whoever passes token and position back as they are may spare the step a copy of each.
    """

    token: Tensor
    position: Tensor
    logits: Tensor


Step = Callable[[Tensor, Tensor], Next]
"""From tokens, int64 [batch, tokens], and their positions, int64 [tokens], to what comes next."""

Annotate = Callable[[str], AbstractContextManager[object]]
"""From a name to a context that marks what runs inside it."""

Mark = Callable[[], None]
"""Called after each new token is queued, which a CUDA event can then tell the time of."""


@dataclass(frozen=True)
class Generation:
    """New tokens, int64 [batch, new tokens], and the host's wall clock until the first and until the last of them."""

    tokens: Tensor
    first_token_ns: int
    total_ns: int

    @property
    def decode_ns(self) -> int:
        """The time of all decode steps: one fewer than there are new tokens."""
        return self.total_ns - self.first_token_ns


def random_prompt(config: GPT2Config, batch: int, tokens: int, seed: int) -> Tensor:
    """Token ids, int64 [batch, tokens] on the CPU: the same for a seed whatever the device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, tokens), generator=generator)


def synchronizer(device: torch.device) -> Callable[[], None]:
    """A function that returns once everything queued on the device has run."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def left_padded(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts, each int64 [tokens], as one batch: int64 [batch, longest], and how many at each row's left are padding.

    The latter, int64 [batch], is what `GPT2.set_padding` takes.
    """
    longest = max(len(prompt) for prompt in prompts)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=prompts[0].device)
    return torch.stack([F.pad(prompt, (longest - len(prompt), 0)) for prompt in prompts]), padding


@torch.inference_mode()
def generate(
    step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None
) -> Generation:
    """Prefill the prompt, int64 [batch, prompt tokens] on the model's device, then decode with its cache, token by token.

    The host waits for the device twice: when the first token is there, and at the end. In between it queues ahead, as
    nothing here looks at a token. `annotate` wraps the prefill and each decode step: `record_function` when profiled,
    nothing when timed, since even an idle annotation costs microseconds. `mark` is called once each new token is queued.
    """
    batch, prompt_tokens = prompt.shape
    synchronize = synchronizer(prompt.device)
    positions = torch.arange(prompt_tokens, device=prompt.device)
    output = prompt.new_empty((batch, new_tokens))
    synchronize()
    start = time.perf_counter_ns()
    with annotate(PREFILL):
        token, position, _ = step(prompt, positions)
        output[:, :1] = token
    if mark is not None:
        mark()
    synchronize()
    first = time.perf_counter_ns()
    for index in range(1, new_tokens):
        with annotate(DECODE):
            token, position, _ = step(token, position)
            output[:, index : index + 1] = token
        if mark is not None:
            mark()
    synchronize()
    end = time.perf_counter_ns()
    return Generation(output, first - start, end - start)


@torch.inference_mode()
def recompute(
    step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None
) -> Generation:
    """Run the whole sequence, prompt and new tokens so far, through the model for each new token: no cache.

    The model must have none. Arguments, waits and names are those of `generate`, though each "decode" step here is a
    prefill that is one token longer than the last.
    """
    length = prompt.shape[1]
    synchronize = synchronizer(prompt.device)
    positions = torch.arange(length + new_tokens, device=prompt.device)
    sequence = F.pad(prompt, (0, new_tokens))
    synchronize()
    start = time.perf_counter_ns()
    with annotate(PREFILL):
        sequence[:, length : length + 1] = step(sequence[:, :length], positions[:length]).token
    if mark is not None:
        mark()
    synchronize()
    first = time.perf_counter_ns()
    for end in range(length + 1, length + new_tokens):
        with annotate(DECODE):
            sequence[:, end : end + 1] = step(sequence[:, :end], positions[:end]).token
        if mark is not None:
            mark()
    synchronize()
    done = time.perf_counter_ns()
    return Generation(sequence[:, length:], first - start, done - start)


def prefill(
    step: Step, prompt: Tensor, new_tokens: int = 1, annotate: Annotate = nullcontext, mark: Mark | None = None
) -> Generation:
    """Run the prompt through the model once, for one new token; the rest is as of `generate`.

    Raises ValueError if more are asked for.
    """
    if new_tokens != 1:
        raise ValueError(f"a prefill yields 1 new token, not {new_tokens}")
    return generate(step, prompt, 1, annotate, mark)


class Runner(Protocol):
    """How a workload is run: the arguments and the result of `generate`."""

    def __call__(
        self, step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = ..., mark: Mark | None = ...
    ) -> Generation:
        """Run it once, its steps inside `annotate`, `mark` called after each."""
        ...


@dataclass(frozen=True)
class Task:
    """A workload: how it is run, what it needs. `cache`: whether the model must have a KV cache, or must have none.

    `decodes`: whether there are steps after the first, and so a second new token at all. Call it like `generate`.
    """

    name: str
    summary: str
    run: Runner
    cache: bool
    decodes: bool = True

    def __call__(
        self, step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None
    ) -> Generation:
        """Run it once."""
        return self.run(step, prompt, new_tokens, annotate, mark)


WORKLOADS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("generate", "a prompt, then new tokens one by one, with a KV cache", generate, cache=True),
        Task("recompute", "the same without a cache: the whole sequence again for each new token", recompute, cache=False),
        Task("prefill", "the prompt once, for the first new token alone, without a cache", prefill, cache=False, decodes=False),
    )
}
