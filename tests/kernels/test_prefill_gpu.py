"""A prefill's kernels on a CUDA device, beside their FP64 references: run with `pytest -m gpu`."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402

from tracekit.collect.fused import fused_step  # noqa: E402
from tracekit.collect.gpt2 import PRESETS, GPT2Config  # noqa: E402
from tracekit.collect.graphs import CapturedStep  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import random_prompt  # noqa: E402
from tracekit.kernels import prefill_ops as ops  # noqa: E402
from tracekit.kernels import prefill_reference as reference  # noqa: E402
from tracekit.kernels.decode import CAPABILITY  # noqa: E402

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


@pytest.mark.parametrize("scale", [1.0, 8.0])  # the latter's shares are all but one of them small
@pytest.mark.parametrize(("batch", "heads"), [(1, 12), (2, 25), (5, 3), (16, 2)])
@pytest.mark.parametrize("tokens", LENGTHS)
def test_attention_sees_every_token_so_far_and_no_other(tokens: int, batch: int, heads: int, scale: float) -> None:
    """Queries lie in a projection, keys and values in a longer cache; around both there is NaN."""
    make = Inputs(64 * heads, heads, batch, tokens + 3, "cuda", seed=tokens)
    projection = make.normal(batch, tokens, 3, heads, 64, scale=scale)
    projection[:, :, 1:] = float("nan")
    query = projection[:, :, 0].transpose(1, 2)
    keys, values = (cached[:, :, :tokens] for cached in make.cache(tokens - 1))
    wanted = reference.flash_attention(query.double(), keys.double(), values.double())
    found = ops.flash_attention(query, keys, values)
    assert error(found, wanted) < KERNEL_BOUND
    assert torch.equal(found, ops.flash_attention(query, keys, values))


@pytest.mark.parametrize("tokens", [1, 100, 1024])
def test_attention_reads_all_three_from_a_projection_as_well(tokens: int) -> None:
    make = Inputs(768, 12, 2, tokens, "cuda", seed=tokens)
    query, keys, values = make.normal(2, tokens, 3, 12, 64).permute(2, 0, 3, 1, 4).unbind(0)
    wanted = reference.flash_attention(query.double(), keys.double(), values.double())
    assert error(ops.flash_attention(query, keys, values), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("offset", [-3000.0, 3000.0])
def test_scores_of_any_size_are_softened(offset: float) -> None:
    """FP16's largest keys: no score may overflow, and a large maximum, of either sign, must not hide the others."""
    make = Inputs(64, 1, 1, 300, "cuda", seed=3)
    query, keys, values = make.normal(1, 1, 300, 64), make.normal(1, 1, 300, 64), make.normal(1, 1, 300, 64)
    query[..., 0], keys[..., 0] = 100.0, offset
    wanted = reference.flash_attention(query.double(), keys.double(), values.double())
    assert error(ops.flash_attention(query, keys, values), wanted) < KERNEL_BOUND


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


@pytest.mark.parametrize(("width", "heads", "batch", "tokens"), SHAPES)
def test_keys_and_values_go_to_the_cache_alone(width: int, heads: int, batch: int, tokens: int) -> None:
    make = inputs(width, heads, batch, tokens)
    qkv, bias = make.normal(batch * tokens, 3 * width), make.normal(3 * width)
    keys, values = (cached.fill_(float("nan")) for cached in make.cache(0))
    wanted = [one.double() for one in (qkv, bias, keys, values)]
    reference.qkv_to_cache(*wanted)
    before = qkv.clone()
    ops.qkv_to_cache(qkv, bias, keys, values)
    assert error(qkv[:, :width], wanted[0][:, :width]) < KERNEL_BOUND
    assert torch.equal(qkv[:, width:], before[:, width:])
    for cached, expected in ((keys, wanted[2]), (values, wanted[3])):
        assert error(cached[:, :, :tokens], expected[:, :, :tokens]) < KERNEL_BOUND
        assert cached[:, :, tokens:].isnan().all()


