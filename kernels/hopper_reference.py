"""What must the one-kernel decode step compute? The same in plain PyTorch, layer by layer; on a CPU this is what runs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import reference
from .packing import attention_half, mlp_half


def decode_step(
    tokens: Tensor,
    position: Tensor,
    token_embedding: Tensor,
    position_embedding: Tensor,
    attention_weights: Tensor,
    mlp_weights: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    head: Tensor,
) -> Tensor:
    """The logits, [1, vocab_size], behind a token, int64 [1, 1], at a position, int64 [1], of which both become the next ones.

    Layers' weights are packed as of `packing`, [layers, blocks, halves]; keys and values, a tensor a layer, are
    [1, heads, length, 64], and get the token's.
    """
    width = len(gamma)
    hidden = reference.embed(tokens, position, token_embedding, position_embedding)
    for attention, mlp, own_keys, own_values in zip(attention_weights, mlp_weights, keys, values, strict=True):
        norm, qkv, projection = attention_half(attention, width)
        query = reference.norm_qkv(hidden, position, *norm, *qkv, own_keys, own_values)
        gathered = reference.attention(query, position, own_keys, own_values)
        hidden = reference.linear_residual(gathered, *projection, hidden)
        norm, fc1, fc2 = mlp_half(mlp, width)
        hidden = reference.linear_residual(reference.norm_fc1_gelu(hidden, *norm, *fc1), *fc2, hidden)
    token, logits = reference.norm_lm_head(hidden, gamma, beta, head)
    tokens.copy_(token)
    position.add_(1)
    return logits
