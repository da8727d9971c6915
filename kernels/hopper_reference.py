"""What must the one-kernel decode step compute? The same in plain PyTorch, layer by layer; on a CPU this is what runs."""

from __future__ import annotations

from torch import Tensor

from . import reference
from .packing import PackedModel, unpack_attention, unpack_mlp


def decode_step(tokens: Tensor, position: Tensor, model: PackedModel) -> Tensor:
    """The logits, [1, vocab_size], behind a token, int64 [1, 1], at a position, int64 [1], of which both become the next ones.

    The caches get the token's key and value.
    """
    width = len(model.norm[0])
    hidden = reference.embed(tokens, position, *model.embeddings)
    for attention, mlp, cache in zip(model.attention, model.mlp, model.caches, strict=True):
        norm, qkv, projection = unpack_attention(attention, width)
        query = reference.norm_qkv(hidden, position, *norm, *qkv, *cache)
        hidden = reference.linear_residual(reference.attention(query, position, *cache), *projection, hidden)
        norm, fc1, fc2 = unpack_mlp(mlp, width)
        hidden = reference.linear_residual(reference.norm_fc1_gelu(hidden, *norm, *fc1), *fc2, hidden)
    token, logits = reference.norm_lm_head(hidden, *model.norm, model.head)
    tokens.copy_(token)
    position.add_(1)
    return logits
