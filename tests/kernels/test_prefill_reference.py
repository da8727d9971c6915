from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from tracekit.collect.gpt2 import GPT2Config  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.kernels import prefill_reference as reference  # noqa: E402


@pytest.mark.parametrize(("heads", "width"), [(2, 64), (3, 192)])
@pytest.mark.parametrize("count", [1, 12])
def test_the_references_in_turn_are_a_gpt2(heads: int, width: int, count: int) -> None:
    config = GPT2Config(vocab_size=97, context=24, layers=3, heads=heads, width=width)
    model = build_model(config, {name: one.double() for name, one in random_state(config, 3).items()})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # random_state's biases are zero
    model.allocate_cache(2, 24)
    tokens, positions = torch.randint(97, (2, count), generator=torch.Generator().manual_seed(1)), torch.arange(count)
    with torch.inference_mode():
        expected = model(tokens, positions)
        blocks = model.blocks()
        stored = [(block.attn.cache.keys.clone(), block.attn.cache.values.clone()) for block in blocks]
        model.allocate_cache(2, 24)
        norms = [(norm.weight, norm.bias) for norm in (*(block.ln_1 for block in blocks), model.ln_f)]
        hidden, normal = reference.embed_layer_norm(tokens, positions, model.wte.weight, model.wpe.weight, *norms[0])
        for index, block in enumerate(blocks):
            cache = block.attn.cache
            qkv = F.linear(normal, block.attn.c_attn.weight, block.attn.c_attn.bias).flatten(0, -2)
            gathered = reference.flash_attention(qkv, cache.keys, cache.values)
            assert (cache.keys - stored[index][0]).norm() <= 1e-9 * stored[index][0].norm()
            assert (cache.values - stored[index][1]).norm() <= 1e-9 * stored[index][1].norm()
            product = F.linear(gathered, block.attn.c_proj.weight)
            norm_2 = (block.ln_2.weight, block.ln_2.bias)
            normal = reference.bias_residual_layer_norm(product, block.attn.c_proj.bias, hidden, *norm_2)
            inner = F.linear(normal, block.mlp.c_fc.weight)
            reference.bias_gelu(inner, block.mlp.c_fc.bias)
            product = F.linear(inner, block.mlp.c_proj.weight)
            normal = reference.bias_residual_layer_norm(product, block.mlp.c_proj.bias, hidden, *norms[index + 1])
        torch.testing.assert_close(model.head(normal).view_as(expected), expected, rtol=1e-9, atol=1e-9)
