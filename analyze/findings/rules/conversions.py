"""Are tensors cast again and again that could be kept as they are needed?"""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np

from tracekit.wording import counted, percent

from ...trace.arrays import Bools
from ...work.operator_of_kernel import parents
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import KERNELS, OPERATORS, needs
from .wording import kept, kernels

CASTS = frozenset({"aten::to", "aten::_to_copy", "aten::copy_"})
CONVERSIONS = frozenset({"aten::to", "aten::_to_copy"})
PRODUCTS = frozenset(
    {"aten::linear", "aten::addmm", "aten::mm", "aten::matmul", "aten::bmm", "aten::baddbmm"}
    | {f"aten::{name}" for name in ("conv1d", "conv2d", "conv3d", "convolution", "_convolution", "conv_transpose2d")}
)
"""The operators that autocast gives lower precision, so that their operands are cast inside them."""


@needs(KERNELS, OPERATORS)
def weight_casts(facts: Facts) -> Answer:
    """Weights are cast to lower precision at every call, because autocast keeps no copy of them."""
    casts = of_weights(facts)
    if facts.work_share(casts) < facts.thresholds.work:
        return None
    faster = np.where(casts, facts.work["duration_ns"], 0)
    saved, steps = facts.fewer(faster, casts), len(facts.steps.table)
    each = f", {counted(int(casts.sum()) / steps, 'cast')} a step" if steps > 1 else ""
    return Finding(
        code="weight_casts",
        title="Weights are cast again at every call",
        severity=facts.severity(saved),
        affected_ns=facts.time(casts),
        **saved.fields,
        evidence=f"{counted(int(casts.sum()), 'kernel')} cast weights and biases inside products and convolutions{each}: "
        f"{percent(facts.work_share(casts))} of the kernel time",
        action="Cast the weights once: model.to(torch.bfloat16) (or .half()) for inference. With autocast, keep its cache: one "
        "`with torch.autocast('cuda', dtype=torch.bfloat16):` around the whole loop, cache_enabled=True, and no "
        "torch.no_grad() entered inside it, which makes it cast every time.",
        snippet="model = model.to(torch.bfloat16)  # once, for inference",
        reasoning="The time of these kernels. They are casts inside an operator whose weight or bias has the shape of what is "
        f"cast. {kept(int(faster.sum()), saved.saving_ns)}",
        rows=kernels(facts, casts, faster),
    )


def of_weights(facts: Facts) -> Bools:
    """Which kernels cast a weight or a bias inside the operator that multiplies by it."""
    trace, operator = facts.trace, facts.work["operator"]
    parent = parents(trace)
    is_cast = np.append(trace.strings_that(CASTS.__contains__)[trace.events["name"]], False) & _is_operator(facts)
    is_product = np.append(trace.strings_that(PRODUCTS.__contains__)[trace.events["name"]], False) & _is_operator(facts)
    outer, cast = operator.copy(), np.full(len(operator), -1, dtype=np.int64)
    while (inside := is_cast[outer]).any():
        cast = np.where(inside, outer, cast)
        outer = np.where(inside, parent[outer], outer)
    found: Bools = (cast >= 0) & is_product[outer]
    found[found] = [
        _is_weight(facts, one, other) for one, other in zip(cast[found].tolist(), outer[found].tolist(), strict=True)
    ]
    return found


def of_casts(facts: Facts) -> Bools:
    """Which kernels cast a tensor to another type: the copy inside `aten::to`."""
    trace, operator = facts.trace, facts.work["operator"]
    copies = np.append(trace.strings_that("aten::copy_".__eq__)[trace.events["name"]], False)
    converts = np.append(trace.strings_that(CONVERSIONS.__contains__)[trace.events["name"]], False)
    found: Bools = (operator >= 0) & copies[operator] & converts[parents(trace)[operator]]
    return found


def _is_operator(facts: Facts) -> Bools:
    found = np.zeros(len(facts.trace) + 1, dtype=np.bool_)
    found[facts.trace.operators] = True
    return found


def _is_weight(facts: Facts, cast: int, product: int) -> bool:
    """Whether what is cast has the shape of an operand of the product other than the first."""
    codes = facts.trace.events["signature"]
    if codes[cast] < 0 or codes[product] < 0:
        return False
    signatures = facts.trace.signatures
    mine, all_of_them = _dims(signatures[codes[cast]][0]), _dims(signatures[codes[product]][0])
    return bool(mine) and mine[0] in all_of_them[1:] and mine[0] != all_of_them[0]


@cache
def _dims(written: bytes) -> tuple[object, ...]:
    """The dimensions of each operand, as JSON lists in text; empty where they cannot be read."""
    try:
        found = msgspec.json.decode(written)
    except msgspec.DecodeError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
