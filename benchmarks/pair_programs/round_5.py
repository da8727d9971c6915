"""More programs for rules that the other rounds do not ask: locks, logging, graphs' launches, split and odd products."""

from __future__ import annotations

import functools
import io
import logging
import queue
import threading
from collections.abc import Callable

import torch
from torch import nn

from .listed import ALIGNED, LOCK, LOGGED, NEXT_GRAPH, WHOLE_K, Step
from .listed import program as listed_program
from .parts import DEVICE, blocks, captured, infer, mlp

program = functools.partial(listed_program, made=5)


# --- Python that waits, and Python that writes ------------------------------------------------------------------------------


def awaited(step: Step, seconds: float, after: bool) -> Step:
    """A step that takes something from a queue: a thread puts it there so late, or it is there."""
    ready: queue.Queue[int] = queue.Queue()
    pause, asked = threading.Event(), threading.Semaphore(0)

    def make() -> None:
        while True:
            asked.acquire()
            pause.wait(seconds)
            ready.put(0)

    if not after:
        threading.Thread(target=make, daemon=True).start()

    def own() -> object:
        if after:
            ready.put(0)
        else:
            asked.release()
        ready.get()
        return step()

    return own


@program(LOCK, stack=True)
def mlp_inference_lock(after: bool) -> Step:
    return awaited(
        infer(mlp(2048, 8, torch.bfloat16), torch.randn(2048, 2048, device=DEVICE, dtype=torch.bfloat16)), 0.003, after
    )


@program(LOCK, stack=True)
def blocks_inference_lock(after: bool) -> Step:
    model = blocks(6, 1024, True).bfloat16()
    return awaited(infer(model, torch.randn(4, 512, 1024, device=DEVICE, dtype=torch.bfloat16)), 0.006, after)


def told(step: Step, lines: int, tell: Callable[[str], object], after: bool) -> Step:
    """A step that also writes so many lines, before the change."""

    def own() -> object:
        if not after:
            for line in range(lines):
                tell(f"line {line} of this step")
        return step()

    return own


@program(LOGGED, stack=True)
def mlp_inference_logging(after: bool) -> Step:
    logger = logging.getLogger("pairs")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    step = infer(mlp(2048, 8, torch.bfloat16), torch.randn(2048, 2048, device=DEVICE, dtype=torch.bfloat16))
    return told(step, 200, logger.info, after)


@program(LOGGED, stack=True)
def blocks_inference_logging(after: bool) -> Step:
    logger = logging.getLogger("pairs of blocks")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    model = blocks(4, 1024, True).bfloat16()
    return told(infer(model, torch.randn(2, 512, 1024, device=DEVICE, dtype=torch.bfloat16)), 300, logger.warning, after)


# --- Graphs -----------------------------------------------------------------------------------------------------------------


def replayed(count: int, width: int, after: bool) -> Step:
    """A graph of many small kernels, and a look at its result: right after it, or one replay later."""
    layers = mlp(width, count, torch.bfloat16)
    x = torch.randn(8, width, device=DEVICE, dtype=torch.bfloat16)
    out = torch.zeros((), device=DEVICE, dtype=torch.bfloat16)
    graph = captured(torch.no_grad()(lambda: out.copy_(layers(x).sum())))
    host = [torch.zeros((), dtype=torch.bfloat16, pin_memory=True) for _ in range(2)]
    done = [torch.cuda.Event(), torch.cuda.Event()]
    turn = [0]

    def step() -> object:
        here = turn[0] % 2
        graph()
        host[here].copy_(out, non_blocking=True)
        done[here].record()
        turn[0] += 1
        waited = 1 - here if after and turn[0] > 1 else here
        done[waited].synchronize()
        return float(host[waited])

    return step


@program(NEXT_GRAPH)
def narrow_graph_next(after: bool) -> Step:
    return replayed(400, 512, after)


@program(NEXT_GRAPH)
def long_graph_next(after: bool) -> Step:
    return replayed(1200, 256, after)


# --- Products ---------------------------------------------------------------------------------------------------------------


def whole(step: Step, after: bool) -> Step:
    """The step with products that may be split over K, or may not."""

    torch.backends.cuda.preferred_blas_library("cublaslt")  # cuBLAS itself cannot be forbidden to split

    def own() -> object:
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = (False, False) if after else True
        return step()

    return own


@program(WHOLE_K)
def few_rows_whole(after: bool) -> Step:
    layers = nn.Sequential(*(nn.Linear(8192, 1024, bias=False) for _ in range(1))).to(DEVICE, torch.bfloat16)
    x = [torch.randn(4, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(24)]
    return whole(captured(torch.no_grad()(lambda: [layers(one) for one in x])), after)


@program(WHOLE_K)
def one_row_whole(after: bool) -> Step:
    layers = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(24))).to(DEVICE, torch.bfloat16)
    return whole(infer(layers, torch.randn(1, 4096, device=DEVICE, dtype=torch.bfloat16)), after)


@program(ALIGNED)
def odd_vocabulary_aligned(after: bool) -> Step:
    head = nn.Linear(2048, 50_304 if after else 50_257, bias=False).to(DEVICE, torch.bfloat16)
    return infer(head, torch.randn(4096, 2048, device=DEVICE, dtype=torch.bfloat16))


@program(ALIGNED)
def odd_width_aligned(after: bool) -> Step:
    width = 4096 if after else 4095
    layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(6))).to(DEVICE, torch.float16)
    return infer(layers, torch.randn(4096, width, device=DEVICE, dtype=torch.float16))
