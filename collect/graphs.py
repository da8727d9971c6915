"""How is a whole step launched at once?

The step is captured by hand into a CUDA graph, and replayed for every token or prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .workload import Next, Step

# Before a capture, everything lazy must have run: cuBLAS handles, Triton's tuning, the first blocks of the allocator.
_WARMUP_STEPS = 3


class CapturedStep:
    """A step whose decode is one CUDA graph and whose prefill is another.

    A decode takes int64 [batch, 1] tokens at one position. Each graph is captured at its first call. The decode's graph serves
    that batch only. The prefill's graph serves prompts of that shape only; other prompts run without a graph. The results are
    buffers of this step. A caller that passes token and position back unchanged, as every workload does, saves their copies.
    The model's cache and weights must stay where they are. Call it in `torch.inference_mode`, as the workloads do.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._prefill: _Graph | None = None
        self._graph: _Graph | None = None

    def __call__(self, tokens: Tensor, positions: Tensor) -> Next:
        """Works as a `Step` does. Raises ValueError for a decode whose batch is not the captured one."""
        if tokens.shape[1] != 1:
            if self._prefill is None:
                self._prefill = _Graph(self._step, tokens, positions)
            if self._prefill.tokens.shape != tokens.shape:
                return self._step(tokens, positions)
            return self._prefill.replay(tokens, positions)
        if self._graph is None:
            self._graph = _Graph(self._step, tokens, positions)
        return self._graph.replay(tokens, positions)


class _Graph:
    """A captured step and its buffers.

    After a decode, the graph itself writes the next token and position to its inputs, without the host.
    """

    def __init__(self, step: Step, tokens: Tensor, positions: Tensor) -> None:
        self.tokens = tokens.clone()
        self.positions = positions.clone()
        new_stream: Callable[..., Any] = torch.cuda.Stream  # some releases of torch leave it untyped
        stream = new_stream(tokens.device)
        stream.wait_stream(torch.cuda.current_stream(tokens.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP_STEPS):  # on copies, because a step may overwrite its arguments
                step(tokens.clone(), positions.clone())
        torch.cuda.current_stream(tokens.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # Only calls of this thread may break the capture, not those of a profiler's or a progress bar's thread.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.next = step(self.tokens, self.positions)
            if tokens.shape[1] == 1:
                token, position, logits = self.next
                self.next = Next(self.tokens.copy_(token), self.positions.copy_(position), logits)

    def replay(self, tokens: Tensor, positions: Tensor) -> Next:
        """Run the step once more, at any position. Raises ValueError if the tokens have another shape than at capture."""
        if tokens is not self.tokens:
            if tokens.shape != self.tokens.shape:
                raise ValueError(f"the graph was captured for a batch of {len(self.tokens)}, not {len(tokens)}")
            self.tokens.copy_(tokens)
        if positions is not self.positions:
            self.positions.copy_(positions)
        self.graph.replay()
        return self.next
