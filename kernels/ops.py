"""How does PyTorch call the fused kernels?

They are operators `torch.ops.tracekit.*`. On CUDA they run the kernels, on a CPU they run `reference`.

Tensors have the shapes that `reference` describes. They are FP16, contiguous and on one device, with a batch of 1 to 16 and any
width to which `shape.obstacle` has no objection. A `weight` is FP16, or INT8 as `reference.quantize` makes it; then `scale`,
FP32 [outputs], has one scale for each output. Anything else raises ValueError before anything runs. A token or position out of
range, which the host does not know, traps on the device. On a CPU it raises ValueError.

Each operator begins with a function that checks its arguments and allocates its results. The same function is its fake kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from . import reference
from .checks import any_head_width, check_capability, check_range, check_shape, require, sizes
from .decode import DecodeKernels, Linear, decode_kernels
from .shape import Shape


def _new_hidden_and_query(
    tokens: Tensor,
    position: Tensor,
    token_embedding: Tensor,
    position_embedding: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    op = "embed_norm_qkv"
    batch, width = sizes(op, "tokens", tokens, 2)[0], sizes(op, "gamma", gamma, 1)[0]
    require(op, "tokens", tokens, (batch, 1), gamma, torch.int64)
    require(op, "token_embedding", token_embedding, (token_embedding.shape[0], width), gamma)
    require(op, "position_embedding", position_embedding, (position_embedding.shape[0], width), gamma)
    _check_norm(op, width, gamma, beta, keys)
    _check_linear(op, Linear(weight, bias, scale), 3 * width, width, keys)
    _check_cache(op, batch, width, position, keys, values)
    if keys.shape[2] > position_embedding.shape[0]:
        raise ValueError(f"{op}: the cache of {keys.shape[2]} tokens is longer than position_embedding")
    return keys.new_empty((batch, width)), keys.new_empty((batch, width))


@custom_op("tracekit::embed_norm_qkv", mutates_args=("keys", "values"))
def embed_norm_qkv(
    tokens: Tensor,
    position: Tensor,
    token_embedding: Tensor,
    position_embedding: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden states and query, both [batch, width], of `tokens`, int64 [batch, 1].

    The new key and value go into the cache.
    """
    embeddings = (token_embedding, position_embedding)
    hidden, query = _new_hidden_and_query(tokens, position, *embeddings, gamma, beta, weight, bias, keys, values, scale)
    if not keys.is_cuda:
        check_range("embed_norm_qkv", "tokens", tokens, token_embedding.shape[0])
        check_range("embed_norm_qkv", "position", position, keys.shape[2])
        hidden = reference.embed(tokens, position, *embeddings)
        return hidden, reference.norm_qkv(hidden, position, gamma, beta, weight, bias, keys, values, scale)
    linear, cache = Linear(weight, bias, scale), (keys, values)
    run = _kernels(hidden, keys.shape[3])
    run.embed_norm_qkv(tokens, position, embeddings, (gamma, beta), linear, cache, hidden, query)
    return hidden, query


embed_norm_qkv.register_fake(_new_hidden_and_query)


