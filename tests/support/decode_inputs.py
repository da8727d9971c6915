"""Makes random tensors for the fused kernels, scaled as in a model, so that no value is zero and none grows."""

from __future__ import annotations

import torch
from torch import Tensor

from tracekit.kernels.decode import Linear
from tracekit.kernels.reference import quantize


class Inputs:
    """Makes tensors of one width and batch on a device, in FP16."""

    def __init__(self, width: int, heads: int, batch: int, length: int, device: str, seed: int, vocabulary: int = 1013) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.width, self.heads, self.batch, self.length, self.device = width, heads, batch, length, device
        self.vocabulary = vocabulary

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=self.generator) * scale + mean).to(self.device, torch.float16)

    def hidden(self, inputs: int = 1) -> Tensor:
        return self.normal(self.batch, inputs * self.width, mean=0.3)

    def norm(self) -> tuple[Tensor, Tensor]:
        return self.normal(self.width, scale=0.2, mean=1.0), self.normal(self.width, scale=0.2)

    def linear(self, weights: str, outputs: int, inputs: int = 1, scale: float = 1.0) -> Linear:
        """A linear layer. `outputs` and `inputs` are multiples of the width; `weights` is fp16 or int8."""
        fan = inputs * self.width
        weight, bias = (
            self.normal(outputs * self.width, fan, scale=scale * fan**-0.5),
            self.normal(outputs * self.width, scale=0.2),
        )
        return _stored(weights, weight, bias)

    def head(self, weights: str, vocabulary: int) -> Linear:
        return _stored(weights, self.normal(vocabulary, self.width, scale=self.width**-0.5), None)

    def cache(self, position: int) -> tuple[Tensor, Tensor]:
        """The keys and values of the tokens up to and including `position`. Beyond it they are NaN."""
        shape = (self.batch, self.heads, self.length, self.width // self.heads)
        keys, values = self.normal(*shape), self.normal(*shape)
        keys[:, :, position + 1 :] = values[:, :, position + 1 :] = float("nan")
        return keys, values

    def tokens(self) -> Tensor:
        return torch.randint(self.vocabulary, (self.batch, 1), generator=self.generator).to(self.device)

    def position(self, at: int) -> Tensor:
        return torch.tensor([at], device=self.device)


def _stored(weights: str, weight: Tensor, bias: Tensor | None) -> Linear:
    if weights == "fp16":
        return Linear(weight, bias)
    numbers, scale = quantize(weight)
    return Linear(numbers, bias, scale)
