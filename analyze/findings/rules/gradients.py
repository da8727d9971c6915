"""Are gradients clipped or zeroed by many kernels where few or none would do?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.wording import counted, duration, percent

from ...activity.program import item_work
from ...trace.arrays import Bools, Floats, Int64s
from ...trace.trace import Category
from ...work.operator_of_kernel import parents
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import CALLS, KERNELS, needs
from .optimizers import begins_in

ZERO_GRAD = re.compile(r"Optimizer\.zero_grad#")
NORM = re.compile(r"aten::(?:linalg_vector_norm|norm)\Z")
SCALE = re.compile(r"aten::mul_\Z")
ACCUMULATES = re.compile(r"torch::autograd::AccumulateGrad\Z")
ZERO = re.compile(r"aten::zero_\Z")
BETWEEN = 24
"""How many kernels lie at most between the norms of the gradients and their scaling: they work on one number."""
HOST_LEFT = 0.1
"""The share of the host's work that operators on lists of tensors leave: assumed."""


@needs(KERNELS, CALLS)
def gradient_clipping(facts: Facts) -> Answer:
    """The norm of each gradient has a kernel of its own, and so has its scaling."""
    if not facts.trains:
        return None
    owner, time = _clipping(facts), _time(facts)
    mine = owner >= 0
    if not mine.any():
        return None
    # The bytes are read as before: what a kernel takes beside them goes, and nearly all of the host's work.
    beside = np.where(mine, np.minimum(time, int(facts.work["duration_ns"].min())), 0).astype(np.float64)
    saved, took = facts.saved(_without(facts, owner, beside, 1 - HOST_LEFT)), int(time[mine].sum())
    if max(facts.share(saved.saving_ns), facts.share(took)) < facts.thresholds.gradients:
        return None
    number, steps = int(mine.sum()), len(facts.steps.table)
    each = f", {counted(number / steps, 'kernel')} a step" if steps > 1 else ""
    return Finding(
        code="gradient_clipping",
        title="Gradients are clipped one by one",
        severity=facts.severity(saved),
        affected_ns=took,
        **saved.fields,
        evidence=f"{counted(number, 'kernel')} take the norm of single gradients and scale them{each}: "
        f"{duration(took)}, {percent(facts.share(took))} of the span, and as many launches",
        action="torch.nn.utils.clip_grad_norm_(params, max_norm, foreach=True): a few kernels for all gradients. Clip only "
        "what you need to, and keep the norm on the device (no .item() on it at every step).",
        snippet="torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm, foreach=True)",
        reasoning=f"The program is played again with {percent(HOST_LEFT)} of the host's work in these operators (assumed), and "
        "each of their kernels shorter by the time of the shortest kernel: the bytes are read as before.",
        rows=({"kernels": number, "time_ns": took},),
    )


@needs(KERNELS, CALLS)
def gradient_zeroing(facts: Facts) -> Answer:
    """Gradients are filled with zeros, which nobody needs: the next backward can write them new."""
    if not facts.trains:
        return None
    owner, time = _zeroing(facts), _time(facts)
    mine = owner >= 0
    if not mine.any():
        return None
    adds, part = _additions(facts, mine)
    fills = _without(facts, owner, np.where(mine, time, 0).astype(np.float64), 1.0)
    sums = _without(facts, adds, np.where(adds >= 0, part * time, 0.0), part)
    saved, took = facts.saved(lambda program: sums(fills(program))), int(time[mine].sum())
    if max(facts.share(saved.saving_ns), facts.share(took)) < facts.thresholds.gradients:
        return None
    number = int(mine.sum())
    return Finding(
        code="gradient_zeroing",
        title="Gradients are filled with zeros",
        severity=facts.severity(saved),
        affected_ns=took,
        **saved.fields,
        evidence=f"{counted(number, 'fill')} of gradients take {duration(took)} on the GPU, {percent(facts.share(took))} of "
        "the span, and as many launches",
        action="optimizer.zero_grad(set_to_none=True), the default from PyTorch 2.0 on, in place of set_to_none=False, "
        "p.grad.zero_() or a loop over parameters: gradients are then written new, not zeroed and added to.",
        snippet="optimizer.zero_grad(set_to_none=True)",
        reasoning="The program is played again without these fills and the operators that launch them, and without the "
        "additions to zero: for each fill one of the backward's additions to a gradient.",
        rows=({"fills": number, "time_ns": took},),
    )


def _time(facts: Facts) -> Int64s:
    """The duration of each row of `trace.gpu`."""
    return facts.trace.events["duration_ns"][facts.trace.gpu["event"]]


