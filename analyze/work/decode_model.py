"""What must one decode step of GPT-2 read, write and compute at least, whatever kernels do it?

Kernels of a CUDA graph carry no shapes, but the run manifest beside a trace tells the model: its weights must be read once
for every token, the keys and values of all tokens before it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

ITEM_BYTES = {"float32": ("fp32", 4), "float16": ("fp16", 2), "bfloat16": ("bf16", 2)}
"""The peak that each dtype's arithmetic is held against, and the size of an element."""

INT8 = "int8"
SCALE_BYTES = 4
ACTIVATIONS = 40
"""Elements, in widths of the model, that a layer's operators read and write for a token when each is a kernel of its own:
norms 2 + 2, QKV 1 + 3, cache 2 + 2, attention 1 + 1, projection 1 + 1, residuals 3 + 3, FC1 1 + 4, GELU 4 + 4, FC2 4 + 1."""


@dataclass(frozen=True)
class DecodeStep:
    """One decode step at the mean length of a run, in bytes and FLOPs; `peak` is what the FLOPs are held against."""

    weight_bytes: int
    cache_bytes: int
    activation_bytes: int
    flops: int
    peak: str
    context: float

    @property
    def bytes(self) -> int:
        """All that must move."""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


def decode_step(run: RunManifest) -> DecodeStep | None:
    """The step of a run that generates with a KV cache; None of any other, and of dtypes we do not know."""
    if run.workload.kind != "generate" or run.workload.new_tokens < 2 or run.dtype not in ITEM_BYTES:
        return None
    peak, item = ITEM_BYTES[run.dtype]
    width, layers, vocabulary, batch = run.model.width, run.model.layers, run.model.vocab_size, run.workload.batch
    # The first of the new tokens is the prefill's, so step i of the others meets prompt + i tokens, itself included.
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
    """Bytes of weights that a decode step reads, at `item` bytes each.

    A layer has 12 width² weights in matrices (QKV 3, projection 1, FC1 4, FC2 4) and 13 width others (their biases
    3 + 1 + 4 + 1, two norms 2 + 2). The model has a last norm (2 width) and the head (vocabulary × width), and each sequence
    reads a row of both embeddings. In INT8 a weight of a matrix is one byte, and each row of a matrix has a scale in FP32.
    """
    matrices, rows = _matrices(layers, width, vocabulary), 9 * layers * width + vocabulary
    others = (13 * layers + 2) * width + 2 * batch * width
    return (matrices + rows * SCALE_BYTES if is_int8 else matrices * item) + others * item


def cache_bytes(layers: int, width: int, batch: int, item: int, context: float) -> float:
    """Bytes of keys and values that a decode step moves at least, with `context` tokens, its own included.

    In each layer a token has a key and a value of `width` elements. Those of the context - 1 tokens before are read, and the
    step's own are written: they need not be read again. So 2 · layers · width · context elements move for each sequence.
    """
    return 2 * layers * width * batch * item * context


def _matrices(layers: int, width: int, vocabulary: int) -> int:
    """Weights in matrices."""
    return 12 * layers * width**2 + vocabulary * width
