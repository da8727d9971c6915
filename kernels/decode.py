"""How do our own kernels run one decode step of GPT-2?

This module holds the launch of each kernel, and a step that launches all of them in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .compile import CAPABILITY as CAPABILITY
from .configuration import Configuration
from .launch import Kernels
from .shape import MOST_SEQUENCES, Rows, Shape, obstacle

Arguments = tuple[Tensor | int, ...]

_HEAD_BLOCKS = 2  # blocks of the LM head for each multiprocessor

# GPT-2's four sizes, the other head widths, and one width whose last warps are partly empty. The batch decides how many
# outputs a block has, and whether a lane holds one sequence or two.
_SHAPES = ((768, 64), (1024, 64), (1280, 64), (1600, 64), (64, 32), (256, 128), (1056, 32))
CONFIGURATIONS = tuple(
    Configuration("decode.cu", Shape(*shape, batch).macros) for shape in _SHAPES for batch in (1, 8, MOST_SEQUENCES)
)


@dataclass(frozen=True)
class Linear:
    """A linear layer: FP16 weight, [outputs, inputs], and bias, [outputs].

    Its weight may also be INT8; then `scale`, FP32 [outputs], holds one scale for each output.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """The tensors in the order in which the kernels take them."""
        return tuple(one for one in (self.weight, self.scale, self.bias) if one is not None)

    @property
    def suffix(self) -> str:
        """The suffix of the names of the kernels that take such weights: `_int8`, or empty for FP16."""
        return "" if self.scale is None else "_int8"


@dataclass(frozen=True)
class LayerTensors:
    """The weights of one block, and its KV cache.

    Each norm is a pair of weight and bias, as in nn.LayerNorm. Keys and values are [batch, heads, length, head width] each.
    """

    norm_1: tuple[Tensor, Tensor]
    qkv: Linear
    projection: Linear
    norm_2: tuple[Tensor, Tensor]
    fc1: Linear
    fc2: Linear
    keys: Tensor
    values: Tensor

    @property
    def linears(self) -> tuple[Linear, Linear, Linear, Linear]:
        """All four linear layers, in the order in which they run."""
        return self.qkv, self.projection, self.fc1, self.fc2

    @property
    def cache(self) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        return self.keys, self.values


@dataclass(frozen=True)
class ModelTensors:
    """Everything that a decode step reads: embeddings of tokens and positions, the layers, the final norm and the LM head."""

    embeddings: tuple[Tensor, Tensor]
    layers: tuple[LayerTensors, ...]
    norm: tuple[Tensor, Tensor]
    head: Linear

    def checked_shape(self) -> Shape:
        """The model's shape.

        Raises ValueError unless all tensors fit the shape and each other, are contiguous, and are on one device.
        """
        device = self.embeddings[0].device
        if not self.layers:
            raise ValueError("a model without layers has no decode step")
        keys = self.layers[0].keys
        batch, heads, length, head_width = keys.shape
        problem = obstacle(heads * head_width, head_width, batch)
        if problem is not None:
            raise ValueError(problem)
        if length > len(self.embeddings[1]):
            raise ValueError(f"the cache is longer than the {len(self.embeddings[1])} positions of the model")
        for tensor, sizes, dtype in self._expected(heads * head_width, keys):
            _require(tensor, sizes, dtype, device)
        return Shape(heads * head_width, head_width, batch)

    def _expected(self, width: int, keys: Tensor) -> Iterator[tuple[Tensor, tuple[int, ...], torch.dtype]]:
        """Each tensor, with the sizes and the dtype that it must have."""
        tokens, positions = self.embeddings
        norms, linears = [self.norm], [(self.head, len(tokens), width)]
        for layer in self.layers:
            norms += [layer.norm_1, layer.norm_2]
            linears += [(layer.qkv, 3 * width, width), (layer.projection, width, width)]
            linears += [(layer.fc1, 4 * width, width), (layer.fc2, width, 4 * width)]
            for cached in layer.cache:
                yield cached, tuple(keys.shape), torch.float16
        for parameter in (one for norm in norms for one in norm):
            yield parameter, (width,), torch.float16
        for linear, outputs, inputs in linears:
            yield linear.weight, (outputs, inputs), torch.float16 if linear.scale is None else torch.int8
            if linear.bias is not None:
                yield linear.bias, (outputs,), torch.float16
            if linear.scale is not None:
                yield linear.scale, (outputs,), torch.float32
        yield tokens, (len(tokens), width), torch.float16
        yield positions, (len(positions), width), torch.float16


