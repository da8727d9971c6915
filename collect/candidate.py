"""How does a variant become something that can be run?

It gets a model of its own over shared weights, and a step.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from .gpt2 import GPT2, GPT2Config
from .layers import annotated
from .options import Sampling
from .variants import Demand, Variant
from .weights import State, build_model
from .workload import Annotate, Generation, Mark, Step, Task


@dataclass(frozen=True)
class Assignment:
    """What every variant of a collection has to do.

    `prompt` is int64 [batch, prompt tokens] on the device. `length` is the length of the longest sequence of any run, in
    tokens. `seed` is the seed of sampling.
    """

    task: Task
    prompt: Tensor
    length: int
    sampling: Sampling | None
    attention: str
    seed: int


@dataclass(frozen=True)
class Candidate:
    """A variant that is ready to run its assignment."""

    variant: Variant
    assignment: Assignment
    model: GPT2
    step: Step

    def run(self, new_tokens: int, annotate: Annotate = nullcontext, mark: Mark | None = None) -> Generation:
        """Run the workload once. Sampled tokens are the same each time. The arguments are those of `workload.generate`."""
        torch.manual_seed(self.assignment.seed)
        return self.assignment.task(self.step, self.assignment.prompt, new_tokens, annotate, mark)

    def layers(self, annotate: Annotate) -> AbstractContextManager[None]:
        """A context in which every layer of the model runs inside `annotate`. It works for annotatable variants only."""
        return annotated(self.model, annotate)


class SharedWeights:
    """A model's weights on the device, stored once for each dtype that is asked for.

    Variants of one dtype share them.
    """

    def __init__(self, config: GPT2Config, state: State, device: torch.device) -> None:
        self._config, self._state, self._device = config, state, device
        self._cast: dict[str, State] = {}

    def build(self, variant: Variant, assignment: Assignment) -> Candidate:
        """A candidate whose modules and cache are its own."""
        model = build_model(self._config, self.load(variant.dtype), assignment.attention)
        if assignment.task.cache:
            model.allocate_cache(len(assignment.prompt), assignment.length)
        step = variant.build(model, Demand(assignment.sampling, growing=assignment.task.decodes and not assignment.task.cache))
        return Candidate(variant, assignment, model, step)

    def load(self, dtype: str) -> State:
        """The weights in a dtype, which is given by torch's name for it."""
        if dtype not in self._cast:
            target = getattr(torch, dtype)
            self._cast[dtype] = {name: tensor.to(self._device, target) for name, tensor in self._state.items()}
        return self._cast[dtype]

    def nbytes(self, dtype: str) -> int:
        """The size of the weights in a dtype, in bytes."""
        return sum(tensor.nbytes for tensor in self.load(dtype).values())
