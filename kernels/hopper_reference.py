"""What must the one-kernel decode step compute?

This is the same step in plain PyTorch, layer by layer. On a CPU, the operator runs it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference
from .packing import PackedModel, unpack_attention, unpack_mlp


def decode_step(tokens: Tensor, position: Tensor, model: PackedModel) -> Tensor:
    """The logits, [1, vocab_size], that follow a token, int64 [1, 1], at a position, int64 [1].

    Token and position become the next ones in place; the token is torch.argmax's of the logits. The key and value
    of the token before go into the caches.
    """
    gamma, _ = model.norm
    width, plain = len(gamma), (torch.ones_like(gamma), torch.zeros_like(gamma))  # the weights contain the norms' factors
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
