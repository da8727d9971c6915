"""The fused kernels on a CUDA device, beside their FP64 references: run with `pytest -m gpu`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402
from peculiar import check_choice, head_that_yields, logits_that_round_alike, one_column_norm, peculiar_logits  # noqa: E402

from tracekit.collect.accuracy import bound  # noqa: E402
from tracekit.collect.gpt2 import PRESETS, GPT2Config  # noqa: E402
from tracekit.collect.variants import Demand, eager, find_variant  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import Next, generate, random_prompt  # noqa: E402
from tracekit.kernels import ops, reference  # noqa: E402
from tracekit.kernels.decode import CAPABILITY, Linear, decode_kernels  # noqa: E402
from tracekit.kernels.shape import Shape  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY,
        reason="needs a CUDA device of compute capability 7.5",
    ),
]
KERNEL_BOUND = 2e-3
XL = GPT2Config(vocab_size=5003, layers=3, heads=25, width=1600)  # as wide as the largest, but sooner made

# Width, heads, batch: GPT-2's four sizes, every batch, head widths of 32 and 128, and widths that leave some of the last
# warps, or half of the last INT8 weights, without inputs.
SHAPES = [
    *((768, 12, batch) for batch in range(1, 17)),
    (1024, 16, 1),
    (1024, 16, 8),
    (1280, 20, 1),
    (1280, 20, 11),
    (1600, 25, 1),
    (1600, 25, 7),
    (1600, 25, 16),
    (32, 1, 1),
    (64, 2, 2),
    (96, 3, 7),
    (160, 5, 16),
    (256, 2, 1),
    (1056, 33, 9),
    (1568, 49, 4),
]
FEW = [shape for shape in SHAPES if shape[0] != 768 or shape[2] in (1, 2, 8, 9, 16)]
WEIGHTS = ["fp16", "int8"]


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is allocated for a result is full of NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def doubled(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """In FP64, what is a number at all: INT8 weights are exact as they are."""
    return [one.double() if one is not None and one.is_floating_point() else one for one in tensors]


def parts(linear: Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    return linear.weight, linear.bias


def test_results_are_poisoned_before() -> None:
    assert torch.empty(8, device="cuda", dtype=torch.float16).isnan().all()


@pytest.mark.parametrize("at", [0, 17, 62])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_qkv_goes_to_the_query_and_the_cache_alone(width: int, heads: int, batch: int, weights: str, at: int) -> None:
    make = Inputs(width, heads, batch, 63, "cuda", seed=width + at)
    hidden, norm, linear = make.hidden(), make.norm(), make.linear(weights, 3)
    position, keys, values = make.position(at), *make.cache(at - 1)
    wanted_keys, wanted_values = doubled(keys, values)
    wanted = reference.norm_qkv(
        *doubled(hidden, position, *norm, *parts(linear)), wanted_keys, wanted_values, *doubled(linear.scale)
    )
    before = keys.clone(), values.clone()
    query = ops.norm_qkv(hidden, position, *norm, *parts(linear), keys, values, linear.scale)
    assert error(query, wanted) < KERNEL_BOUND
    for cached, expected, old in ((keys, wanted_keys, before[0]), (values, wanted_values, before[1])):
        assert error(cached[:, :, at], expected[:, :, at]) < KERNEL_BOUND
        others = torch.arange(63, device="cuda") != at
        assert torch.equal(cached[:, :, others].view(torch.int16), old[:, :, others].view(torch.int16))


@pytest.mark.parametrize("at", [0, 41])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("width", "heads", "batch"), FEW)
def test_the_embedding_comes_before_the_first_layer(width: int, heads: int, batch: int, weights: str, at: int) -> None:
    make = Inputs(width, heads, batch, 42, "cuda", seed=width - at)
    tokens, position, embeddings = make.tokens(), make.position(at), (make.normal(1013, width), make.normal(42, width))
    norm, linear, (keys, values) = make.norm(), make.linear(weights, 3), make.cache(at - 1)
    summed = reference.embed(tokens, position, *embeddings)
    wanted_cache = doubled(keys, values)
    wanted = reference.norm_qkv(*doubled(summed, position, *norm, *parts(linear)), *wanted_cache, *doubled(linear.scale))
    hidden, query = ops.embed_norm_qkv(tokens, position, *embeddings, *norm, *parts(linear), keys, values, linear.scale)
    assert torch.equal(hidden, summed)
    assert error(query, wanted) < KERNEL_BOUND
    assert error(keys[:, :, at], wanted_cache[0][:, :, at]) < KERNEL_BOUND
    assert error(values[:, :, at], wanted_cache[1][:, :, at]) < KERNEL_BOUND


@pytest.mark.parametrize("at", [0, 1, 2, 63, 64, 100, 127, 128, 255, 256, 777, 1023])
@pytest.mark.parametrize(("width", "heads", "batch"), [shape for shape in FEW if shape[2] in (1, 7, 16)])
def test_attention_sees_every_token_so_far_and_no_other(width: int, heads: int, batch: int, at: int) -> None:
    make = Inputs(width, heads, batch, 1024, "cuda", seed=width + at)
    query, position, cache = make.normal(batch, width, scale=3.0), make.position(at), make.cache(at)
    wanted = reference.attention(*doubled(query, position, *cache))
    assert error(ops.decode_attention(query, position, *cache), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("inputs", [1, 4])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_a_projection_is_added_to_the_residual(width: int, heads: int, batch: int, weights: str, inputs: int) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width + inputs)
    x, linear, residual = make.hidden(inputs), make.linear(weights, 1, inputs), make.hidden()
    wanted = reference.linear_residual(*doubled(x, *parts(linear), residual, linear.scale))
    assert error(ops.linear_residual(x, *parts(linear), residual, linear.scale), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("width", "heads", "batch"), SHAPES)
def test_norm_fc1_gelu(width: int, heads: int, batch: int, weights: str) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width)
    hidden, norm, linear = make.hidden() * 3, make.norm(), make.linear(weights, 4, scale=3.0)
    wanted = reference.norm_fc1_gelu(*doubled(hidden, *norm, *parts(linear), linear.scale))
    assert error(ops.norm_fc1_gelu(hidden, *norm, *parts(linear), linear.scale), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("batch", [1, 16])
def test_a_row_is_normalised_whatever_its_first_number(batch: int, weights: str) -> None:
    """The one pass over a row is around its first number: far from the mean, its share of the variance is the largest."""
    make = Inputs(1600, 25, batch, 1, "cuda", seed=batch)
    hidden, norm, linear = make.hidden() + 20.0, make.norm(), make.linear(weights, 4)
    hidden[:, 0] = 3000.0
    wanted = reference.norm_fc1_gelu(*doubled(hidden, *norm, *parts(linear), linear.scale))
    assert error(ops.norm_fc1_gelu(hidden, *norm, *parts(linear), linear.scale), wanted) < KERNEL_BOUND


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("width", "heads", "batch", "vocabulary"),
    [*((*shape, 1013) for shape in FEW), (768, 12, 1, 50257), (768, 12, 16, 50257), (768, 12, 16, 1), (64, 2, 16, 2)],
)
def test_the_head_yields_logits_and_the_most_likely_token(
    width: int, heads: int, batch: int, weights: str, vocabulary: int
) -> None:
    make = Inputs(width, heads, batch, 1, "cuda", seed=width + vocabulary)
    hidden, norm, head = make.hidden(), make.norm(), make.head(weights, vocabulary)
    _, wanted = reference.norm_lm_head(*doubled(hidden, *norm, head.weight, head.scale))
    token, logits = ops.norm_lm_head(hidden, *norm, head.weight, head.scale)
    assert error(logits, wanted) < KERNEL_BOUND
    assert torch.equal(token, logits.argmax(-1, keepdim=True))
    assert torch.all(wanted.gather(1, token)[:, 0] >= wanted.max(-1).values - 8e-3)  # equal but for the rounding of both


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("width", "heads", "batch", "vocabulary"), [(64, 2, 1, 9), (768, 12, 1, 50257), (768, 12, 16, 50257), (1600, 25, 7, 1013)]
)
def test_the_head_chooses_as_argmax_where_logits_are_nan_infinite_or_equal(
    width: int, heads: int, batch: int, weights: str, vocabulary: int
) -> None:
    hidden, norm = Inputs(width, heads, batch, 1, "cuda", seed=width).hidden(), one_column_norm(width, "cuda")
    for logits in peculiar_logits(vocabulary).values():
        head = head_that_yields(logits, width, "cuda", weights)
        check_choice(*ops.norm_lm_head(hidden, *norm, head.weight, head.scale), logits)
    norm, weight, logits = logits_that_round_alike(width, vocabulary, "cuda")
    check_choice(*ops.norm_lm_head(hidden, *norm, weight), logits)


@pytest.mark.parametrize("batch", [1, 16])
def test_equal_logits_go_to_the_lower_token(batch: int) -> None:
    make = Inputs(768, 12, 1, 1, "cuda", seed=0)
    hidden, norm = make.hidden().repeat(batch, 1), make.norm()
    row = make.normal(1, 768)
    if ops.norm_lm_head(hidden, *norm, row)[1][0, 0] < 0:
        row = -row
    weight = row.repeat(50257, 1)
    weight[:1234] *= -1
    assert ops.norm_lm_head(hidden, *norm, weight)[0].flatten().tolist() == [1234] * batch


def test_the_kernels_read_any_stream_and_the_compiler_sees_through_them() -> None:
    make = Inputs(768, 12, 2, 1, "cuda", seed=1)
    for weights in WEIGHTS:
        linear = make.linear(weights, 4)
        arguments = (make.hidden(), *make.norm(), *parts(linear), linear.scale)
        expected = ops.norm_fc1_gelu(*arguments)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = ops.norm_fc1_gelu(*arguments)
        stream.synchronize()
        assert torch.equal(found, expected)
        torch.library.opcheck(ops.norm_fc1_gelu, arguments)


def fused_and_plain(variant: str, config: GPT2Config, batch: int, prompt: int, new: int):
    state = {name: one.cuda() for name, one in random_state(config, 0).items()}
    half = {name: one.half() for name, one in state.items()}
    model, plain = build_model(config, half), build_model(config, state)
    for one in (model, plain):
        one.allocate_cache(batch, prompt + new)
    step = find_variant(variant).build(model, Demand())
    return step, eager(plain, Demand()), random_prompt(config, batch, prompt, 0).cuda()


@pytest.mark.parametrize(
    ("variant", "config", "batch", "prompt", "new"),
    [
        ("fused", PRESETS["gpt2"], 1, 16, 100),
        ("fused", PRESETS["gpt2"], 1, 1, 1023),
        ("fused", PRESETS["gpt2"], 4, 9, 30),
        ("fused", PRESETS["gpt2"], 16, 33, 100),
        ("fused", PRESETS["gpt2-medium"], 1, 16, 40),
        ("fused", XL, 2, 16, 20),
        ("fused", PRESETS["tiny"], 3, 5, 50),
        ("fused-int8", PRESETS["gpt2"], 1, 16, 100),
        ("fused-int8", PRESETS["gpt2"], 16, 33, 100),
        ("fused-int8", XL, 2, 16, 20),
        ("fused-int8", PRESETS["tiny"], 3, 5, 50),
    ],
    ids=lambda value: f"{value.width}x{value.layers}" if isinstance(value, GPT2Config) else None,
)
def test_logits_are_the_models_and_every_run_the_same(
    variant: str, config: GPT2Config, batch: int, prompt: int, new: int
) -> None:
    step, plain, tokens = fused_and_plain(variant, config, batch, prompt, new)
    squares = torch.zeros(2, dtype=torch.float64, device="cuda")

    def both(tokens: torch.Tensor, positions: torch.Tensor) -> Next:
        expected = plain(tokens, positions).logits  # first: a captured step overwrites what it was given
        found = step(tokens, positions)
        logits = found.logits
        squares.add_(torch.stack([(logits.double() - expected.double()).square().sum(), expected.double().square().sum()]))
        return found

    first = generate(both, tokens, new).tokens
    off = float((squares[0] / squares[1]).sqrt())
    print(f"{variant} {config.width} wide, batch {batch}: {off:.2e}")
    assert off < bound(find_variant(variant).weights or "float16", tf32_allowed=False)
    for _ in range(3):
        assert torch.equal(generate(step, tokens, new).tokens, first)


def test_kernels_of_a_shape_are_made_once() -> None:
    assert decode_kernels(0, Shape(768, 64, 1)) is decode_kernels(0, Shape(768, 64, 1))
