"""How does PyTorch call the fused kernels? As operators `torch.ops.tracekit.*`, on CUDA by them, on a CPU by `reference`.

Shapes are those of `reference`: FP16, contiguous, one device, a batch of 1 to 16, any width that `decode.obstacle` lets
pass. Whatever else comes raises ValueError, before anything runs. A token or position out of range, which the host does
not know, traps on the device; on a CPU it raises as well.
"""

# Fakes and checks repeat an operator's parameters, all tensors: the operator itself is where they are annotated.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from . import reference
from .decode import CAPABILITY, HEAD_WIDTHS, DecodeKernels, decode_kernels, obstacle

Sizes = tuple[int, ...]


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
) -> tuple[Tensor, Tensor]:
    """Hidden states and query, both [batch, width], of tokens, int64 [batch, 1]; key and value go into the cache."""
    _check_embed(tokens, position, token_embedding, position_embedding, gamma, beta, weight, bias, keys, values)
    if not keys.is_cuda:
        _check_range("embed_norm_qkv", "tokens", tokens, token_embedding.shape[0])
        _check_range("embed_norm_qkv", "position", position, keys.shape[2])
        hidden = reference.embed(tokens, position, token_embedding, position_embedding)
        return hidden, reference.norm_qkv(hidden, position, gamma, beta, weight, bias, keys, values)
    hidden, query = (keys.new_empty((len(tokens), gamma.shape[0])) for _ in range(2))
    _kernels(hidden, keys.shape[3]).embed_norm_qkv(
        tokens, position, (token_embedding, position_embedding), (gamma, beta), (weight, bias), (keys, values), hidden, query
    )
    return hidden, query


@embed_norm_qkv.register_fake
def _(tokens, position, token_embedding, position_embedding, gamma, beta, weight, bias, keys, values):
    _check_embed(tokens, position, token_embedding, position_embedding, gamma, beta, weight, bias, keys, values)
    shape = (tokens.shape[0], gamma.shape[0])
    return keys.new_empty(shape), keys.new_empty(shape)


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
) -> Tensor:
    """As of `reference.norm_qkv`."""
    _check_qkv("norm_qkv", hidden, position, gamma, beta, weight, bias, keys, values)
    if not hidden.is_cuda:
        _check_range("norm_qkv", "position", position, keys.shape[2])
        return reference.norm_qkv(hidden, position, gamma, beta, weight, bias, keys, values)
    query = torch.empty_like(hidden)
    _kernels(hidden, keys.shape[3]).norm_qkv(hidden, position, (gamma, beta), (weight, bias), (keys, values), query)
    return query


@norm_qkv.register_fake
def _(hidden, position, gamma, beta, weight, bias, keys, values):
    _check_qkv("norm_qkv", hidden, position, gamma, beta, weight, bias, keys, values)
    return torch.empty_like(hidden)