def _new_query(
    hidden: Tensor,
    position: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    op = "norm_qkv"
    batch, width = sizes(op, "hidden", hidden, 2)
    require(op, "hidden", hidden, (batch, width), hidden)
    _check_norm(op, width, gamma, beta, keys)
    _check_linear(op, Linear(weight, bias, scale), 3 * width, width, keys)
    _check_cache(op, batch, width, position, keys, values)
    return torch.empty_like(hidden)


@custom_op("tracekit::norm_qkv", mutates_args=("keys", "values"))
def norm_qkv(
    hidden: Tensor,
    position: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    """Works as `reference.norm_qkv` does."""
    query = _new_query(hidden, position, gamma, beta, weight, bias, keys, values, scale)
    if not hidden.is_cuda:
        check_range("norm_qkv", "position", position, keys.shape[2])
        return reference.norm_qkv(hidden, position, gamma, beta, weight, bias, keys, values, scale)
    linear = Linear(weight, bias, scale)
    _kernels(hidden, keys.shape[3]).norm_qkv(hidden, position, (gamma, beta), linear, (keys, values), query)
    return query


norm_qkv.register_fake(_new_query)


def _new_gathered(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    op = "decode_attention"
    batch, width = sizes(op, "query", query, 2)
    _check_cache(op, batch, width, position, keys, values)
    require(op, "query", query, (batch, width), keys)
    return torch.empty_like(query)


@custom_op("tracekit::decode_attention", mutates_args=())
def decode_attention(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Works as `reference.attention` does."""
    out = _new_gathered(query, position, keys, values)
    if not query.is_cuda:
        check_range("decode_attention", "position", position, keys.shape[2])
        return reference.attention(query, position, keys, values)
    _kernels(query, keys.shape[3]).attention(query, position, (keys, values), out)
    return out


decode_attention.register_fake(_new_gathered)


def _new_sum(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, scale: Tensor | None = None) -> Tensor:
    op = "linear_residual"
    batch, width = sizes(op, "residual", residual, 2)
    inputs = sizes(op, "x", x, 2)[1]
    check_shape(op, width, any_head_width(width), batch)
    if inputs not in (width, 4 * width):
        raise ValueError(f"{op}: x is {inputs} wide, it must be {width} or {4 * width}")
    require(op, "residual", residual, (batch, width), residual)
    require(op, "x", x, (batch, inputs), residual)
    _check_linear(op, Linear(weight, bias, scale), width, inputs, residual)
    return torch.empty_like(residual)


@custom_op("tracekit::linear_residual", mutates_args=())
def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, scale: Tensor | None = None) -> Tensor:
    """Works as `reference.linear_residual` does. `x` is as wide as `residual`, or four times as wide."""
    out = _new_sum(x, weight, bias, residual, scale)
    if not x.is_cuda:
        return reference.linear_residual(x, weight, bias, residual, scale)
    run = _kernels(residual)
    (run.projection if x.shape == residual.shape else run.fc2)(x, Linear(weight, bias, scale), residual, out)
    return out


linear_residual.register_fake(_new_sum)


def _new_inner(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None = None
) -> Tensor:
    op = "norm_fc1_gelu"
    batch, width = _check_hidden(op, hidden, gamma, beta)
    _check_linear(op, Linear(weight, bias, scale), 4 * width, width, hidden)
    return hidden.new_empty((batch, 4 * width))


@custom_op("tracekit::norm_fc1_gelu", mutates_args=())
def norm_fc1_gelu(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None = None
) -> Tensor:
    """Works as `reference.norm_fc1_gelu` does."""
    out = _new_inner(hidden, gamma, beta, weight, bias, scale)
    if not hidden.is_cuda:
        return reference.norm_fc1_gelu(hidden, gamma, beta, weight, bias, scale)
    _kernels(hidden).fc1(hidden, (gamma, beta), Linear(weight, bias, scale), out)
    return out


norm_fc1_gelu.register_fake(_new_inner)


def _new_token_and_logits(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    op = "norm_lm_head"
    batch, width = _check_hidden(op, hidden, gamma, beta)
    vocabulary = sizes(op, "weight", weight, 2)[0]
    if not vocabulary:
        raise ValueError(f"{op}: weight must have a row for each of one or more tokens")
    _check_linear(op, Linear(weight, scale=scale), vocabulary, width, hidden)
    return hidden.new_empty((batch, 1), dtype=torch.int64), hidden.new_empty((batch, vocabulary))


@custom_op("tracekit::norm_lm_head", mutates_args=())
def norm_lm_head(
    hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Works as `reference.norm_lm_head` does."""
    token, logits = _new_token_and_logits(hidden, gamma, beta, weight, scale)
    if not hidden.is_cuda:
        return reference.norm_lm_head(hidden, gamma, beta, weight, scale)
    run = _kernels(hidden)
    run.head(hidden, (gamma, beta), Linear(weight, scale=scale), run.best(hidden.device), token, logits)
    return token, logits


norm_lm_head.register_fake(_new_token_and_logits)


def _kernels(hidden: Tensor, head_width: int | None = None) -> DecodeKernels:
    """The kernels for hidden states, [batch, width].

    Operators that work without heads need no `head_width`; any one that fits the width will do.
    """
    check_capability(hidden.device)
    batch, width = hidden.shape
    return decode_kernels(hidden.device.index, Shape(width, head_width or any_head_width(width), batch))


def _check_hidden(op: str, hidden: Tensor, gamma: Tensor, beta: Tensor) -> tuple[int, int]:
    batch, width = sizes(op, "hidden", hidden, 2)
    check_shape(op, width, any_head_width(width), batch)
    require(op, "hidden", hidden, (batch, width), hidden)
    _check_norm(op, width, gamma, beta, hidden)
    return batch, width


def _check_norm(op: str, width: int, gamma: Tensor, beta: Tensor, like: Tensor) -> None:
    require(op, "gamma", gamma, (width,), like)
    require(op, "beta", beta, (width,), like)


def _check_linear(op: str, linear: Linear, outputs: int, inputs: int, like: Tensor) -> None:
    dtype = torch.float16 if linear.scale is None else torch.int8
    require(op, "weight", linear.weight, (outputs, inputs), like, dtype)
    if linear.bias is not None:
        require(op, "bias", linear.bias, (outputs,), like)
    if linear.scale is not None:
        require(op, "scale", linear.scale, (outputs,), like, torch.float32)


def _check_cache(op: str, batch: int, width: int, position: Tensor, keys: Tensor, values: Tensor) -> None:
    _, heads, length, head_width = sizes(op, "keys", keys, 4)
    if heads * head_width != width:
        raise ValueError(f"{op}: {heads} heads of {head_width} do not make a width of {width}")
    check_shape(op, width, head_width, batch)
    if not length:
        raise ValueError(f"{op}: keys must have room for one or more tokens")
    require(op, "keys", keys, (batch, heads, length, head_width), keys)
    require(op, "values", values, (batch, heads, length, head_width), keys)
    require(op, "position", position, (1,), keys, torch.int64)
