"""How do a model's weights lie for the one-kernel step? What a thread block of hopper.cu reads in one piece, and back.

A layer norm's factors go into the linear layer behind it: norm(x) * gamma + beta, times w, is norm(x) times w * gamma, and
beta * w goes into the bias. The products are rounded to FP16 again; their sum over each row, which the kernel needs for the
mean, is of the rounded ones. Inputs of a row lie in the order in which a lane of a warp needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .decode import LayerTensors, Linear, ModelTensors
from .shape import Shape

CLUSTER = 8  # blocks, as in hopper.cu
HEAD_WIDTH = 64
UNITS = 4 * HEAD_WIDTH  # of the MLP, a cluster's
QKV_ROWS, UNIT_ROWS = 3 * HEAD_WIDTH // CLUSTER, UNITS // CLUSTER  # a block's outputs of a first linear layer
PAD = 8  # FP16 numbers behind a row

Pair = tuple[Tensor, Tensor]
Unpacked = tuple[Pair, Pair]
"""Weight and bias of the linear layer behind a norm without factors, the bias in FP32, and of the one before the residual
connection."""


@dataclass(frozen=True)
class PackedModel:
    """What the kernel reads of a model: layers' weights as `pack_attention` and `pack_mlp` have them, [layers, blocks,
    numbers]; their caches, each [1, heads, length, 64]; embeddings of tokens and positions; the final norm; the LM head."""

    embeddings: Pair
    attention: Tensor
    mlp: Tensor
    caches: tuple[Pair, ...]
    norm: Pair
    head: Tensor


def packed(model: ModelTensors) -> PackedModel:
    """Copies of the layers' weights, each thread block's together; the rest as it is."""
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
    """A layer's `AttentionWeights` of hopper.cu for each block: FP16 [blocks, numbers]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    rows, sums, bias = (
        one.view(3, heads, HEAD_WIDTH, *one.shape[1:]).transpose(0, 1) for one in _behind_norm(layer.qkv, layer.norm_1)
    )
    weight, column_bias = _tensors(layer.projection)
    by_head = weight.view(CLUSTER, columns, heads, HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, sums, bias, by_head, column_bias)


def pack_mlp(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `MlpWeights` of hopper.cu for each block: FP16 [blocks, numbers]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    first = _behind_norm(layer.fc1, layer.norm_2)
    weight, column_bias = _tensors(layer.fc2)
    by_part = weight.view(CLUSTER, columns, heads, UNITS).permute(2, 0, 1, 3)
    return _packed(*first, by_part, column_bias)


def _behind_norm(linear: Linear, norm: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """A linear layer with the factors of the norm before it: weight, FP16; its sum over the inputs, and the bias, FP32."""
    weight, bias = _tensors(linear)
    gamma, beta = (one.float() for one in norm)
    folded = (weight.float() * gamma).to(weight.dtype)
    return folded, folded.float().sum(1), bias.float() + weight.float() @ beta


def _packed(rows: Tensor, sums: Tensor, row_bias: Tensor, columns: Tensor, column_bias: Tensor) -> Tensor:
    """Both linear layers' weights in the order of blocks, with sums and biases between them: [blocks, numbers].

    `rows` is [..., inputs], `columns` [heads, blocks of a cluster, outputs, inputs].
    """
    width, blocks = rows.shape[-1], columns.shape[0] * CLUSTER
    first = F.pad(ordered(rows, 1), (0, PAD)).reshape(blocks, -1, width + PAD)
    second = F.pad(ordered(columns, 2), (0, PAD))
    singles = (one.contiguous().view(blocks, -1).view(rows.dtype) for one in (sums, row_bias))
    biases = column_bias.view(CLUSTER, -1).repeat(blocks // CLUSTER, 1)
    return torch.cat([first.flatten(1), *singles, biases, second.reshape(blocks, -1)], dim=1)


def ordered(inputs: Tensor, steps: int) -> Tensor:
    """The last dimension in the order in which `mma.m16n8k16` takes what lies in its own order.

    Of sixteen inputs, lane l takes numbers 2 i, 2 i + 1, 2 i + 8 and 2 i + 9, where i = l % 4; it is to find what it needs in
    so many steps in one piece.
    """
    return inputs.reshape(*inputs.shape[:-1], -1, 4, steps, 2, 2).movedim(-4, -2).flatten(-5)


def natural(inputs: Tensor, steps: int) -> Tensor:
    """What `ordered` made another order of."""
    return inputs.reshape(*inputs.shape[:-1], -1, steps, 2, 4, 2).movedim(-2, -4).flatten(-5)


def _tensors(linear: Linear) -> Pair:
    assert linear.bias is not None
    return linear.weight, linear.bias


def unpack_attention(packed: Tensor, width: int) -> Unpacked:
    """What `pack_attention` made one of: QKV and the output projection."""
    heads = width // HEAD_WIDTH
    rows, row_bias, second = _unpacked(packed, QKV_ROWS, width, HEAD_WIDTH)
    weight, bias = (one.reshape(heads, 3, HEAD_WIDTH, -1).transpose(0, 1).flatten(0, 2) for one in (rows, row_bias))
    return (weight, bias[:, 0]), second


def unpack_mlp(packed: Tensor, width: int) -> Unpacked:
    """What `pack_mlp` made one of: FC1 and FC2."""
    rows, row_bias, second = _unpacked(packed, UNIT_ROWS, width, UNITS)
    return (rows.flatten(0, 1), row_bias.flatten()), second


def attention_numbers(width: int) -> int:
    """How many `pack_attention` puts together for a block."""
    return sum(_sizes(QKV_ROWS, width, HEAD_WIDTH))


def mlp_numbers(width: int) -> int:
    """How many `pack_mlp` puts together for a block."""
    return sum(_sizes(UNIT_ROWS, width, UNITS))


def _sizes(rows: int, width: int, inputs: int) -> list[int]:
    """Of a block's pieces: first weight, its sums and biases in FP32, second bias and weight."""
    columns = width // CLUSTER
    return [rows * (width + PAD), 2 * rows, 2 * rows, columns, columns * (inputs + PAD)]


def _unpacked(packed: Tensor, rows: int, width: int, inputs: int) -> tuple[Tensor, Tensor, Pair]:
    """Of all blocks: the first layer's rows, [blocks, rows, width]; its bias, FP32 [blocks, rows]; the second layer, whose
    weight is [width, heads * inputs]."""
    columns = width // CLUSTER
    first, _, row_bias, column_bias, second = torch.split(packed, _sizes(rows, width, inputs), dim=1)
    by_part = natural(second.reshape(-1, CLUSTER, columns, inputs + PAD)[..., :inputs], 2)
    weight = by_part.permute(1, 2, 0, 3).reshape(width, -1)
    by_block = natural(first.reshape(-1, rows, width + PAD)[..., :width], 1)
    return by_block, row_bias.contiguous().view(torch.float32), (weight, column_bias[:CLUSTER].reshape(width))
