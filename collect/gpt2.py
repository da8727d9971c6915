"""What is GPT-2?

This is the whole model in any size, with a static KV cache. Parameters have the names of transformers' GPT2Model, so that its
checkpoints can be loaded name by name. Everything that a table of layers may show is a submodule or a method of its own, which
`layers.annotated` can wrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import ATTENTION_FORMS, FORMS, Attention

# A multiple of this as cache length keeps the rows of the mask aligned. Else SDPA would pad them again in every layer.
CACHE_MULTIPLE = 8


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2. `width` is the width of the embedding, divided among `heads`. `context` is in tokens."""

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


class MLP(nn.Module):
    """Two linear layers with GELU between them, in the tanh form that GPT-2 was trained with."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, tokens, width] to the same shape."""
        x = self.c_proj(self.activate(self.c_fc(x)))
        return x

    def activate(self, x: Tensor) -> Tensor:
        """GELU of each element, in its tanh form."""
        return F.gelu(x, approximate="tanh")


class Block(nn.Module):
    """One transformer block: attention and MLP, each with a layer norm before it and a residual connection around it."""

    def __init__(self, config: GPT2Config, attention: type[Attention]) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """From [batch, tokens, width] to the same shape."""
        x = self.add_attention(x, self.attn(self.ln_1(x), positions, mask))
        return self.add_mlp(x, self.mlp(self.ln_2(x)))

    def add_attention(self, x: Tensor, y: Tensor) -> Tensor:
        """The residual connection: the sum of both tensors."""
        return x + y

    add_mlp = add_attention  # two names, because they are two layers


class GPT2(nn.Module):
    """GPT-2 with its LM head, whose weight is the token embedding's.

    Without a cache, each call sees only its own tokens. After `allocate_cache` it also sees the tokens that earlier calls
    stored.
    """

    causal: Tensor | None
    padding: Tensor | None

    def __init__(self, config: GPT2Config, attention: str = "sdpa") -> None:
        """Raises ValueError if `attention` is none of ATTENTION_FORMS."""
        if attention not in FORMS:
            raise ValueError(f"no such attention as {attention!r}; use one of {', '.join(ATTENTION_FORMS)}")
        super().__init__()
        self.config = config
        self.form = FORMS[attention]
        self.cache_length = 0  # without a cache
        self.wte = nn.Embedding(config.vocab_size, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.h = nn.ModuleList(Block(config, self.form) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)
        self.register_buffer("causal", None, persistent=False)
        self.register_buffer("padding", None, persistent=False)

    def allocate_cache(self, batch: int, length: int) -> None:
        """Give every layer an empty KV cache for `length` tokens, on the weights' device and in their dtype.

        Raises ValueError if the context is shorter than `length`.
        """
        if length > self.config.context:
            raise ValueError(f"a cache of {length} tokens is longer than the context of {self.config.context}")
        self.cache_length = -(-length // CACHE_MULTIPLE) * CACHE_MULTIPLE
        for block in self.blocks():
            block.attn.allocate_cache(batch, self.cache_length)
        self.set_padding(self.padding)  # makes a new mask

    def drop_cache(self) -> None:
        """Remove the cache, so that each call sees only its own tokens again."""
        for block in self.blocks():
            block.attn.cache = None
        self.cache_length, self.causal = 0, None

    def set_padding(self, padding: Tensor | None) -> None:
        """Set how many tokens at the left of each prompt are padding: int64 [batch] on the weights' device, or None for none.

        Callers still pass column numbers as positions. Each row counts its own positions from its first real token. Outputs at
        padding mean nothing. The setting holds with and without a cache, until it is set again. Set it before a step is
        compiled or captured.
        """
        self.padding = padding
        if self.cache_length:
            every = torch.arange(self.cache_length, device=self.wte.weight.device)
            self.causal = causal_mask(every, every, padding, self.wte.weight.dtype)

    def blocks(self) -> list[Block]:
        """The transformer blocks, in order."""
        return [block for block in self.h if isinstance(block, Block)]

    def mask(self, positions: Tensor) -> Tensor | None:
        """What each new token may see, as a mask to add: [tokens, length], or [batch, 1, tokens, length] with padding.

        `length` is that of the cache; without one, it is that of `positions`. None if attention is causal without a mask.
        """
        causal = self.causal
        if causal is not None:
            return causal.index_select(-2, positions)
        if self.form.masks_itself and self.padding is None:
            return None
        return causal_mask(positions, positions, self.padding, self.wte.weight.dtype)

    def embed_positions(self, positions: Tensor) -> Tensor:
        """The position embeddings: [tokens, width], or [batch, tokens, width] if the prompts are padded."""
        padding = self.padding
        if padding is not None:
            positions = (positions - padding[:, None]).clamp_min(0)
        return F.embedding(positions, self.wpe.weight)

    def add_embeddings(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The sum of both embeddings, [batch, tokens, width]."""
        return tokens + positions

    def run_blocks(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Run all blocks: from [batch, tokens, width] to the same shape."""
        for block in self.h:
            x = block(x, positions, mask)
        return x

    def hidden(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The output of the last block after the final norm: [batch, tokens, width]. The arguments are those of `forward`."""
        x: Tensor = self.add_embeddings(self.wte(tokens), self.embed_positions(positions))
        x = self.ln_f(self.run_blocks(x, positions, self.mask(positions)))
        return x

    def head(self, hidden: Tensor) -> Tensor:
        """The logits, [..., vocab_size], for hidden states, [..., width]."""
        return F.linear(hidden, self.wte.weight)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The logits, [batch, tokens, vocab_size], in the dtype of the weights.

        `tokens` is int64 [batch, tokens]. `positions` is int64 [tokens], ascending, on the same device. It is a tensor and not
        a number, so that a step can be captured once and replayed at another position.
        """
        return self.head(self.hidden(tokens, positions))

    def choose(self, logits: Tensor, temperature: float = 0.0, top_k: int | None = None) -> Tensor:
        """Choose a token for each row of logits, from [..., vocab_size] to int64 [...]. torch's generator draws it.

        The logits are divided by `temperature`; 0 means greedy. Only the `top_k` most likely tokens can be drawn, or all if it
        is None.
        """
        if temperature:
            logits = logits.float() / temperature
            if top_k is not None:
                least = logits.topk(min(top_k, self.config.vocab_size)).values[..., -1:]
                logits = logits.masked_fill(logits < least, float("-inf"))
            # The negative logarithm of an exponential sample is Gumbel noise. The maximum of x + noise falls on each index as
            # often as softmax(x) says. Unlike multinomial, such a draw does not need the host.
            logits = logits - torch.empty_like(logits).exponential_().log()
        return logits.argmax(-1)


def causal_mask(rows: Tensor, columns: Tensor, padding: Tensor | None, dtype: torch.dtype) -> Tensor:
    """0 where the token of a row may see the token of a column, else -inf: [rows, columns].

    `rows` and `columns` are the positions of the tokens. With `padding`, as in `GPT2.set_padding`, it is [batch, 1, rows,
    columns].
    """
    hidden = columns > rows[:, None]
    if padding is not None:
        # Padding still sees itself. If it saw nothing, its softmax would be NaN, and no mask would keep that from later layers.
        hidden = hidden | ((columns < padding[:, None, None, None]) & (columns != rows[:, None]))
    # The mask is added and has the weights' dtype, because SDPA would convert a boolean mask again in every layer.
    return torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, float("-inf"))


def parameter_count(config: GPT2Config) -> int:
    """The number of parameters of a GPT-2 of this shape. The tied head counts once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT2(config).parameters())
