"""How is a whole prompt run by our own kernels, around cuBLAS? Each kernel's launch, and all of them in order."""

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

FLASH_HEAD_WIDTH = 64  # of the heads that flash.cu knows

_THREADS = 128  # of a block of prefill.cu
_ROWS = 2  # of a thread there behind FC1

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""Causal attention of prompts from their projections, [rows, 3 * width]. Keys and values, [batch, heads, length, head
width] each, are a cache whose beginning it fills; what is gathered goes to the last tensor, [rows, width]."""


@dataclass(frozen=True)
class Plan:
    """How flash.cu shares out its work: groups of four warps a block, keys of a tile, and blocks that fit a multiprocessor."""

    groups: int
    tile_keys: int
    blocks: int

    @property
    def macros(self) -> dict[str, int]:
        """What flash.cu is compiled with."""
        return {"KEY_GROUPS": self.groups, "TILE_KEYS": self.tile_keys, "BLOCKS": self.blocks}


SHARED = Plan(groups=3, tile_keys=32, blocks=1)
FEW = Plan(groups=1, tile_keys=64, blocks=2)
MANY = Plan(groups=1, tile_keys=64, blocks=3)
PLANS = (SHARED, FEW, MANY)

# GPT-2's four widths, and those of the other heads: a multiple of 256, of 8, and neither.
CONFIGURATIONS = tuple(Configuration("flash.cu", plan.macros) for plan in PLANS) + tuple(
    Configuration("prefill.cu", {"WIDTH": width}) for width in (768, 1024, 1280, 1600, 256, 64, 96)
)


def choose_plan(blocks: int, tokens: int, multiprocessors: int) -> Plan:
    """The fastest plan for so many blocks of queries, by measurements on an H100 (docs/prefill.md).

    With hardly more blocks than multiprocessors, the longest one sets the time: its keys had better be shared. With a few
    more, the longest ones, which start first, had better have few neighbours. With many, it is throughput that counts.
    """
    if tokens > 512 and 2 * blocks <= 3 * multiprocessors:
        return SHARED
    return FEW if blocks <= 4 * multiprocessors else MANY


class FlashAttention:
    """The kernel of flash.cu on one device: an `Attention` for heads 64 wide. Nothing of the tensors is checked here."""

    QUERIES = 64  # of a block

    def __init__(self, device: torch.device) -> None:
        """Raises as `Kernels` does."""
        self._kernels = {plan: Kernels("flash.cu", device, plan.macros) for plan in PLANS}

    def __call__(self, qkv: Tensor, keys: Tensor, values: Tensor, out: Tensor, plan: Plan | None = None) -> None:
        """As of `Attention`; the plan by default `choose_plan`'s."""
        batch, heads, length, _ = keys.shape
        tokens = len(qkv) // batch
        grid = (batch * heads, -(-tokens // self.QUERIES))
        chosen = plan or choose_plan(grid[0] * grid[1], tokens, self._kernels[FEW].multiprocessors)
        arguments = (qkv, keys, values, out, tokens, heads, length)
        self._kernels[chosen].launch("gpt2_flash_attention", grid, 2 * self.QUERIES * chosen.groups, arguments)


@cache
def flash_attention(device: int) -> FlashAttention:
    """`FlashAttention` for a CUDA device by its index, compiled and loaded once a process."""
    return FlashAttention(torch.device("cuda", device))


def torch_attention(qkv: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
    """An `Attention` by PyTorch's own operator, which chooses among its backends."""
    batch, heads, _, head_width = keys.shape
    query, key, value = qkv.view(batch, -1, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
    store(qkv, keys, values)
    gathered = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    out.view(batch, -1, heads, head_width).copy_(gathered.transpose(1, 2))


def store(qkv: Tensor, keys: Tensor, values: Tensor) -> None:
    """Copy keys and values of projections to the beginning of the cache; the arguments as of `Attention`."""
    batch, heads, _, head_width = keys.shape
    _, key, value = qkv.view(batch, -1, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
    keys[:, :, : key.shape[2]].copy_(key)
    values[:, :, : key.shape[2]].copy_(value)


def choose_attention(device: torch.device, head_width: int) -> Attention:
    """The attention that a prefill is best served with: ours wherever it knows the heads (docs/prefill.md says why)."""
    return flash_attention(device.index or 0) if head_width == FLASH_HEAD_WIDTH else torch_attention


class PrefillKernels:
    """The kernels of prefill.cu for one width on one device. Nothing of the tensors is checked here: `prefill_ops` does.

    The shapes are those of `prefill_reference`.
    """

    def __init__(self, device: torch.device, width: int) -> None:
        """Raises as `Kernels` does."""
        self._kernels = Kernels("prefill.cu", device, {"WIDTH": width})

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
        self._launch("gpt2_embed_norm", rows * 32, arguments)

    def gelu(self, x: Tensor, bias: Tensor) -> None:
        """Add the bias and apply GELU, in place."""
        rows, columns = x.shape
        self._launch("gpt2_bias_gelu", -(-rows // _ROWS) * (columns // 8), (x, bias, rows))

    def residual_norm(self, product: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], hidden: Tensor, normal: Tensor) -> None:
        """Add product and bias to `hidden`, in place, and put its layer norm into `normal`."""
        rows = len(hidden)
        self._launch("gpt2_bias_residual_norm", rows * 32, (product, bias, *norm, hidden, normal, rows))

    def _launch(self, name: str, threads: int, arguments: Sequence[Tensor | int]) -> None:
        self._kernels.launch(name, (-(-threads // _THREADS), 1), _THREADS, arguments)


@cache
def prefill_kernels(device: int, width: int) -> PrefillKernels:
    """`PrefillKernels` for a CUDA device by its index, compiled and loaded once a process."""
    return PrefillKernels(torch.device("cuda", device), width)


class Prefill:
    """A prompt's forward pass over fixed weights and a fixed cache: fit for capture into a CUDA graph.

    It fills the cache from its beginning on. Products are cuBLAS's, the rest is ours. Only each prompt's last token goes
    on from the last layer's attention, by the kernels of a decode step: the others have left what they must in the cache.
    """

    def __init__(self, model: ModelTensors, tokens: int, attention: Attention | None = None) -> None:
        """For prompts of so many tokens; weights are FP16, `attention` is by default `choose_attention`'s.

        Raises ValueError as `ModelTensors.checked_shape` does, and where the cache is too short.
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
        """The next token, int64 [batch, 1], and its logits, [batch, vocab_size], of int64 [batch, tokens] at int64 [tokens].

        The positions must be 0, 1 and so on: others trap on the device. Both results are buffers, good until the next call.
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
        """Queries, keys and values; their bias is added by cuBLAS, which then costs no pass of its own."""
        torch.addmm(_bias(layer.qkv), self._normal, layer.qkv.weight.t(), out=self._qkv)

    def _finish(self, layer: LayerTensors, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The end of the last layer and the head, for the last token of each prompt."""
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
        """Those of the last token of each prompt, [batch, columns]."""
        return rows.view(*self.shape, -1)[:, -1]


def _bias(linear: Linear) -> Tensor:
    assert linear.bias is not None
    return linear.bias
