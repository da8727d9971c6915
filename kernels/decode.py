"""How is one decode step of GPT-2 run by our own kernels? Each kernel's launch, and all of them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .compile import CAPABILITY as CAPABILITY
from .configuration import Configuration
from .launch import Kernels

MOST_SEQUENCES = 16  # of a batch
WIDEST = 1600  # GPT-2 XL's embedding
HEAD_WIDTHS = (32, 64, 128)

_WARPS = 4  # as in decode.cu: of a block of a linear layer, of the head, and of attention
_HEAD_WARPS = 8
_ATTENTION_WARPS = 16
_HEAD_BLOCKS = 2  # of a multiprocessor


def macros(width: int, head_width: int, batch: int) -> dict[str, int]:
    """What decode.cu is compiled with."""
    return {"WIDTH": width, "HEAD_WIDTH": head_width, "BATCH": batch}


# GPT-2's four sizes and the other widths of a head; the batch decides how many rows a warp takes.
_SHAPES = ((768, 64), (1024, 64), (1280, 64), (1600, 64), (64, 32), (256, 128))
CONFIGURATIONS = tuple(
    Configuration("decode.cu", macros(*shape, batch)) for shape in _SHAPES for batch in (1, 2, 5, MOST_SEQUENCES)
)


def obstacle(width: int, head_width: int, batch: int) -> str | None:
    """Why the kernels cannot run a model of this shape, and None where they can."""
    if head_width not in HEAD_WIDTHS:
        return f"heads must be {', '.join(map(str, HEAD_WIDTHS[:-1]))} or {HEAD_WIDTHS[-1]} wide, not {head_width}"
    if width % head_width or not 0 < width <= WIDEST:
        return f"the width must be a multiple of {head_width}, the heads', and at most {WIDEST}, not {width}"
    if not 0 < batch <= MOST_SEQUENCES:
        return f"the batch must be 1 to {MOST_SEQUENCES}, not {batch}"
    return None


@dataclass(frozen=True)
class LayerTensors:
    """A block's weights, as nn.LayerNorm and nn.Linear have them, and its cache, [batch, heads, length, head width]."""

    norm_1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    projection: tuple[Tensor, Tensor]
    norm_2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]
    keys: Tensor
    values: Tensor


