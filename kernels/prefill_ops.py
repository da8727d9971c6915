"""How does PyTorch call a prefill's kernels?

They are operators `torch.ops.tracekit.*`. On a CPU they run `prefill_reference`.

Tensors have the shapes that `prefill_reference` describes. They are FP16, contiguous and on one device, with a batch of 1 to 16
and any width to which `shape.obstacle` has no objection. Anything else raises ValueError before anything runs. A token out of
range, or a position that is not its place in the prompt, traps on the device.
"""

# Fakes and checks repeat the parameters of an operator, which are all tensors. Only the operator itself annotates them.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from . import prefill_reference as reference
from .checks import any_head_width, check_capability, check_shape, require, sizes
from .prefill import FLASH_HEAD_WIDTH, PrefillKernels, prefill_kernels
from .prefill import flash_attention as flash_kernel


@custom_op("tracekit::embed_layer_norm", mutates_args=())
def embed_layer_norm(
    tokens: Tensor, positions: Tensor, token_embedding: Tensor, position_embedding: Tensor, gamma: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Works as `prefill_reference.embed_layer_norm` does."""
    _check_embed(tokens, positions, token_embedding, position_embedding, gamma, beta)
    if not gamma.is_cuda:
        return reference.embed_layer_norm(tokens, positions, token_embedding, position_embedding, gamma, beta)
    hidden, normal = (gamma.new_empty((tokens.numel(), len(gamma))) for _ in range(2))
    _kernels(len(gamma), gamma.device).embed_norm(
        tokens, positions, (token_embedding, position_embedding), (gamma, beta), hidden, normal
    )
    return hidden, normal


@embed_layer_norm.register_fake
def _(tokens, positions, token_embedding, position_embedding, gamma, beta):
    _check_embed(tokens, positions, token_embedding, position_embedding, gamma, beta)
    shape = (tokens.shape[0] * tokens.shape[1], gamma.shape[0])
    return gamma.new_empty(shape), gamma.new_empty(shape)


@custom_op("tracekit::bias_residual_layer_norm", mutates_args=("hidden",))
def bias_residual_layer_norm(product: Tensor, bias: Tensor, hidden: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Works as `prefill_reference.bias_residual_layer_norm` does."""
    _check_residual(product, bias, hidden, gamma, beta)
    if not hidden.is_cuda:
        return reference.bias_residual_layer_norm(product, bias, hidden, gamma, beta)
    normal = torch.empty_like(hidden)
    _kernels(len(gamma), gamma.device).residual_norm(product, bias, (gamma, beta), hidden, normal)
    return normal


@bias_residual_layer_norm.register_fake
def _(product, bias, hidden, gamma, beta):
    _check_residual(product, bias, hidden, gamma, beta)
    return torch.empty_like(hidden)


@custom_op("tracekit::bias_gelu", mutates_args=("x",))
def bias_gelu(x: Tensor, bias: Tensor) -> None:
    """Works as `prefill_reference.bias_gelu` does, for tensors four times as wide as a model."""
    width = _check_gelu(x, bias)
    if not x.is_cuda:
        return reference.bias_gelu(x, bias)
    _kernels(width, x.device).gelu(x, bias)
    return None


@bias_gelu.register_fake
def _(x, bias):
    _check_gelu(x, bias)


@custom_op("tracekit::flash_attention", mutates_args=("keys", "values"))
def flash_attention(qkv: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Works as `prefill_reference.flash_attention` does, for heads 64 wide."""
    _check_attention(qkv, keys, values)
    if not qkv.is_cuda:
        return reference.flash_attention(qkv, keys, values)
    check_capability(qkv.device)
    out = qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3))
    flash_kernel(qkv.device.index)(qkv, keys, values, out)
    return out


@flash_attention.register_fake
def _(qkv, keys, values):
    _check_attention(qkv, keys, values)
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3))


def _kernels(width: int, device: torch.device) -> PrefillKernels:
    check_capability(device)
    return prefill_kernels(device.index, width)


def _check_embed(tokens, positions, token_embedding, position_embedding, gamma, beta) -> None:
    op, width = "embed_layer_norm", _length("embed_layer_norm", "gamma", gamma)
    batch, count = sizes(op, "tokens", tokens, 2)
    check_shape(op, width, any_head_width(width), batch)
    require(op, "tokens", tokens, (batch, count), gamma, torch.int64)
    require(op, "positions", positions, (count,), gamma, torch.int64)
    require(op, "token_embedding", token_embedding, (token_embedding.shape[0], width), gamma)
    require(op, "position_embedding", position_embedding, (position_embedding.shape[0], width), gamma)
    require(op, "gamma", gamma, (width,), gamma)
    require(op, "beta", beta, (width,), gamma)
    if not 0 < count <= position_embedding.shape[0]:
        raise ValueError(f"{op}: a prompt must have 1 to {position_embedding.shape[0]} tokens, not {count}")


def _check_residual(product, bias, hidden, gamma, beta) -> None:
    op, width = "bias_residual_layer_norm", _length("bias_residual_layer_norm", "gamma", gamma)
    rows = _rows(op, "hidden", hidden)
    check_shape(op, width, any_head_width(width), 1)
    require(op, "hidden", hidden, (rows, width), hidden)
    require(op, "product", product, (rows, width), hidden)
    for name, tensor in (("bias", bias), ("gamma", gamma), ("beta", beta)):
        require(op, name, tensor, (width,), hidden)


def _check_gelu(x, bias) -> int:
    """The width of the model whose MLP is as wide inside as `x`. Raises ValueError if there is none or tensors do not fit."""
    op, columns = "bias_gelu", _length("bias_gelu", "bias", bias)
    if columns % 4:
        raise ValueError(f"{op}: {columns} columns are not four times a width")
    check_shape(op, columns // 4, any_head_width(columns // 4), 1)
    require(op, "x", x, (_rows(op, "x", x), columns), x)
    require(op, "bias", bias, (columns,), x)
    return columns // 4


def _check_attention(qkv, keys, values) -> None:
    op, rows = "flash_attention", _rows("flash_attention", "qkv", qkv)
    batch, heads, length, head_width = sizes(op, "keys", keys, 4)
    width = heads * head_width
    if head_width != FLASH_HEAD_WIDTH:
        raise ValueError(f"{op}: heads must be {FLASH_HEAD_WIDTH} wide, not {head_width}")
    check_shape(op, width, head_width, batch)
    if rows % batch or rows // batch > length:
        raise ValueError(f"{op}: {rows} rows are not 1 to {length} tokens for each of {batch} prompts")
    require(op, "qkv", qkv, (rows, 3 * width), qkv)
    require(op, "keys", keys, (batch, heads, length, head_width), qkv)
    require(op, "values", values, (batch, heads, length, head_width), qkv)


def _rows(op: str, name: str, tensor: Tensor) -> int:
    rows = sizes(op, name, tensor, 2)[0]
    if not rows:
        raise ValueError(f"{op}: {name} has no rows")
    return int(rows)


def _length(op: str, name: str, tensor: Tensor) -> int:
    return int(sizes(op, name, tensor, 1)[0])
