"""How do our own kernels take the place of a model's step? Over the same weights and cache, prefill and decode apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from tracekit.errors import TracekitError
from tracekit.kernels.compile import cuda_core
from tracekit.kernels.decode import Decoder, LayerTensors, obstacle
from tracekit.kernels.prefill import Prefill

from .attention import KeyValueCache
from .gpt2 import GPT2, Block

if TYPE_CHECKING:
    from .variants import ScoredStep


def fused_step(model: GPT2, step: ScoredStep, temperature: float, top_k: int | None) -> ScoredStep:
    """`step` by the fused kernels: every prompt from position 0 on, and every decode of one token a sequence.

    A model without a cache has prompts alone. Padded prompts, and prompts of one token without a cache, are `step`'s. The
    model must keep its weights and cache. Raises TracekitError if the kernels cannot be compiled, or cannot run a model
    of this shape.
    """
    cuda_core()  # the quickest to be missing
    cache = model.blocks()[0].attn.cache
    _check_shape(model, 1 if cache is None else len(cache.keys))
    decoder = Decoder(*_tensors(model, [_cache(block) for block in model.blocks()])) if cache is not None else None
    prefill: Prefill | None = None

    def fused(tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal prefill
        if tokens.shape[1] == 1 and decoder is not None:
            if model.padding is not None:
                raise ValueError("the fused decode step knows no padded prompts")
            token, logits = decoder(tokens, positions)
        elif tokens.shape[1] == 1 or model.padding is not None:
            return step(tokens, positions)
        else:
            if prefill is None or prefill.shape != tokens.shape:
                prefill = _prefill(model, tokens)
            token, logits = prefill(tokens, positions)
        logits = logits[:, None]
        return (model.choose(logits, temperature, top_k) if temperature else token), logits

    return fused


def _prefill(model: GPT2, tokens: Tensor) -> Prefill:
    """For prompts of that shape. Without a cache every layer's keys and values go where the last one's went."""
    blocks = model.blocks()
    if blocks[0].attn.cache is not None:
        return Prefill(*_tensors(model, [_cache(block) for block in blocks]), tokens.shape[1])
    batch, count = tokens.shape
    _check_shape(model, batch)
    shape = (batch, model.config.heads, count, blocks[0].attn.head_width)
    return Prefill(*_tensors(model, [KeyValueCache(shape, model.wte.weight.detach())] * len(blocks)), count)


def _check_shape(model: GPT2, batch: int) -> None:
    problem = obstacle(model.config.width, model.config.width // model.config.heads, batch)
    if problem is not None:
        raise TracekitError(f"{problem}", where="variant fused", mend="run the other variants")


def _tensors(
    model: GPT2, caches: list[KeyValueCache]
) -> tuple[tuple[Tensor, Tensor], list[LayerTensors], tuple[Tensor, Tensor], Tensor]:
    """The model as `Decoder` and `Prefill` take it: embeddings, layers, final norm, head."""
    layers = [_layer(block, cache) for block, cache in zip(model.blocks(), caches, strict=True)]
    return (model.wte.weight, model.wpe.weight), layers, _parameters(model.ln_f), model.wte.weight


def _cache(block: Block) -> KeyValueCache:
    assert block.attn.cache is not None
    return block.attn.cache


def _layer(block: Block, cache: KeyValueCache) -> LayerTensors:
    return LayerTensors(
        norm_1=_parameters(block.ln_1),
        qkv=_parameters(block.attn.c_attn),
        projection=_parameters(block.attn.c_proj),
        norm_2=_parameters(block.ln_2),
        fc1=_parameters(block.mlp.c_fc),
        fc2=_parameters(block.mlp.c_proj),
        keys=cache.keys,
        values=cache.values,
    )


def _parameters(module: nn.LayerNorm | nn.Linear) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias
