"""Does an optimizer's step run as many kernels where one would do?"""

from __future__ import annotations

import re

import numpy as np

from tracekit.wording import counted, duration, percent

from ...activity.program import item_work
from ...activity.whatif import Program
from ...trace.arrays import Bools, Int64s
from ...trace.trace import Category, Trace
from ...work.step_time import Change
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import CALLS, KERNELS, needs
from .wording import kernels

STEP = re.compile(r"Optimizer\.step#(\w+)\.step")
FOREACH = re.compile(r"aten::_foreach_|aten::_fused_")
FUSED = re.compile(r"(?i).*fused_?(?:adam|sgd|adagrad)|.*aten::_fused_")

# How often the optimizer's numbers pass the memory: in separate kernels, as foreach runs them, and in one fused kernel.
PASSES = {"Adam": (22, 7), "AdamW": (22, 7), "SGD": (11, 5), "Adagrad": (13, 5)}
"""Reads and writes of a whole state. Adam: decay 2, first moment 3, second moment 5, bias corrections, root and epsilon 8,
update 4; fused: parameter, gradient and two moments read, and three of these written."""
PYTHON_LEFT, LOOP_LEFT = 0.5, 0.2
"""The share of the step's Python that a fused optimizer still runs: after operators over many tensors, and after a loop over
them. Estimated from a few pairs on an H200."""


@needs(KERNELS, CALLS)
def unfused_optimizer(facts: Facts) -> Answer:
    """The optimizer launches many kernels a step, and each passes over the parameters again."""
    rows = _steps(facts)
    if not len(rows):
        return None
    mine = _launched_in(facts, rows)
    count, name = int(mine.sum()), _name(facts, rows)
    fused = facts.trace.strings_that(FUSED.match)
    if count <= facts.thresholds.optimizer_kernels * len(rows) or fused[facts.names[mine]].any() or name not in PASSES:
        return None
    saved = facts.saved(_fused(facts, rows, mine, name))
    if facts.share(saved.saving_ns) < facts.thresholds.work and facts.work_share(mine) < facts.thresholds.work:
        return None
    host = int(facts.trace.events["duration_ns"][rows].sum())
    each = count / len(rows)
    return Finding(
        code="unfused_optimizer",
        title=f"{name} runs as many kernels instead of one",
        severity=facts.severity(saved),
        affected_ns=max(host, facts.time(mine)),
        **saved.fields,
        evidence=f"{counted(len(rows), 'optimizer step')} of {counted(round(each), 'kernel')} each take {duration(host)} on "
        f"the host and {duration(facts.time(mine))} on the GPU, {percent(facts.work_share(mine))} of the kernel time",
        action=f"torch.optim.{name}(params, fused=True): one kernel for all parameters, which reads and writes them once.",
        snippet=f"optimizer = torch.optim.{name}(model.parameters(), fused=True)",
        reasoning="The program is played again without the operators and calls inside the optimizer's step, with "
        f"{percent(PYTHON_LEFT)} of its Python ({percent(LOOP_LEFT)} if it is a loop), and its kernels as one that passes over "
        f"memory {PASSES[name][1]} times, not about {PASSES[name][0]}.",
        rows=kernels(facts, mine, np.where(mine, facts.work["duration_ns"], 0)),
    )


def of_optimizers(facts: Facts) -> Bools:
    """Which kernels belong to an optimizer's step: they were launched in one, or by an operator over many tensors."""
    rows = _steps(facts)
    inside = _launched_in(facts, rows) if len(rows) else np.zeros(len(facts.work), dtype=np.bool_)
    return inside | facts.launched_by(FOREACH)


def _steps(facts: Facts) -> Int64s:
    """The rows of the optimizer's steps."""
    return facts.trace.named(facts.trace.where(Category.ANNOTATION, Category.OPERATOR), STEP.match)


def _name(facts: Facts, rows: Int64s) -> str:
    match = STEP.match(str(facts.trace.names(rows[:1])[0]))
    return match[1] if match else ""


def _launched_in(facts: Facts, rows: Int64s) -> Bools:
    """Which kernels were launched inside these events."""
    call = facts.trace.call_of_gpu[facts.work["gpu"]]
    return (call >= 0) & begins_in(facts.trace, call, rows)


def begins_in(trace: Trace, events: Int64s, rows: Int64s) -> Bools:
    """Which of these events begin inside one of these rows, which follow each other."""
    start, end = trace.start_ns[rows], trace.end_ns[rows]
    order, moment = np.argsort(start), trace.start_ns[events]
    place = np.searchsorted(start[order], moment, side="right") - 1
    inside: Bools = (place >= 0) & (moment < end[order][np.maximum(place, 0)])
    return inside


def _fused(facts: Facts, rows: Int64s, mine: Bools, name: str) -> Change:
    """The optimizer's step as one kernel."""
    trace, played = facts.trace, facts.played
    many, few = PASSES[name]
    events = np.zeros(len(trace.gpu))
    events[facts.work["gpu"][mine]] = facts.work["duration_ns"][mine] * (1 - few / many)
    inner = np.concatenate((trace.operators, trace.calls))
    inner = inner[begins_in(trace, inner, rows)]
    dispatched = item_work(trace, played, np.setdiff1d(inner, rows))
    python = np.maximum(item_work(trace, played, rows) - dispatched, 0)
    left = PYTHON_LEFT if facts.launched_by(FOREACH)[mine].any() else LOOP_LEFT
    share = (dispatched + (1 - left) * python) / np.maximum(played.work_ns + played.call_ns, 1.0)

    def change(program: Program) -> Program:
        return program.faster(events).without_share(share)

    return change
