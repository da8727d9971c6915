"""How a prefill is put together, without a device: its plans, what it launches, and that all of it in order is GPT-2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from launches import parameters  # noqa: E402

from tracekit.collect.attention import KeyValueCache  # noqa: E402
from tracekit.collect.fused import in_fp16, model_tensors  # noqa: E402
from tracekit.collect.gpt2 import GPT2Config  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.kernels import prefill, prefill_reference, reference  # noqa: E402
from tracekit.kernels.prefill import FEW, MANY, SHARED, Plan, Prefill, choose_plan, torch_attention  # noqa: E402


@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "multiprocessors", "plan"),
    [
        (1, 12, 128, 132, FEW),
        (1, 12, 512, 132, FEW),  # few blocks, but none is long
        (1, 12, 1024, 132, SHARED),
        (1, 25, 1024, 132, FEW),
        (4, 12, 512, 132, FEW),
        (4, 12, 1024, 132, MANY),
        (1, 12, 128, 40, FEW),
        (1, 12, 1024, 40, MANY),
    ],
)
def test_each_prompt_has_a_plan(batch: int, heads: int, tokens: int, multiprocessors: int, plan: Plan) -> None:
    assert choose_plan(batch * heads * -(-tokens // 64), tokens, multiprocessors) == plan


class ReferenceKernels:
    """Kernels whose launches are checked against the source, and computed by the references."""

    multiprocessors = 40

    def __init__(self, source: str, device: torch.device, macros: dict[str, int]) -> None:
        self.source, self.macros = source, macros

    def launch(self, name: str, grid: tuple[int, int], threads: int, arguments: Sequence[Any]) -> None:
        kinds = ["int" if isinstance(one, int) else "pointer" for one in arguments]
        assert kinds == parameters(self.source, name)
        getattr(self, name)(grid, threads, *arguments)

    def gpt2_embed_norm(self, grid, threads, ids, positions, wte, wpe, gamma, beta, hidden, normal, tokens, rows, vocabulary):
        assert (ids.shape, len(positions), rows, vocabulary) == ((rows // tokens, tokens), tokens, len(hidden), len(wte))
        assert rows * 32 <= grid[0] * threads < rows * 32 + threads
        found = prefill_reference.embed_layer_norm(ids, positions, wte, wpe, gamma, beta)
        for to, one in zip((hidden, normal), found, strict=True):
            to.copy_(one)

    def gpt2_bias_residual_norm(self, grid, threads, product, bias, gamma, beta, hidden, normal, rows):
        assert rows == len(hidden)
        assert rows * 32 <= grid[0] * threads < rows * 32 + threads
        normal.copy_(prefill_reference.bias_residual_layer_norm(product, bias, hidden, gamma, beta))

    def gpt2_bias_gelu(self, grid, threads, x, bias, rows):
        assert x.shape == (rows, 4 * self.macros["WIDTH"])
        assert 2 * grid[0] * threads * 8 >= x.numel()
        prefill_reference.bias_gelu(x, bias)

    def gpt2_flash_attention(self, grid, threads, qkv, keys, values, out, tokens, heads, length):
        batch = len(keys)
        assert (batch * tokens, heads, length) == (len(qkv), *keys.shape[1:3])
        assert (*grid, threads) == (batch * heads, -(-tokens // 64), 128 * self.macros["KEY_GROUPS"])
        out.copy_(prefill_reference.flash_attention(qkv, keys, values))


class ReferenceDecode:
    """A decode step's kernels by their references, as far as a prefill needs them."""

    def attention(self, query, position, cache, out):
        out.copy_(reference.attention(query, position, *cache))

    def projection(self, x, linear, residual, out, chained):
        out.copy_(reference.linear_residual(x, linear.weight, linear.bias, residual))

    fc2 = projection

    def fc1(self, hidden, norm, linear, out, chained):
        out.copy_(reference.norm_fc1_gelu(hidden, *norm, linear.weight, linear.bias))

    def best(self, device):
        return ()

    def head(self, hidden, norm, linear, best, token, logits, chained):
        for to, found in zip((token, logits), reference.norm_lm_head(hidden, *norm, linear.weight), strict=True):
            to.copy_(found)


@pytest.mark.parametrize(
    ("width", "heads", "layers", "batch", "tokens"),
    [(128, 2, 3, 1, 2), (128, 2, 2, 3, 17), (64, 2, 2, 2, 9), (64, 1, 1, 1, 65)],
)
def test_all_launches_in_order_are_a_gpt2(
    width: int, heads: int, layers: int, batch: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flash_attention", "prefill_kernels"):
        monkeypatch.setattr(prefill, name, getattr(prefill, name).__wrapped__)  # keep none of these for another test
    monkeypatch.setattr(prefill, "Kernels", ReferenceKernels)
    monkeypatch.setattr(prefill, "decode_kernels", lambda *_: ReferenceDecode())
    config = GPT2Config(vocab_size=97, context=80, layers=layers, heads=heads, width=width)
    model = build_model(config, random_state(config, 3))
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    model.half()
    model.allocate_cache(batch, 72)
    caches = [KeyValueCache((batch, heads, 72, width // heads), model.wte.weight.detach()) for _ in range(layers)]
    for cache in caches:
        cache.keys.fill_(float("nan"))
        cache.values.fill_(float("nan"))
    prompt, positions = torch.randint(97, (batch, tokens), generator=torch.Generator().manual_seed(1)), torch.arange(tokens)
    run = Prefill(model_tensors(model, in_fp16, caches), tokens)
    with torch.inference_mode():
        run(prompt.flip(1), positions)  # nothing of another prompt may stay
        token, logits = run(prompt, positions)
        wanted = model.float()(prompt, positions)[:, -1]
    assert float((logits - wanted).norm() / wanted.norm()) < 5e-3
    assert torch.all(logits.gather(1, token)[:, 0] >= logits.max(-1).values - 1e-2)  # rounded, unlike its choice
    for cache, block in zip(caches, model.blocks(), strict=True):
        for found, expected in ((cache.keys, block.attn.cache.keys), (cache.values, block.attn.cache.values)):
            assert float((found - expected)[:, :, :tokens].norm() / expected.norm()) < 5e-3
            assert found[:, :, tokens:].isnan().all()
    assert (run._attention is torch_attention) == (width // heads != 64)


def test_a_prompt_that_the_cache_cannot_hold_is_refused() -> None:
    config = GPT2Config(vocab_size=97, context=80, layers=1, heads=1, width=64)
    model = build_model(config, random_state(config, 3)).half()
    tensors = model_tensors(model, in_fp16, [KeyValueCache((1, 1, 16, 64), model.wte.weight.detach())])
    for tokens in (0, 17):
        with pytest.raises(ValueError, match=f"1 to 16 tokens, as many as the cache holds, not {tokens}"):
            Prefill(tensors, tokens)
