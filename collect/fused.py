"""How do our own kernels take the place of a model's steps? Prompts and decodes, over the same weights and cache."""

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
"""From the weight and the bias of a linear layer to what the kernels take."""

Decode = Callable[[Tensor, Tensor], Tensor]
"""A decode step as `Decoder` is one."""


def in_fp16(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear layer as the model has it."""
    return Linear(weight, bias)


def in_int8(weight: Tensor, bias: Tensor | None) -> Linear:
    """A linear layer with its weight in INT8; the bias stays as it is."""
    numbers, scale = quantize(weight)
    return Linear(numbers, bias, scale)


def by_layers(model: GPT2) -> Decode:
    """Five kernels a layer, which any device can run."""
    return Decoder(model_tensors(model, in_fp16))


def by_layers_int8(model: GPT2) -> Decode:
    """The same, with the linear layers and the LM head in INT8."""
    return Decoder(model_tensors(model, in_int8))


def fastest(model: GPT2) -> Decode:
    """One kernel a step where the device and the model's shape allow it, else five a layer."""
    tensors = model_tensors(model, in_fp16)
    return Decoder(tensors) if hopper.obstacle(tensors) else hopper.PersistentDecoder(tensors)


def fused_step(model: GPT2, step: Step, temperature: float, top_k: int | None, build: Callable[[GPT2], Decode]) -> Step:
    """`step` by the fused kernels: every prompt from position 0 on, and every decode of one token a sequence as of `build`.

    A model without a cache has prompts alone. Padded prompts, and prompts of one token without a cache, are `step`'s. The
    model must keep its weights and cache. Raises TracekitError if the kernels cannot be compiled, or cannot run a model
    of this shape.
    """
    cuda_core()  # the quickest to be missing
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
    """What the kernels read of a model, with its own cache or another.

    Raises TracekitError if its shape is none of theirs, and ValueError if there is no cache.
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
    """For prompts of that shape. Without a cache every layer's keys and values go where the last one's went."""
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
