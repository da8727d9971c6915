"""The fused kernels on a CUDA device, beside their FP64 references: run with `pytest -m gpu`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402

from tracekit.collect.gpt2 import PRESETS, GPT2Config  # noqa: E402
from tracekit.collect.variants import Demand, eager, fused  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import generate, random_prompt  # noqa: E402
from tracekit.kernels import ops, reference  # noqa: E402
from tracekit.kernels.decode import CAPABILITY, decode_kernels  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY,
        reason="needs a CUDA device of compute capability 7.5",
    ),
]
KERNEL_BOUND, MODEL_BOUND = 2e-3, 5e-3

# Width, heads, batch: GPT-2's four sizes, head widths of 32 and 128, a last chunk that is part empty, every branch of rows.
SHAPES = [
    (768, 12, 1),
    (768, 12, 2),
    (768, 12, 5),
    (768, 12, 16),
    (1024, 16, 1),
    (1280, 20, 1),
    (1280, 20, 3),
    (1600, 25, 1),
    (1600, 25, 16),
    (64, 2, 2),
    (256, 2, 1),
    (96, 3, 7),
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


def doubled(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors]


def test_results_are_poisoned_before() -> None:
    assert torch.empty(8, device="cuda", dtype=torch.float16).isnan().all()


@pytest.mark.parametrize("at", [0, 1, 17, 62])
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_qkv_goes_to_the_query_and_the_cache_alone(width: int, heads: int, batch: int, at: int) -> None:
    make = Inputs(width, heads, batch, 63, "cuda", seed=width + at)
    hidden, norm, linear = make.hidden(), make.norm(), make.linear(3)
    position, keys, values = make.position(at), *make.cache(at - 1)
    wanted_keys, wanted_values = doubled(keys, values)
    wanted = reference.norm_qkv(*doubled(hidden, position, *norm, *linear), wanted_keys, wanted_values)
    before = keys.clone(), values.clone()
    query = ops.norm_qkv(hidden, position, *norm, *linear, keys, values)
    assert error(query, wanted) < KERNEL_BOUND
    for cached, expected, old in ((keys, wanted_keys, before[0]), (values, wanted_values, before[1])):
        assert error(cached[:, :, at], expected[:, :, at]) < KERNEL_BOUND
        others = torch.arange(63, device="cuda") != at
        assert torch.equal(cached[:, :, others].view(torch.int16), old[:, :, others].view(torch.int16))


@pytest.mark.parametrize("at", [0, 41])
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_the_embedding_comes_before_the_first_layer(width: int, heads: int, batch: int, at: int) -> None:
    make = Inputs(width, heads, batch, 42, "cuda", seed=width - at)
    tokens, position, embeddings = make.tokens(), make.position(at), (make.normal(1013, width), make.normal(42, width))
    norm, linear, (keys, values) = make.norm(), make.linear(3), make.cache(at - 1)
    summed = reference.embed(tokens, position, *embeddings)
    wanted_cache = doubled(keys, values)
    wanted = reference.norm_qkv(*doubled(summed, position, *norm, *linear), *wanted_cache)
    hidden, query = ops.embed_norm_qkv(tokens, position, *embeddings, *norm, *linear, keys, values)
    assert torch.equal(hidden, summed)
    assert error(query, wanted) < KERNEL_BOUND
    assert error(keys[:, :, at], wanted_cache[0][:, :, at]) < KERNEL_BOUND
    assert error(values[:, :, at], wanted_cache[1][:, :, at]) < KERNEL_BOUND


@pytest.mark.parametrize("at", [0, 1, 2, 63, 64, 100, 127, 128, 255, 256, 777, 1023])
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_attention_sees_every_token_so_far_and_no_other(width: int, heads: int, batch: int, at: int) -> None:
    make = Inputs(width, heads, batch, 1024, "cuda", seed=width + at)
    query, position, cache = make.normal(batch, width, scale=3.0), make.position(at), make.cache(at)
    wanted = reference.attention(*doubled(query, position, *cache))
    assert error(ops.decode_attention(query, position, *cache), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("inputs", [1, 4])
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_a_projection_is_added_to_the_residual(width: int, heads: int, batch: int, inputs: int) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width + inputs)
    arguments = (make.hidden(inputs), *make.linear(1, inputs), make.hidden())
    wanted = reference.linear_residual(*doubled(*arguments))
    assert error(ops.linear_residual(*arguments), wanted) < KERNEL_BOUND


@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_norm_fc1_gelu(width: int, heads: int, batch: int) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width)
    linear = make.linear(4)
    arguments = (make.hidden() * 3, *make.norm(), linear[0] * 3, linear[1])
    wanted = reference.norm_fc1_gelu(*doubled(*arguments))
    assert error(ops.norm_fc1_gelu(*arguments), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("vocabulary", [1, 2, 1013, 50257])
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_the_head_yields_logits_and_the_most_likely_token(width: int, heads: int, batch: int, vocabulary: int) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width + vocabulary)
    arguments = (make.hidden(), *make.norm(), make.normal(vocabulary, width, scale=width**-0.5))
    _, wanted = reference.norm_lm_head(*doubled(*arguments))
    token, logits = ops.norm_lm_head(*arguments)
    assert error(logits, wanted) < KERNEL_BOUND
    assert torch.all(wanted.gather(1, token)[:, 0] >= wanted.max(-1).values - 1e-4)  # equal but for FP32's rounding


def test_equal_logits_go_to_the_lower_token() -> None:
    make = Inputs(768, 12, 1, 1, "cuda", seed=0)
    hidden, norm = make.hidden(), make.norm()
    weight = make.normal(1, 768).repeat(50257, 1)
    if ops.norm_lm_head(hidden, *norm, weight)[1][0, 0] > 0:
        weight[:1234] *= -1
        assert ops.norm_lm_head(hidden, *norm, weight)[0].item() == 1234
    else:
        weight[1234:] *= -1
        assert ops.norm_lm_head(hidden, *norm, weight)[0].item() == 1234


def test_the_kernels_read_any_stream_and_the_compiler_sees_through_them() -> None:
    make = Inputs(768, 12, 2, 1, "cuda", seed=1)
    arguments = (make.hidden(), *make.norm(), *make.linear(4))
    expected = ops.norm_fc1_gelu(*arguments)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = ops.norm_fc1_gelu(*arguments)
    stream.synchronize()
    assert torch.equal(found, expected)
    torch.library.opcheck(ops.norm_fc1_gelu, arguments)


def fused_and_plain(config: GPT2Config, batch: int, prompt: int, new: int):
    state = {name: one.cuda() for name, one in random_state(config, 0).items()}
    half = {name: one.half() for name, one in state.items()}
    model, plain = build_model(config, half), build_model(config, state)
    for one in (model, plain):
        one.allocate_cache(batch, prompt + new)
    return fused(model, Demand()), eager(plain, Demand()), random_prompt(config, batch, prompt, 0).cuda()


@pytest.mark.parametrize(
    ("preset", "batch", "prompt", "new"),
    [
        ("gpt2", 1, 16, 100),
        ("gpt2", 1, 1, 1023),
        ("gpt2", 4, 9, 30),
        ("gpt2", 16, 33, 40),
        ("gpt2-medium", 1, 16, 40),
        ("tiny", 3, 5, 50),
    ],
)
def test_logits_are_the_models_and_every_run_the_same(preset: str, batch: int, prompt: int, new: int) -> None:
    step, plain, tokens = fused_and_plain(PRESETS[preset], batch, prompt, new)
    squares = torch.zeros(2, dtype=torch.float64, device="cuda")

    def both(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        _, expected = plain(tokens, positions)
        token, logits = step(tokens, positions)
        squares.add_(torch.stack([(logits.double() - expected.double()).square().sum(), expected.double().square().sum()]))
        return token

    first = generate(both, tokens, new).tokens
    assert float((squares[0] / squares[1]).sqrt()) < MODEL_BOUND
    for _ in range(3):
        assert torch.equal(generate(lambda *arguments: step(*arguments)[0], tokens, new).tokens, first)


def test_kernels_of_a_shape_are_made_once() -> None:
    assert decode_kernels(0, 768, 64, 1) is decode_kernels(0, 768, 64, 1)