def _owners(facts: Facts, pattern: re.Pattern[str]) -> Int64s:
    """For each row of `trace.gpu`, in the order of their starts, the outermost operator around it that matches, or -1."""
    trace = facts.trace
    around, parent = trace.operator_of_gpu[trace.gpu_order], parents(trace)
    owner, matches = np.full(len(around), -1, dtype=np.int64), trace.operators_that(pattern.match)
    if not matches.any():
        return owner
    is_match = np.append(matches[trace.events["name"]], False)
    while (around >= 0).any():
        owner = np.where(is_match[around], around, owner)
        around = parent[around]
    return owner


def _runs(facts: Facts, owner: Int64s) -> tuple[Int64s, Int64s]:
    """Where events follow each other that have an owner, of many different ones: the first place of each run and the last."""
    inside = np.concatenate(([False], owner >= 0, [False]))
    first, after = np.flatnonzero(inside[1:] & ~inside[:-1]), np.flatnonzero(inside[:-1] & ~inside[1:])
    is_new = np.concatenate((np.diff(owner, prepend=-1) != 0, [False]))
    calls = np.add.reduceat(is_new.astype(np.int64), np.stack((first, after), axis=1).reshape(-1))[::2] if len(first) else first
    many = calls > facts.thresholds.optimizer_kernels
    return first[many], after[many] - 1


def _spread(spans: tuple[Int64s, Int64s], size: int) -> Bools:
    """Which places lie in one of the spans, which are given by their first place and their last."""
    opens = np.zeros(size + 1, dtype=np.int64)
    np.add.at(opens, spans[0], 1)
    np.add.at(opens, spans[1] + 1, -1)
    found: Bools = np.cumsum(opens[:-1]) > 0
    return found


def _clipping(facts: Facts) -> Int64s:
    """For each row of `trace.gpu`, the operator that takes the norm of a gradient or scales it, or -1.

    It is one of many norms in a row, with many scalings in a row soon after them.
    """
    found = np.full(len(facts.trace.gpu), -1, dtype=np.int64)
    norm = _owners(facts, NORM)
    norms = _runs(facts, norm)
    if not len(norms[0]):
        return found
    scale = _owners(facts, SCALE)
    scales = _runs(facts, scale)
    if not len(scales[0]):
        return found
    after = np.minimum(np.searchsorted(scales[0], norms[1]), len(scales[0]) - 1)
    distance = scales[0][after] - norms[1]
    near = (distance > 0) & (distance <= BETWEEN)
    in_order = np.where(_spread((norms[0][near], norms[1][near]), len(norm)), norm, -1)
    chosen = np.unique(after[near])
    in_order = np.where(_spread((scales[0][chosen], scales[1][chosen]), len(scale)), scale, in_order)
    found[facts.trace.gpu_order] = in_order
    return found


def _zeroing(facts: Facts) -> Int64s:
    """For each row of `trace.gpu`, the operator that fills a gradient with zeros, or -1.

    It runs inside the optimizer's `zero_grad`, or is one of many in a row.
    """
    trace = facts.trace
    found = np.full(len(trace.gpu), -1, dtype=np.int64)
    zero = _owners(facts, ZERO)
    found[trace.gpu_order] = np.where(_spread(_runs(facts, zero), len(zero)), zero, -1)
    told = trace.named(trace.where(Category.ANNOTATION, Category.OPERATOR), ZERO_GRAD.match)
    call = trace.call_of_gpu
    if len(told):
        within = (call >= 0) & begins_in(trace, call, told)
        found = np.where(within & (trace.operator_of_gpu >= 0), trace.operator_of_gpu, found)
    return found


def _additions(facts: Facts, fills: Bools) -> tuple[Int64s, float]:
    """For each row of `trace.gpu`, the operator that adds to a gradient in the backward, or -1; and the share that vanishes.

    A gradient that is not zeroed is written where it was added, once for each fill.
    """
    trace = facts.trace
    found = np.full(len(trace.gpu), -1, dtype=np.int64)
    found[trace.gpu_order] = _owners(facts, ACCUMULATES)
    adds = int((found >= 0).sum())
    return found, min(int(fills.sum()) / adds, 1.0) if adds else 0.0


def _without(facts: Facts, owner: Int64s, less: Floats, share: float) -> Change:
    """The program with so much less time of the rows of `trace.gpu`, and without this share of the owners' host time."""
    trace, played = facts.trace, facts.played
    work = item_work(trace, played, np.unique(owner[owner >= 0]))
    host = share * work / np.maximum(played.work_ns + played.call_ns, 1.0)
    return lambda program: program.faster(less).without_share(host)
