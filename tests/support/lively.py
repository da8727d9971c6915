"""Makes weights of a model in which nothing is neutral: norms have factors and layers have biases, as in a trained model."""

from __future__ import annotations

import torch

from tracekit.collect.gpt2 import GPT2Config
from tracekit.collect.weights import State, random_state


def lively_state(config: GPT2Config, seed: int = 0) -> State:
    """The weights of `random_state`, but with factors around 1 in the norms and with biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    state = random_state(config, seed)
    for name, tensor in state.items():
        if name.endswith(".bias"):
            tensor.normal_(0.0, 0.05, generator=generator)
        elif "ln_" in name:
            tensor.normal_(1.0, 0.2, generator=generator)
    return state
