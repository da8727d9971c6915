"""How does PyTorch call the one-kernel decode step? As `torch.ops.tracekit.decode_step`, on a CPU by `hopper_reference`.

Whatever does not fit raises ValueError, before anything runs; a token or position out of range traps on the device and
raises on a CPU. For step after step, `hopper.PersistentDecoder` keeps what this makes anew in every call: the table of the
caches' addresses, which the host waits for, and the buffers by which blocks hand over.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import custom_op

from . import hopper_reference as reference
from .checks import check_range, require, sizes
from .hopper import PackedModel, PersistentStep, device_obstacle, shape_obstacle
from .packing import CLUSTER, attention_halves, mlp_halves
from .shape import Shape

_OP = "decode_step"


def _new_logits(
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
    if not keys or len(keys) != len(values):
        raise ValueError(f"{_OP}: keys and values must be a tensor a layer, not {len(keys)} and {len(values)}")
    batch, heads, length, head_width = sizes(_OP, "keys", keys[0], 4)
    width, layers, blocks = heads * head_width, len(keys), heads * CLUSTER
    problem = shape_obstacle(Shape(width, head_width, batch), length)
    if problem is not None:
        raise ValueError(f"{_OP}: {problem}")
    if not 0 < length <= len(position_embedding):
        raise ValueError(
            f"{_OP}: the cache must be 1 to {len(position_embedding)} tokens long, as position_embedding, not {length}"
        )
    if not len(head):
        raise ValueError(f"{_OP}: head must have a row for each of one or more tokens")
    like = keys[0]
    require(_OP, "tokens", tokens, (1, 1), like, torch.int64)
    require(_OP, "position", position, (1,), like, torch.int64)
    fitting = {
        "token_embedding": (token_embedding, (len(head), width)),
        "position_embedding": (position_embedding, (len(position_embedding), width)),
        "attention_weights": (attention_weights, (layers, blocks, attention_halves(width))),
        "mlp_weights": (mlp_weights, (layers, blocks, mlp_halves(width))),
        "gamma": (gamma, (width,)),
        "beta": (beta, (width,)),
        "head": (head, (len(head), width)),
    }
    for name, (tensor, expected) in fitting.items():
        require(_OP, name, tensor, expected, like)
    for name, caches in (("keys", keys), ("values", values)):
        for cached in caches:
            require(_OP, name, cached, (1, heads, length, head_width), like)
    return head.new_empty((1, len(head)))


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
    """As of `hopper_reference.decode_step`. Raises ValueError for a device without room for it, as of `device_obstacle`."""
    embeddings, packed = (token_embedding, position_embedding), (attention_weights, mlp_weights)
    logits = _new_logits(tokens, position, *embeddings, *packed, keys, values, gamma, beta, head)
    _, heads, length, head_width = keys[0].shape
    if not head.is_cuda:
        check_range(_OP, "tokens", tokens, len(head))
        check_range(_OP, "position", position, length)
        return reference.decode_step(tokens, position, *embeddings, *packed, keys, values, gamma, beta, head)
    problem = device_obstacle(Shape(heads * head_width, head_width, 1), length, head.device)
    if problem is not None:
        raise ValueError(f"{_OP}: {problem}")
    model = PackedModel(embeddings, *packed, tuple(zip(keys, values, strict=True)), (gamma, beta), head)
    PersistentStep(model)(tokens, position, logits)
    return logits


decode_step.register_fake(_new_logits)
