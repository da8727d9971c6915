"""Which programs are there, and what is the change to each?

A program is a function that returns its step. Its argument tells whether the change is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Step = Callable[[], object]

GRAPH, REDUCE, COMPILE = "one CUDA graph", "torch.compile, reduce-overhead", "torch.compile"
AUTOCAST, TF32, CHANNELS_LAST = "bfloat16 autocast", "TF32", "channels_last"
SDPA, SYNC, CACHE = "scaled_dot_product_attention", "no .item() in the loop", "no empty_cache() in the loop"
WORKERS, PINNED, FUSED = "num_workers=8", "pinned memory, non_blocking", "fused=True"
PYTHON, COLLECTOR, CASTS = "no other work in the loop", "no gc.collect() in the loop", "weights cast once"
CLIPPING, ZEROING, DEQUANTISED = "foreach clipping", "set_to_none=True", "weights dequantised once"
LOCK, LOGGED, NEXT_GRAPH = "no waiting for a thread", "no logging in the loop", "the next graph before the result"
WHOLE_K, ALIGNED = "no split over K", "sizes that are aligned"
BESIDE, RECOMPUTED = "copies on a stream of their own", "no recomputation"


@dataclass(frozen=True)
class Program:
    """A program and the change that is made to it. `made` is the round in which it was written (see docs/predictions.md).

    `stack` says whether it is profiled with Python's stacks.
    """

    change: str
    build: Callable[[bool], Step]
    made: int
    stack: bool = False


PROGRAMS: dict[str, Program] = {}


def program(change: str, made: int = 1, stack: bool = False) -> Callable[[Callable[[bool], Step]], Callable[[bool], Step]]:
    """Put a program on the list under its function's name."""

    def listed(build: Callable[[bool], Step]) -> Callable[[bool], Step]:
        PROGRAMS[build.__name__] = Program(change, build, made, stack)
        return build

    return listed


def chosen(names: list[str]) -> Iterator[tuple[str, Program]]:
    """The programs of these names; all of them if there are none."""
    listed: Mapping[str, Program] = PROGRAMS
    yield from ((name, listed[name]) for name in (names or listed))
