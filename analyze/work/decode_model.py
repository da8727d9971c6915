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
    """The step of a run that generates with a KV cache; None of any other, and of dtypes we do not know.

    The weights of a variant whose name has `int8` in it are a byte each, with a scale in the run's dtype for each row.
    """
    if run.workload.kind != "generate" or run.workload.new_tokens < 2 or run.dtype not in ITEM_BYTES:
        return None
    peak, item = ITEM_BYTES[run.dtype]
    width, layers, vocabulary, batch = run.model.width, run.model.layers, run.model.vocab_size, run.workload.batch
    matrices = 12 * layers * width**2 + vocabulary * width
    rows = 9 * layers * width + vocabulary
    vectors = (13 * layers + 2) * width
    quantised = "int8" in run.variant.split("-")
    # The first of the new tokens is the prefill's, so step i of the others meets prompt + i tokens, itself included.
    context = run.workload.prompt_tokens + run.workload.new_tokens / 2
    return DecodeStep(
        weight_bytes=(matrices + rows * item if quantised else matrices * item) + (vectors + 2 * batch * width) * item,
        cache_bytes=round(2 * layers * batch * width * item * (context + 1)),
        activation_bytes=(ACTIVATIONS * layers * width + 3 * width + 2 * vocabulary) * batch * item,
        flops=round(batch * (2 * matrices + 4 * layers * context * width)),
        peak=peak,
        context=context,
    )
