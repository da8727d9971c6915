"""How do our own kernels replace a model's steps?

They run prompts and decode steps, over the same weights and the same cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tracekit.errors import TracekitError
from tracekit.kernels import hopper
from tracekit.kernels.compile import cuda_core
from tracekit.kernels.decode import Decoder, LayerTensors, Linear, ModelTensors
from tracekit.kernels.prefill import Prefill
from tracekit.kernels.reference import quantize
from tracekit.kernels.shape import obstacle

from .attention import KeyValueCache
from .gpt2 import GPT2, Block
from .workload import Next, Step

Convert = Callable[[Tensor, Tensor | None], Linear]
"""A function from the weight and the bias of a linear layer to the layer that the kernels take."""

Decode = Callable[[Tensor, Tensor], Tensor]
"""A decode step that works as a `Decoder` does."""


def in_fp16(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear layer with its weights as the model has them."""
    return Linear(weight, bias)


def in_int8(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear layer with its weight in INT8. The bias stays as it is."""
    numbers, scale = quantize(weight)
    return Linear(numbers, bias, scale)


def by_layers(model: GPT2) -> Decode:
    """A decode step with five kernels for each layer, which every device can run."""
    return Decoder(model_tensors(model, in_fp16))


def by_layers_int8(model: GPT2) -> Decode:
    """A decode step with five kernels for each layer, with the linear layers and the LM head in INT8."""
    return Decoder(model_tensors(model, in_int8))


def fastest(model: GPT2) -> Decode:
    """A decode step in one kernel if the device and the model's shape allow it; else in five kernels for each layer."""
    tensors = model_tensors(model, in_fp16)
    return Decoder(tensors) if hopper.obstacle(tensors) else hopper.PersistentDecoder(tensors)


def fused_step(model: GPT2, step: Step, temperature: float, top_k: int | None, build: Callable[[GPT2], Decode]) -> Step:
    """A step that replaces `step` by the fused kernels, for whole prompts and for decode steps of one token per sequence.

    Prompts begin at position 0. `build` makes the decode step. A model without a cache has prompts only. `step` itself still
    runs padded prompts, and prompts of one token without a cache. The model must keep its weights and its cache. Raises
    TracekitError if the kernels cannot be compiled, or cannot run a model of this shape.
    """
    cuda_core()  # raises at once if it is missing, which is the quickest check
    decoder = build(model) if model.blocks()[0].attn.cache is not None else None
    prefill: Prefill | None = None

    def fused(tokens: Tensor, positions: Tensor) -> Next:
        nonlocal prefill
        if tokens.shape[1] == 1 and decoder is not None:
            if model.padding is not None:
                raise ValueError("the fused decode step knows no padded prompts")
            token, position, logits = tokens, positions, decoder(tokens, positions)
        elif tokens.shape[1] == 1 or model.padding is not None:
            return step(tokens, positions)
        else:
            if prefill is None or prefill.shape != tokens.shape:
                prefill = _prefill(model, tokens)
            token, logits = prefill(tokens, positions)
            position = positions[-1:] + 1
        logits = logits[:, None]
        return Next(model.choose(logits, temperature, top_k) if temperature else token, position, logits)

    return fused


def model_tensors(model: GPT2, convert: Convert, caches: Sequence[KeyValueCache] | None = None) -> ModelTensors:
    """Everything that the kernels read of a model, with its own caches or with others.

    Raises TracekitError if the kernels do not support its shape, and ValueError if there is no cache.
    """
    config = model.config
    own = caches or [block.attn.cache for block in model.blocks() if block.attn.cache is not None]
    if not own:
        raise ValueError("the fused kernels need a KV cache")
    problem = obstacle(config.width, config.width // config.heads, len(own[0].keys))
    if problem is not None:
        raise TracekitError(f"{problem}", where="the fused kernels", mend="run the other variants")
    return ModelTensors(
        embeddings=(model.wte.weight, model.wpe.weight),
        layers=tuple(_layer(block, cache, convert) for block, cache in zip(model.blocks(), own, strict=True)),
        norm=_norm(model.ln_f),
        head=convert(model.wte.weight, None),
    )


def _prefill(model: GPT2, tokens: Tensor) -> Prefill:
    """The prefill for prompts of this shape.

    Without a cache, all layers write their keys and values to the same memory, each over those of the layer before.
    """
    blocks = model.blocks()
    if blocks[0].attn.cache is not None:
        return Prefill(model_tensors(model, in_fp16), tokens.shape[1])
    shape = (len(tokens), model.config.heads, tokens.shape[1], blocks[0].attn.head_width)
    cache = KeyValueCache(shape, model.wte.weight.detach())
    return Prefill(model_tensors(model, in_fp16, [cache] * len(blocks)), tokens.shape[1])


def _layer(block: Block, cache: KeyValueCache, convert: Convert) -> LayerTensors:
    return LayerTensors(
        norm_1=_norm(block.ln_1),
        qkv=convert(block.attn.c_attn.weight, block.attn.c_attn.bias),
        projection=convert(block.attn.c_proj.weight, block.attn.c_proj.bias),
        norm_2=_norm(block.ln_2),
        fc1=convert(block.mlp.c_fc.weight, block.mlp.c_fc.bias),
        fc2=convert(block.mlp.c_proj.weight, block.mlp.c_proj.bias),
        keys=cache.keys,
        values=cache.values,
    )


def _norm(module: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias
