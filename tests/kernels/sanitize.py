"""Every kernel once, on a small model: what compute-sanitizer looks at. A plain script, for example

    compute-sanitizer --tool racecheck --error-exitcode 9 python -P tests/kernels/sanitize.py

with --tool memcheck (and --report-api-errors no, as the bindings probe the driver), racecheck or synccheck. A new kernel needs
an entry in `WORK`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tracekit.kernels import ops, reference

WIDTH, HEAD_WIDTH, LENGTH, VOCABULARY = 96, 32, 40, 101  # odd: warps without inputs, a tile of the head that is part empty


def decode(batch: int, int8: bool) -> list[Tensor]:
    """One step of a model of one layer, in the order of the kernels: what each of them wrote."""
    cache = [normal(batch, WIDTH // HEAD_WIDTH, LENGTH, HEAD_WIDTH) for _ in range(2)]
    norm = (normal(WIDTH) + 1, normal(WIDTH))
    position = torch.tensor([LENGTH - 1], device="cuda")
    tokens = torch.arange(batch, device="cuda")[:, None]

    def linear(outputs: int, inputs: int) -> tuple[Tensor, Tensor, Tensor | None]:
        weight, bias = normal(outputs, inputs, scale=inputs**-0.5), normal(outputs)
        if not int8:
            return weight, bias, None
        numbers, scale = reference.quantize(weight)
        return numbers, bias, scale

    weight, bias, scale = linear(3 * WIDTH, WIDTH)
    embeddings = (normal(VOCABULARY, WIDTH), normal(LENGTH, WIDTH))
    hidden, query = ops.embed_norm_qkv(tokens, position, *embeddings, *norm, weight, bias, *cache, scale)
    again = ops.norm_qkv(hidden, position, *norm, weight, bias, *cache, scale)
    gathered = ops.decode_attention(query, position, *cache)
    weight, bias, scale = linear(WIDTH, WIDTH)
    hidden = ops.linear_residual(gathered, weight, bias, hidden, scale)
    weight, bias, scale = linear(4 * WIDTH, WIDTH)
    inner = ops.norm_fc1_gelu(hidden, *norm, weight, bias, scale)
    weight, bias, scale = linear(WIDTH, 4 * WIDTH)
    hidden = ops.linear_residual(inner, weight, bias, hidden, scale)
    weight, _, scale = linear(VOCABULARY, WIDTH)
    _, logits = ops.norm_lm_head(hidden, *norm, weight, scale)
    return [query, again, gathered, inner, hidden, logits, *cache]


WORK: dict[str, Callable[[], list[Tensor]]] = {
    "decode, batch 1": lambda: decode(1, int8=False),
    "decode, batch 3": lambda: decode(3, int8=False),
    "decode, batch 9": lambda: decode(9, int8=False),
    "decode, batch 1, INT8": lambda: decode(1, int8=True),
    "decode, batch 9, INT8": lambda: decode(9, int8=True),
}


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Made on the CPU, so that no kernel but ours runs."""
    return (torch.randn(shape) * scale).half().cuda()


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, work in WORK.items():
        results = [one.cpu() for one in work()]
        assert all(one.isfinite().all() for one in results), name
        print(name, "ran", flush=True)
