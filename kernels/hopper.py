"""How is a decode step run as one kernel? By clusters of blocks that stay on the chip, for one sequence, from Hopper on."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .compile import target
from .configuration import Configuration
from .decode import LayerTensors, Linear, ModelTensors
from .launch import Kernels
from .shape import Shape

CAPABILITY = (9, 0)  # clusters, and shared memory that other blocks can write to
HEAD_WIDTH = 64
WIDTHS = (256, 512, 768)  # with more heads, their clusters are not all on a chip at once
KERNEL = "gpt2_decode_step"

_CLUSTER = 8  # as in hopper.cu
_WARPS = 16
_THREADS = 32 * _WARPS
_PAD = 8  # halves
_KEYS = 16  # of a warp
_LONGEST = _KEYS * _WARPS * _CLUSTER
_ABSENT = -1  # the bits of a share that is not there yet


def obstacle(model: ModelTensors) -> str | None:
    """Why the kernel cannot run a model that `ModelTensors.checked_shape` lets pass where it lies, and None where it can."""
    shape, device, layers = model.checked_shape(), model.head.weight.device, model.layers
    length = layers[0].keys.shape[2]
    if device.type != "cuda":
        return f"the kernel runs on CUDA devices, not on {device.type}"
    capability = target(torch.cuda.get_device_capability(device)).capability
    if capability < CAPABILITY:
        return "clusters need compute capability {}.{}, not {}.{}".format(*CAPABILITY, *capability)
    if shape.width not in WIDTHS or shape.head_width != HEAD_WIDTH:
        widths = ", ".join(map(str, WIDTHS))
        return f"the width must be {widths} in heads of {HEAD_WIDTH}, not {shape.width} in {shape.head_width}"
    if shape.batch != 1:
        return f"the batch must be 1, not {shape.batch}"
    if length > _LONGEST:
        return f"the cache must be at most {_LONGEST} tokens long, not {length}"
    if any(linear.scale is not None for linear in (model.head, *(one for layer in layers for one in layer.linears))):
        return "the weights must be FP16"
    most = persistent_kernel(device.index or 0, shape.width).most_clusters(
        KERNEL, _CLUSTER, _THREADS, shared_bytes(shape.width)
    )
    return None if most >= shape.heads else f"{shape.heads} clusters must be on the chip at once, there is room for {most}"


def shared_bytes(width: int) -> int:
    """The shared memory that a block takes: `Shared` in hopper.cu, whose compilation fails if it is not this."""
    columns, units = width // _CLUSTER, 4 * HEAD_WIDTH
    attention = 3 * HEAD_WIDTH // _CLUSTER * (width + _PAD + 1) + columns * (HEAD_WIDTH + _PAD + 1) + 2 * width
    mlp = units // _CLUSTER * (width + _PAD + 1) + columns * (units + _PAD + 1) + 2 * width
    norm = width * 4 + 8
    scratch = width * 2 + (2 * (width // 128) + _WARPS * (2 * _WARPS + 1) + 2 * columns) * 4
    parts = (_CLUSTER * (2 + HEAD_WIDTH) + _WARPS * (2 + HEAD_WIDTH + 4)) * 4
    exchange = 4 * HEAD_WIDTH * 2 + _WARPS * _KEYS * 4 + parts + 2 * 8
    size = 0
    for part, alignment in ((attention * 2, 128), (mlp * 2, 128), (norm, 16), (norm, 16), (scratch, 16), (exchange, 16)):
        size = _up(size, alignment) + part
    return _up(_up(size, 16) + units * 2 + 8 + 3 * 8, 128)


def macros(width: int) -> dict[str, int]:
    """What hopper.cu is compiled with."""
    return {"WIDTH": width, "SHARED_BYTES": shared_bytes(width)}


def _up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


CONFIGURATIONS = tuple(Configuration("hopper.cu", macros(width), CAPABILITY, {KERNEL: shared_bytes(width)}) for width in WIDTHS)


class PersistentDecoder:
    """A decode step of one sequence, as of `decode.Decoder`: fixed weights and cache, one launch, fit for capture.

    Weights of the layers are copied when it is made, each thread block's together. The blocks hand over through buffers of
    the decoder's own, which a step leaves as it found them; a step that fails half way leaves the device in error, as any
    failed kernel does. Two such steps must not run at once on a device.
    """

    def __init__(self, model: ModelTensors) -> None:
        """Raises ValueError where the model does not pass `checked_shape`, or there is an `obstacle`."""
        problem = obstacle(model)
        if problem is not None:
            raise ValueError(problem)
        shape = model.checked_shape()
        head, layers = model.head.weight, model.layers
        self._kernels = persistent_kernel(head.device.index or 0, shape.width)
        self._blocks, self._shared_bytes = _CLUSTER * shape.heads, shared_bytes(shape.width)
        self._caches = [layer.cache for layer in layers]  # whose addresses the kernel is given
        caches = [[one.data_ptr() for one in cache] for cache in self._caches]
        absent = torch.full((2, len(layers), shape.heads, shape.width), _ABSENT, dtype=torch.int32, device=head.device)
        attention_shares, mlp_shares = absent.view(torch.float32)
        best = torch.full((self._blocks,), _ABSENT, dtype=torch.int64, device=head.device)
        self._logits = head.new_empty((1, len(head)))
        self._weights = (
            *model.embeddings,
            torch.stack([attention_weights(layer, shape) for layer in layers]),
            torch.stack([mlp_weights(layer, shape) for layer in layers]),
            torch.tensor(caches, dtype=torch.int64, device=head.device),
            *model.norm,
            head,
        )
        self._exchange = attention_shares, mlp_shares, best
        self._sizes = len(layers), layers[0].keys.shape[2], len(head)

    def __call__(self, tokens: Tensor, position: Tensor) -> Tensor:
        """As of `decode.Decoder`."""
        arguments = (tokens, position, *self._weights, *self._exchange, self._logits, *self._sizes)
        self._kernels.launch(KERNEL, (self._blocks, 1), _THREADS, arguments, shared_bytes=self._shared_bytes)
        return self._logits


def attention_weights(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `AttentionWeights` of hopper.cu for each block: FP16 [blocks, halves]."""
    heads, columns = shape.heads, shape.width // _CLUSTER
    weight, bias = _tensors(layer.qkv)
    rows = weight.view(3, heads, HEAD_WIDTH, -1).transpose(0, 1).reshape(heads * _CLUSTER, -1, shape.width)
    row_bias = bias.view(3, heads, HEAD_WIDTH).transpose(0, 1)
    weight, column_bias = _tensors(layer.projection)
    by_head = weight.view(_CLUSTER, columns, heads, HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, by_head.flatten(0, 1), layer.norm_1, row_bias, column_bias)


