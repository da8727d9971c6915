"""A prefill's operators on a CPU, where the references run; test_prefill_gpu.py has the kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from decode_inputs import Inputs  # noqa: E402
from misfits import misfits  # noqa: E402

from tracekit.kernels import prefill_ops as ops  # noqa: E402
from tracekit.kernels import prefill_reference as reference  # noqa: E402


def arguments() -> dict[str, tuple]:
    make = Inputs(128, 2, 3, 16, "cpu", seed=5)
    tokens = torch.randint(33, (3, 5), generator=make.generator)
    hidden = make.normal(15, 128)
    return {
        "embed_layer_norm": (tokens, torch.arange(5), make.normal(33, 128), make.normal(16, 128), *make.norm()),
        "bias_residual_layer_norm": (make.normal(15, 128), make.normal(128), hidden, *make.norm()),
        "bias_gelu": (make.normal(15, 512), make.normal(512)),
        "flash_attention": (make.normal(15, 384), *make.cache(-1)),
    }


NAMES = list(arguments())


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_takes_the_operator_for_what_it_says(name: str) -> None:
    given = arguments()[name]
    # Uninitialised rows of the cache are NaN, which is not equal to itself.
    torch.library.opcheck(getattr(ops, name), tuple(one.nan_to_num() if one.is_floating_point() else one for one in given))


@pytest.mark.parametrize("name", NAMES)
def test_on_a_cpu_the_reference_runs(name: str) -> None:
    given, others = arguments()[name], arguments()[name]
    found, expected = getattr(ops, name)(*given), getattr(reference, name)(*others)
    torch.testing.assert_close((found, given), (expected, others), rtol=0, atol=0, equal_nan=True)
    before = arguments()[name]
    changed = {"bias_residual_layer_norm": {2}, "bias_gelu": {0}, "flash_attention": {1, 2}}.get(name, set())
    for index, (one, old) in enumerate(zip(given, before, strict=True)):
        assert torch.equal(one.nan_to_num(), old.nan_to_num()) == (index not in changed)


@pytest.mark.parametrize("name", NAMES)
def test_a_traced_operator_has_the_shapes_of_a_run_one(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    real = getattr(ops, name)(*arguments()[name])
    with FakeTensorMode() as mode:
        fake = getattr(ops, name)(*(mode.from_tensor(one) for one in arguments()[name]))
    for one, other in zip(*(result if isinstance(result, tuple) else (result,) for result in (real, fake)), strict=True):
        assert (one is None) == (other is None)
        assert one is None or (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("spoil", "reason"), misfits(dtype="must be (float16|int64), not ", size="must be|wide|width"))
def test_whatever_does_not_fit_is_refused_by_name(name: str, spoil: Callable, reason: str) -> None:
    given = arguments()[name]
    for index, tensor in enumerate(given):
        spoiled = [*given[:index], spoil(tensor), *given[index + 1 :]]
        with pytest.raises(ValueError, match=rf"^{name}: .*({reason})"):
            getattr(ops, name)(*spoiled)


@pytest.mark.parametrize(
    ("name", "index", "other", "reason"),
    [
        ("embed_layer_norm", 0, lambda one: one[:, :0], "must be \\[0\\]|1 to 16 tokens, not 0"),
        ("embed_layer_norm", 3, lambda one: one[:4], "1 to 4 tokens, not 5"),
        ("embed_layer_norm", 1, lambda one: one + 1, "must be 0, 1 and so on"),
        ("bias_residual_layer_norm", 2, lambda one: one[:0], "has no rows"),
        ("bias_gelu", 0, lambda one: one[:0], "has no rows"),
        ("flash_attention", 0, lambda one: one[:0], "has no rows"),
        ("flash_attention", 0, lambda one: one[:14], "14 rows are not 1 to 16 tokens for each of 3 prompts"),
        ("flash_attention", 0, lambda one: one.repeat(4, 1), "60 rows are not 1 to 16"),
        ("flash_attention", 1, lambda one: one.view(3, 4, 16, 32), "64 wide, not 32"),
        ("flash_attention", 1, lambda one: one[:1].repeat(17, 1, 1, 1), "1 to 16, not 17"),
        ("flash_attention", 2, lambda one: one[:, :, :8].contiguous(), "values must be"),
        ("bias_gelu", 0, lambda one: torch.zeros(one.numel() + 1, dtype=one.dtype)[1:].view_as(one), "multiple of 16 bytes"),
    ],
)
def test_other_shapes_are_refused(name: str, index: int, other: Callable, reason: str) -> None:
    given = list(arguments()[name])
    given[index] = other(given[index])
    with pytest.raises(ValueError, match=reason):
        getattr(ops, name)(*given)
