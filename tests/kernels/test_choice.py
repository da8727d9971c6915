"""Is the most likely token torch.argmax's, where logits are NaN, infinite or equal? On a CPU: the references, and decode.cu itself.

decode.cu is emulated with warps in random order. test_gpu.py and test_hopper.py ask the same on a device.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import emulated  # noqa: E402
from decode_inputs import Inputs  # noqa: E402
from peculiar import (  # noqa: E402
    NAN,
    check_choice,
    head_that_yields,
    logits_that_round_alike,
    one_column_norm,
    peculiar_logits,
)

from tracekit.kernels import decode, ops, reference  # noqa: E402
from tracekit.kernels.decode import DecodeKernels, Linear  # noqa: E402
from tracekit.kernels.shape import Shape  # noqa: E402

VOCABULARY, WIDTH = 37, 64  # more tokens than a block has outputs, the last ones fewer
needs_compiler = pytest.mark.skipif(not emulated.available(), reason="needs g++ 12")
CASES = peculiar_logits(VOCABULARY)


def emulated_head(hidden: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor], linear: Linear):
    """The token and the logits by decode.cu's kernels on a CPU. Whatever they are to write is full of NaN or -1 before."""
    batch, vocabulary = len(hidden), len(linear.weight)
    run = DecodeKernels(torch.device("cpu"), Shape(WIDTH, 32, batch))
    token = torch.full((batch, 1), -1)
    logits = torch.full((batch, vocabulary), NAN, dtype=torch.float16)
    run.head(hidden, norm, linear, run.best(torch.device("cpu")).fill_(-1), token, logits)
    return token, logits


@pytest.fixture
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "Kernels", emulated.EmulatedKernels)
    monkeypatch.setattr(emulated.EmulatedKernels, "multiprocessors", 1)  # two blocks, of which one has more tiles to go over


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_the_reference_chooses_as_argmax(name: str, weights: str) -> None:
    make, logits = Inputs(WIDTH, 2, 3, 1, "cpu", seed=1), CASES[name]
    linear = head_that_yields(logits, WIDTH, "cpu", weights)
    check_choice(*reference.norm_lm_head(make.hidden(), *one_column_norm(WIDTH, "cpu"), linear.weight, linear.scale), logits)
    check_choice(*ops.norm_lm_head(make.hidden(), *one_column_norm(WIDTH, "cpu"), linear.weight, linear.scale), logits)


@needs_compiler
@pytest.mark.usefixtures("_emulated")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("weights", "batch"), [("fp16", 1), ("int8", 3)])
def test_the_kernels_choose_as_argmax(name: str, weights: str, batch: int) -> None:
    hidden, logits = Inputs(WIDTH, 2, batch, 1, "cpu", seed=2).hidden(), CASES[name]
    check_choice(*emulated_head(hidden, one_column_norm(WIDTH, "cpu"), head_that_yields(logits, WIDTH, "cpu", weights)), logits)


@needs_compiler
@pytest.mark.usefixtures("_emulated")
@pytest.mark.parametrize("batch", [1, 9])
def test_the_kernels_head_is_the_references(batch: int) -> None:
    make = Inputs(WIDTH, 2, batch, 1, "cpu", seed=batch)
    hidden, norm, linear = make.hidden(), make.norm(), make.head("fp16", 101)
    token, logits = emulated_head(hidden, norm, linear)
    _, wanted = reference.norm_lm_head(hidden.double(), *(one.double() for one in norm), linear.weight.double())
    assert float((logits.double() - wanted).norm() / wanted.norm()) < 2e-3
    assert torch.equal(token, logits.argmax(-1, keepdim=True))


@needs_compiler
@pytest.mark.usefixtures("_emulated")
def test_a_sequence_of_nan_leaves_the_others_alone() -> None:
    make = Inputs(WIDTH, 2, 3, 1, "cpu", seed=3)
    hidden, norm, linear = make.hidden(), make.norm(), make.head("fp16", VOCABULARY)
    before, _ = emulated_head(hidden, norm, linear)
    hidden[1, 5] = NAN
    token, logits = emulated_head(hidden, norm, linear)
    assert logits.isnan().all(1).tolist() == [False, True, False]
    assert token.flatten().tolist() == [int(before[0]), 0, int(before[2])]


def test_the_reference_chooses_by_the_logits_that_it_returns() -> None:
    norm, weight, logits = logits_that_round_alike(WIDTH, VOCABULARY, "cpu")
    check_choice(*reference.norm_lm_head(Inputs(WIDTH, 2, 2, 1, "cpu", seed=4).hidden(), *norm, weight), logits)


@needs_compiler
@pytest.mark.usefixtures("_emulated")
def test_the_kernels_choose_by_the_logits_that_they_write() -> None:
    norm, weight, logits = logits_that_round_alike(WIDTH, VOCABULARY, "cpu")
    check_choice(*emulated_head(Inputs(WIDTH, 2, 2, 1, "cpu", seed=4).hidden(), norm, Linear(weight)), logits)
