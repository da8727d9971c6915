"""How do a model's weights lie for the one-kernel step? What a thread block of hopper.cu reads in one piece, and back."""

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
Unpacked = tuple[Pair, Pair, Pair]
"""The layer norm, and weight and bias of the linear layer behind it and of the one before the residual connection."""


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
    weight, bias = _tensors(layer.qkv)
    rows = weight.view(3, heads, HEAD_WIDTH, -1).transpose(0, 1).reshape(heads * CLUSTER, -1, shape.width)
    row_bias = bias.view(3, heads, HEAD_WIDTH).transpose(0, 1)
    weight, column_bias = _tensors(layer.projection)
    by_head = weight.view(CLUSTER, columns, heads, HEAD_WIDTH).permute(2, 0, 1, 3)
    return _packed(rows, by_head.flatten(0, 1), layer.norm_1, row_bias, column_bias)


def pack_mlp(layer: LayerTensors, shape: Shape) -> Tensor:
    """A layer's `MlpWeights` of hopper.cu for each block: FP16 [blocks, numbers]."""
    heads, columns = shape.heads, shape.width // CLUSTER
    weight, row_bias = _tensors(layer.fc1)
    rows = weight.view(heads * CLUSTER, -1, shape.width)
    weight, column_bias = _tensors(layer.fc2)
    by_part = weight.view(CLUSTER, columns, heads, UNITS).permute(2, 0, 1, 3)
    return _packed(rows, by_part.flatten(0, 1), layer.norm_2, row_bias, column_bias)


def _packed(rows: Tensor, columns: Tensor, norm: Pair, row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """Both linear layers' weights, [blocks, outputs, inputs], padded; between them layer norm and biases: [blocks, numbers]."""
    blocks = len(rows)
    first, second = (F.pad(one, (0, PAD)).reshape(blocks, -1) for one in (rows, columns))
    biases = row_bias.reshape(blocks, -1), column_bias.view(CLUSTER, -1).repeat(blocks // CLUSTER, 1)
    return torch.cat([first, *(one.expand(blocks, -1) for one in norm), *biases, second], dim=1)


def _tensors(linear: Linear) -> Pair:
    assert linear.bias is not None
    return linear.weight, linear.bias


def unpack_attention(packed: Tensor, width: int) -> Unpacked:
    """What `pack_attention` made one of: layer norm, QKV, output projection."""
    heads = width // HEAD_WIDTH
    rows, norm, row_bias, column_bias, columns = _unpacked(packed, QKV_ROWS, width, HEAD_WIDTH)
    weight = rows.reshape(heads, 3, HEAD_WIDTH, width).transpose(0, 1).reshape(3 * width, width)
    bias = row_bias.reshape(heads, 3, HEAD_WIDTH).transpose(0, 1).reshape(3 * width)
    return norm, (weight, bias), (columns, column_bias)


def unpack_mlp(packed: Tensor, width: int) -> Unpacked:
    """What `pack_mlp` made one of: layer norm, FC1, FC2."""
    rows, norm, row_bias, column_bias, columns = _unpacked(packed, UNIT_ROWS, width, UNITS)
    return norm, (rows.reshape(4 * width, width), row_bias.reshape(4 * width)), (columns, column_bias)


def attention_numbers(width: int) -> int:
    """How many `pack_attention` puts together for a block."""
    return sum(_sizes(QKV_ROWS, width, HEAD_WIDTH))


def mlp_numbers(width: int) -> int:
    """How many `pack_mlp` puts together for a block."""
    return sum(_sizes(UNIT_ROWS, width, UNITS))


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
