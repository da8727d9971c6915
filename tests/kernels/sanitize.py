"""Every kernel once, on a small model: what compute-sanitizer looks at. A plain script, for example

    compute-sanitizer --tool racecheck --error-exitcode 9 python -P tests/kernels/sanitize.py

with --tool memcheck (and --report-api-errors no, as the bindings probe the driver), racecheck or synccheck. A new kernel needs
an entry in `WORK`, or in `ON_HOPPER`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tracekit.kernels import hopper, ops, prefill_ops, reference
from tracekit.kernels.decode import LayerTensors, Linear, ModelTensors

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


def prefill(batch: int, tokens: int) -> list[Tensor]:
    """A prompt's kernels in their order, heads 64 wide: what each of them wrote."""
    width, heads, rows = 128, 2, batch * tokens
    norm, embeddings = (normal(width) + 1, normal(width)), (normal(VOCABULARY, width), normal(tokens, width))
    ids = torch.arange(rows, device="cuda").reshape(batch, tokens) % VOCABULARY
    hidden, first = prefill_ops.embed_layer_norm(ids, torch.arange(tokens, device="cuda"), *embeddings, *norm)
    cache = [normal(batch, heads, tokens + 3, 64) for _ in range(2)]
    gathered = prefill_ops.flash_attention(normal(rows, 3 * width), *cache)
    second = prefill_ops.bias_residual_layer_norm(gathered, normal(width), hidden, *norm)
    inner = normal(rows, 4 * width)
    prefill_ops.bias_gelu(inner, normal(4 * width))
    return [hidden, first, gathered, second, inner, *cache]


def one_kernel(position: int) -> list[Tensor]:
    """Two layers of a step as one kernel: its logits, and the cache."""
    width, heads, length = 256, 4, 400

    def linear(outputs: int, inputs: int) -> Linear:
        return Linear(normal(outputs, inputs, scale=inputs**-0.5), normal(outputs))

    layers = tuple(
        LayerTensors(
            norm_1=(normal(width) + 1, normal(width)),
            qkv=linear(3 * width, width),
            projection=linear(width, width),
            norm_2=(normal(width) + 1, normal(width)),
            fc1=linear(4 * width, width),
            fc2=linear(width, 4 * width),
            keys=normal(1, heads, length, 64),
            values=normal(1, heads, length, 64),
        )
        for _ in range(2)
    )
    table = normal(VOCABULARY, width)
    model = ModelTensors((table, normal(length, width)), layers, (normal(width) + 1, normal(width)), Linear(table))
    logits = hopper.PersistentDecoder(model)(
        torch.zeros((1, 1), dtype=torch.int64, device="cuda"), torch.tensor([position], device="cuda")
    )
    return [logits, *(one for layer in layers for one in layer.cache)]


WORK: dict[str, Callable[[], list[Tensor]]] = {
    "decode, batch 1": lambda: decode(1, int8=False),
    "decode, batch 3": lambda: decode(3, int8=False),
    "decode, batch 9": lambda: decode(9, int8=False),
    "decode, batch 1, INT8": lambda: decode(1, int8=True),
    "decode, batch 9, INT8": lambda: decode(9, int8=True),
    "prefill, 1 x 70": lambda: prefill(1, 70),
    "prefill, 2 x 9": lambda: prefill(2, 9),
}
ON_HOPPER: dict[str, Callable[[], list[Tensor]]] = {
    "one kernel, position 5": lambda: one_kernel(5),
    "one kernel, position 300": lambda: one_kernel(300),
}


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Made on the CPU, so that no kernel but ours runs."""
    return (torch.randn(shape) * scale).half().cuda()


if __name__ == "__main__":
    torch.manual_seed(0)
    newer = torch.cuda.get_device_capability() >= hopper.CAPABILITY
    for name, work in (WORK | (ON_HOPPER if newer else {})).items():
        results = [one.cpu() for one in work()]
        assert all(one.isfinite().all() for one in results), name
        print(name, "ran", flush=True)
