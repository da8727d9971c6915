"""How do our own kernels, together with cuBLAS, run a whole prompt?

This module holds the launch of each kernel, and a forward pass that runs all of them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .configuration import Configuration
from .decode import LayerTensors, Linear, ModelTensors, decode_kernels
from .launch import Kernels

FLASH_HEAD_WIDTH = 64  # the head width that flash.cu supports

_QUERIES = 64  # queries of a block of flash.cu
_GROUP_THREADS = 128  # threads of one of its groups of warps
_THREADS = 128  # threads of a block of prefill.cu
_GELU_ROWS = 2  # rows that a thread of its GELU kernel computes

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""Causal attention of prompts from their projections.

The arguments are the projections, [rows, 3 * width]; keys and values, [batch, heads, length, head width] each; and the output,
[rows, width]. Keys and values are a cache, which the function fills from its beginning.
"""


@dataclass(frozen=True)
class Plan:
    """How flash.cu divides its work.

    `groups` is the number of groups of four warps in a block, `tile_keys` the number of keys in a tile, and `blocks` the number
    of blocks that fit a multiprocessor.
    """

    groups: int
    tile_keys: int
    blocks: int

    @property
    def macros(self) -> dict[str, int]:
        """The macros that flash.cu is compiled with."""
        return {
            "HEAD_WIDTH": FLASH_HEAD_WIDTH,
            "QUERIES": _QUERIES,
            "GROUP_THREADS": _GROUP_THREADS,
            "KEY_GROUPS": self.groups,
            "TILE_KEYS": self.tile_keys,
            "BLOCKS": self.blocks,
        }


SHARED = Plan(groups=3, tile_keys=32, blocks=1)
FEW = Plan(groups=1, tile_keys=64, blocks=2)
MANY = Plan(groups=1, tile_keys=64, blocks=3)
PLANS = (SHARED, FEW, MANY)


def macros(width: int) -> dict[str, int]:
    """The macros that prefill.cu is compiled with."""
    return {"WIDTH": width, "THREADS": _THREADS, "GELU_ROWS": _GELU_ROWS}


# GPT-2's four widths, and three smaller ones. One of them is a multiple of 256, the numbers of a row that a warp loads at once.
CONFIGURATIONS = tuple(Configuration("flash.cu", plan.macros) for plan in PLANS) + tuple(
    Configuration("prefill.cu", macros(width)) for width in (768, 1024, 1280, 1600, 256, 64, 96)
)


def choose_plan(blocks: int, tokens: int, multiprocessors: int) -> Plan:
    """The fastest plan for this number of blocks of queries, by measurements on an H100 (docs/prefill.md).

    If there are hardly more blocks than multiprocessors, the longest block sets the time, so its keys are shared among groups.
    If there are a few more, the longest blocks, which start first, should have few neighbours. If there are many, throughput
    counts.
    """
    if tokens > 512 and 2 * blocks <= 3 * multiprocessors:
        return SHARED
    return FEW if blocks <= 4 * multiprocessors else MANY


