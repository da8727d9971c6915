"""What is the model asked to do? Generate new tokens after a prompt, greedily, with a KV cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from .gpt2 import GPT2Config

PREFILL = "prefill"
DECODE = "decode"

Step = Callable[[Tensor, Tensor], Tensor]
"""From tokens, int64 [batch, tokens], and their positions, int64 [tokens], to the next token, int64 [batch, 1]."""

Annotate = Callable[[str], AbstractContextManager[object]]
"""From a name to a context that marks what runs inside it."""


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


@torch.inference_mode()
def generate(step: Step, prompt: Tensor, new_tokens: int, annotate: Annotate = nullcontext) -> Generation:
    """Prefill the prompt, int64 [batch, prompt tokens] on the model's device, then decode, token by token.

    The host waits for the device twice: when the first token is there, and at the end. In between it queues ahead, as
    nothing here looks at a token. `annotate` wraps the prefill and each decode step: `record_function` when profiled,
    nothing when timed, since even an idle annotation costs microseconds.
    """
    batch, prompt_tokens = prompt.shape
    synchronize = synchronizer(prompt.device)
    positions = torch.arange(prompt_tokens, device=prompt.device)
    position = positions[-1:].clone()
    output = prompt.new_empty((batch, new_tokens))
    synchronize()
    start = time.perf_counter_ns()
    with annotate(PREFILL):
        token = step(prompt, positions)
        output[:, :1] = token
    synchronize()
    first = time.perf_counter_ns()
    for index in range(1, new_tokens):
        with annotate(DECODE):
            position += 1
            token = step(token, position)
            output[:, index : index + 1] = token
    synchronize()
    end = time.perf_counter_ns()
    return Generation(output, first - start, end - start)
