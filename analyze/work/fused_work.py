"""How much work does a kernel do that fuses several operators: Inductor's, our own or vLLM's?"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from .call import INT64, OperatorCall, TensorInput, UnrecordedError
from .vector_work import LAYER_NORM_FLOPS, RMS_NORM_FLOPS
from .work import Formula, Work, bytes_of, vector_peak

POINTWISE = "triton_poi_fused_"
REDUCTIONS = ("triton_red_fused_", "triton_per_fused_")
INDUCTOR = (POINTWISE, *REDUCTIONS)
"""The beginnings of the names of Inductor's pointwise and reduction kernels.

Its matrix multiplies (`tem`) are left out, because the trace does not record their shapes.
"""


def inductor(call: OperatorCall) -> Work:
    """A generated kernel (its tensors, then the lengths of its loops). Only its bytes are known, not its FLOPs.

    It moves at most as many elements of a tensor as its loops have iterations. This limits the bytes of a large table that it
    gathers from, or of a cache to which it writes one token.
    """
    tensors, iterations = list(call.tensors()), _iterations(call)
    moved = sum(min(tensor.bytes, iterations * tensor.dtype.bytes) for tensor in tensors)
    return Work(None, moved, vector_peak(tensors[0].dtype))


def _iterations(call: OperatorCall) -> int:
    """The number of iterations of a generated kernel's loops: the product of the numbers among its arguments.

    A pointwise kernel has one loop with an iteration for each element. A reduction has two, an outer and an inner one. Further
    numbers may be sizes that vary from run to run (dynamic shapes), or loops over two dimensions. Then the numbers count as
    loops if some tensor has as many elements as their product. Raises UnrecordedError if that is not so.
    """
    numbers = [call.integer(at) for at in range(len(call)) if call.types[at] == "Scalar"]
    elements = [tensor.elements for tensor in call.tensors()]
    found = prod(numbers)
    if not elements or (len(numbers) != 1 + call.name.startswith(REDUCTIONS) and found not in elements):
        raise UnrecordedError(f"the loops of {call.name} are not told")
    return found


# Our own operators; their arguments are those of kernels/ops.py and kernels/prefill_ops.py. Weights may be INT8. The last
# argument is then a scale for each output, and the products are still computed in the activations' type.


def _linear_flops(rows: TensorInput, weight: TensorInput) -> int:
    """FLOPs of a linear layer: two for each weight and row."""
    if len(rows.shape) != 2 or len(weight.shape) != 2:
        raise UnrecordedError("a fused linear layer of other than matrices")
    return 2 * rows.shape[0] * weight.elements


def embed_norm_qkv(call: OperatorCall) -> Work:
    """`embed_norm_qkv` (tokens, position, embeddings of both, gamma, beta, weight, bias, keys, values, scale).

    For each token a row of each embedding is read. Hidden state, query, key and value are written.
    """
    tokens, position, table, places, gamma, beta, weight, bias = (call.tensor(at) for at in range(8))
    hidden = TensorInput((tokens.elements, *gamma.shape), gamma.dtype)
    rows = 2 * hidden.size + bytes_of(tokens, position)
    flops = _linear_flops(hidden, weight) + (LAYER_NORM_FLOPS + 1) * hidden.elements
    if table.shape[1:] != gamma.shape or places.shape[1:] != gamma.shape:
        raise UnrecordedError("embeddings of another width")
    moved = rows + bytes_of(gamma, beta, weight, bias, call.optional(10)) + 4 * hidden.size
    return Work(flops, moved, hidden.dtype.name)


def norm_qkv(call: OperatorCall) -> Work:
    """`norm_qkv` (hidden, position, gamma, beta, weight, bias, keys, values, scale): query, key and value are written."""
    hidden, position, gamma, beta, weight, bias = (call.tensor(at) for at in range(6))
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements
    moved = bytes_of(hidden, position, gamma, beta, weight, bias, call.optional(8)) + 3 * hidden.size
    return Work(flops, moved, hidden.dtype.name)


def linear_residual(call: OperatorCall) -> Work:
    """`linear_residual` (x, weight, bias, residual, scale)."""
    x, weight, bias, residual = (call.tensor(at) for at in range(4))
    flops = _linear_flops(x, weight) + residual.elements
    return Work(flops, bytes_of(x, weight, bias, residual, call.optional(4)) + residual.size, x.dtype.name)


def norm_fc1_gelu(call: OperatorCall) -> Work:
    """`norm_fc1_gelu` (hidden, gamma, beta, weight, bias, scale)."""
    hidden, gamma, beta, weight, bias = (call.tensor(at) for at in range(5))
    out = TensorInput((*hidden.shape[:1], *weight.shape[:1]), hidden.dtype)
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements + out.elements
    return Work(flops, bytes_of(hidden, gamma, beta, weight, bias, call.optional(5)) + out.size, hidden.dtype.name)


def norm_lm_head(call: OperatorCall) -> Work:
    """`norm_lm_head` (hidden, gamma, beta, weight, scale): logits and tokens are written."""
    hidden, gamma, beta, weight = (call.tensor(at) for at in range(4))
    logits = TensorInput((*hidden.shape[:1], *weight.shape[:1]), hidden.dtype)
    flops = _linear_flops(hidden, weight) + LAYER_NORM_FLOPS * hidden.elements + logits.elements
    moved = bytes_of(hidden, gamma, beta, weight, call.optional(4)) + logits.size + hidden.shape[0] * INT64.bytes
    return Work(flops, moved, hidden.dtype.name)


def embed_layer_norm(call: OperatorCall) -> Work:
    """`embed_layer_norm` (tokens, positions, embeddings of both, gamma, beta): the sum and its layer norm are written.

    For each token a row of the token embedding is read, and for each position a row of the position embedding.
    """
    tokens, positions, _, _, gamma, beta = (call.tensor(at) for at in range(6))
    hidden = TensorInput((tokens.elements, *gamma.shape), gamma.dtype)
    read = bytes_of(tokens, positions, gamma, beta) + hidden.size + positions.elements * gamma.size
    return Work((LAYER_NORM_FLOPS + 1) * hidden.elements, read + 2 * hidden.size, vector_peak(hidden.dtype))


def bias_residual_layer_norm(call: OperatorCall) -> Work:
    """`bias_residual_layer_norm` (product, bias, hidden, gamma, beta): it writes the sum, in place, and its layer norm."""
    product, bias, hidden, gamma, beta = (call.tensor(at) for at in range(5))
    moved = bytes_of(product, bias, hidden, gamma, beta) + 2 * hidden.size
    return Work((LAYER_NORM_FLOPS + 2) * hidden.elements, moved, vector_peak(hidden.dtype))


def bias_gelu(call: OperatorCall) -> Work:
    """`bias_gelu` (x, bias), in place."""
    x, bias = call.tensor(0), call.tensor(1)
    return Work(2 * x.elements, bytes_of(x, bias) + x.size, vector_peak(x.dtype))


def flash_attention(call: OperatorCall) -> Work:
    """`flash_attention` (qkv, keys, values): causal, of whole prompts. It writes its output, the keys and the values."""
    qkv, keys = call.tensor(0), call.tensor(1)
    if len(qkv.shape) != 2 or len(keys.shape) != 4:
        raise UnrecordedError("attention of other than rows and a cache")
    batch, heads, _, width = keys.shape
    tokens = qkv.shape[0] // batch
    pairs = batch * heads * tokens * (tokens + 1) // 2
    return Work(4 * pairs * width, 2 * qkv.size, qkv.dtype.name)


# vLLM's operators


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
    "tracekit::embed_layer_norm": embed_layer_norm,
    "tracekit::bias_residual_layer_norm": bias_residual_layer_norm,
    "tracekit::bias_gelu": bias_gelu,
    "tracekit::flash_attention": flash_attention,
    "_C::rms_norm": vllm_rms_norm,
    "_C::fused_add_rms_norm": vllm_add_rms_norm,
    "_C_cache_ops::reshape_and_cache_flash": vllm_cache_store,
}
"""The formula of each operator, by name.

`tracekit::decode_attention` and `decode_step` have none: how much of the cache they read is known only on the device.
"""
