"""How does a token read the tokens before it?

This module has causal self-attention in two forms, and the KV cache that both can use.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyValueCache(nn.Module):
    """A layer's keys and values, [batch, heads, length, head width]. They are preallocated, so that no address changes."""

    keys: Tensor
    values: Tensor

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys", like.new_zeros(shape), persistent=False)
        self.register_buffer("values", like.new_zeros(shape), persistent=False)

    def update(self, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' rows at `positions` and return the whole cache, unused rows included."""
        self.keys.index_copy_(2, positions, keys)
        self.values.index_copy_(2, positions, values)
        return self.keys, self.values


class Attention(nn.Module):
    """Causal multi-head self-attention with PyTorch's own fused operator. Another form of attention overrides `attend`."""

    masks_itself = True  # it needs no mask to be causal, if tokens see only each other and no cache

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.scale: float = self.head_width**-0.5
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.cache: KeyValueCache | None = None

    def allocate_cache(self, batch: int, length: int) -> None:
        """Create an empty KV cache for `length` tokens, on the weights' device and in their dtype."""
        self.cache = KeyValueCache((batch, self.heads, length, self.head_width), self.c_attn.weight.detach())

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """From [batch, tokens, width] to the same shape. `mask` is what `GPT2.mask` returns."""
        q, k, v = self.split_heads(self.c_attn(x))
        cache = self.cache
        if cache is not None:
            k, v = cache.update(positions, k, v)
        x = self.c_proj(self.merge_heads(self.attend(q, k, v, mask)))
        return x

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """From [batch, tokens, 3 * width] to queries, keys and values, each [batch, heads, tokens, head width]."""
        batch, tokens, _ = qkv.shape
        return qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The attention of each query, [batch, heads, tokens, head width], over the values. The result has the same shape."""
        return self.sdpa(q, k, v, mask)

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The fused operator. It is a method of its own, so that only this form of attention has a layer `sdpa`."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)

    def merge_heads(self, y: Tensor) -> Tensor:
        """From [batch, heads, tokens, head width] to [batch, tokens, width]."""
        batch, _, tokens, _ = y.shape
        return y.transpose(1, 2).reshape(batch, tokens, -1)


class ExplicitAttention(Attention):
    """Attention as the paper writes it: scores, mask, softmax and values are separate operators."""

    masks_itself = False

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Works as `Attention.attend` does. `mask` is never None, because `GPT2.mask` always gives this form a mask."""
        assert mask is not None
        return self.apply_values(self.softmax(self.apply_mask(self.scores(q, k), mask)), v)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """How well each query fits each key: [batch, heads, tokens, length]. `length` is the number of keys."""
        return torch.matmul(q, k.transpose(-2, -1)) * self.scale

    def apply_mask(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The scores, with -inf where a query may not see a key."""
        return scores + mask

    def softmax(self, scores: Tensor) -> Tensor:
        """Each query's weights, which add up to one, in the dtype of the scores. The kernel itself adds up in FP32."""
        return scores.softmax(-1)

    def apply_values(self, weights: Tensor, v: Tensor) -> Tensor:
        """The weighted mean of the values: [batch, heads, tokens, head width]."""
        return torch.matmul(weights, v)


FORMS: Mapping[str, type[Attention]] = {"sdpa": Attention, "explicit": ExplicitAttention}
ATTENTION_FORMS: tuple[str, ...] = tuple(FORMS)
