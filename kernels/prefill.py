"""How is a whole prompt run by our own kernels, around cuBLAS? Each kernel's launch, and all of them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .decode import LayerTensors, check_model, decode_kernels
from .launch import Kernels

FLASH_HEAD_WIDTH = 64  # of the heads that flash.cu knows

_THREADS = 128  # of a block of prefill.cu
_ROWS = 4  # of a thread there, where it takes the same columns of several rows

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""Causal attention of queries, keys and values, [batch, heads, tokens, head width] each, any strides but the last one's:
what it gathers goes to the last tensor, [batch * tokens, heads * head width]."""


class FlashAttention:
    """The kernel of flash.cu on one device: an `Attention` for heads 64 wide. Nothing of the tensors is checked here.

    Rows must begin at multiples of 16 bytes.
    """

    _ROW_WARPS, _ROW_TILES, _KEY_GROUPS, _TILE_KEYS, _BLOCKS = 4, 1, 1, 64, 3

    def __init__(self, device: torch.device) -> None:
        """Raises as `Kernels` does."""
        macros = {
            "ROW_WARPS": self._ROW_WARPS,
            "ROW_TILES": self._ROW_TILES,
            "KEY_GROUPS": self._KEY_GROUPS,
            "TILE_KEYS": self._TILE_KEYS,
            "BLOCKS": self._BLOCKS,
        }
        self._kernels = Kernels("flash.cu", device, macros)

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
        """As of `Attention`; keys and values have the same strides."""
        batch, heads, tokens, _ = query.shape
        queries = 16 * self._ROW_WARPS * self._ROW_TILES
        grid = (batch * heads, -(-tokens // queries))
        arguments: list[Tensor | int] = [query, keys, values, out, tokens, heads]
        arguments += [*query.stride()[:3], *keys.stride()[:3]]
        self._kernels.launch("gpt2_flash_attention", grid, 32 * self._ROW_WARPS * self._KEY_GROUPS, arguments)


@cache
def flash_attention(device: int) -> FlashAttention:
    """`FlashAttention` for a CUDA device by its index, compiled and loaded once a process."""
    return FlashAttention(torch.device("cuda", device))


def torch_attention(query: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
    """An `Attention` by PyTorch's own operator, which chooses among its backends."""
    gathered = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    batch, heads, tokens, head_width = query.shape
    out.view(batch, tokens, heads, head_width).copy_(gathered.transpose(1, 2))


class PrefillKernels:
    """The kernels of prefill.cu for one width on one device. Nothing of the tensors is checked here: `prefill_ops` does.

    The shapes are those of `prefill_reference`. With `chained`, as of `Kernels`.
    """

    def __init__(self, device: torch.device, width: int, head_width: int) -> None:
        """Raises as `Kernels` does."""
        self.width = width
        self._kernels = Kernels("prefill.cu", device, {"WIDTH": width, "HEAD_WIDTH": head_width})

    def embed_norm(
        self,
        tokens: Tensor,
        positions: Tensor,
        embeddings: tuple[Tensor, Tensor],
        norm: tuple[Tensor, Tensor],
        hidden: Tensor,
        normal: Tensor,
    ) -> None:
        """The sum of both embeddings into `hidden`, and its layer norm into `normal`."""
        rows = tokens.numel()
        arguments = (tokens, positions, *embeddings, *norm, hidden, normal, tokens.shape[1], rows, len(embeddings[0]))
        self._by_rows("gpt2_embed_norm", rows, arguments)

    def qkv_cache(self, qkv: Tensor, bias: Tensor, cache: tuple[Tensor, Tensor], tokens: int) -> None:
        """Add the bias to queries, in place, and to keys and values, which move to the cache."""
        arguments = (qkv, bias, *cache, tokens, cache[0].shape[2], len(qkv))
        self._by_columns("gpt2_qkv_cache", qkv, arguments)

    def gelu(self, x: Tensor, bias: Tensor) -> None:
        """Add the bias and apply GELU, in place."""
        self._by_columns("gpt2_bias_gelu", x, (x, bias, len(x)))

    def residual_norm(self, product: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], hidden: Tensor, normal: Tensor) -> None:
        """Add product and bias to `hidden`, in place, and put its layer norm into `normal`."""
        self._by_rows("gpt2_bias_residual_norm", len(hidden), (product, bias, *norm, hidden, normal, len(hidden)))

    def _by_rows(self, name: str, rows: int, arguments: Sequence[Tensor | int]) -> None:
        """A warp takes a row."""
        self._kernels.launch(name, (-(-rows * 32 // _THREADS), 1), _THREADS, arguments)

    def _by_columns(self, name: str, x: Tensor, arguments: Sequence[Tensor | int]) -> None:
        """A thread takes eight columns of `_ROWS` rows."""
        rows, columns = x.shape
        threads = -(-rows // _ROWS) * (columns // 8)
        self._kernels.launch(name, (-(-threads // _THREADS), 1), _THREADS, arguments)


@cache
def prefill_kernels(device: int, width: int, head_width: int) -> PrefillKernels:
    """`PrefillKernels` for a CUDA device by its index, compiled and loaded once a process."""
    return PrefillKernels(torch.device("cuda", device), width, head_width)


def choose_attention(device: torch.device, head_width: int) -> Attention:
    """The attention that a prefill on this device is best served with."""
    if head_width != FLASH_HEAD_WIDTH:
        return torch_attention
    return flash_attention(device.index or 0)


class Prefill:
    """A prompt's forward pass over fixed weights and a fixed cache: fit for capture into a CUDA graph.

    It fills the cache from its beginning on. All but the last layer's end runs for every token, products by cuBLAS, the
    rest by prefill.cu and flash.cu; then only each prompt's last token goes on, by the kernels of a decode step.
    """

    def __init__(
        self,
        embeddings: tuple[Tensor, Tensor],
        layers: Sequence[LayerTensors],
        norm: tuple[Tensor, Tensor],
        head: Tensor,
        tokens: int,
        attention: Attention | None = None,
    ) -> None:
        """For prompts of so many tokens; the tensors as of `Decoder`, `attention` by default `choose_attention`'s.

        Raises ValueError where the tensors do not fit, or the cache is too short.
        """
        check_model(embeddings, layers, norm, head)
        batch, heads, length, head_width = layers[0].keys.shape
        if not 0 < tokens <= length:
            raise ValueError(f"a prompt must have 1 to {length} tokens, as many as the cache holds, not {tokens}")
        self._embeddings, self._layers, self._norm, self._head = embeddings, tuple(layers), norm, head
        self.shape = (batch, tokens)
        self._batch, self._tokens, self._heads = batch, tokens, heads
        width, rows, device = heads * head_width, batch * tokens, head.device
        self._kernels = prefill_kernels(device.index or 0, width, head_width)
        self._decode = decode_kernels(device.index or 0, width, head_width, batch)
        self._attention = attention or choose_attention(device, head_width)
        self._hidden, self._normal, self._product, self._gathered = (head.new_empty((rows, width)) for _ in range(4))
        self._qkv, self._inner = head.new_empty((rows, 3 * width)), head.new_empty((rows, 4 * width))
        self._last, self._query, self._last_gathered = (head.new_empty((batch, width)) for _ in range(3))
        self._last_inner = head.new_empty((batch, 4 * width))
        self._best = self._decode.best(device)
        self._token = torch.empty((batch, 1), dtype=torch.int64, device=device)
        self._logits = head.new_empty((batch, len(head)))

    @torch.no_grad()
    def __call__(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The next token, int64 [batch, 1], and its logits, [batch, vocab_size], of int64 [batch, tokens] at int64 [tokens].

        The positions must be 0, 1 and so on: others trap on the device. Both results are buffers, good until the next call.
        """
        run, layers = self._kernels, self._layers
        run.embed_norm(tokens, positions, self._embeddings, layers[0].norm_1, self._hidden, self._normal)
        for layer, following in pairwise(layers):
            self._project(layer)
            self._attention(self._queries(), *self._stored(layer), self._gathered)
            torch.mm(self._gathered, layer.projection[0].t(), out=self._product)
            run.residual_norm(self._product, layer.projection[1], layer.norm_2, self._hidden, self._normal)
            torch.mm(self._normal, layer.fc1[0].t(), out=self._inner)
            run.gelu(self._inner, layer.fc1[1])
            torch.mm(self._inner, layer.fc2[0].t(), out=self._product)
            run.residual_norm(self._product, layer.fc2[1], following.norm_1, self._hidden, self._normal)
        self._project(layers[-1])
        return self._finish(layers[-1], positions)

    def _project(self, layer: LayerTensors) -> None:
        """Queries into their buffer, keys and values into the layer's cache."""
        torch.mm(self._normal, layer.qkv[0].t(), out=self._qkv)
        self._kernels.qkv_cache(self._qkv, layer.qkv[1], (layer.keys, layer.values), self._tokens)

    def _queries(self) -> Tensor:
        """Where the queries lie among the projections, as [batch, heads, tokens, head width]."""
        return self._qkv.view(self._batch, self._tokens, 3, self._heads, -1)[:, :, 0].transpose(1, 2)

    def _stored(self, layer: LayerTensors) -> tuple[Tensor, Tensor]:
        """The prompt's part of a layer's cache."""
        return layer.keys[:, :, : self._tokens], layer.values[:, :, : self._tokens]

    def _finish(self, layer: LayerTensors, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The end of the last layer and the head, for the last token of each prompt alone."""
        run, last = self._decode, self._last
        last.copy_(self._hidden.view(self._batch, self._tokens, -1)[:, -1])
        self._query.copy_(self._qkv.view(self._batch, self._tokens, -1)[:, -1, : last.shape[1]])
        run.attention(self._query, positions[-1:], (layer.keys, layer.values), self._last_gathered)
        run.projection(self._last_gathered, layer.projection, last, last, chained=True)
        run.fc1(last, layer.norm_2, layer.fc1, self._last_inner, chained=True)
        run.fc2(self._last_inner, layer.fc2, last, last, chained=True)
        run.head(last, self._norm, self._head, self._best, self._token, self._logits, chained=True)
        return self._token, self._logits
