from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(
    rows=st.lists(
        st.lists(st.floats(-65504, 65504, width=16), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    )
)
def test_a_quantised_weight_is_at_most_half_a_scale_off(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows, dtype=torch.float16)
    numbers, scale = reference.quantize(weight)
    assert (numbers.dtype, scale.dtype) == (torch.int8, torch.float32)
    assert numbers.abs().max() <= 127
    restored = numbers.double() * scale.double()[:, None]
    off = (restored - weight.double()).abs()
    assert torch.all(off <= scale.double()[:, None] * (0.5 + 1e-5))
    rounded = restored.abs().amax(1) - weight.double().abs().amax(1)  # the largest of a row is kept
    assert torch.all(rounded.abs() <= 1e-6 * weight.double().abs().amax(1))


def test_int8_weights_are_read_as_the_numbers_they_stand_for() -> None:
    generator = torch.Generator().manual_seed(2)
    x, weight, bias = (torch.randn(shape, generator=generator).double() for shape in ((3, 64), (16, 64), (16,)))
    numbers, scale = reference.quantize(weight)
    restored = numbers.double() * scale.double()[:, None]
    torch.testing.assert_close(
        reference.linear(x, numbers, bias, scale), reference.linear(x, restored, bias), rtol=1e-12, atol=1e-12
    )
