"""Which formula tells an operator's work, and what does it tell of one call?"""

from __future__ import annotations

from ..trace.trace import Signature
from . import fused_work, matrix_work, vector_work
from .call import OperatorCall, UnrecordedError
from .work import Formula, Work

LARGEST = 2**53
"""More FLOPs or bytes no call has: they would keep the fastest device busy for seconds. A thousand such fit an int64."""

FORMULAS: dict[str, Formula] = {**matrix_work.FORMULAS, **vector_work.FORMULAS, **fused_work.FORMULAS}


def find_formula(operator: str) -> Formula | None:
    """The formula of an operator by its name, None for those that have none."""
    return fused_work.inductor if operator.startswith(fused_work.INDUCTOR) else FORMULAS.get(operator)


def work_of(operator: str, signature: Signature, list_item_bytes: int | None = None) -> Work | None:
    """The work of one call, None where the operator has no formula or the trace does not tell enough: unknown, not none."""
    formula = find_formula(operator)
    if formula is None:
        return None
    try:
        work = formula(OperatorCall.parse(operator, signature, list_item_bytes))
    except UnrecordedError:
        return None
    return work if max(work.flops or 0, work.bytes) < LARGEST else None
