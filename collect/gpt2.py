"""What is GPT-2? The whole model, any size, with a static KV cache.

Parameter names are those of transformers' GPT2Model, so that its checkpoints map name by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A cache length that is a multiple of this keeps the mask's rows aligned: SDPA would pad them anew in every layer.
CACHE_MULTIPLE = 8


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2: `width` is the embedding's, shared out over `heads`; `context` is in tokens."""

    vocab_size: int = 50257
    context: int = 1024
    layers: int = 12
    heads: int = 12
    width: int = 768

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.context, self.layers, self.heads, self.width) < 1:
            raise ValueError("every size of a GPT-2 must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")


PRESETS: Mapping[str, GPT2Config] = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(layers=24, heads=16, width=1024),
    "gpt2-large": GPT2Config(layers=36, heads=20, width=1280),
    "gpt2-xl": GPT2Config(layers=48, heads=25, width=1600),
    "tiny": GPT2Config(vocab_size=512, context=128, layers=2, heads=2, width=64),
}


class KeyValueCache(nn.Module):
    """A layer's keys and values, [batch, heads, length, head width]: preallocated, so that no address changes."""

    keys: Tensor
    values: Tensor

    def __init__(self, batch: int, length: int, config: GPT2Config, like: Tensor) -> None:
        super().__init__()
        shape = (batch, config.heads, length, config.width // config.heads)
        self.register_buffer("keys", like.new_zeros(shape), persistent=False)
        self.register_buffer("values", like.new_zeros(shape), persistent=False)

    def update(self, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' rows at `positions` and return the whole cache, unused rows included."""
        self.keys.index_copy_(2, positions, keys)
        self.values.index_copy_(2, positions, values)
        return self.keys, self.values


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)
        self.cache: KeyValueCache | None = None

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """[batch, tokens, width] to the same; `mask` is what `GPT2.mask` returns."""
        batch, tokens, width = x.shape
        qkv = self.c_attn(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.cache is not None:
            k, v = self.cache.update(positions, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(batch, tokens, width))
        return out


class MLP(nn.Module):
    """Two linear layers around GELU, in its tanh form as GPT-2 was trained with."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] to the same."""
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """One transformer block: attention and MLP, each behind a layer norm and around a residual connection."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """[batch, tokens, width] to the same."""
        x = x + self.attn(self.ln_1(x), positions, mask)
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT2(nn.Module):
    """GPT-2 with its LM head, whose weight is the token embedding's.

    Without a cache each call sees only its own tokens; after `allocate_cache` it also sees what earlier calls stored.
    """

    causal: Tensor | None

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.h = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)
        self.register_buffer("causal", None, persistent=False)

    def allocate_cache(self, batch: int, length: int) -> None:
        """Give every layer an empty KV cache for `length` tokens, on the weights' device and in their dtype.

        Raises ValueError if the context is shorter than `length`.
        """
        if length > self.config.context:
            raise ValueError(f"a cache of {length} tokens is longer than the context of {self.config.context}")
        length = -(-length // CACHE_MULTIPLE) * CACHE_MULTIPLE
        like = self.wte.weight.detach()
        for block in self.blocks():
            block.attn.cache = KeyValueCache(batch, length, self.config, like)
        # Additive, in the weights' dtype: SDPA would convert a boolean mask anew in every layer.
        self.causal = like.new_full((length, length), float("-inf")).triu(1)

    def drop_cache(self) -> None:
        """Go back to calls that see only their own tokens."""
        for block in self.blocks():
            block.attn.cache = None
        self.causal = None

    def blocks(self) -> list[Block]:
        """The transformer blocks in order."""
        return [block for block in self.h if isinstance(block, Block)]

    def mask(self, positions: Tensor) -> Tensor | None:
        """What each new token may see of the cache, [tokens, cache length], additive; None without a cache."""
        return None if self.causal is None else self.causal.index_select(0, positions)

    def hidden(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """What the last block leaves, normalised: [batch, tokens, width]. Arguments as of `forward`."""
        x: Tensor = self.wte(tokens) + self.wpe(positions)
        mask = self.mask(positions)
        for block in self.h:
            x = block(x, positions, mask)
        x = self.ln_f(x)
        return x

    def head(self, hidden: Tensor) -> Tensor:
        """Logits, [..., vocab_size], of hidden states, [..., width]."""
        return F.linear(hidden, self.wte.weight)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Logits, [batch, tokens, vocab_size] in the weights' dtype.

        `tokens` is int64 [batch, tokens]; `positions` int64 [tokens], ascending, on the same device: a tensor, not a
        number, so that a step can be captured once and replayed at another position.
        """
        return self.head(self.hidden(tokens, positions))


def greedy_step(model: GPT2, tokens: Tensor, positions: Tensor) -> Tensor:
    """The most likely next token after the last of `tokens`: int64 [batch, 1]. Arguments as of `GPT2.forward`."""
    return model.head(model.hidden(tokens, positions)[:, -1:]).argmax(-1)


def parameter_count(config: GPT2Config) -> int:
    """How many parameters a GPT-2 of this shape has, the tied head counted once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT2(config).parameters())
