"""Fresh random tensors for the fused kernels, scaled like a model's: nothing is zero, nothing grows."""

from __future__ import annotations

import torch
from torch import Tensor


class Inputs:
    """Tensors of one width and batch on a device, FP16."""

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

    def linear(self, outputs: int, inputs: int = 1) -> tuple[Tensor, Tensor]:
        fan = inputs * self.width
        return self.normal(outputs * self.width, fan, scale=fan**-0.5), self.normal(outputs * self.width, scale=0.2)

    def cache(self, position: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens up to and with `position`; NaN beyond."""
        shape = (self.batch, self.heads, self.length, self.width // self.heads)
        keys, values = self.normal(*shape), self.normal(*shape)
        keys[:, :, position + 1 :] = values[:, :, position + 1 :] = float("nan")
        return keys, values

    def tokens(self) -> Tensor:
        return torch.randint(self.vocabulary, (self.batch, 1), generator=self.generator).to(self.device)

    def position(self, at: int) -> Tensor:
        return torch.tensor([at], device=self.device)
