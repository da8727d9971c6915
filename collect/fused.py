"""How does our own decode step take the place of a model's? The same weights and cache, prefill as PyTorch runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from tracekit.errors import TracekitError
from tracekit.kernels.compile import cuda_core
from tracekit.kernels.decode import Decoder, LayerTensors, obstacle

from .gpt2 import GPT2, Block

if TYPE_CHECKING:
    from .variants import ScoredStep


def decode_step(model: GPT2, step: ScoredStep, temperature: float, top_k: int | None) -> ScoredStep:
    """`step`, with every decode of one token a sequence by the fused kernels. The model must keep its weights and cache.

    Raises TracekitError if they cannot be compiled, or cannot run a model of this shape.
    """
    cuda_core()  # the quickest to be missing
    decoder = _decoder(model)

    def fused(tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        if tokens.shape[1] != 1:
            return step(tokens, positions)
        if model.padding is not None:
            raise ValueError("the fused decode step knows no padded prompts")
        token, logits = decoder(tokens, positions)
        logits = logits[:, None]
        return (model.choose(logits, temperature, top_k) if temperature else token), logits

    return fused


def _decoder(model: GPT2) -> Decoder:
    config = model.config
    cache = model.blocks()[0].attn.cache
    if cache is None:
        raise ValueError("the fused decode step needs a KV cache")
    problem = obstacle(config.width, config.width // config.heads, len(cache.keys))
    if problem is not None:
        raise TracekitError(f"{problem}", where="variant fused", mend="run the other variants")
    layers = [_layer(block) for block in model.blocks()]
    return Decoder((model.wte.weight, model.wpe.weight), layers, _parameters(model.ln_f), model.wte.weight)


def _layer(block: Block) -> LayerTensors:
    cache = block.attn.cache
    assert cache is not None
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
