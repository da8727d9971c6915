from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tracekit.collect.gpt2 import GPT2Config  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.kernels import reference  # noqa: E402


@pytest.mark.parametrize(("heads", "width"), [(2, 64), (3, 192)])
def test_the_references_in_turn_are_a_gpt2(heads: int, width: int) -> None:
    config = GPT2Config(vocab_size=97, context=24, layers=3, heads=heads, width=width)
    model = build_model(config, {name: one.double() for name, one in random_state(config, 3).items()})
    model.allocate_cache(2, 24)
    tokens = torch.randint(97, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(tokens, torch.arange(12))
        model.allocate_cache(2, 24)
        for block in model.blocks():  # what was never written must not matter
            block.attn.cache.keys.fill_(float("nan"))
            block.attn.cache.values.fill_(float("nan"))
        for at in range(12):
            position = torch.tensor([at])
            hidden = reference.embed(tokens[:, at : at + 1], position, model.wte.weight, model.wpe.weight)
            for block in model.blocks():
                attn, mlp, cache = block.attn, block.mlp, block.attn.cache
                qkv = (attn.c_attn.weight, attn.c_attn.bias)
                query = reference.norm_qkv(hidden, position, block.ln_1.weight, block.ln_1.bias, *qkv, cache.keys, cache.values)
                gathered = reference.attention(query, position, cache.keys, cache.values)
                hidden = reference.linear_residual(gathered, attn.c_proj.weight, attn.c_proj.bias, hidden)
                inner = reference.norm_fc1_gelu(hidden, block.ln_2.weight, block.ln_2.bias, mlp.c_fc.weight, mlp.c_fc.bias)
                hidden = reference.linear_residual(inner, mlp.c_proj.weight, mlp.c_proj.bias, hidden)
            token, logits = reference.norm_lm_head(hidden, model.ln_f.weight, model.ln_f.bias, model.wte.weight)
            torch.testing.assert_close(logits, expected[:, at], rtol=1e-9, atol=1e-9)
            assert token.equal(expected[:, at].argmax(-1, keepdim=True))
