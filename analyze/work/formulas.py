"""Which formula gives an operator's work, and how much work is one call?"""

from __future__ import annotations

from ..trace.trace import Signature
from . import fused_work, matrix_work, vector_work
from .call import OperatorCall, UnrecordedError
from .work import Formula, Work

LARGEST = 2**53
"""No call has as many FLOPs or bytes as this: they would keep the fastest device busy for seconds.

The sum of a thousand such calls fits into int64.
"""

FORMULAS: dict[str, Formula] = {**matrix_work.FORMULAS, **vector_work.FORMULAS, **fused_work.FORMULAS}


def find_formula(operator: str) -> Formula | None:
    """The formula of an operator by its name, or None if there is none."""
    return fused_work.inductor if operator.startswith(fused_work.INDUCTOR) else FORMULAS.get(operator)


def work_of(operator: str, signature: Signature, list_item_bytes: int | None = None) -> Work | None:
    """The work of one call. None means unknown, not zero: the operator has no formula, or the trace records too little."""
    formula = find_formula(operator)
    if formula is None:
        return None
    try:
        work = formula(OperatorCall.parse(operator, signature, list_item_bytes))
    except UnrecordedError:
        return None
    return work if max(work.flops or 0, work.bytes) < LARGEST else None
