"""A prefill's kernels on a CUDA device, beside their FP64 references: run with `pytest -m gpu`."""

from __future__ import annotations

import subprocess
import sys
from functools import cache, partial

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402

from tracekit.collect.fused import by_layers, fused_step  # noqa: E402
from tracekit.collect.gpt2 import PRESETS, GPT2Config  # noqa: E402
from tracekit.collect.graphs import CapturedStep  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import random_prompt  # noqa: E402
from tracekit.kernels import prefill_ops as ops  # noqa: E402
from tracekit.kernels import prefill_reference as reference  # noqa: E402
from tracekit.kernels.decode import CAPABILITY  # noqa: E402
from tracekit.kernels.prefill import PLANS, FlashAttention, Plan  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY,
        reason="needs a CUDA device of compute capability 7.5",
    ),
]
KERNEL_BOUND, MODEL_BOUND = 2e-3, 5e-3
LENGTHS = [1, 2, 17, 63, 64, 65, 100, 127, 128, 129, 511, 1000, 1024]

# Width, heads, batch, tokens: GPT-2's four sizes, heads 32 and 128 wide, rows that do not fill a block or a thread.
SHAPES = [
    (768, 12, 1, 1),
    (768, 12, 1, 1024),
    (768, 12, 3, 17),
    (768, 12, 16, 65),
    (1024, 16, 2, 100),
    (1280, 20, 1, 127),
    (1600, 25, 1, 1000),
    (1600, 25, 16, 2),
    (64, 2, 2, 5),
    (256, 2, 1, 63),
    (96, 3, 7, 3),
]


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is allocated for a result is full of NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def inputs(width: int, heads: int, batch: int, tokens: int) -> Inputs:
    return Inputs(width, heads, batch, tokens + 3, "cuda", seed=width + tokens)


def test_results_are_poisoned_before() -> None:
    assert torch.empty(8, device="cuda", dtype=torch.float16).isnan().all()


def no_cache(batch: int, heads: int, length: int, dtype: torch.dtype = torch.float16) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values that nothing was written to: NaN."""
    keys, values = (torch.full((batch, heads, length, 64), float("nan"), device="cuda", dtype=dtype) for _ in range(2))
    return keys, values


@cache
def flash(architecture: str) -> FlashAttention:
    return FlashAttention(torch.device("cuda", torch.cuda.current_device()))


@pytest.fixture(params=["", "compute_75"], ids=["this device's code", "a T4's"])
def attend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The operator under a plan, or the chosen one."""
    if request.param:
        monkeypatch.setenv("TRACEKIT_ARCH", request.param)

    def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, plan: Plan | None = None) -> torch.Tensor:
        monkeypatch.setattr(ops, "flash_kernel", lambda device: partial(flash(request.param), plan=plan))
        return ops.flash_attention(qkv, keys, values)

    return attend


@pytest.mark.parametrize("scale", [1.0, 8.0])  # the latter's shares are all but one of them small
@pytest.mark.parametrize(("batch", "heads"), [(1, 12), (2, 25), (5, 3), (16, 2)])
@pytest.mark.parametrize("tokens", LENGTHS)
def test_attention_sees_every_token_so_far_and_no_other(tokens: int, batch: int, heads: int, scale: float, attend) -> None:
    make = Inputs(64 * heads, heads, batch, tokens + 3, "cuda", seed=tokens)
    qkv = make.normal(batch * tokens, 3 * 64 * heads, scale=scale)
    wanted = reference.flash_attention(qkv.double(), *no_cache(batch, heads, tokens, torch.float64))
    _, key, value = qkv.view(batch, tokens, 3, heads, 64).permute(2, 0, 3, 1, 4).unbind(0)
    for plan in (None, *PLANS):
        keys, values = no_cache(batch, heads, tokens + 3)
        found = attend(qkv, keys, values, plan)
        assert error(found, wanted) < KERNEL_BOUND, plan
        for cached, new in ((keys, key), (values, value)):
            assert torch.equal(cached[:, :, :tokens], new)
            assert cached[:, :, tokens:].isnan().all()
        for _ in range(3):  # no order of the warps may matter
            assert torch.equal(found, attend(qkv, keys, values, plan)), plan