def mlp_weights(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `MlpWeights` of hopper.cu for each block: FP16 [blocks, halves]."""
    heads, columns = shape.heads, shape.width // _CLUSTER
    weight, row_bias = _tensors(layer.fc1)
    rows = weight.view(heads * _CLUSTER, -1, shape.width)
    weight, column_bias = _tensors(layer.fc2)
    by_part = weight.view(_CLUSTER, columns, heads, 4 * HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, by_part.flatten(0, 1), layer.norm_2, row_bias, column_bias)


def _packed(rows: Tensor, columns: Tensor, norm: tuple[Tensor, Tensor], row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """Both linear layers' weights, [blocks, outputs, inputs], padded; between them layer norm and biases: [blocks, halves]."""
    blocks = len(rows)
    first, second = (F.pad(one, (0, _PAD)).reshape(blocks, -1) for one in (rows, columns))
    biases = row_bias.reshape(blocks, -1), column_bias.view(_CLUSTER, -1).repeat(blocks // _CLUSTER, 1)
    return torch.cat([first, *(one.expand(blocks, -1) for one in norm), *biases, second], dim=1)


def _tensors(linear: Linear) -> tuple[Tensor, Tensor]:
    assert linear.bias is not None
    return linear.weight, linear.bias


@cache
def persistent_kernel(device: int, width: int) -> Kernels:
    """The kernel of hopper.cu for a CUDA device by its index, compiled and loaded once a process."""
    return Kernels("hopper.cu", torch.device("cuda", device), macros(width))
