"""Are quantised weights brought back to floating point by kernels of their own, at every call?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.wording import counted, form, percent

from ...trace.arrays import Bools
from ...work.operator_of_kernel import parents
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .needs import KERNELS, needs
from .wording import kept, kernels

DEQUANTISES = re.compile(r"(?i)dequant|reconstruct_(?:gptq|exl)")
"""Matches the names of kernels and operators that turn quantised values into floating point."""
SHIFT = re.compile(r"aten::(?:bitwise_right_shift|__i?rshift__|bitwise_left_shift|__i?lshift__)")
"""Matches operators that unpack values of few bits, as quantised layers written in plain PyTorch do."""
PLAIN = ("elementwise", "indexing", "other")
"""The families of such kernels. A product that dequantises along the way is a product."""


@needs(KERNELS)
def dequantising(facts: Facts) -> Answer:
    """Weights are dequantised into memory by kernels of their own before each product that uses them."""
    mine = of_weights_dequantised(facts)
    if facts.work_share(mine) < facts.thresholds.work:
        return None
    products = facts.of_family("gemm")
    if not products.any():
        return CannotTell("dequantising", "kernels dequantise, but no product is recorded that they could do it for")
    faster = np.where(mine, facts.work["duration_ns"], 0)
    saved, number, steps = facts.fewer(faster, mine), int(mine.sum()), len(facts.steps.table)
    each = f", {counted(number / steps, 'kernel')} a step" if steps > 1 else ""
    return Finding(
        code="dequantising",
        title="Weights are dequantised again at every call",
        severity=facts.severity(saved),
        affected_ns=facts.time(mine),
        **saved.fields,
        evidence=f"{counted(number, 'kernel')}{each} {form(number, 'dequantises', 'dequantise')} before products: "
        f"{percent(facts.work_share(mine))} of the kernel time, beside {percent(facts.work_share(products))} of the products",
        action="Use layers that dequantise inside the product (bitsandbytes' 4-bit kernels with inputs of "
        "bnb_4bit_compute_dtype, "
        "Marlin or ExLlamaV2 for GPTQ and AWQ, torchao's int4 weight-only with torch.compile). If memory holds the weights in "
        "half precision, dequantise them once. To train, give each call more tokens: one dequantising then serves them all.",
        snippet="# once, if memory holds the weights in half precision:\nmodel = model.dequantize()",
        reasoning=f"The program is played again without these kernels. {kept(facts.time(mine), saved.saving_ns)} An upper "
        "bound: weights in half precision take longer to read, and a fused product does the arithmetic as well.",
        rows=kernels(facts, mine, faster),
    )


def of_weights_dequantised(facts: Facts) -> Bools:
    """Which kernels dequantise: by their name, by an operator around their launch, or as a chain that unpacks for a product."""
    plain = np.isin(facts.families.astype(str), PLAIN) & ~facts.of_kind("kv_cache")
    found: Bools = plain & (facts.named(DEQUANTISES) | _inside(facts) | _unpacking(facts, plain))
    return found


def _inside(facts: Facts) -> Bools:
    """Which kernels are launched inside an operator that dequantises."""
    trace, operator = facts.trace, facts.work["operator"]
    matches = trace.operators_that(DEQUANTISES.search)
    found = np.zeros(len(operator), dtype=np.bool_)
    if not matches.any():
        return found
    parent, is_match = parents(trace), np.append(matches[trace.events["name"]], False)
    around = operator.copy()
    while (around >= 0).any():
        found |= is_match[around] & (around >= 0)
        around = parent[around]
    return found


def _unpacking(facts: Facts, plain: Bools) -> Bools:
    """Which kernels stand in a row that shifts bits and ends with a product, with no other kernel between them."""
    shifts = facts.launched_by(SHIFT) & plain
    found = np.zeros(len(plain), dtype=np.bool_)
    if not shifts.any():
        return found
    order = facts.in_order
    inside, lane = plain[order], facts.lane[order]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (inside[1:] != inside[:-1]) | (lane[1:] != lane[:-1])
    run = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    follows = np.append(first[1:], len(order) - 1)
    is_product = facts.of_family("gemm")[order]
    good = np.bincount(run[shifts[order]], minlength=len(first)) > 0
    good &= is_product[follows] & (lane[follows] == lane[first]) & inside[first]
    found[order] = good[run]
    return found
