"""What must each fused kernel compute?

These are the same computations in plain PyTorch, with FP32 inside. On a CPU, the operators run them.

Shapes: hidden states are [batch, width], with one token for each sequence. The KV cache is [batch, heads, length, head width].
`position`, int64 [1], is the position of the token. Results have the dtype of the hidden states or of the query. A weight is
[outputs, inputs]: FP16, or INT8 with a `scale`, [outputs], as `quantize` makes it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight in INT8, and the FP32 scale of each output.

    The quantisation is symmetric, has one scale for each output, and rounds to the nearest number. scale = max |row| / 127 (1
    for a row of zeros) and number = round(row / scale), from -127 to 127. So a number times its scale is at most half a scale
    off.
    """
    wide = weight.float()
    scale = wide.abs().amax(dim=1) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.round(wide / scale[:, None]).clamp(-127, 127).to(torch.int8), scale


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> Tensor:
    """A linear layer, from [batch, inputs] to [batch, outputs]. The result is not rounded."""
    wide = _wide(x)
    product = F.linear(wide(x), wide(weight))
    if scale is not None:
        product = product * wide(scale)
    return product if bias is None else product + wide(bias)


def norm_linear(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None
) -> Tensor:
    """Layer norm and a linear layer, from [batch, width] to [batch, outputs]. The result is not rounded."""
    wide = _wide(hidden)
    return linear(F.layer_norm(wide(hidden), gamma.shape, wide(gamma), wide(beta)), weight, bias, scale)


def embed(tokens: Tensor, position: Tensor, token_embedding: Tensor, position_embedding: Tensor) -> Tensor:
    """The sum of both embeddings of `tokens`, int64 [batch, 1]: [batch, width]."""
    return token_embedding[tokens[:, 0]] + position_embedding[position]


def norm_qkv(
    hidden: Tensor,
    position: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    """Layer norm and QKV. Returns the query, [batch, width]; the token's key and value go into the cache in place.

    `weight` is [3 * width, width].
    """
    batch, heads, _, head_width = keys.shape
    query, key, value = norm_linear(hidden, gamma, beta, weight, bias, scale).to(hidden.dtype).chunk(3, dim=-1)
    keys.index_copy_(2, position, key.view(batch, heads, 1, head_width))
    values.index_copy_(2, position, value.view(batch, heads, 1, head_width))
    return query.clone()


def attention(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of each head's query, [batch, width], over the tokens up to `position`: [batch, width]."""
    batch, heads, length, head_width = keys.shape
    wide = _wide(query)
    seen = torch.arange(length, device=query.device) <= position
    # Rows that were never written may hold NaN, and 0 * NaN is NaN. So they are replaced; a weight of 0 is not enough.
    k, v = (torch.where(seen[:, None], wide(cached), 0.0) for cached in (keys, values))
    scores = (k @ wide(query).view(batch, heads, head_width, 1)).squeeze(-1) * head_width**-0.5
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    gathered: Tensor = (shares[:, :, None] @ v).reshape(batch, -1).to(query.dtype)
    return gathered


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, scale: Tensor | None = None) -> Tensor:
    """A linear layer whose result is added to `residual`: [batch, width].

    `x` is [batch, inputs], and `weight` is [width, inputs].
    """
    return residual + linear(x, weight, bias, scale).to(x.dtype)


def norm_fc1_gelu(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None = None
) -> Tensor:
    """Layer norm, a linear layer and GELU in its tanh form: [batch, 4 * width].

    `weight` is [4 * width, width].
    """
    return F.gelu(norm_linear(hidden, gamma, beta, weight, bias, scale), approximate="tanh").to(hidden.dtype)


def norm_lm_head(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The most likely token, int64 [batch, 1], and all logits, [batch, vocab_size].

    The token is torch.argmax's of these logits: a NaN is more than any number, and of equals the first counts.
    """
    logits = norm_linear(hidden, gamma, beta, weight, None, scale).to(hidden.dtype)
    return logits.argmax(-1, keepdim=True), logits


def _wide(like: Tensor) -> Callable[[Tensor], Tensor]:
    """A conversion to FP32. FP64 stays FP64."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return lambda tensor: tensor.to(dtype)
