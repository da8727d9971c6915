"""How much work is a kernel that fuses several operators: Inductor's, our own, vLLM's?"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from .call import INT64, OperatorCall, TensorInput, UnrecordedError
from .vector_work import LAYER_NORM_FLOPS, RMS_NORM_FLOPS
from .work import Formula, Work, bytes_of, vector_peak

POINTWISE = "triton_poi_fused_"
REDUCTIONS = ("triton_red_fused_", "triton_per_fused_")
INDUCTOR = (POINTWISE, *REDUCTIONS)
"""How the names of Inductor's pointwise and reduction kernels begin; its matrix multiplies (`tem`) do not tell their shapes."""


def inductor(call: OperatorCall) -> Work:
    """A generated kernel (its tensors, then the lengths of its loops): bytes alone, as no one tells its FLOPs.

    It touches no tensor more often than its loops have iterations: of a table it gathers from, or a cache it writes one
    token to, only that much.
    """
    tensors, iterations = list(call.tensors()), _iterations(call)
    moved = sum(min(tensor.bytes, iterations * tensor.dtype.bytes) for tensor in tensors)
    return Work(None, moved, vector_peak(tensors[0].dtype))


def _iterations(call: OperatorCall) -> int:
    """How often the loops run: once for each element pointwise, and in two loops, outer and inner, in a reduction.

    Further numbers may be sizes that vary from run to run (dynamic shapes), or loops over two dimensions: those are loops if
    some tensor has as many elements. Raises UnrecordedError if that cannot be told.
    """
    numbers = [call.integer(at) for at in range(len(call)) if call.types[at] == "Scalar"]
    elements = [tensor.elements for tensor in call.tensors()]
    found = prod(numbers)
    if not elements or (len(numbers) != 1 + call.name.startswith(REDUCTIONS) and found not in elements):
        raise UnrecordedError(f"the loops of {call.name} are not told")
    return found


# Our own, as kernels/ops.py has their arguments.


def _linear_flops(rows: TensorInput, weight: TensorInput) -> int:
    """Two for each weight and row."""
    if len(rows.shape) != 2 or len(weight.shape) != 2:
        raise UnrecordedError("a fused linear layer of other than matrices")
    return 2 * rows.shape[0] * weight.elements


def embed_norm_qkv(call: OperatorCall) -> Work:
    """`embed_norm_qkv` (tokens, position, embeddings of both, gamma, beta, weight, bias, keys, values).

    A row of each embedding is read for a token; hidden state, query, key and value are written.
    """
    tokens, position, table, places, gamma, beta, weight, bias = (call.tensor(at) for at in range(8))
    hidden = TensorInput((tokens.elements, *gamma.shape), weight.dtype)
    rows = 2 * hidden.size + bytes_of(tokens, position)
    flops = _linear_flops(hidden, weight) + (LAYER_NORM_FLOPS + 1) * hidden.elements
    if table.shape[1:] != gamma.shape or places.shape[1:] != gamma.shape:
        raise UnrecordedError("embeddings of another width")
    return Work(flops, rows + bytes_of(gamma, beta, weight, bias) + 4 * hidden.size, weight.dtype.name)


def norm_qkv(call: OperatorCall) -> Work:
    """`norm_qkv` (hidden, position, gamma, beta, weight, bias, keys, values): query, key and value are written."""
    hidden, position, gamma, beta, weight, bias = (call.tensor(at) for at in range(6))
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements
    moved = bytes_of(hidden, position, gamma, beta, weight, bias) + 3 * hidden.size
    return Work(flops, moved, weight.dtype.name)


def linear_residual(call: OperatorCall) -> Work:
    """`linear_residual` (x, weight, bias, residual)."""
    x, weight, bias, residual = (call.tensor(at) for at in range(4))
    flops = _linear_flops(x, weight) + residual.elements
    return Work(flops, bytes_of(x, weight, bias, residual) + residual.size, weight.dtype.name)


def norm_fc1_gelu(call: OperatorCall) -> Work:
    """`norm_fc1_gelu` (hidden, gamma, beta, weight, bias)."""
    hidden, gamma, beta, weight, bias = (call.tensor(at) for at in range(5))
    out = TensorInput((*hidden.shape[:1], *weight.shape[:1]), hidden.dtype)
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements + out.elements
    return Work(flops, bytes_of(hidden, gamma, beta, weight, bias) + out.size, weight.dtype.name)


def norm_lm_head(call: OperatorCall) -> Work:
    """`norm_lm_head` (hidden, gamma, beta, weight): logits and tokens are written."""
    hidden, gamma, beta, weight = (call.tensor(at) for at in range(4))
    logits = TensorInput((*hidden.shape[:1], *weight.shape[:1]), hidden.dtype)
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements + logits.elements
    moved = bytes_of(hidden, gamma, beta, weight) + logits.size + hidden.shape[0] * INT64.bytes
    return Work(flops, moved, weight.dtype.name)


# vLLM's


def vllm_rms_norm(call: OperatorCall) -> Work:
    """`rms_norm` (out, input, weight)."""
    out, rows, weight = (call.tensor(at) for at in range(3))
    return Work(RMS_NORM_FLOPS * rows.elements, bytes_of(rows, weight) + out.size, vector_peak(rows.dtype))


def vllm_add_rms_norm(call: OperatorCall) -> Work:
    """`fused_add_rms_norm` (input, residual, weight): both are read and written."""
    rows, residual, weight = (call.tensor(at) for at in range(3))
    flops = (RMS_NORM_FLOPS + 1) * rows.elements
    return Work(flops, bytes_of(rows, residual, weight) + rows.size + residual.size, vector_peak(rows.dtype))


def vllm_cache_store(call: OperatorCall) -> Work:
    """`reshape_and_cache_flash` (key, value, key_cache, value_cache, slot_mapping)."""
    key, value, key_cache, value_cache, slots = (call.tensor(at) for at in range(5))
    written = key.elements * key_cache.dtype.bytes + value.elements * value_cache.dtype.bytes
    return Work(0, bytes_of(key, value, slots) + written, "fp32")


FORMULAS: Mapping[str, Formula] = {
    "tracekit::embed_norm_qkv": embed_norm_qkv,
    "tracekit::norm_qkv": norm_qkv,
    "tracekit::linear_residual": linear_residual,
    "tracekit::norm_fc1_gelu": norm_fc1_gelu,
    "tracekit::norm_lm_head": norm_lm_head,
    "_C::rms_norm": vllm_rms_norm,
    "_C::fused_add_rms_norm": vllm_add_rms_norm,
    "_C_cache_ops::reshape_and_cache_flash": vllm_cache_store,
}
"""By operator. `tracekit::decode_attention` is not here: how much of its cache it reads lies on the device."""
