"""Which layer of the model is running?

This module marks all layers, for the trace of a profiler or for the kernels of a graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from .gpt2 import GPT2
from .workload import Annotate


@dataclass(frozen=True)
class Layer:
    """A layer: its name in the trace, what it marks, and the layers that run inside it.

    `piece` is a dotted attribute of the model, or of the nearest submodule around it: a method, a submodule, or several
    submodules.
    """

    name: str
    piece: str
    parts: tuple[Layer, ...] = ()


ATTENTION = (
    Layer("qkv_projection", "c_attn"),
    Layer("qkv_reshape", "split_heads"),
    Layer("kv_cache", "cache.update"),
    Layer("sdpa", "sdpa"),
    Layer("scores", "scores"),
    Layer("mask", "apply_mask"),
    Layer("softmax", "softmax"),
    Layer("values", "apply_values"),
    Layer("output_reshape", "merge_heads"),
    Layer("output_projection", "c_proj"),
)
MLP = (
    Layer("expansion", "c_fc"),
    Layer("activation", "activate"),
    Layer("projection", "c_proj"),
)
BLOCK = (
    Layer("norm_1", "ln_1"),
    Layer("attention", "attn", ATTENTION),
    Layer("residual_1", "add_attention"),
    Layer("norm_2", "ln_2"),
    Layer("mlp", "mlp", MLP),
    Layer("residual_2", "add_mlp"),
)
LAYERS = (
    Layer("token_embedding", "wte"),
    Layer("position_embedding", "embed_positions"),
    Layer("embedding_sum", "add_embeddings"),
    Layer("causal_mask", "mask"),
    Layer("blocks", "run_blocks", (Layer("block", "h", BLOCK),)),
    Layer("final_norm", "ln_f"),
    Layer("lm_head", "head"),
    Layer("sampling", "choose"),
)
"""The names of a step's annotations, and how they nest. The workload puts `prefill` and `decode` around them.

A form of attention has either `sdpa` or the four from `scores` to `values`. Without a cache there is no `kv_cache`.
"""


@contextmanager
def annotated(model: GPT2, annotate: Annotate) -> Iterator[None]:
    """While the context is open, run every layer of the model inside `annotate(name)`, with the names of LAYERS.

    It works for eager steps, and while a step is captured into a graph. The methods of this one model are replaced, so a step
    outside of the context costs nothing more. The model must have its cache before.
    """
    with ExitStack() as stack:
        for owner, attribute, name in _pieces(model, LAYERS):
            stack.callback(_restorer(owner, attribute))
            setattr(owner, attribute, _inside(getattr(owner, attribute), name, annotate))
        yield


def _pieces(owner: nn.Module, layers: tuple[Layer, ...]) -> Iterator[tuple[nn.Module, str, str]]:
    """The owner, attribute and name of every method that is a layer. A layer comes before the layers inside it."""
    for layer in layers:
        *path, last = layer.piece.split(".")
        holder = functools.reduce(getattr, path, owner)
        piece = getattr(holder, last, None)
        if piece is None:
            continue  # only the other form of attention has it, or there is no cache
        if not isinstance(piece, nn.Module):
            yield holder, last, layer.name
            yield from _pieces(owner, layer.parts)
            continue
        for module in piece if isinstance(piece, nn.ModuleList) else (piece,):
            yield module, "forward", layer.name
            yield from _pieces(module, layer.parts)


def _inside(call: Callable[..., Any], name: str, annotate: Annotate) -> Callable[..., Any]:
    def annotated_call(*arguments: Any, **options: Any) -> Any:
        with annotate(name):
            return call(*arguments, **options)

    return annotated_call


def _restorer(owner: nn.Module, attribute: str) -> Callable[[], None]:
    """A function that restores the attribute as it is now.

    Usually the instance has no such attribute, so the method of the class takes effect again.
    """
    before = vars(owner).get(attribute)

    def restore() -> None:
        if before is None:
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, before)

    return restore
