"""What must each fused kernel compute? The same in plain PyTorch, in FP32 inside; on a CPU this is what runs.

Shapes: hidden states are [batch, width], one token a sequence; the KV cache is [batch, heads, length, head width];
`position`, int64 [1], is where the token stands. Results have the dtype of the hidden states or the query. A weight is
[outputs, inputs], FP16 or, with a `scale` of [outputs], INT8 as `quantize` makes it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight in INT8, and the FP32 scale of each output: symmetric, an output at a time, to the nearest.

    scale = max |row| / 127 (1 for a row of zeros) and number = round(row / scale), from -127 to 127: a number times its
    scale is at most half a scale off.
    """
    wide = weight.float()
    scale = wide.abs().amax(dim=1) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.round(wide / scale[:, None]).clamp(-127, 127).to(torch.int8), scale


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> Tensor:
    """A linear layer, unrounded: [batch, inputs] to [batch, outputs]."""
    wide = _wide(x)
    product = F.linear(wide(x), wide(weight))
    if scale is not None:
        product = product * wide(scale)
    return product if bias is None else product + wide(bias)


def norm_linear(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None
) -> Tensor:
    """Layer norm and a linear layer, unrounded: [batch, width] to [batch, outputs]."""
    wide = _wide(hidden)
    return linear(F.layer_norm(wide(hidden), gamma.shape, wide(gamma), wide(beta)), weight, bias, scale)


def embed(tokens: Tensor, position: Tensor, token_embedding: Tensor, position_embedding: Tensor) -> Tensor:
    """The sum of both embeddings of tokens, int64 [batch, 1]: [batch, width]."""
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
    """The query, [batch, width]; the token's key and value go into the cache. `weight` is [3 * width, width]."""
    batch, heads, _, head_width = keys.shape
    query, key, value = norm_linear(hidden, gamma, beta, weight, bias, scale).to(hidden.dtype).chunk(3, dim=-1)
    keys.index_copy_(2, position, key.view(batch, heads, 1, head_width))
    values.index_copy_(2, position, value.view(batch, heads, 1, head_width))
    return query.clone()


def attention(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each head's query, [batch, width], gathers from the tokens up to `position`: the same shape."""
    batch, heads, length, head_width = keys.shape
    wide = _wide(query)
    seen = torch.arange(length, device=query.device) <= position
    # Rows that nothing wrote yet may hold anything, and 0 * NaN is NaN: they are replaced, not only given no weight.
    k, v = (torch.where(seen[:, None], wide(cached), 0.0) for cached in (keys, values))
    scores = (k @ wide(query).view(batch, heads, head_width, 1)).squeeze(-1) * head_width**-0.5
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    gathered: Tensor = (shares[:, :, None] @ v).reshape(batch, -1).to(query.dtype)
    return gathered


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, scale: Tensor | None = None) -> Tensor:
    """A linear layer, [batch, inputs] and [width, inputs], whose result is added to `residual`: [batch, width]."""
    return residual + linear(x, weight, bias, scale).to(x.dtype)


def norm_fc1_gelu(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None = None
) -> Tensor:
    """Layer norm, a linear layer of weight [4 * width, width] and GELU in its tanh form: [batch, 4 * width]."""
    return F.gelu(norm_linear(hidden, gamma, beta, weight, bias, scale), approximate="tanh").to(hidden.dtype)


def norm_lm_head(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The most likely token, int64 [batch, 1], and all logits, [batch, vocab_size]; it is chosen before they are rounded."""
    logits = norm_linear(hidden, gamma, beta, weight, None, scale)
    return logits.argmax(-1, keepdim=True), logits.to(hidden.dtype)


def _wide(like: Tensor) -> Callable[[Tensor], Tensor]:
    """A conversion to FP32, or of FP64 to itself."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return lambda tensor: tensor.to(dtype)
