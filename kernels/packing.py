"""How are a model's weights arranged in memory for the one-kernel step?

Each thread block of hopper.cu reads its weights as one contiguous piece. This module packs and unpacks these pieces.

The factors of a layer norm go into the linear layer behind it. For a weight w, (norm(x) * gamma + beta) times w is norm(x)
times (w * gamma), and beta * w goes into the bias. The products w * gamma are rounded to FP16 again. The kernel needs the sum
of each row for the mean; it is the sum of the rounded products. The inputs of a row are in the order in which a lane of a warp
needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .decode import LayerTensors, Linear, ModelTensors
from .shape import Shape

CLUSTER = 8  # blocks of a cluster
HEAD_WIDTH = 64
UNITS = 4 * HEAD_WIDTH  # units of the MLP that a cluster computes
QKV_ROWS, UNIT_ROWS = 3 * HEAD_WIDTH // CLUSTER, UNITS // CLUSTER  # outputs of a first linear layer that a block computes
PAD = 8  # unused FP16 numbers after each row

Pair = tuple[Tensor, Tensor]
Unpacked = tuple[Pair, Pair]
"""Weight and bias of two linear layers: the one behind a norm, and the one before the residual connection.

The norm of the first has no factors any more, and its bias is FP32.
"""


@dataclass(frozen=True)
class PackedModel:
    """Everything that the kernel reads of a model.

    `embeddings` are those of tokens and positions. `attention` and `mlp` are the layers' weights as `pack_attention` and
    `pack_mlp` arrange them, [layers, blocks, numbers]. `caches` are keys and values of each layer, [1, heads, length, 64] each.
    `norm` is the final norm and `head` the LM head.
    """

    embeddings: Pair
    attention: Tensor
    mlp: Tensor
    caches: tuple[Pair, ...]
    norm: Pair
    head: Tensor


def packed(model: ModelTensors) -> PackedModel:
    """A model with the weights of its layers packed: copies in which the weights of each thread block lie together.

    All other tensors are those of the model.
    """
    shape = model.checked_shape()
    return PackedModel(
        model.embeddings,
        torch.stack([pack_attention(layer, shape) for layer in model.layers]),
        torch.stack([pack_mlp(layer, shape) for layer in model.layers]),
        tuple(layer.cache for layer in model.layers),
        model.norm,
        model.head.weight,
    )


def pack_attention(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `AttentionWeights` of hopper.cu for each thread block: FP16 [blocks, numbers]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    rows, sums, bias = (
        one.view(3, heads, HEAD_WIDTH, *one.shape[1:]).transpose(0, 1) for one in _behind_norm(layer.qkv, layer.norm_1)
    )
    weight, column_bias = _tensors(layer.projection)
    by_head = weight.view(CLUSTER, columns, heads, HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, sums, bias, by_head, column_bias)


def pack_mlp(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `MlpWeights` of hopper.cu for each thread block: FP16 [blocks, numbers]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    first = _behind_norm(layer.fc1, layer.norm_2)
    weight, column_bias = _tensors(layer.fc2)
    by_part = weight.view(CLUSTER, columns, heads, UNITS).permute(2, 0, 1, 3)
    return _packed(*first, by_part, column_bias)


def _behind_norm(linear: Linear, norm: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """A linear layer that contains the factors of the norm before it.

    Returns its weight, FP16; the sum of the weight over the inputs, FP32; and its bias, FP32.
    """
    weight, bias = _tensors(linear)
    gamma, beta = (one.float() for one in norm)
    folded = (weight.float() * gamma).to(weight.dtype)
    return folded, folded.float().sum(1), bias.float() + weight.float() @ beta


def _packed(rows: Tensor, sums: Tensor, row_bias: Tensor, columns: Tensor, column_bias: Tensor) -> Tensor:
    """The weights of both linear layers, block by block, with sums and biases between them: [blocks, numbers].

    `rows` is [..., inputs], and `columns` is [heads, blocks of a cluster, outputs, inputs].
    """
    width, blocks = rows.shape[-1], columns.shape[0] * CLUSTER
    first = F.pad(ordered(rows, 1), (0, PAD)).reshape(blocks, -1, width + PAD)
    second = F.pad(ordered(columns, 2), (0, PAD))
    singles = (one.contiguous().view(blocks, -1).view(rows.dtype) for one in (sums, row_bias))
    biases = column_bias.view(CLUSTER, -1).repeat(blocks // CLUSTER, 1)
    return torch.cat([first.flatten(1), *singles, biases, second.reshape(blocks, -1)], dim=1)


def ordered(inputs: Tensor, steps: int) -> Tensor:
    """The last dimension reordered for the matrix instruction `mma.m16n8k16`.

    Of sixteen inputs, lane l takes the numbers 2 i, 2 i + 1, 2 i + 8 and 2 i + 9, where i = l % 4. After reordering, what a
    lane needs in `steps` such instructions lies side by side, so that it loads it in one piece.
    """
    return inputs.reshape(*inputs.shape[:-1], -1, 4, steps, 2, 2).movedim(-4, -2).flatten(-5)


def natural(inputs: Tensor, steps: int) -> Tensor:
    """Restores the original order: the inverse of `ordered` with the same `steps`."""
    return inputs.reshape(*inputs.shape[:-1], -1, steps, 2, 4, 2).movedim(-2, -4).flatten(-5)


def _tensors(linear: Linear) -> Pair:
    assert linear.bias is not None
    return linear.weight, linear.bias


def unpack_attention(packed: Tensor, width: int) -> Unpacked:
    """The weights and biases of QKV and of the output projection, from one layer that `pack_attention` packed."""
    heads = width // HEAD_WIDTH
    rows, row_bias, second = _unpacked(packed, QKV_ROWS, width, HEAD_WIDTH)
    weight, bias = (one.reshape(heads, 3, HEAD_WIDTH, -1).transpose(0, 1).flatten(0, 2) for one in (rows, row_bias))
    return (weight, bias[:, 0]), second


def unpack_mlp(packed: Tensor, width: int) -> Unpacked:
    """The weights and biases of FC1 and FC2, from one layer that `pack_mlp` packed."""
    rows, row_bias, second = _unpacked(packed, UNIT_ROWS, width, UNITS)
    return (rows.flatten(0, 1), row_bias.flatten()), second


def attention_numbers(width: int) -> int:
    """How many FP16 numbers `pack_attention` packs for each block."""
    return sum(_sizes(QKV_ROWS, width, HEAD_WIDTH))


def mlp_numbers(width: int) -> int:
    """How many FP16 numbers `pack_mlp` packs for each block."""
    return sum(_sizes(UNIT_ROWS, width, UNITS))


def _sizes(rows: int, width: int, inputs: int) -> list[int]:
    """The sizes of the pieces of a block, in FP16 numbers.

    They are the first weight, its sums and its biases (FP32, so two numbers each), the second bias and the second weight.
    """
    columns = width // CLUSTER
    return [rows * (width + PAD), 2 * rows, 2 * rows, columns, columns * (inputs + PAD)]


def _unpacked(packed: Tensor, rows: int, width: int, inputs: int) -> tuple[Tensor, Tensor, Pair]:
    """Both linear layers of all blocks, in their original order.

    Returns the first layer's rows, [blocks, rows, width]; its bias, FP32 [blocks, rows]; and weight and bias of the second
    layer, whose weight is [width, heads * inputs].
    """
    columns = width // CLUSTER
    first, _, row_bias, column_bias, second = torch.split(packed, _sizes(rows, width, inputs), dim=1)
    by_part = natural(second.reshape(-1, CLUSTER, columns, inputs + PAD)[..., :inputs], 2)
    weight = by_part.permute(1, 2, 0, 3).reshape(width, -1)
    by_block = natural(first.reshape(-1, rows, width + PAD)[..., :width], 1)
    return by_block, row_bias.contiguous().view(torch.float32), (weight, column_bias[:CLUSTER].reshape(width))
