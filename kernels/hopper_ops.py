"""How does PyTorch call the one-kernel decode step?

It is the operator `torch.ops.tracekit.decode_step`; on a CPU, `hopper_reference` does the work. An argument that does not fit
raises ValueError before anything runs. A token or position out of range traps on the device, and raises ValueError on a CPU.

A loop over steps should use `hopper.PersistentDecoder`. It keeps two things that this operator makes anew in each call: the
table of the caches' addresses, which the host waits for, and the buffers through which blocks exchange results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, int64
from torch.library import custom_op

from . import hopper_reference as reference
from .checks import check_range, require, sizes
from .hopper import PersistentStep, device_obstacle, shape_obstacle
from .packing import CLUSTER, PackedModel, attention_numbers, mlp_numbers
from .shape import Shape

_OP = "decode_step"


@custom_op("tracekit::decode_step", mutates_args=("tokens", "position", "keys", "values"))
def decode_step(
    tokens: Tensor,
    position: Tensor,
    token_embedding: Tensor,
    position_embedding: Tensor,
    attention_weights: Tensor,
    mlp_weights: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    head: Tensor,
) -> Tensor:
    """Works as `hopper_reference.decode_step` does.

    The weights are packed as in `packing.PackedModel`. Keys and values are one tensor for each layer. Raises ValueError as well
    if there is a `device_obstacle`, such as a device without room for the kernel, and the errors of a `PersistentStep`.
    """
    model = _model(token_embedding, position_embedding, attention_weights, mlp_weights, keys, values, gamma, beta, head)
    shape, length = _checked_shape(tokens, position, model)
    if not head.is_cuda:
        check_range(_OP, "tokens", tokens, len(head))
        check_range(_OP, "position", position, length)
        return reference.decode_step(tokens, position, model)
    problem = device_obstacle(shape, len(model.caches), length, head.device)
    if problem is not None:
        raise ValueError(f"{_OP}: {problem}")
    logits = _new_logits(model)
    PersistentStep(model)(tokens, position, logits)
    return logits


@decode_step.register_fake
def _(tokens: Tensor, position: Tensor, *rest: Any) -> Tensor:
    model = _model(*rest)
    _checked_shape(tokens, position, model)
    return _new_logits(model)


def _model(
    words: Tensor,
    places: Tensor,
    attention: Tensor,
    mlp: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    head: Tensor,
) -> PackedModel:
    if not keys or len(keys) != len(values):
        raise ValueError(f"{_OP}: keys and values must be a tensor a layer, not {len(keys)} and {len(values)}")
    return PackedModel((words, places), attention, mlp, tuple(zip(keys, values, strict=True)), (gamma, beta), head)


def _new_logits(model: PackedModel) -> Tensor:
    return model.head.new_empty((1, len(model.head)))


def _checked_shape(tokens: Tensor, position: Tensor, model: PackedModel) -> tuple[Shape, int]:
    """The model's shape and the length of its cache. Raises ValueError unless all tensors fit together."""
    like, head, positions = model.caches[0][0], model.head, len(model.embeddings[1])
    batch, heads, length, head_width = sizes(_OP, "keys", like, 4)
    shape = Shape(heads * head_width, head_width, batch)
    problem = shape_obstacle(shape, len(model.caches), length)
    if problem is not None:
        raise ValueError(f"{_OP}: {problem}")
    if not 0 < length <= positions:
        raise ValueError(f"{_OP}: the cache must be 1 to {positions} tokens long, as position_embedding, not {length}")
    if not len(head):
        raise ValueError(f"{_OP}: head must have a row for each of one or more tokens")
    require(_OP, "tokens", tokens, (1, 1), like, int64)
    require(_OP, "position", position, (1,), like, int64)
    width, packs = shape.width, (len(model.caches), heads * CLUSTER)
    fitting = {
        "token_embedding": (model.embeddings[0], (len(head), width)),
        "position_embedding": (model.embeddings[1], (positions, width)),
        "attention_weights": (model.attention, (*packs, attention_numbers(width))),
        "mlp_weights": (model.mlp, (*packs, mlp_numbers(width))),
        "gamma": (model.norm[0], (width,)),
        "beta": (model.norm[1], (width,)),
        "head": (head, (len(head), width)),
    }
    for name, (tensor, expected) in fitting.items():
        require(_OP, name, tensor, expected, like)
    for keys, values in model.caches:
        require(_OP, "keys", keys, (1, heads, length, head_width), like)
        require(_OP, "values", values, (1, heads, length, head_width), like)
    return shape, length
