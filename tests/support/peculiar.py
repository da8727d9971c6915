"""Makes logits among which the most likely one is hard to tell, and LM heads that yield exactly these logits.

Every kernel and every reference must name the token that torch.argmax names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tracekit.kernels.decode import Linear

NAN, INF = float("nan"), float("inf")


def peculiar_logits(vocabulary: int) -> dict[str, Tensor]:
    """FP16 [vocabulary] each, by what is peculiar. `vocabulary` is at least 8."""
    generator, last = torch.Generator().manual_seed(vocabulary), vocabulary - 1
    few = torch.randint(-3, 4, (vocabulary,), generator=generator).half()
    some = torch.rand(vocabulary, generator=generator) < 0.1
    return {
        "all NaN": torch.full((vocabulary,), NAN).half(),
        "all minus infinity": torch.full((vocabulary,), -INF).half(),
        "all the same": torch.full((vocabulary,), -7.5).half(),
        "only the first is NaN": changed(few, {0: NAN}),
        "only the last is NaN": changed(few, {last: NAN}),
        "NaN is more than infinity": changed(few, {1: INF, 5: NAN, last: NAN}),
        "minus NaN": changed(few, {1: INF, 5: -NAN}),
        "infinity twice": changed(few, {last: INF, 4: INF}),
        "the largest twice": changed(few, {3: 65504.0, last: 65504.0}),
        "a zero of either sign": changed(torch.full((vocabulary,), -1.0).half(), {2: -0.0, last: 0.0}),
        "all but one minus infinity": changed(torch.full((vocabulary,), -INF).half(), {last: -65504.0}),
        "many are the same": few,
        "some are NaN": few.masked_fill(some, NAN),
        "all but some are NaN": few.masked_fill(~some, NAN),
        "numbers": torch.randn(vocabulary, generator=generator).half(),
    }


def changed(logits: Tensor, at: dict[int, float]) -> Tensor:
    logits = logits.clone()
    for token, value in at.items():
        logits[token] = value
    return logits


def one_column_norm(width: int, device: str) -> tuple[Tensor, Tensor]:
    """A norm whose result is 1 in the first column and 0 in all others, whatever finite numbers come in."""
    beta = torch.zeros(width, dtype=torch.float16, device=device)
    beta[0] = 1.0
    return torch.zeros_like(beta), beta


def head_that_yields(logits: Tensor, width: int, device: str, weights: str = "fp16") -> Linear:
    """The LM head that yields these logits behind `one_column_norm`. `weights` is fp16 or int8."""
    if weights == "int8":
        numbers = torch.zeros((len(logits), width), dtype=torch.int8, device=device)
        numbers[:, 0] = 1
        return Linear(numbers, None, logits.float().to(device))
    weight = torch.zeros((len(logits), width), dtype=torch.float16, device=device)
    weight[:, 0] = logits.to(device)
    return Linear(weight)


def logits_that_round_alike(width: int, vocabulary: int, device: str) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """A norm and an LM head for any hidden state, and the logits: in FP32 token 5's is the largest, in FP16 token 2's as well."""
    gamma, beta = one_column_norm(width, device)
    beta[1] = 1.0
    logits = torch.zeros(vocabulary).half()
    logits[[2, 5]] = 2048.0  # the next number is 2050
    weight = head_that_yields(logits, width, device).weight
    weight[5, 1] = 0.5
    return (gamma, beta), weight, logits


def check_choice(token: Tensor, found: Tensor, logits: Tensor) -> None:
    """Assert that a head found these logits for each sequence, and chose torch.argmax's token on the host and the device."""
    for row in found.cpu():
        assert torch.equal(row.isnan(), logits.isnan())
        assert torch.equal(row.nan_to_num(0.0), logits.nan_to_num(0.0))
    assert token.flatten().tolist() == [int(logits.argmax())] * len(found)
    assert torch.equal(token, found.argmax(-1, keepdim=True))
