"""How much must one decode step of GPT-2 at least read, write and compute, whichever kernels do it?

Kernels of a CUDA graph have no recorded shapes, but the run manifest beside a trace describes the model. For every token, the
weights must be read once, and so must the keys and values of all tokens before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

ITEM_BYTES = {"float32": ("fp32", 4), "float16": ("fp16", 2), "bfloat16": ("bf16", 2)}
"""For each dtype, the datasheet's peak for its arithmetic, and the size of an element in bytes."""

INT8 = "int8"
SCALE_BYTES = 4
ACTIVATIONS = 40
"""The number of elements that a layer's operators read and write for a token if each is a kernel of its own.

The unit is the width of the model. Read + written: norms 2 + 2, QKV 1 + 3, cache 2 + 2, attention 1 + 1, projection 1 + 1,
residuals 3 + 3, FC1 1 + 4, GELU 4 + 4, FC2 4 + 1.
"""


@dataclass(frozen=True)
class DecodeStep:
    """One decode step at the mean length of a run, in bytes and FLOPs.

    `peak` is the datasheet's peak with which the FLOPs are compared. `context` is the mean number of tokens that the step
    attends to, including its own.
    """

    weight_bytes: int
    cache_bytes: int
    activation_bytes: int
    flops: int
    peak: str
    context: float

    @property
    def bytes(self) -> int:
        """All bytes that must move."""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


def decode_step(run: RunManifest) -> DecodeStep | None:
    """The decode step of a run that generates with a KV cache. None for any other run and for an unknown dtype."""
    if run.workload.kind != "generate" or run.workload.new_tokens < 2 or run.dtype not in ITEM_BYTES:
        return None
    peak, item = ITEM_BYTES[run.dtype]
    width, layers, vocabulary, batch = run.model.width, run.model.layers, run.model.vocab_size, run.workload.batch
    # The prefill makes the first new token. So decode step i attends to prompt + i tokens, including its own.
    context = run.workload.prompt_tokens + run.workload.new_tokens / 2
    return DecodeStep(
        weight_bytes=weight_bytes(layers, width, vocabulary, batch, item, run.weights.dtype == INT8),
        cache_bytes=round(cache_bytes(layers, width, batch, item, context)),
        activation_bytes=(ACTIVATIONS * layers * width + 3 * width + 2 * vocabulary) * batch * item,
        flops=round(batch * (2 * _matrices(layers, width, vocabulary) + 4 * layers * context * width)),
        peak=peak,
        context=context,
    )


def weight_bytes(layers: int, width: int, vocabulary: int, batch: int, item: int, is_int8: bool) -> int:
    """Bytes of weights that a decode step reads, at `item` bytes for each weight.

    A layer has 12 width² weights in matrices (QKV 3, projection 1, FC1 4, FC2 4) and 13 width other weights (biases of the
    matrices 3 + 1 + 4 + 1, two norms 2 + 2). The model also has a last norm (2 width) and the head (vocabulary × width), and
    each sequence reads one row of each of the two embeddings. In INT8 a weight of a matrix is one byte, and each row of a
    matrix has a scale in FP32.
    """
    matrices, rows = _matrices(layers, width, vocabulary), 9 * layers * width + vocabulary
    others = (13 * layers + 2) * width + 2 * batch * width
    return (matrices + rows * SCALE_BYTES if is_int8 else matrices * item) + others * item


def cache_bytes(layers: int, width: int, batch: int, item: int, context: float) -> float:
    """Bytes of keys and values that a decode step at least moves, with `context` tokens including its own.

    In each layer a token has a key and a value of `width` elements. The step reads those of the context - 1 tokens before it,
    and writes its own, which it need not read again. So 2 · layers · width · context elements move for each sequence.
    """
    return 2 * layers * width * batch * item * context


def _matrices(layers: int, width: int, vocabulary: int) -> int:
    """The number of weights in matrices: 12 width² for each layer, and the head."""
    return 12 * layers * width**2 + vocabulary * width
