"""How does a decode step run as one kernel?

Clusters of thread blocks stay on the chip for the whole step. It serves one sequence, from Hopper on.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .compile import target
from .configuration import Configuration
from .decode import ModelTensors
from .launch import Kernels
from .packing import (
    CLUSTER,
    HEAD_WIDTH,
    PAD,
    QKV_ROWS,
    UNIT_ROWS,
    UNITS,
    PackedModel,
    attention_numbers,
    mlp_numbers,
    packed,
)
from .shape import Shape

CAPABILITY = (9, 0)  # for clusters, and for shared memory that other blocks can write to
WIDTHS = (256, 512, 768)  # wider models have more heads than clusters that fit on the chip at once
KERNEL = "gpt2_decode_step"

_WARPS = 16  # warps that compute
_GATHERERS = 3  # warps that gather the results of other blocks
_THREADS = 32 * (_WARPS + _GATHERERS + 1)  # including the warp that requests weights
_KEYS = 16  # keys of each warp
_LONGEST = _KEYS * (_WARPS * CLUSTER - 1)  # the last warp holds the new token instead
_MOST_LAYERS = 64  # because the table of their caches is in shared memory
_ABSENT = -1  # all bits of a partial result that is not written yet
PATIENCE_MS = 10_000  # milliseconds after which a step is given up. It takes a tenth of one, and may be interrupted by others
_PART_PAD = 4  # unused FP32 numbers after the warps' shares of an output, against bank conflicts
_GATHERED_PAD = 32  # unused FP16 numbers after what a warp gathers, likewise
_COPY_ALIGNMENT = 128  # in bytes, of what is copied to shared memory in one piece
_ALIGNMENT = 16  # in bytes, of all else there


def obstacle(model: ModelTensors) -> str | None:
    """Why the kernel cannot run this model on its device; None if it can.

    Raises ValueError if the model does not pass `ModelTensors.checked_shape`.
    """
    shape, layers = model.checked_shape(), model.layers
    if any(linear.scale is not None for linear in (model.head, *(one for layer in layers for one in layer.linears))):
        return "the weights must be FP16"
    return device_obstacle(shape, len(layers), layers[0].keys.shape[2], model.head.weight.device)


def device_obstacle(shape: Shape, layers: int, length: int, device: torch.device) -> str | None:
    """Why the kernel cannot run layers of this shape with a cache of this length on this device; None if it can."""
    if device.type != "cuda":
        return f"the kernel runs on CUDA devices, not on {device.type}"
    capability = target(torch.cuda.get_device_capability(device)).capability
    if capability < CAPABILITY:
        return "clusters need compute capability {}.{}, not {}.{}".format(*CAPABILITY, *capability)
    problem = shape_obstacle(shape, layers, length)
    if problem is not None:
        return problem
    most = persistent_kernel(device.index or 0, shape.width).most_clusters(KERNEL, CLUSTER, _THREADS, shared_bytes(shape.width))
    return None if most >= shape.heads else f"{shape.heads} clusters must be on the chip at once, there is room for {most}"


def shape_obstacle(shape: Shape, layers: int, length: int) -> str | None:
    """Why the kernel cannot run layers of this shape with a cache of this length on any device; None if it can on some."""
    if shape.width not in WIDTHS or shape.head_width != HEAD_WIDTH:
        widths = ", ".join(map(str, WIDTHS))
        return f"the width must be {widths} in heads of {HEAD_WIDTH}, not {shape.width} in {shape.head_width}"
    if shape.batch != 1:
        return f"the batch must be 1, not {shape.batch}"
    if layers > _MOST_LAYERS:
        return f"there must be at most {_MOST_LAYERS} layers, not {layers}"
    return None if length <= _LONGEST else f"the cache must be at most {_LONGEST} tokens long, not {length}"


def shared_bytes(width: int) -> int:
    """The bytes of shared memory that a block takes.

    This is the size of `Shared` in hopper.cu, which does not compile if the two differ.
    """
    attention, mlp = attention_numbers(width) * 2, mlp_numbers(width) * 2
    norm = width * 4 + 8
    scratch = width * 2 + (UNIT_ROWS * (_WARPS + _PART_PAD) + 2 * _WARPS + 2 * (width // CLUSTER)) * 4
    parts = _WARPS * ((HEAD_WIDTH + _GATHERED_PAD) * 2 + 2 * 4)
    exchange = 3 * HEAD_WIDTH * 2 + 2 * parts + 2 * 8
    size = _MOST_LAYERS * 16
    for part in (attention, mlp):
        size = _up(size, _COPY_ALIGNMENT) + part
    for part in (norm, norm, scratch, exchange, UNITS * 2 + 8 + 6 * 8):
        size = _up(size, _ALIGNMENT) + part
    return _up(size, _COPY_ALIGNMENT)


def macros(width: int) -> dict[str, int]:
    """The macros that hopper.cu is compiled with."""
    return {
        "WIDTH": width,
        "SHARED_BYTES": shared_bytes(width),
        "CLUSTER": CLUSTER,
        "WARPS": _WARPS,
        "THREADS": _THREADS,
        "HEAD_WIDTH": HEAD_WIDTH,
        "QKV_ROWS": QKV_ROWS,
        "UNIT_ROWS": UNIT_ROWS,
        "PAD": PAD,
        "PART_PAD": _PART_PAD,
        "GATHERED_PAD": _GATHERED_PAD,
        "COPY_ALIGNMENT": _COPY_ALIGNMENT,
        "ALIGNMENT": _ALIGNMENT,
        "KEYS": _KEYS,
        "MOST_LAYERS": _MOST_LAYERS,
        "ABSENT": _ABSENT,
        "PATIENCE_MS": PATIENCE_MS,
    }


def _up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


CONFIGURATIONS = tuple(Configuration("hopper.cu", macros(width), CAPABILITY, {KERNEL: shared_bytes(width)}) for width in WIDTHS)


class PersistentStep:
    """A decode step in one launch, over fixed weights and caches, with the buffers through which its blocks exchange results.

    A step leaves the buffers as it found them. No two calls of one such object may run at the same time, because they share the
    buffers; those of two objects may. The driver starts a step only when there is room for all its blocks at once. Should a
    block wait in vain even so, the step fails after ten seconds. A failed step leaves the device in an error state, like any
    failed kernel: torch raises RuntimeError at the next call that waits for the device.
    """

    def __init__(self, model: PackedModel) -> None:
        """Take a model to which there is no `device_obstacle`."""
        _, heads, length, _ = model.caches[0][0].shape
        layers, head, width = len(model.caches), model.head, heads * HEAD_WIDTH
        self._kernels = persistent_kernel(head.device.index or 0, width)
        self._blocks, self._shared_bytes = CLUSTER * heads, shared_bytes(width)
        self._model = model  # keeps the caches alive, because the kernel gets only their addresses
        addresses = [[one.data_ptr() for one in cache] for cache in model.caches]
        absent = torch.full((2, layers, heads, width), _ABSENT, dtype=torch.int32, device=head.device)
        attention_shares, mlp_shares = absent.view(torch.float32)
        best = torch.full((self._blocks,), _ABSENT, dtype=torch.int64, device=head.device)
        self.exchange = attention_shares, mlp_shares, best
        caches = torch.tensor(addresses, dtype=torch.int64, device=head.device)
        self._weights = (*model.embeddings, model.attention, model.mlp, caches, *model.norm, head)
        self._sizes = layers, length, len(head)

    def __call__(self, tokens: Tensor, position: Tensor, logits: Tensor) -> None:
        """Run a step. `tokens`, int64 [1, 1], and `position`, int64 [1], become the next ones.

        The token is the one that torch.argmax names for `logits`, FP16 [1, vocab_size], which are written. Raises TracekitError
        if the device cannot hold all blocks at once.
        """
        arguments = (tokens, position, *self._weights, *self.exchange, logits, *self._sizes)
        grid, memory = (self._blocks, 1), self._shared_bytes
        self._kernels.launch(KERNEL, grid, _THREADS, arguments, shared_bytes=memory, cooperative=True)


class PersistentDecoder:
    """A decode step of one sequence that works as `decode.Decoder` does, but with a single launch.

    It can be captured into a CUDA graph. `PersistentStep` says what must hold.
    """

    def __init__(self, model: ModelTensors) -> None:
        """Raises ValueError if the model does not pass `checked_shape`, or if there is an `obstacle`."""
        problem = obstacle(model)
        if problem is not None:
            raise ValueError(problem)
        self._step = PersistentStep(packed(model))
        self._logits = model.head.weight.new_empty((1, len(model.head.weight)))

    def __call__(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Works as `decode.Decoder` does."""
        self._step(tokens, position, self._logits)
        return self._logits


@cache
def persistent_kernel(device: int, width: int) -> Kernels:
    """The kernel of hopper.cu for the CUDA device of this index. It is compiled and loaded once in each process."""
    return Kernels("hopper.cu", torch.device("cuda", device), macros(width))