@custom_op("tracekit::decode_attention", mutates_args=())
def decode_attention(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As of `reference.attention`."""
    _check_attention(query, position, keys, values)
    if not query.is_cuda:
        _check_range("decode_attention", "position", position, keys.shape[2])
        return reference.attention(query, position, keys, values)
    out = torch.empty_like(query)
    _kernels(query, keys.shape[3]).attention(query, position, (keys, values), out)
    return out


@decode_attention.register_fake
def _(query, position, keys, values):
    _check_attention(query, position, keys, values)
    return torch.empty_like(query)


@custom_op("tracekit::linear_residual", mutates_args=())
def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """As of `reference.linear_residual`; x has the width of `residual` or four times as much."""
    _check_residual(x, weight, bias, residual)
    if not x.is_cuda:
        return reference.linear_residual(x, weight, bias, residual)
    out = torch.empty_like(residual)
    run = _kernels(residual)
    (run.projection if x.shape == residual.shape else run.fc2)(x, (weight, bias), residual, out)
    return out


@linear_residual.register_fake
def _(x, weight, bias, residual):
    _check_residual(x, weight, bias, residual)
    return torch.empty_like(residual)


@custom_op("tracekit::norm_fc1_gelu", mutates_args=())
def norm_fc1_gelu(hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As of `reference.norm_fc1_gelu`."""
    _check_fc1(hidden, gamma, beta, weight, bias)
    if not hidden.is_cuda:
        return reference.norm_fc1_gelu(hidden, gamma, beta, weight, bias)
    out = hidden.new_empty((hidden.shape[0], weight.shape[0]))
    _kernels(hidden).fc1(hidden, (gamma, beta), (weight, bias), out)
    return out


@norm_fc1_gelu.register_fake
def _(hidden, gamma, beta, weight, bias):
    _check_fc1(hidden, gamma, beta, weight, bias)
    return hidden.new_empty((hidden.shape[0], weight.shape[0]))


@custom_op("tracekit::norm_lm_head", mutates_args=())
def norm_lm_head(hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """As of `reference.norm_lm_head`."""
    _check_head(hidden, gamma, beta, weight)
    if not hidden.is_cuda:
        return reference.norm_lm_head(hidden, gamma, beta, weight)
    token = torch.empty((hidden.shape[0], 1), dtype=torch.int64, device=hidden.device)
    logits = hidden.new_empty((hidden.shape[0], weight.shape[0]))
    run = _kernels(hidden)
    run.head(hidden, (gamma, beta), weight, run.best(hidden.device), token, logits)
    return token, logits


@norm_lm_head.register_fake
def _(hidden, gamma, beta, weight):
    _check_head(hidden, gamma, beta, weight)
    batch = hidden.shape[0]
    return hidden.new_empty((batch, 1), dtype=torch.int64), hidden.new_empty((batch, weight.shape[0]))


def _kernels(hidden: Tensor, head_width: int | None = None) -> DecodeKernels:
    """The kernels for hidden states, [batch, width]; those that know no heads take any width of theirs."""
    capability = torch.cuda.get_device_capability(hidden.device)
    if capability < CAPABILITY:
        needed, found = (f"{major}.{minor}" for major, minor in (CAPABILITY, capability))
        raise ValueError(f"the kernels need compute capability {needed}, this is {found}")
    batch, width = hidden.shape
    return decode_kernels(hidden.device.index, width, head_width or _any_head_width(width), batch)


def _any_head_width(width: int) -> int:
    return 64 if width % 64 == 0 else HEAD_WIDTHS[0]


def _check_embed(tokens, position, token_embedding, position_embedding, gamma, beta, weight, bias, keys, values) -> None:
    op = "embed_norm_qkv"
    batch, width = _sizes(op, "tokens", tokens, 2)[0], _sizes(op, "gamma", gamma, 1)[0]
    _require(op, "tokens", tokens, (batch, 1), gamma, torch.int64)
    _require(op, "token_embedding", token_embedding, (token_embedding.shape[0], width), gamma)
    _require(op, "position_embedding", position_embedding, (position_embedding.shape[0], width), gamma)
    _check_cache(op, batch, width, position, gamma, beta, weight, bias, keys, values)
    if keys.shape[2] > position_embedding.shape[0]:
        raise ValueError(f"{op}: the cache of {keys.shape[2]} tokens is longer than position_embedding")


def _check_qkv(op, hidden, position, gamma, beta, weight, bias, keys, values) -> None:
    batch, width = _sizes(op, "hidden", hidden, 2)
    _require(op, "hidden", hidden, (batch, width), hidden)
    _check_cache(op, batch, width, position, gamma, beta, weight, bias, keys, values)


def _check_cache(op, batch, width, position, gamma, beta, weight, bias, keys, values) -> None:
    _require(op, "gamma", gamma, (width,), keys)
    _require(op, "beta", beta, (width,), keys)
    _require(op, "weight", weight, (3 * width, width), keys)
    _require(op, "bias", bias, (3 * width,), keys)
    _check_keys(op, batch, width, position, keys, values)


def _check_keys(op: str, batch: int, width: int, position: Tensor, keys: Tensor, values: Tensor) -> None:
    _, heads, length, head_width = _sizes(op, "keys", keys, 4)
    if heads * head_width != width:
        raise ValueError(f"{op}: {heads} heads of {head_width} do not make a width of {width}")
    _check_shape(op, width, head_width, batch)
    if not length:
        raise ValueError(f"{op}: keys must have room for one or more tokens")
    _require(op, "keys", keys, (batch, heads, length, head_width), keys)
    _require(op, "values", values, (batch, heads, length, head_width), keys)
    _require(op, "position", position, (1,), keys, torch.int64)


def _check_attention(query: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> None:
    op = "decode_attention"
    batch, width = _sizes(op, "query", query, 2)
    _check_keys(op, batch, width, position, keys, values)
    _require(op, "query", query, (batch, width), keys)


def _check_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> None:
    op = "linear_residual"
    batch, width = _sizes(op, "residual", residual, 2)
    inputs = _sizes(op, "x", x, 2)[1]
    _check_shape(op, width, _any_head_width(width), batch)
    if inputs not in (width, 4 * width):
        raise ValueError(f"{op}: x is {inputs} wide, it must be {width} or {4 * width}")
    _require(op, "residual", residual, (batch, width), residual)
    _require(op, "x", x, (batch, inputs), residual)
    _require(op, "weight", weight, (width, inputs), residual)
    _require(op, "bias", bias, (width,), residual)


def _check_fc1(hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor) -> None:
    op, width = "norm_fc1_gelu", _check_hidden("norm_fc1_gelu", hidden, gamma, beta)
    _require(op, "weight", weight, (4 * width, width), hidden)
    _require(op, "bias", bias, (4 * width,), hidden)


def _check_head(hidden: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor) -> None:
    width = _check_hidden("norm_lm_head", hidden, gamma, beta)
    vocabulary = _sizes("norm_lm_head", "weight", weight, 2)[0]
    if not vocabulary:
        raise ValueError("norm_lm_head: weight must have a row for each of one or more tokens")
    _require("norm_lm_head", "weight", weight, (vocabulary, width), hidden)


def _check_hidden(op: str, hidden: Tensor, gamma: Tensor, beta: Tensor) -> int:
    batch, width = _sizes(op, "hidden", hidden, 2)
    _check_shape(op, width, _any_head_width(width), batch)
    _require(op, "hidden", hidden, (batch, width), hidden)
    _require(op, "gamma", gamma, (width,), hidden)
    _require(op, "beta", beta, (width,), hidden)
    return width


def _check_shape(op: str, width: int, head_width: int, batch: int) -> None:
    problem = obstacle(width, head_width, batch)
    if problem is not None:
        raise ValueError(f"{op}: {problem}")


def _check_range(op: str, name: str, tensor: Tensor, end: int) -> None:
    """Raise ValueError unless all values are from 0 to below `end`. The host must have them, or it would wait."""
    if int(tensor.min()) < 0 or int(tensor.max()) >= end:
        raise ValueError(f"{op}: {name} must be 0 to {end - 1}, not {tensor.flatten().tolist()}")


def _sizes(op: str, name: str, tensor: Tensor, dimensions: int) -> Sizes:
    if tensor.dim() != dimensions:
        raise ValueError(f"{op}: {name} must have {dimensions} dimensions, not {tensor.dim()}")
    return tuple(tensor.shape)


def _require(op: str, name: str, tensor: Tensor, sizes: Sizes, like: Tensor, dtype: torch.dtype = torch.float16) -> None:
    """Raise ValueError unless the tensor is as it must be; it lies where `like` does."""
    if tensor.dtype != dtype:
        raise ValueError(f"{op}: {name} must be {str(dtype)[6:]}, not {str(tensor.dtype)[6:]}")
    if tuple(tensor.shape) != sizes:
        raise ValueError(f"{op}: {name} must be {list(sizes)}, not {list(tensor.shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, the others are on {like.device}")
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{op}: there are kernels for cuda and cpu, not for {tensor.device.type}")
    if not tensor.is_contiguous():
        raise ValueError(f"{op}: {name} must be contiguous")
    if dtype == torch.float16 and tensor.storage_offset() % 8:
        raise ValueError(f"{op}: {name} must begin at a multiple of 16 bytes")
