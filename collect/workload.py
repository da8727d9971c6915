"""What is the model asked to do?

It generates new tokens after a prompt, with or without a KV cache, or it only processes the prompt.
"""

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
    """The result of a step: the next token, int64 [batch, 1], its position, int64 [1], and the logits it was chosen by.

    The logits are [batch, 1, vocab_size]. All three are valid until the next call. A caller that passes token and position back
    unchanged may save the step a copy of each.
    """

    token: Tensor
    position: Tensor
    logits: Tensor


Step = Callable[[Tensor, Tensor], Next]
"""A function from tokens, int64 [batch, tokens], and their positions, int64 [tokens], to the next token."""

Annotate = Callable[[str], AbstractContextManager[object]]
"""A function from a name to a context that marks what runs inside it."""

Mark = Callable[[], None]
"""A function that is called after each new token is queued. It can record a CUDA event there."""


@dataclass(frozen=True)
class Generation:
    """New tokens, int64 [batch, new tokens], and the time until the first and the last of them.

    The times are wall-clock times of the host, in ns.
    """

    tokens: Tensor
    first_token_ns: int
    total_ns: int

    @property
    def decode_ns(self) -> int:
        """The time of all decode steps, in ns. There is one decode step fewer than there are new tokens."""
        return self.total_ns - self.first_token_ns


def random_prompt(config: GPT2Config, batch: int, tokens: int, seed: int) -> Tensor:
    """Random token ids, int64 [batch, tokens] on the CPU. A seed gives the same ids on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, tokens), generator=generator)


def synchronizer(device: torch.device) -> Callable[[], None]:
    """A function that returns when everything that was queued on the device has run."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def left_padded(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts, each int64 [tokens], as one batch, int64 [batch, longest], and the padding at the left of each row.

    The padding, int64 [batch], counts tokens. `GPT2.set_padding` takes it.
    """
    longest = max(len(prompt) for prompt in prompts)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=prompts[0].device)
    return torch.stack([F.pad(prompt, (longest - len(prompt), 0)) for prompt in prompts]), padding


@torch.inference_mode()
def generate(
    step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None
) -> Generation:
    """Prefill the prompt, int64 [batch, prompt tokens] on the model's device, and decode token by token with the cache.

    The host waits for the device twice: when the first token is ready, and at the end. In between it queues ahead, because
    nothing here looks at a token. `annotate` wraps the prefill and each decode step. Under the profiler it is
    `record_function`; in timed runs it does nothing, because even an idle annotation costs microseconds. `mark` is called once
    each new token is queued.
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
    """Run the whole sequence through the model for each new token, without a cache: the prompt and all new tokens so far.

    The model must have no cache. Arguments, waits and names are those of `generate`. But each "decode" step here is a prefill
    that is one token longer than the last.
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
    """Run the prompt through the model once, for one new token. Everything else is as in `generate`.

    Raises ValueError if more than one new token is asked for.
    """
    if new_tokens != 1:
        raise ValueError(f"a prefill yields 1 new token, not {new_tokens}")
    return generate(step, prompt, 1, annotate, mark)


class Runner(Protocol):
    """The function that runs a workload. It has the arguments and the result of `generate`."""

    def __call__(
        self, step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = ..., mark: Mark | None = ...
    ) -> Generation:
        """Run the workload once, each step inside `annotate`. `mark` is called after each new token is queued."""
        ...


@dataclass(frozen=True)
class Task:
    """A workload: the function that runs it, and what it needs. Call it like `generate`.

    If `cache`, the model must have a KV cache; else it must have none. `decodes` says whether there are steps after the first
    one, so that there can be a second new token.
    """

    name: str
    summary: str
    run: Runner
    cache: bool
    decodes: bool = True

    def __call__(
        self, step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None
    ) -> Generation:
        """Run the workload once."""
        return self.run(step, prompt, new_tokens, annotate, mark)


WORKLOADS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("generate", "a prompt, then new tokens one by one, with a KV cache", generate, cache=True),
        Task("recompute", "the same without a cache: the whole sequence again for each new token", recompute, cache=False),
        Task("prefill", "the prompt once, for the first new token alone, without a cache", prefill, cache=False, decodes=False),
    )
}
