"""The operators on a CPU, where the references run; test_gpu.py has the kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402
from misfits import misfits, strided  # noqa: E402

from tracekit.kernels import ops, reference  # noqa: E402


def arguments(weights: str = "fp16") -> dict[str, tuple]:
    """Of each operator; the last one is the scale, None of FP16 weights."""
    make = Inputs(64, 2, 3, 16, "cpu", seed=5, vocabulary=33)
    embeddings = (make.normal(33, 64), make.normal(16, 64))
    qkv, fc1, fc2, head = make.linear(weights, 3), make.linear(weights, 4), make.linear(weights, 1, 4), make.head(weights, 33)
    tokens, position, norm, cache = make.tokens(), make.position(4), make.norm(), make.cache(16)
    layer = (*norm, qkv.weight, qkv.bias, *cache, qkv.scale)
    return {
        "embed_norm_qkv": (tokens, position, *embeddings, *layer),
        "norm_qkv": (make.hidden(), position, *layer),
        "decode_attention": (make.normal(3, 64), position, *cache),
        "linear_residual": (make.hidden(4), fc2.weight, fc2.bias, make.hidden(), fc2.scale),
        "norm_fc1_gelu": (make.hidden(), *norm, fc1.weight, fc1.bias, fc1.scale),
        "norm_lm_head": (make.hidden(), *norm, head.weight, head.scale),
    }


NAMES = list(arguments())
WEIGHTS = ["fp16", "int8"]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", NAMES)
def test_pytorch_takes_the_operator_for_what_it_says(name: str, weights: str) -> None:
    torch.library.opcheck(getattr(ops, name), arguments(weights)[name])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", NAMES[1:])
def test_on_a_cpu_the_reference_runs(name: str, weights: str) -> None:
    found = getattr(ops, name)(*arguments(weights)[name])
    expected = getattr(reference, name.removeprefix("decode_"))(*arguments(weights)[name])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_embedding_is_followed_by_the_same_layer() -> None:
    tokens, position, wte, wpe, *rest = arguments()["embed_norm_qkv"]
    hidden, query = ops.embed_norm_qkv(tokens, position, wte, wpe, *rest)
    assert hidden.equal(wte[tokens[:, 0]] + wpe[4])
    _, _, _, _, keys, values, _ = rest
    stored = keys.clone(), values.clone()
    assert query.equal(ops.norm_qkv(hidden, position, *rest))
    assert (keys.equal(stored[0]), values.equal(stored[1])) == (True, True)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("spoil", "reason"), misfits(dtype="must be (float|int).*, not ", size="must be|do not make|wide"))
def test_whatever_does_not_fit_is_refused_by_name(name: str, weights: str, spoil: Callable, reason: str) -> None:
    given = arguments(weights)[name]
    for index, tensor in enumerate(given):
        if tensor is None or (spoil is strided and tensor.numel() == 1):
            continue  # is not there, or has no strides to speak of
        spoiled = [*given[:index], spoil(tensor), *given[index + 1 :]]
        with pytest.raises(ValueError, match=reason):
            getattr(ops, name)(*spoiled)


@pytest.mark.parametrize(
    ("width", "heads", "batch", "reason"),
    [(64, 4, 1, "heads must be 32, 64 or 128 wide, not 16"), (1664, 26, 1, "at most 1600"), (64, 2, 17, "1 to 16, not 17")],
)
def test_shapes_beyond_the_kernels_are_refused(width: int, heads: int, batch: int, reason: str) -> None:
    make = Inputs(width, heads, batch, 8, "cpu", seed=1)
    with pytest.raises(ValueError, match=reason):
        ops.decode_attention(make.normal(batch, width), make.position(2), *make.cache(8))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_odd_offset_is_refused(weights: str) -> None:
    hidden, gamma, beta, weight, scale = arguments(weights)["norm_lm_head"]
    for index, given in enumerate((hidden, gamma, beta, weight)):
        shifted = torch.zeros(given.numel() + 1, dtype=given.dtype)[1:].view_as(given)
        spoiled = [hidden, gamma, beta, weight]
        spoiled[index] = shifted
        with pytest.raises(ValueError, match="multiple of 16 bytes"):
            ops.norm_lm_head(*spoiled, scale)


def test_weights_and_scale_must_belong_together() -> None:
    hidden, gamma, beta, numbers, scale = arguments("int8")["norm_lm_head"]
    with pytest.raises(ValueError, match="weight must be float16, not int8"):
        ops.norm_lm_head(hidden, gamma, beta, numbers)
    with pytest.raises(ValueError, match="weight must be int8, not float16"):
        ops.norm_lm_head(hidden, gamma, beta, numbers.half(), scale)
