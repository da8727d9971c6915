"""A prefill's sources run on a CPU, warps in random order, beside the FP64 references: all but their inline assembly."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import emulated  # noqa: E402
from decode_inputs import Inputs  # noqa: E402

from tracekit.kernels import prefill  # noqa: E402
from tracekit.kernels import prefill_reference as reference  # noqa: E402
from tracekit.kernels.prefill import PLANS, FlashAttention, Plan, PrefillKernels  # noqa: E402

pytestmark = pytest.mark.skipif(not emulated.available(), reason="needs g++ 12")
BOUND = 2e-3
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "Kernels", emulated.EmulatedKernels)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("batch", "heads", "tokens"), [(1, 1, 1), (2, 1, 17), (1, 2, 63), (1, 1, 64), (2, 2, 65), (1, 1, 200)])
def test_attention_sees_every_token_so_far_and_fills_the_cache(batch: int, heads: int, tokens: int, plan: Plan) -> None:
    make = Inputs(64 * heads, heads, batch, tokens + 3, "cpu", seed=tokens)
    qkv, cache, expected = make.normal(batch * tokens, 192 * heads, scale=1.5), make.cache(-1), make.cache(-1)
    wanted = reference.flash_attention(qkv.double(), *(one.double() for one in make.cache(-1)))
    reference.flash_attention(qkv, *expected)
    out = torch.full((batch * tokens, 64 * heads), float("nan"), dtype=torch.float16)
    FlashAttention(CPU)(qkv, *cache, out, plan)
    assert error(out, wanted) < BOUND
    for found, one in zip(cache, expected, strict=True):
        assert torch.equal(found.view(torch.int16), one.view(torch.int16))


@pytest.mark.parametrize("width", [96, 768, 1600])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (3, 7)])
def test_what_lies_between_the_products(width: int, batch: int, tokens: int) -> None:
    make, run, rows = Inputs(width, 1, batch, tokens, "cpu", seed=width), PrefillKernels(CPU, width), batch * tokens
    ids, positions = torch.randint(33, (batch, tokens), generator=make.generator), torch.arange(tokens)
    embeddings, norm = (make.normal(33, width), make.normal(tokens, width)), make.norm()
    hidden, normal = (torch.full((rows, width), float("nan"), dtype=torch.float16) for _ in range(2))
    run.embed_norm(ids, positions, embeddings, norm, hidden, normal)
    wanted_hidden, _ = reference.embed_layer_norm(ids, positions, *embeddings, *norm)
    assert torch.equal(hidden, wanted_hidden)
    assert error(normal, reference.embed_layer_norm(ids, positions, *(one.double() for one in (*embeddings, *norm)))[1]) < BOUND

    product, bias, double = make.normal(rows, width), make.normal(width), hidden.double()
    wanted = reference.bias_residual_layer_norm(product.double(), bias.double(), double, *(one.double() for one in norm))
    run.residual_norm(product, bias, norm, hidden, normal)
    assert error(hidden, double) < BOUND
    assert error(normal, wanted) < BOUND

    inner, bias = make.normal(rows, 4 * width, scale=3.0), make.normal(4 * width)
    wanted = inner.double()
    reference.bias_gelu(wanted, bias.double())
    run.gelu(inner, bias)
    assert error(inner, wanted) < BOUND
