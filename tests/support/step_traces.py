"""Makes traces of a loop: a prefill and decode steps, or training steps, with or without marks of the steps."""

from __future__ import annotations

from collections.abc import Sequence

from operator_calls import recorded, t
from synthetic import TraceBuilder

LAYERS = 4
LAYER = ("norm", "qkv", "attention", "output", "mlp")
STEP_KERNELS = 2 + LAYERS * len(LAYER) + 1
LENGTH = 1_000
"""The time in ns from one launch to the next. A kernel takes half of it, and so does its launching call."""
PAUSE = 5_000
"""The time in ns between two steps of a loop."""


def decode_names() -> list[str]:
    """The names of the kernels of a decode step."""
    return ["embedding", "position", *LAYER * LAYERS, "sampling"]


def prefill_names() -> list[str]:
    """The names of the kernels of a prefill, which are partly different ones."""
    return ["embedding", "position", *(f"{name}_large" for name in LAYER * LAYERS), "argmax"]


class Loop:
    """A host that launches step after step, one kernel after another."""

    def __init__(self) -> None:
        self.builder = TraceBuilder()
        self.now = 0

    def step(self, names: Sequence[str], mark: str | None = None, slower: int = 1) -> None:
        """Launch kernels of these names; each takes `slower` times as long, and so does its launch."""
        begins = self.now + PAUSE
        at = begins + 100
        for name in names:
            self.builder.launch(
                call=(at, LENGTH * slower // 2), kernel=(at + LENGTH * slower // 2, LENGTH * slower // 2), name=name
            )
            at += LENGTH * slower
        if mark is not None:
            self.builder.annotation(begins, at - begins, mark)
        self.now = at


def generation(steps: int = 6, marked: bool = True) -> Loop:
    """A prefill and `steps` decode steps."""
    loop = Loop()
    loop.step(prefill_names(), "prefill" if marked else None)
    for _ in range(steps):
        loop.step(decode_names(), "decode" if marked else None)
    return loop


class Periodic:
    """Equal steps that hold something of every kind.

    They have operators with shapes, layers, copies, a graph, compiled code and a collective. Before the first step a fill runs
    on its own stream, so that the first step has the same gap before it as all others.
    """

    PERIOD = 200_000
    LEAD_STREAM = 99

    def __init__(self, steps: int) -> None:
        self.builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Tesla T4", "computeMajor": 7, "computeMinor": 5}])
        self.builder.memset(0, self._end(-1) - self._begin(-1), "Memset (lead)", stream=self.LEAD_STREAM)
        for number in range(steps):
            self._step(self._begin(number), number)

    def _begin(self, number: int) -> int:
        return (number + 1) * self.PERIOD

    def _end(self, number: int) -> int:
        """The time at which a step's last GPU event ends."""
        return self._begin(number) + 161_000

    def _step(self, at: int, number: int) -> None:
        builder, correlation = self.builder, 10_000 + 10 * number
        builder.annotation(at, 190_000, f"ProfilerStep#{number}")
        builder.annotation(at + 1_000, 60_000, "block/mlp")
        builder.call(at + 1_500, 1_000, "cudaMemcpyAsync", correlation=correlation)
        builder.memcpy(at + 3_000, 2_000, correlation=correlation, bytes=4_096)
        builder.operator(at + 5_000, 20_000, "aten::addmm", **recorded(t(3072), t(9, 768), t(768, 3072), 1, 1))
        builder.launch(call=(at + 10_000, 3_000), kernel=(at + 14_000, 9_000), name="volta_sgemm_128x64_tn")
        builder.launch(call=(at + 30_000, 3_000), kernel=(at + 34_000, 5_000), name="unknown_kernel")
        builder.operator(at + 62_000, 30_000, "Torch-Compiled Region: 0/0")
        builder.annotation(at + 63_000, 28_000, "## Call CompiledFxGraph fabc ##")
        builder.launch(call=(at + 70_000, 3_000), kernel=(at + 74_000, 6_000), name="triton_poi_fused_add_mul_0")
        builder.call(at + 84_000, 11_000, "cudaStreamSynchronize")
        builder.graph(call=(at + 100_000, 8_000), kernels=[(at + 109_000, 4_000), (at + 114_000, 4_000)])
        message = {"Collective name": "allreduce", "In msg nelems": 1_000, "dtype": "Float", "Process Group Name": "0"}
        builder.launch(
            call=(at + 130_000, 3_000),
            kernel=(at + 135_000, 26_000),
            name="ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
            **message,
        )
