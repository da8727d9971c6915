"""What must the one-kernel decode step compute? The same in plain PyTorch, layer by layer; on a CPU this is what runs."""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference
from .packing import PackedModel, unpack_attention, unpack_mlp


def decode_step(tokens: Tensor, position: Tensor, model: PackedModel) -> Tensor:
    """The logits, [1, vocab_size], behind a token, int64 [1, 1], at a position, int64 [1], of which both become the next ones.

    The caches get the token's key and value.
    """
    gamma, _ = model.norm
    width, plain = len(gamma), (torch.ones_like(gamma), torch.zeros_like(gamma))  # the norms' factors are in the weights
    hidden = reference.embed(tokens, position, *model.embeddings)
    for attention, mlp, cache in zip(model.attention, model.mlp, model.caches, strict=True):
        qkv, projection = unpack_attention(attention, width)
        query = reference.norm_qkv(hidden, position, *plain, *qkv, *cache)
        hidden = reference.linear_residual(reference.attention(query, position, *cache), *projection, hidden)
        fc1, fc2 = unpack_mlp(mlp, width)
        hidden = reference.linear_residual(reference.norm_fc1_gelu(hidden, *plain, *fc1), *fc2, hidden)
    token, logits = reference.norm_lm_head(hidden, *model.norm, model.head)
    tokens.copy_(token)
    position.add_(1)
    return logits