@pytest.mark.parametrize("offset", [-400.0, 400.0])
def test_scores_of_any_size_are_softened(offset: float, attend) -> None:
    """A maximum far from zero, of either sign, must not hide the others; FP32 still tells them apart at 400."""
    make = Inputs(64, 1, 1, 300, "cuda", seed=3)
    qkv = make.normal(300, 192)
    qkv[:, 0], qkv[:, 64] = 8.0, offset
    wanted = reference.flash_attention(qkv.double(), *no_cache(1, 1, 300, torch.float64))
    assert error(attend(qkv, *no_cache(1, 1, 300)), wanted) < KERNEL_BOUND


@pytest.mark.parametrize(("width", "heads", "batch", "tokens"), SHAPES)
def test_the_embedding_and_its_norm(width: int, heads: int, batch: int, tokens: int) -> None:
    make = inputs(width, heads, batch, tokens)
    ids = torch.randint(1013, (batch, tokens), generator=make.generator).cuda()
    positions, embeddings, norm = (
        torch.arange(tokens, device="cuda"),
        (make.normal(1013, width), make.normal(1024, width)),
        make.norm(),
    )
    hidden, normal = ops.embed_layer_norm(ids, positions, *embeddings, *norm)
    assert torch.equal(hidden, (embeddings[0][ids] + embeddings[1][positions]).flatten(0, 1))
    double = (one.double() for one in (*embeddings, *norm))
    assert error(normal, reference.embed_layer_norm(ids, positions, *double)[1]) < KERNEL_BOUND


@pytest.mark.parametrize(("width", "heads", "batch", "tokens"), SHAPES)
def test_bias_residual_and_norm(width: int, heads: int, batch: int, tokens: int) -> None:
    make = inputs(width, heads, batch, tokens)
    rows = batch * tokens
    product, bias, hidden, norm = make.normal(rows, width), make.normal(width), make.normal(rows, width, scale=3.0), make.norm()
    wanted_hidden = hidden.double()
    wanted = reference.bias_residual_layer_norm(product.double(), bias.double(), wanted_hidden, *(one.double() for one in norm))
    normal = ops.bias_residual_layer_norm(product, bias, hidden, *norm)
    assert error(hidden, wanted_hidden) < KERNEL_BOUND
    assert error(normal, wanted) < KERNEL_BOUND


@pytest.mark.parametrize(("width", "heads", "batch", "tokens"), SHAPES)
def test_gelu_behind_a_bias(width: int, heads: int, batch: int, tokens: int) -> None:
    make = inputs(width, heads, batch, tokens)
    x, bias = make.normal(batch * tokens, 4 * width, scale=3.0), make.normal(4 * width)
    x[0, :8] = torch.tensor([-65504.0, -100.0, -10.0, -0.0, 0.0, 10.0, 100.0, 60000.0])
    wanted = x.double()
    reference.bias_gelu(wanted, bias.double())
    ops.bias_gelu(x, bias)
    assert error(x, wanted) < KERNEL_BOUND


def test_the_compiler_sees_through_them() -> None:
    make = Inputs(128, 2, 2, 9, "cuda", seed=1)
    cache = [one.nan_to_num() for one in make.cache(8)]
    torch.library.opcheck(ops.flash_attention, (make.normal(18, 384), *cache))
    torch.library.opcheck(ops.bias_gelu, (make.normal(18, 512), make.normal(512)))


WIDE_HEADS = GPT2Config(vocab_size=1013, context=128, layers=2, heads=2, width=256)
XL_WIDTH = GPT2Config(vocab_size=1013, context=512, layers=2, heads=25, width=1600)
WHOLE = [(PRESETS["gpt2"], 1, tokens) for tokens in LENGTHS[1:]]
WHOLE += [(PRESETS["gpt2"], 4, 33), (PRESETS["gpt2"], 16, 129), (PRESETS["gpt2-medium"], 2, 100), (PRESETS["tiny"], 3, 50)]
WHOLE += [(WIDE_HEADS, 2, 100), (XL_WIDTH, 1, 300)]


