"""The one-kernel decode step as an operator, on a CPU, where its reference runs; test_hopper.py has the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lively import lively_state  # noqa: E402
from misfits import misfits, strided  # noqa: E402

from tracekit.collect.fused import in_fp16, model_tensors  # noqa: E402
from tracekit.collect.gpt2 import GPT2Config  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import build_model  # noqa: E402
from tracekit.kernels import hopper_ops as ops  # noqa: E402
from tracekit.kernels.packing import natural, ordered, packed, unpack_attention, unpack_mlp  # noqa: E402

CONFIG = GPT2Config(vocab_size=97, context=24, layers=2, heads=4, width=256)


def model_of(dtype: torch.dtype):
    model = build_model(CONFIG, {name: one.to(dtype) for name, one in lively_state(CONFIG).items()})
    model.allocate_cache(1, CONFIG.context)
    return model


def arguments(at: int = 0) -> dict[str, Any]:
    """By the operator's own names, of a model in FP16 whose cache holds no numbers yet."""
    model = packed(model_tensors(model_of(torch.float16), in_fp16))
    return {
        "tokens": torch.tensor([[5]]),
        "position": torch.tensor([at]),
        "token_embedding": model.embeddings[0].detach(),
        "position_embedding": model.embeddings[1].detach(),
        "attention_weights": model.attention.detach(),
        "mlp_weights": model.mlp.detach(),
        "keys": [keys for keys, _ in model.caches],
        "values": [values for _, values in model.caches],
        "gamma": model.norm[0].detach(),
        "beta": model.norm[1].detach(),
        "head": model.head.detach(),
    }


def test_pytorch_takes_the_operator_for_what_it_says() -> None:
    torch.library.opcheck(ops.decode_step, (), arguments())


@torch.inference_mode()
def test_its_steps_are_the_models() -> None:
    plain = eager(model_of(torch.float32), Demand())
    given = arguments()
    tokens, position = given["tokens"], given["position"]
    for at in range(12):
        wanted = plain(tokens, position).logits[:, 0]
        logits = ops.decode_step(**given)
        assert position.tolist() == [at + 1]
        assert torch.linalg.vector_norm(logits - wanted) < 5e-3 * torch.linalg.vector_norm(wanted)
        assert logits[0, tokens.item()] >= logits.max() - 1e-3


def test_weights_come_out_of_their_pieces_as_they_went_in_but_for_the_norms_factors() -> None:
    tensors = model_tensors(model_of(torch.float16), in_fp16)
    model = packed(tensors)
    for layer, attention, mlp in zip(tensors.layers, model.attention, model.mlp, strict=True):
        halves = (
            (unpack_attention(attention, 256), layer.norm_1, layer.qkv, layer.projection),
            (
                unpack_mlp(mlp, 256),
                layer.norm_2,
                layer.fc1,
                layer.fc2,
            ),
        )
        for (first, second), (gamma, beta), behind, last in halves:
            assert torch.equal(first[0], (behind.weight * gamma.float()).half())
            torch.testing.assert_close(first[1], behind.bias + behind.weight.float() @ beta.float())
            assert torch.equal(second[0], last.weight)
            assert torch.equal(second[1], last.bias)


@pytest.mark.parametrize("steps", [1, 2])
def test_an_order_of_inputs_can_be_undone(steps: int) -> None:
    inputs = torch.arange(3 * 64).view(3, 64)
    assert not torch.equal(ordered(inputs, steps), inputs)
    assert torch.equal(natural(ordered(inputs, steps), steps), inputs)


@pytest.mark.parametrize("name", arguments())
@pytest.mark.parametrize(("spoil", "reason"), misfits(dtype="must be (float16|int64), not ", size="must be"))
def test_whatever_does_not_fit_is_refused_by_name(name: str, spoil: Callable, reason: str) -> None:
    given = arguments()
    tensor = given[name][0] if isinstance(given[name], list) else given[name]
    if spoil is strided and tensor.numel() == 1:
        pytest.skip("has no strides to speak of")
    given[name] = [spoil(tensor), *given[name][1:]] if isinstance(given[name], list) else spoil(tensor)
    with pytest.raises(ValueError, match=rf"^decode_step: .*({reason})"):
        ops.decode_step(**given)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"keys": []}, "a tensor a layer, not 0 and 2"),
        ({"position": torch.tensor([24])}, "position must be 0 to 23, not"),
        ({"tokens": torch.tensor([[97]])}, "tokens must be 0 to 96, not"),
        ({"head": torch.zeros(0, 256, dtype=torch.float16)}, "one or more tokens"),
        ({"keys": [torch.zeros(2, 4, 20, 64, dtype=torch.float16)] * 2}, "the batch must be 1, not 2"),
        ({"keys": [torch.zeros(1, 5, 20, 64, dtype=torch.float16)] * 2}, "the width must be 256, 512, 768"),
        ({"keys": [torch.zeros(1, 4, 25, 64, dtype=torch.float16)] * 2}, "1 to 24 tokens long"),
    ],
    ids=["layers", "position", "token", "vocabulary", "batch", "width", "length"],
)
def test_other_shapes_and_numbers_are_refused(changed: dict[str, Any], reason: str) -> None:
    given = arguments() | changed
    before = [one.clone() for one in given["values"]]
    with pytest.raises(ValueError, match=rf"^decode_step: .*{reason}"):
        ops.decode_step(**given)
    assert all(one.equal(other) for one, other in zip(given["values"], before, strict=True))