class DecodeKernels:
    """The kernels of decode.cu for one shape on one device. Nothing of the tensors is checked here: `ops` does.

    The shapes are those of `reference`; results go to the last tensors of each method. With `chained`, as of
    `Kernels`, the kernel launched before on this stream must be one of these.
    """

    def __init__(self, device: torch.device, width: int, head_width: int, batch: int) -> None:
        """Raises as `Kernels` does."""
        self.width, self.heads, self.batch = width, width // head_width, batch
        self._kernels = Kernels("decode.cu", device, macros(width, head_width, batch))
        chunks = -(-width // 256)
        self._rows = 1 if batch > 1 and chunks > 4 else 2  # NORM_ROWS in decode.cu
        self.head_blocks = _HEAD_BLOCKS * self._kernels.multiprocessors

    def embed_norm_qkv(
        self,
        tokens: Tensor,
        position: Tensor,
        embeddings: tuple[Tensor, Tensor],
        norm: tuple[Tensor, Tensor],
        linear: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        hidden: Tensor,
        query: Tensor,
    ) -> None:
        """The first kernel of a step, which therefore is never chained."""
        arguments = (tokens, position, *embeddings, *norm, *linear, *cache, hidden, query, cache[0].shape[2])
        grid = (self._norm_blocks(3), 1)
        self._kernels.launch("gpt2_embed_norm_qkv", grid, 32 * _WARPS, (*arguments, len(embeddings[0])))

    def norm_qkv(
        self,
        hidden: Tensor,
        position: Tensor,
        norm: tuple[Tensor, Tensor],
        linear: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        query: Tensor,
        chained: bool = False,
    ) -> None:
        """Layer norm, QKV, and the new key and value into the cache."""
        arguments = (hidden, position, *norm, *linear, *cache, query, cache[0].shape[2])
        self._kernels.launch("gpt2_norm_qkv", (self._norm_blocks(3), 1), 32 * _WARPS, arguments, chained)

    def attention(
        self,
        query: Tensor,
        position: Tensor,
        cache: tuple[Tensor, Tensor],
        out: Tensor,
        chained: bool = False,
    ) -> None:
        """One query a head over the cache."""
        arguments = (query, position, *cache, out, cache[0].shape[2])
        self._kernels.launch("gpt2_attention", (self.heads, self.batch), 32 * _ATTENTION_WARPS, arguments, chained)

    def projection(
        self,
        x: Tensor,
        linear: tuple[Tensor, Tensor],
        residual: Tensor,
        out: Tensor,
        chained: bool = False,
    ) -> None:
        """Attention's output projection and residual connection; `out` may be `residual`."""
        arguments = (x, *linear, residual, out)
        grid = (self.width // _WARPS, 1)
        self._kernels.launch("gpt2_attention_projection", grid, 32 * _WARPS, arguments, chained)

    def fc1(
        self,
        hidden: Tensor,
        norm: tuple[Tensor, Tensor],
        linear: tuple[Tensor, Tensor],
        out: Tensor,
        chained: bool = False,
    ) -> None:
        """Layer norm, the MLP's first layer, GELU."""
        arguments = (hidden, *norm, *linear, out)
        self._kernels.launch("gpt2_norm_fc1_gelu", (self._norm_blocks(4), 1), 32 * _WARPS, arguments, chained)

    def fc2(
        self,
        x: Tensor,
        linear: tuple[Tensor, Tensor],
        residual: Tensor,
        out: Tensor,
        chained: bool = False,
    ) -> None:
        """The MLP's second layer and residual connection; `out` may be `residual`."""
        arguments = (x, *linear, residual, out)
        self._kernels.launch("gpt2_fc2_residual", (self.width, 1), 32 * _WARPS, arguments, chained)

    def head(
        self,
        hidden: Tensor,
        norm: tuple[Tensor, Tensor],
        weight: Tensor,
        best: tuple[Tensor, Tensor],
        token: Tensor,
        logits: Tensor,
        chained: bool = False,
    ) -> None:
        """The final norm, the LM head and the most likely token. `best` is FP32 and int32 [batch, head_blocks]."""
        arguments = (hidden, *norm, weight, logits, *best, len(weight))
        self._kernels.launch("gpt2_norm_lm_head", (self.head_blocks, 1), 32 * _HEAD_WARPS, arguments, chained)
        self._kernels.launch("gpt2_argmax", (self.batch, 1), 32, (*best, token, self.head_blocks), chained=True)

    def best(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """What `head` needs to find the most likely token: uninitialised."""
        shape = (self.batch, self.head_blocks)
        return torch.empty(shape, device=device), torch.empty(shape, dtype=torch.int32, device=device)

    def _norm_blocks(self, widths: int) -> int:
        return -(-widths * self.width // (_WARPS * self._rows))


@cache
def decode_kernels(device: int, width: int, head_width: int, batch: int) -> DecodeKernels:
    """`DecodeKernels` for a CUDA device by its index, compiled and loaded once a process."""
    return DecodeKernels(torch.device("cuda", device), width, head_width, batch)


def check_tensors(
    embeddings: tuple[Tensor, Tensor], layers: Sequence[LayerTensors], norm: tuple[Tensor, Tensor], head: Tensor
) -> None:
    """Raise ValueError unless these are a model's tensors and its cache, as `Decoder` needs them."""
    if not layers:
        raise ValueError("a model without layers has nothing to run")
    shape = layers[0].keys.shape
    batch, heads, _, head_width = shape
    width = heads * head_width
    problem = obstacle(width, head_width, batch)
    if problem is not None:
        raise ValueError(problem)
    matrices = {
        "qkv": (3 * width, width),
        "projection": (width, width),
        "fc1": (4 * width, width),
        "fc2": (width, 4 * width),
    }
    expected: list[tuple[Tensor, tuple[int, ...]]]
    expected = [(head, (len(head), width)), (embeddings[0], (len(head), width))]
    expected += [(embeddings[1], (len(embeddings[1]), width)), *((one, (width,)) for one in norm)]
    for layer in layers:
        expected += [(layer.keys, tuple(shape)), (layer.values, tuple(shape))]
        expected += [(one, (width,)) for one in (*layer.norm_1, *layer.norm_2)]
        for name, sizes in matrices.items():
            weight, bias = getattr(layer, name)
            expected += [(weight, sizes), (bias, sizes[:1])]
    if shape[2] > len(embeddings[1]):
        raise ValueError(f"the cache is longer than the {len(embeddings[1])} positions of the model")
    for tensor, extent in expected:
        if tuple(tensor.shape) != extent or tensor.dtype != torch.float16 or tensor.device != head.device:
            found, wanted = (
                f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
                f"float16 {extent} on {head.device}",
            )
            raise ValueError(f"a tensor is {found}, not {wanted}")
        if not tensor.is_contiguous() or tensor.data_ptr() % 16:
            raise ValueError(f"a tensor of shape {extent} is not contiguous, or does not begin at a multiple of 16 bytes")


class Decoder:
    """A decode step over fixed weights and a fixed cache, made of launches alone: fit for capture into a CUDA graph.

    Tokens and position are read from the device, and the buffers are its own, so no call waits for the host.
    """

    def __init__(
        self, embeddings: tuple[Tensor, Tensor], layers: Sequence[LayerTensors], norm: tuple[Tensor, Tensor], head: Tensor
    ) -> None:
        """All FP16, contiguous and on one device, of a shape without `obstacle`. Raises ValueError where they are not."""
        self._embeddings, self._layers, self._norm, self._head = embeddings, tuple(layers), norm, head
        if not head.is_cuda:
            raise ValueError(f"the decode kernels run on CUDA devices, not on {head.device}")
        check_tensors(embeddings, self._layers, norm, head)
        batch, heads, _, head_width = self._layers[0].keys.shape
        width = heads * head_width
        device = head.device
        self.kernels = decode_kernels(device.index or 0, width, head_width, batch)
        self._hidden, self._query, self._gathered = (head.new_empty((batch, width)) for _ in range(3))
        self._inner = head.new_empty((batch, 4 * width))
        self._best = self.kernels.best(device)
        self._token = torch.empty((batch, 1), dtype=torch.int64, device=device)
        self._logits = head.new_empty((batch, len(head)))

    def __call__(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """The next token, int64 [batch, 1], and its logits, [batch, vocab_size], of int64 [batch, 1] at int64 [1].

        Both results are buffers, good until the next call.
        """
        run, hidden = self.kernels, self._hidden
        for index, layer in enumerate(self._layers):
            cache = (layer.keys, layer.values)
            if index == 0:
                embedded = (tokens, position, self._embeddings, layer.norm_1, layer.qkv, cache, hidden, self._query)
                run.embed_norm_qkv(*embedded)
            else:
                run.norm_qkv(hidden, position, layer.norm_1, layer.qkv, cache, self._query, chained=True)
            run.attention(self._query, position, cache, self._gathered, chained=True)
            run.projection(self._gathered, layer.projection, hidden, hidden, chained=True)
            run.fc1(hidden, layer.norm_2, layer.fc1, self._inner, chained=True)
            run.fc2(self._inner, layer.fc2, hidden, hidden, chained=True)
        run.head(hidden, self._norm, self._head, self._best, self._token, self._logits, chained=True)
        return self._token, self._logits