class DecodeKernels:
    """The kernels of decode.cu for one shape on one device. They do not check tensors; `ops` does.

    Tensors have the shapes that `reference` describes. Each method writes its results to its last tensors. `chained` has the
    meaning that `Kernels` describes: the kernel launched before on this stream must be one of these kernels.
    """

    def __init__(self, device: torch.device, shape: Shape) -> None:
        """Raises the errors that `Kernels` raises."""
        self.shape = shape
        self._kernels = Kernels("decode.cu", device, shape.macros)
        self.head_blocks = _HEAD_BLOCKS * self._kernels.multiprocessors

    def embed_norm_qkv(
        self,
        tokens: Tensor,
        position: Tensor,
        embeddings: tuple[Tensor, Tensor],
        norm: tuple[Tensor, Tensor],
        linear: Linear,
        cache: tuple[Tensor, Tensor],
        hidden: Tensor,
        query: Tensor,
    ) -> None:
        """Embeddings, layer norm and QKV; the new key and value go into the cache.

        This is the first kernel of a step, so it is never chained.
        """
        pointers = (tokens, position, *embeddings, *norm, *linear.arguments, *cache, hidden, query)
        arguments: Arguments = (*pointers, cache[0].shape[2], len(embeddings[0]))
        self._launch_norm("gpt2_embed_norm_qkv", linear, arguments, chained=False)

    def norm_qkv(
        self,
        hidden: Tensor,
        position: Tensor,
        norm: tuple[Tensor, Tensor],
        linear: Linear,
        cache: tuple[Tensor, Tensor],
        query: Tensor,
        chained: bool = False,
    ) -> None:
        """Layer norm and QKV; the new key and value go into the cache."""
        arguments: Arguments = (hidden, position, *norm, *linear.arguments, *cache, query, cache[0].shape[2])
        self._launch_norm("gpt2_norm_qkv", linear, arguments, chained)

    def attention(
        self,
        query: Tensor,
        position: Tensor,
        cache: tuple[Tensor, Tensor],
        out: Tensor,
        chained: bool = False,
    ) -> None:
        """Attention of one query for each head over the cache."""
        arguments = (query, position, *cache, out, cache[0].shape[2])
        grid = (self.shape.heads, self.shape.batch)
        self._kernels.launch("gpt2_attention", grid, 32 * self.shape.attention_warps, arguments, chained)

    def projection(self, x: Tensor, linear: Linear, residual: Tensor, out: Tensor, chained: bool = False) -> None:
        """Attention's output projection and residual connection. `out` may be the same tensor as `residual`."""
        arguments = (x, *linear.arguments, residual, out)
        self._launch_residual("gpt2_attention_projection", linear, self.shape.warps, arguments, chained)

    def fc1(self, hidden: Tensor, norm: tuple[Tensor, Tensor], linear: Linear, out: Tensor, chained: bool = False) -> None:
        """Layer norm, the first layer of the MLP and GELU."""
        self._launch_norm("gpt2_norm_fc1_gelu", linear, (hidden, *norm, *linear.arguments, out), chained)

    def fc2(self, x: Tensor, linear: Linear, residual: Tensor, out: Tensor, chained: bool = False) -> None:
        """The second layer of the MLP and the residual connection. `out` may be the same tensor as `residual`."""
        arguments = (x, *linear.arguments, residual, out)
        self._launch_residual("gpt2_fc2_residual", linear, self.shape.wide_warps, arguments, chained)

    def head(
        self,
        hidden: Tensor,
        norm: tuple[Tensor, Tensor],
        linear: Linear,
        best: Tensor,
        token: Tensor,
        logits: Tensor,
        chained: bool = False,
    ) -> None:
        """The final norm, the LM head and the most likely token.

        The token, int64 [batch, 1], is the one that torch.argmax names for the logits, [batch, vocab_size]: a NaN is more than
        any number, and of equals the first counts. `best` is working memory: int64 [batch, head_blocks].
        """
        arguments: Arguments = (hidden, *norm, *linear.arguments, logits, best, len(linear.weight))
        name, threads = "gpt2_norm_lm_head" + linear.suffix, 32 * self.shape.warps
        self._kernels.launch(name, (self.head_blocks, 1), threads, arguments, chained)
        self._kernels.launch("gpt2_argmax", (self.shape.batch, 1), 32, (best, token, self.head_blocks), chained=True)

    def best(self, device: torch.device) -> Tensor:
        """Working memory in which `head` finds the most likely token, not initialised: int64 [batch, head_blocks]."""
        return torch.empty((self.shape.batch, self.head_blocks), dtype=torch.int64, device=device)

    def _launch_norm(self, name: str, linear: Linear, arguments: Arguments, chained: bool) -> None:
        grid = (-(-len(linear.weight) // self._rows(linear).norm), 1)
        self._kernels.launch(name + linear.suffix, grid, 32 * self.shape.warps, arguments, chained)

    def _launch_residual(self, name: str, linear: Linear, warps: int, arguments: Arguments, chained: bool) -> None:
        grid = (self.shape.width // self._rows(linear).residual, 1)
        self._kernels.launch(name + linear.suffix, grid, 32 * warps, arguments, chained)

    def _rows(self, linear: Linear) -> Rows:
        return self.shape.fp16_rows if linear.scale is None else self.shape.int8_rows


@cache
def decode_kernels(device: int, shape: Shape) -> DecodeKernels:
    """`DecodeKernels` for the CUDA device of this index. They are compiled and loaded once in each process."""
    return DecodeKernels(torch.device("cuda", device), shape)


class Decoder:
    """A decode step over fixed weights and a fixed cache. It can be captured into a CUDA graph.

    It consists of launches only. It reads tokens and position on the device and owns its buffers, so no call waits for the
    host.
    """

    def __init__(self, model: ModelTensors) -> None:
        """Raises the errors of `ModelTensors.checked_shape`, and ValueError if the model is not on a CUDA device."""
        shape = model.checked_shape()
        if model.embeddings[0].device.type != "cuda":
            raise ValueError(f"the decode kernels run on CUDA devices, not on {model.embeddings[0].device}")
        self._model, position_table = model, model.embeddings[1]
        device = position_table.device
        self._kernels = decode_kernels(device.index or 0, shape)
        self._hidden, self._query, self._gathered = (position_table.new_empty((shape.batch, shape.width)) for _ in range(3))
        self._inner = position_table.new_empty((shape.batch, 4 * shape.width))
        self._best = self._kernels.best(device)
        self._logits = position_table.new_empty((shape.batch, len(model.head.weight)))

    def __call__(self, tokens: Tensor, position: Tensor) -> Tensor:
        """The logits of the next token, [batch, vocab_size].

        `tokens` is int64 [batch, 1] and `position` int64 [1]. The most likely tokens replace those in `tokens`, and `position`
        becomes their position. The logits are a buffer that is valid until the next call.
        """
        run, model, hidden, query = self._kernels, self._model, self._hidden, self._query
        for index, layer in enumerate(model.layers):
            if index == 0:
                run.embed_norm_qkv(tokens, position, model.embeddings, layer.norm_1, layer.qkv, layer.cache, hidden, query)
            else:
                run.norm_qkv(hidden, position, layer.norm_1, layer.qkv, layer.cache, query, chained=True)
            run.attention(query, position, layer.cache, self._gathered, chained=True)
            run.projection(self._gathered, layer.projection, hidden, hidden, chained=True)
            run.fc1(hidden, layer.norm_2, layer.fc1, self._inner, chained=True)
            run.fc2(self._inner, layer.fc2, hidden, hidden, chained=True)
        run.head(hidden, model.norm, model.head, self._best, tokens, self._logits, chained=True)
        position.add_(1)
        return self._logits


def _require(tensor: Tensor, sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError unless the tensor has these sizes, this dtype and this device, and is contiguous and aligned."""
    if tuple(tensor.shape) != sizes or tensor.dtype != dtype or tensor.device != device:
        found = f"{str(tensor.dtype)[6:]} {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"a tensor is {found}, not {str(dtype)[6:]} {sizes} on {device}")
    if not tensor.is_contiguous() or tensor.data_ptr() % 16:
        raise ValueError(f"a tensor of shape {sizes} is not contiguous, or does not begin at a multiple of 16 bytes")