@cache
def weights(config: GPT2Config) -> dict[str, torch.Tensor]:
    """Random ones, FP32, whose biases are not zero."""
    state = {name: one.cuda() for name, one in random_state(config, 0).items()}
    for name, one in state.items():
        if name.endswith(".bias"):
            one.normal_(std=0.1, generator=torch.Generator("cuda").manual_seed(len(name)))
    return state


@pytest.mark.parametrize(
    ("config", "batch", "tokens"), WHOLE, ids=lambda one: f"{one.width}" if isinstance(one, GPT2Config) else None
)
@pytest.mark.parametrize("captured", [False, True])
@torch.inference_mode()
def test_logits_and_cache_are_the_models(config: GPT2Config, batch: int, tokens: int, captured: bool) -> None:
    state = weights(config)
    model, plain = build_model(config, {name: one.half() for name, one in state.items()}), build_model(config, state)
    for one in (model, plain):
        one.allocate_cache(batch, min(tokens + 5, config.context))
    for block in model.blocks():
        block.attn.cache.keys.fill_(float("nan"))
        block.attn.cache.values.fill_(float("nan"))

    def never(*_):
        raise AssertionError("the eager step ran")

    step = fused_step(model, never, 0.0, None, by_layers)
    step = CapturedStep(step) if captured else step
    prompt, positions = random_prompt(config, batch, tokens, 0).cuda(), torch.arange(tokens, device="cuda")
    step(random_prompt(config, batch, tokens, 1).cuda(), positions)  # another prompt first: nothing of it may stay
    token, position, logits = step(prompt, positions)
    assert position.tolist() == [tokens]
    wanted = eager(plain, Demand())(prompt, positions).logits
    assert error(logits, wanted.double()) < MODEL_BOUND
    assert torch.all(logits[:, 0].gather(1, token)[:, 0] >= logits[:, 0].max(-1).values - 1e-2)  # rounded, unlike its choice
    for block, other in zip(model.blocks(), plain.blocks(), strict=True):
        for name in ("keys", "values"):
            found, expected = getattr(block.attn.cache, name), getattr(other.attn.cache, name)
            assert error(found[:, :, :tokens], expected[:, :, :tokens].double()) < MODEL_BOUND
            assert found[:, :, tokens:].isnan().all()


@torch.inference_mode()
def test_without_a_cache_a_prompt_yields_the_same() -> None:
    config = PRESETS["gpt2"]
    model = build_model(config, {name: one.half() for name, one in weights(config).items()})
    prompt, positions = random_prompt(config, 2, 70, 0).cuda(), torch.arange(70, device="cuda")
    logits = fused_step(model, eager(model, Demand()), 0.0, None, by_layers)(prompt, positions).logits.clone()
    model.allocate_cache(2, 80)
    assert torch.equal(fused_step(model, eager(model, Demand()), 0.0, None, by_layers)(prompt, positions).logits, logits)


def test_a_prompt_that_does_not_begin_at_0_is_never_answered() -> None:
    """In a process of its own: the device traps, and no other call of that process would work any more."""
    code = """import torch; from tracekit.kernels import prefill_ops as ops
make = lambda *shape: torch.ones(shape, device="cuda", dtype=torch.float16)
ids, positions = torch.zeros(1, 4, device="cuda", dtype=torch.int64), torch.arange(START, START + 4, device="cuda")
ops.embed_layer_norm(ids, positions, make(9, 64), make(16, 64), make(64), make(64)); torch.cuda.synchronize()"""
    for start, fails in ((0, False), (1, True)):
        command = [sys.executable, "-P", "-c", code.replace("START", str(start))]
        assert (subprocess.run(command, capture_output=True).returncode != 0) == fails
