"""Makes up traces of a loop: a prefill and decode steps, or training steps, with or without anything that marks them."""

from __future__ import annotations

from collections.abc import Sequence

from synthetic import TraceBuilder

LAYERS = 4
LAYER = ("norm", "qkv", "attention", "output", "mlp")
STEP_KERNELS = 2 + LAYERS * len(LAYER) + 1
LENGTH = 1_000
"""Of a kernel, in ns, as of the launch of it; the first of a step is launched PAUSE later."""
PAUSE = 5_000


def decode_names() -> list[str]:
    """The kernels of a decode step."""
    return ["embedding", "position", *LAYER * LAYERS, "sampling"]


def prefill_names() -> list[str]:
    """The same of a prefill, whose kernels are others in part."""
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
    """A prefill and so many decode steps."""
    loop = Loop()
    loop.step(prefill_names(), "prefill" if marked else None)
    for _ in range(steps):
        loop.step(decode_names(), "decode" if marked else None)
    return loop
