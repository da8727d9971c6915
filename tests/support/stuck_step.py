"""Runs a one-kernel step in which something never comes, and prints how it ends. A script of its own: the device is lost after it.

    python stuck_step.py OLD NEW

OLD is what the source of hopper.cu has, and NEW what takes its place. Waits end after 0.3 seconds instead of ten.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from tracekit.kernels import compile as compiler
from tracekit.kernels import hopper
from tracekit.kernels.decode import LayerTensors, Linear, ModelTensors

WIDTH, HEADS, LENGTH, VOCABULARY = 256, 4, 32, 101


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape) * scale).half().cuda()


def linear(outputs: int, inputs: int) -> Linear:
    return Linear(normal(outputs, inputs, scale=inputs**-0.5), normal(outputs))


def model() -> ModelTensors:
    def norm() -> tuple[Tensor, Tensor]:
        return normal(WIDTH) + 1, normal(WIDTH)

    cache = normal(2, 1, HEADS, LENGTH, 64)
    layer = LayerTensors(
        norm_1=norm(),
        qkv=linear(3 * WIDTH, WIDTH),
        projection=linear(WIDTH, WIDTH),
        norm_2=norm(),
        fc1=linear(4 * WIDTH, WIDTH),
        fc2=linear(WIDTH, 4 * WIDTH),
        keys=cache[0],
        values=cache[1],
    )
    table = normal(VOCABULARY, WIDTH)
    return ModelTensors((table, normal(LENGTH, WIDTH)), (layer,), norm(), Linear(table))


def run(decoder: hopper.PersistentDecoder, steps: int) -> None:
    token, position = (torch.zeros(shape, dtype=torch.int64, device="cuda") for shape in ((1, 1), (1,)))
    for _ in range(steps):
        decoder(token, position)
    torch.cuda.synchronize()


if __name__ == "__main__":
    old, new = (one.replace("\\n", "\n") for one in sys.argv[1:3])
    hopper._PATIENCE_MS = 300
    tensors = model()
    run(hopper.PersistentDecoder(tensors), 2)
    print("2 steps as it is, then", end=" ")
    text = compiler.source("hopper.cu")
    assert text.count(old) == 1, old
    compiler.source = lambda name: text.replace(old, new)
    compiler._load.cache_clear()
    hopper.persistent_kernel.cache_clear()
    try:
        run(hopper.PersistentDecoder(tensors), 1)
    except RuntimeError as error:
        print(f"RuntimeError: {str(error).splitlines()[0]}")
    else:
        print("no error")
