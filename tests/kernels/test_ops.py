"""The operators on a CPU, where the references run; test_gpu.py has the kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402

from tracekit.kernels import ops, reference  # noqa: E402


def arguments() -> dict[str, tuple]:
    make = Inputs(64, 2, 3, 16, "cpu", seed=5, vocabulary=33)
    embeddings = (make.normal(33, 64), make.normal(16, 64))
    return {
        "embed_norm_qkv": (make.tokens(), make.position(4), *embeddings, *make.norm(), *make.linear(3), *make.cache(16)),
        "norm_qkv": (make.hidden(), make.position(4), *make.norm(), *make.linear(3), *make.cache(16)),
        "decode_attention": (make.normal(3, 64), make.position(4), *make.cache(16)),
        "linear_residual": (make.hidden(4), *make.linear(1, 4), make.hidden()),
        "norm_fc1_gelu": (make.hidden(), *make.norm(), *make.linear(4)),
        "norm_lm_head": (make.hidden(), *make.norm(), make.normal(33, 64)),
    }


NAMES = list(arguments())


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_takes_the_operator_for_what_it_says(name: str) -> None:
    torch.library.opcheck(getattr(ops, name), arguments()[name])


@pytest.mark.parametrize("name", NAMES[1:])
def test_on_a_cpu_the_reference_runs(name: str) -> None:
    found = getattr(ops, name)(*arguments()[name])
    expected = getattr(reference, name.removeprefix("decode_"))(*arguments()[name])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_embedding_is_followed_by_the_same_layer() -> None:
    tokens, position, wte, wpe, *rest = arguments()["embed_norm_qkv"]
    hidden, query = ops.embed_norm_qkv(tokens, position, wte, wpe, *rest)
    assert hidden.equal(wte[tokens[:, 0]] + wpe[4])
    keys, values = (cached.clone() for cached in rest[-2:])
    assert query.equal(ops.norm_qkv(hidden, position, *rest))
    assert (keys.equal(rest[-2]), values.equal(rest[-1])) == (True, True)


def strided(tensor):
    return tensor.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda tensor: tensor.float() if tensor.is_floating_point() else tensor.int(), "must be (float16|int64), not "),
        (lambda tensor: tensor[None], "must (be|have)"),
        (lambda tensor: torch.cat([tensor, tensor], -1), "must be|do not make|wide"),
        (strided, "must be contiguous"),
    ],
    ids=["dtype", "dimensions", "size", "strides"],
)
def test_whatever_does_not_fit_is_refused_by_name(name: str, spoil: Callable, reason: str) -> None:
    given = arguments()[name]
    for index, tensor in enumerate(given):
        if spoil is strided and tensor.numel() == 1:
            continue  # has no strides to speak of
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


def test_an_odd_offset_is_refused() -> None:
    hidden, *rest = arguments()["norm_lm_head"]
    shifted = torch.zeros(hidden.numel() + 1, dtype=torch.float16)[1:].view_as(hidden)
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        ops.norm_lm_head(shifted, *rest)
