"""What must each kernel of a prefill compute?

These are the same computations in plain PyTorch, with FP32 inside. On a CPU, the operators run them.

Shapes: `rows` counts the tokens of all prompts, batch * tokens. Hidden states are [rows, width]. The KV cache is [batch, heads,
length, head width]. A function that changes an argument in place says so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def embed_layer_norm(
    tokens: Tensor, positions: Tensor, token_embedding: Tensor, position_embedding: Tensor, gamma: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum of both embeddings of `tokens`, int64 [batch, tokens], and its layer norm: both [rows, width].

    `positions`, int64 [tokens], must be 0, 1 and so on. Raises ValueError if they are not.
    """
    if not positions.equal(torch.arange(len(positions), device=positions.device)):
        raise ValueError("embed_layer_norm: a prompt's positions must be 0, 1 and so on")
    hidden = (token_embedding[tokens] + position_embedding[positions]).flatten(0, 1)
    return hidden, _layer_norm(hidden, gamma, beta)


def bias_residual_layer_norm(product: Tensor, bias: Tensor, hidden: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Add `product` and `bias` to `hidden` in place, and return the layer norm of the sum.

    All tensors are [rows, width], except `bias`, `gamma` and `beta`, which are [width].
    """
    dtype = _wide(hidden)
    hidden.copy_(hidden.to(dtype) + product.to(dtype) + bias.to(dtype))
    return _layer_norm(hidden, gamma, beta)


def bias_gelu(x: Tensor, bias: Tensor) -> None:
    """Replace `x`, [rows, columns], by GELU(x + bias) in place. GELU has its tanh form."""
    dtype = _wide(x)
    x.copy_(F.gelu(x.to(dtype) + bias.to(dtype), approximate="tanh"))


def flash_attention(qkv: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention: each query reads the tokens of its prompt up to its own. From [rows, 3 * width] to [rows, width].

    Keys and values are written to the beginning of the cache, in place.
    """
    batch, heads, _, head_width = keys.shape
    query, key, value = qkv.view(batch, -1, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
    tokens, dtype = query.shape[2], _wide(qkv)
    keys[:, :, :tokens], values[:, :, :tokens] = key, value
    scores = query.to(dtype) @ key.to(dtype).transpose(-2, -1) * head_width**-0.5
    later = torch.ones((tokens, tokens), dtype=torch.bool, device=qkv.device).triu(1)
    gathered: Tensor = scores.masked_fill(later, float("-inf")).softmax(-1) @ value.to(dtype)
    return gathered.transpose(1, 2).reshape(batch * tokens, heads * head_width).to(qkv.dtype)


def _layer_norm(hidden: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    dtype = _wide(hidden)
    return F.layer_norm(hidden.to(dtype), gamma.shape, gamma.to(dtype), beta.to(dtype)).to(hidden.dtype)


def _wide(like: Tensor) -> torch.dtype:
    """FP32, or FP64 for tensors that are FP64 already."""
    return torch.promote_types(like.dtype, torch.float32)
