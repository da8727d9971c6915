"""How do a layer's weights lie for the one-kernel step? What a thread block of hopper.cu reads, in one piece, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .decode import LayerTensors, Linear
from .shape import Shape

CLUSTER = 8  # blocks, as in hopper.cu
HEAD_WIDTH = 64
PAD = 8  # halves behind a row

Pair = tuple[Tensor, Tensor]
Half = tuple[Pair, Pair, Pair]
"""Of a layer: the layer norm, and weight and bias of the linear layer behind it and of the one before the residual."""


def attention_weights(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `AttentionWeights` of hopper.cu for each block: FP16 [blocks, halves]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    weight, bias = _tensors(layer.qkv)
    rows = weight.view(3, heads, HEAD_WIDTH, -1).transpose(0, 1).reshape(heads * CLUSTER, -1, shape.width)
    row_bias = bias.view(3, heads, HEAD_WIDTH).transpose(0, 1)
    weight, column_bias = _tensors(layer.projection)
    by_head = weight.view(CLUSTER, columns, heads, HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, by_head.flatten(0, 1), layer.norm_1, row_bias, column_bias)


def mlp_weights(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `MlpWeights` of hopper.cu for each block: FP16 [blocks, halves]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    weight, row_bias = _tensors(layer.fc1)
    rows = weight.view(heads * CLUSTER, -1, shape.width)
    weight, column_bias = _tensors(layer.fc2)
    by_part = weight.view(CLUSTER, columns, heads, 4 * HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, by_part.flatten(0, 1), layer.norm_2, row_bias, column_bias)


def _packed(rows: Tensor, columns: Tensor, norm: Pair, row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """Both linear layers' weights, [blocks, outputs, inputs], padded; between them layer norm and biases: [blocks, halves]."""
    blocks = len(rows)
    first, second = (F.pad(one, (0, PAD)).reshape(blocks, -1) for one in (rows, columns))
    biases = row_bias.reshape(blocks, -1), column_bias.view(CLUSTER, -1).repeat(blocks // CLUSTER, 1)
    return torch.cat([first, *(one.expand(blocks, -1) for one in norm), *biases, second], dim=1)


def _tensors(linear: Linear) -> Pair:
    assert linear.bias is not None
    return linear.weight, linear.bias


def attention_half(packed: Tensor, width: int) -> Half:
    """What `attention_weights` has packed: layer norm, QKV, output projection."""
    heads = width // HEAD_WIDTH
    rows, norm, row_bias, column_bias, columns = _unpacked(packed, 3 * HEAD_WIDTH // CLUSTER, width, HEAD_WIDTH)
    weight = rows.reshape(heads, 3, HEAD_WIDTH, width).transpose(0, 1).reshape(3 * width, width)
    bias = row_bias.reshape(heads, 3, HEAD_WIDTH).transpose(0, 1).reshape(3 * width)
    return norm, (weight, bias), (columns, column_bias)


def mlp_half(packed: Tensor, width: int) -> Half:
    """What `mlp_weights` has packed: layer norm, FC1, FC2."""
    rows, norm, row_bias, column_bias, columns = _unpacked(packed, 4 * HEAD_WIDTH // CLUSTER, width, 4 * HEAD_WIDTH)
    return norm, (rows.reshape(4 * width, width), row_bias.reshape(4 * width)), (columns, column_bias)


def attention_halves(width: int) -> int:
    """The halves of a block that `attention_weights` packs."""
    return _halves(3 * HEAD_WIDTH // CLUSTER, width, HEAD_WIDTH)


def mlp_halves(width: int) -> int:
    """The halves of a block that `mlp_weights` packs."""
    return _halves(4 * HEAD_WIDTH // CLUSTER, width, 4 * HEAD_WIDTH)


def _halves(rows: int, width: int, inputs: int) -> int:
    return sum(_sizes(rows, width, inputs))


def _sizes(rows: int, width: int, inputs: int) -> list[int]:
    """Of a block's pieces: first weight, gamma, beta, both biases, second weight."""
    columns = width // CLUSTER
    return [rows * (width + PAD), width, width, rows, columns, columns * (inputs + PAD)]


def _unpacked(packed: Tensor, rows: int, width: int, inputs: int) -> tuple[Tensor, Pair, Tensor, Tensor, Tensor]:
    """Of all blocks: the first layer's rows, [blocks, rows, width]; the norm; its bias, [blocks, rows]; the second layer's bias
    and its weight, [width, heads * inputs]."""
    columns = width // CLUSTER
    first, gamma, beta, row_bias, column_bias, second = torch.split(packed, _sizes(rows, width, inputs), dim=1)
    by_part = second.reshape(-1, CLUSTER, columns, inputs + PAD)[..., :inputs]
    weight = by_part.permute(1, 2, 0, 3).reshape(width, -1)
    return (
        first.reshape(-1, rows, width + PAD)[..., :width],
        (gamma[0], beta[0]),
        row_bias,
        column_bias[:CLUSTER].reshape(width),
        weight,
    )