class FlashAttention:
    """The kernel of flash.cu on one device: an `Attention` for heads 64 wide. It does not check tensors."""

    def __init__(self, device: torch.device) -> None:
        """Raises the errors that `Kernels` raises."""
        self._kernels = {plan: Kernels("flash.cu", device, plan.macros) for plan in PLANS}

    def __call__(self, qkv: Tensor, keys: Tensor, values: Tensor, out: Tensor, plan: Plan | None = None) -> None:
        """Works as `Attention` describes. Without a `plan`, `choose_plan` chooses it."""
        batch, heads, length, _ = keys.shape
        tokens = len(qkv) // batch
        grid = (batch * heads, -(-tokens // _QUERIES))
        chosen = plan or choose_plan(grid[0] * grid[1], tokens, self._kernels[FEW].multiprocessors)
        arguments = (qkv, keys, values, out, tokens, heads, length)
        self._kernels[chosen].launch("gpt2_flash_attention", grid, _GROUP_THREADS * chosen.groups, arguments)


@cache
def flash_attention(device: int) -> FlashAttention:
    """`FlashAttention` for the CUDA device of this index. It is compiled and loaded once in each process."""
    return FlashAttention(torch.device("cuda", device))


def torch_attention(qkv: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
    """An `Attention` that calls PyTorch's own operator, which chooses among its backends."""
    batch, heads, _, head_width = keys.shape
    query, key, value = qkv.view(batch, -1, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
    store(qkv, keys, values)
    gathered = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    out.view(batch, -1, heads, head_width).copy_(gathered.transpose(1, 2))


def store(qkv: Tensor, keys: Tensor, values: Tensor) -> None:
    """Copy keys and values from projections to the beginning of the cache. The arguments are those of `Attention`."""
    batch, heads, _, head_width = keys.shape
    _, key, value = qkv.view(batch, -1, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
    keys[:, :, : key.shape[2]].copy_(key)
    values[:, :, : key.shape[2]].copy_(value)


def choose_attention(device: torch.device, head_width: int) -> Attention:
    """The best attention for a prefill: ours if it supports the head width, else PyTorch's.

    docs/prefill.md gives the reasons.
    """
    return flash_attention(device.index or 0) if head_width == FLASH_HEAD_WIDTH else torch_attention


class PrefillKernels:
    """The kernels of prefill.cu for one width on one device. They do not check tensors; `prefill_ops` does.

    Tensors have the shapes that `prefill_reference` describes.
    """

    def __init__(self, device: torch.device, width: int) -> None:
        """Raises the errors that `Kernels` raises."""
        self._kernels = Kernels("prefill.cu", device, macros(width))

    def embed_norm(
        self,
        tokens: Tensor,
        positions: Tensor,
        embeddings: tuple[Tensor, Tensor],
        norm: tuple[Tensor, Tensor],
        hidden: Tensor,
        normal: Tensor,
    ) -> None:
        """Write the sum of both embeddings to `hidden`, and its layer norm to `normal`."""
        rows = tokens.numel()
        arguments = (tokens, positions, *embeddings, *norm, hidden, normal, tokens.shape[1], rows, len(embeddings[0]))
        self._launch("gpt2_embed_norm", rows * 32, arguments)

    def gelu(self, x: Tensor, bias: Tensor) -> None:
        """Add the bias and apply GELU, in place."""
        rows, columns = x.shape
        self._launch("gpt2_bias_gelu", -(-rows // _GELU_ROWS) * (columns // 8), (x, bias, rows))

    def residual_norm(self, product: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], hidden: Tensor, normal: Tensor) -> None:
        """Add product and bias to `hidden`, in place, and write its layer norm to `normal`."""
        rows = len(hidden)
        self._launch("gpt2_bias_residual_norm", rows * 32, (product, bias, *norm, hidden, normal, rows))

    def _launch(self, name: str, threads: int, arguments: Sequence[Tensor | int]) -> None:
        self._kernels.launch(name, (-(-threads // _THREADS), 1), _THREADS, arguments)


@cache
def prefill_kernels(device: int, width: int) -> PrefillKernels:
    """`PrefillKernels` for the CUDA device of this index. They are compiled and loaded once in each process."""
    return PrefillKernels(torch.device("cuda", device), width)


class Prefill:
    """The forward pass of a prompt over fixed weights and a fixed cache. It can be captured into a CUDA graph.

    It fills the cache from its beginning. cuBLAS does the matrix products, our kernels do the rest. From the last layer's
    attention on, only the last token of each prompt is computed, with the kernels of a decode step. The other tokens are not
    needed any more: their keys and values are in the cache.
    """

    def __init__(self, model: ModelTensors, tokens: int, attention: Attention | None = None) -> None:
        """Take prompts of `tokens` tokens each. Weights are FP16. Without an `attention`, `choose_attention` chooses it.

        Raises the errors of `ModelTensors.checked_shape`, and ValueError if the cache is too short or a weight is not FP16.
        """
        shape = model.checked_shape()
        batch, length = shape.batch, model.layers[0].keys.shape[2]
        if not 0 < tokens <= length:
            raise ValueError(f"a prompt must have 1 to {length} tokens, as many as the cache holds, not {tokens}")
        if any(linear.scale is not None for layer in model.layers for linear in layer.linears):
            raise ValueError("a prefill reads weights in FP16")
        self._model, head = model, model.head.weight
        self.shape = (batch, tokens)
        width, rows, device = shape.width, batch * tokens, head.device
        self._kernels = prefill_kernels(device.index or 0, width)
        self._decode = decode_kernels(device.index or 0, shape)
        self._attention = attention or choose_attention(device, shape.head_width)
        self._hidden, self._normal, self._product, self._gathered = (head.new_empty((rows, width)) for _ in range(4))
        self._qkv, self._inner = head.new_empty((rows, 3 * width)), head.new_empty((rows, 4 * width))
        self._last, self._query, self._last_gathered = (head.new_empty((batch, width)) for _ in range(3))
        self._last_inner = head.new_empty((batch, 4 * width))
        self._best = self._decode.best(device)
        self._token = torch.empty((batch, 1), dtype=torch.int64, device=device)
        self._logits = head.new_empty((batch, len(head)))

    @torch.no_grad()
    def __call__(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The next token, int64 [batch, 1], and its logits, [batch, vocab_size].

        `tokens` is int64 [batch, tokens] and `positions` int64 [tokens]. The positions must be 0, 1 and so on; others trap on
        the device. Both results are buffers that are valid until the next call.
        """
        run, layers = self._kernels, self._model.layers
        run.embed_norm(tokens, positions, self._model.embeddings, layers[0].norm_1, self._hidden, self._normal)
        for layer, following in pairwise(layers):
            self._project(layer)
            self._attention(self._qkv, layer.keys, layer.values, self._gathered)
            torch.mm(self._gathered, layer.projection.weight.t(), out=self._product)
            run.residual_norm(self._product, _bias(layer.projection), layer.norm_2, self._hidden, self._normal)
            torch.mm(self._normal, layer.fc1.weight.t(), out=self._inner)
            run.gelu(self._inner, _bias(layer.fc1))
            torch.mm(self._inner, layer.fc2.weight.t(), out=self._product)
            run.residual_norm(self._product, _bias(layer.fc2), following.norm_1, self._hidden, self._normal)
        self._project(layers[-1])
        store(self._qkv, layers[-1].keys, layers[-1].values)
        return self._finish(layers[-1], positions)

    def _project(self, layer: LayerTensors) -> None:
        """Compute queries, keys and values. cuBLAS adds their bias in the same call, so this costs no extra pass."""
        torch.addmm(_bias(layer.qkv), self._normal, layer.qkv.weight.t(), out=self._qkv)

    def _finish(self, layer: LayerTensors, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Run the rest of the last layer and the head for the last token of each prompt."""
        run, last = self._decode, self._last
        last.copy_(self._last_rows(self._hidden))
        self._query.copy_(self._last_rows(self._qkv)[:, : last.shape[1]])
        run.attention(self._query, positions[-1:], (layer.keys, layer.values), self._last_gathered)
        run.projection(self._last_gathered, layer.projection, last, last, chained=True)
        run.fc1(last, layer.norm_2, layer.fc1, self._last_inner, chained=True)
        run.fc2(self._last_inner, layer.fc2, last, last, chained=True)
        run.head(last, self._model.norm, self._model.head, self._best, self._token, self._logits, chained=True)
        return self._token, self._logits

    def _last_rows(self, rows: Tensor) -> Tensor:
        """The rows of the last token of each prompt: [batch, columns]."""
        return rows.view(*self.shape, -1)[:, -1]


def _bias(linear: Linear) -> Tensor:
    assert linear.bias is not None
    return linear.bias