def test_the_compiler_sees_through_them() -> None:
    make = Inputs(128, 2, 2, 9, "cuda", seed=1)
    query, keys, values = (make.normal(2, 2, 9, 64) for _ in range(3))
    torch.library.opcheck(ops.flash_attention, (query, keys, values))
    torch.library.opcheck(ops.qkv_to_cache, (make.normal(18, 384), make.normal(384), *make.cache(8)))
    torch.library.opcheck(ops.bias_gelu, (make.normal(18, 512), make.normal(512)))


WHOLE = [("gpt2", 1, tokens) for tokens in LENGTHS[1:]]
WHOLE += [("gpt2", 4, 33), ("gpt2", 16, 129), ("gpt2-medium", 2, 100), ("gpt2-xl", 1, 300), ("tiny", 3, 50)]
WIDE_HEADS = GPT2Config(vocab_size=1013, context=128, layers=2, heads=2, width=256)


@pytest.mark.parametrize(("preset", "batch", "tokens"), [*WHOLE, (WIDE_HEADS, 2, 100)])
@pytest.mark.parametrize("captured", [False, True])
@torch.inference_mode()
def test_logits_and_cache_are_the_models(preset: str | GPT2Config, batch: int, tokens: int, captured: bool) -> None:
    config = PRESETS[preset] if isinstance(preset, str) else preset
    state = {name: one.cuda() for name, one in random_state(config, 0).items()}
    model, plain = build_model(config, {name: one.half() for name, one in state.items()}), build_model(config, state)
    for one in (model, plain):
        one.allocate_cache(batch, min(tokens + 5, config.context))
    for block in model.blocks():
        block.attn.cache.keys.fill_(float("nan"))
        block.attn.cache.values.fill_(float("nan"))

    def never(*_):
        raise AssertionError("the eager step ran")

    step = fused_step(model, never, 0.0, None)
    step = CapturedStep(step) if captured else step
    prompt, positions = random_prompt(config, batch, tokens, 0).cuda(), torch.arange(tokens, device="cuda")
    step(random_prompt(config, batch, tokens, 1).cuda(), positions)  # another prompt first: nothing of it may stay
    token, logits = step(prompt, positions)
    _, wanted = eager(plain, Demand())(prompt, positions)
    assert error(logits, wanted.double()) < MODEL_BOUND
    assert torch.equal(token, logits[:, 0].argmax(-1, keepdim=True)) or captured
    for block, other in zip(model.blocks(), plain.blocks(), strict=True):
        for name in ("keys", "values"):
            found, expected = getattr(block.attn.cache, name), getattr(other.attn.cache, name)
            assert error(found[:, :, :tokens], expected[:, :, :tokens].double()) < MODEL_BOUND
            assert found[:, :, tokens:].isnan().all()


@torch.inference_mode()
def test_without_a_cache_a_prompt_yields_the_same() -> None:
    config = PRESETS["gpt2"]
    model = build_model(config, {name: one.cuda().half() for name, one in random_state(config, 0).items()})
    prompt, positions = random_prompt(config, 2, 70, 0).cuda(), torch.arange(70, device="cuda")
    logits = fused_step(model, eager(model, Demand()), 0.0, None)(prompt, positions)[1].clone()
    model.allocate_cache(2, 80)
    assert torch.equal(fused_step(model, eager(model, Demand()), 0.0, None)(prompt, positions)[1], logits)


def test_a_prompt_that_does_not_begin_at_0_is_never_answered() -> None:
    """In a process of its own: the device traps, and no other call of that process would work any more."""
    code = """import torch; from tracekit.kernels import prefill_ops as ops
make = lambda *shape: torch.ones(shape, device="cuda", dtype=torch.float16)
ids, positions = torch.zeros(1, 4, device="cuda", dtype=torch.int64), torch.arange(START, START + 4, device="cuda")
ops.embed_layer_norm(ids, positions, make(9, 64), make(16, 64), make(64), make(64)); torch.cuda.synchronize()"""
    for start, fails in ((0, False), (1, True)):
        command = [sys.executable, "-P", "-c", code.replace("START", str(start))]
        assert (subprocess.run(command, capture_output=True).returncode != 0) == fails
