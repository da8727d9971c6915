"""Is the forward computed a second time in the backward, to save memory?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.wording import counted, percent

from ...trace.arrays import Bools
from ...trace.trace import Category
from ...work.operator_of_kernel import parents
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import KERNELS, OPERATORS, needs
from .wording import kept, kernels

NODE = re.compile(r"autograd::engine::evaluate_function: ")
CHECKPOINT = re.compile(r"autograd::engine::evaluate_function: CheckpointFunctionBackward\Z")
"""The node of the backward in which a checkpoint runs its part of the forward again, and then that part's backward."""
RECOMPUTES = re.compile(r".*\btorch/utils/checkpoint\.py\(\d+\): (?:recompute_fn|unpack_hook)")
"""The Python function in which a checkpoint of the newer kind (use_reentrant=False) does so."""


@needs(KERNELS, OPERATORS)
def recomputation(facts: Facts) -> Answer:
    """Activations are computed again in the backward: memory is saved at the cost of time."""
    again = _again(facts)
    if facts.work_share(again) < facts.thresholds.work:
        return None
    faster = np.where(again, facts.work["duration_ns"], 0)
    saved = facts.fewer(faster, again)
    return Finding(
        code="recomputation",
        title="The forward is computed again in the backward",
        severity=facts.severity(saved),
        affected_ns=facts.time(again),
        **saved.fields,
        evidence=f"{counted(int(again.sum()), 'kernel')} run in checkpoints of the backward: "
        f"{percent(facts.work_share(again))} of the kernel time",
        action="If memory is left, keep more activations: checkpoint every second or third block only, or keep the results of "
        "products and attention and compute the cheap rest again (selective checkpointing).",
        snippet="contexts = partial(create_selective_checkpoint_contexts, [torch.ops.aten.mm.default])\n"
        "y = checkpoint(block, x, use_reentrant=False, context_fn=contexts)",
        reasoning=f"The program is played again without these kernels. {kept(facts.time(again), saved.saving_ns)} An upper "
        "bound: whether memory holds all activations is not known.",
        rows=kernels(facts, again, faster),
    )


def _again(facts: Facts) -> Bools:
    """Which kernels a checkpoint launches to compute its part of the forward again."""
    trace = facts.trace
    found = np.zeros(len(facts.work), dtype=np.bool_)
    matches = trace.operators_that(CHECKPOINT.match)
    if matches.any():
        is_node = np.append(trace.operators_that(NODE.match)[trace.events["name"]], False)
        parent, around = parents(trace), facts.work["operator"].copy()
        while (outer := (around >= 0) & ~is_node[around]).any():
            around[outer] = parent[around[outer]]
        found |= (around >= 0) & np.append(matches[trace.events["name"]], False)[around]
    python = trace.where(Category.PYTHON)
    rows = python[trace.strings_of(python, RECOMPUTES.match)[trace.events["name"][python]]]
    if len(rows):
        found |= trace.enclosing(trace.nested(rows), trace.call_of_gpu[facts.work["gpu"]]) >= 0
    return found
