"""Are there kernels that another one could do on the way?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.inductor import is_generated

from ..evidence import KERNELS, Answer, CannotTell, Evidence, Finding, ms, needs, percent
from ..trace import Bools, Int64s

LAYOUT = re.compile(r"(?:nchw|nhwc|ncdhw|ndhwc)_?(?:to|2)_?(?:nchw|nhwc|ncdhw|ndhwc)|batched_transpose_\d", re.IGNORECASE)
"""In the names of cuDNN's and MIOpen's kernels that change a tensor's layout for a convolution."""

WORST = 5


@needs(KERNELS)
def elementwise_chains(evidence: Evidence) -> Answer:
    """Elementwise kernels one after another on a stream write what the next one reads: one kernel would keep it in registers."""
    mask = evidence.of_family("elementwise") & ~_generated(evidence)
    order = evidence.in_order
    inside, lane = mask[order], evidence.lane[order]
    begins = inside & ~(np.r_[False, inside[:-1]] & np.r_[False, lane[1:] == lane[:-1]])
    chain = np.cumsum(begins) - 1
    rows = order[inside]
    if not len(rows):
        return None
    of = chain[inside]
    time = evidence.work["duration_ns"][rows]
    first = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
    length = np.diff(np.r_[first, len(of)])
    longest = np.repeat(np.maximum.reduceat(time, first), length)
    chained = np.repeat(length > 1, length)
    affected = int(time[chained].sum())
    if affected < evidence.thresholds.work * max(int(evidence.work["duration_ns"].sum()), 1):
        return None
    faster = np.zeros(len(evidence.work), dtype=np.int64)
    # The chain takes as long as its longest kernel: each of the others gives up what all but the longest share.
    part = np.where(chained, time - np.where(_is_longest(time, longest, of), longest, 0), 0)
    faster[rows] = part
    saving = evidence.shorter(faster)
    moved = evidence.work["bytes"][rows][chained & (part > 0)]
    chains = int((length > 1).sum())
    return Finding(
        code="elementwise_chains",
        title="Elementwise kernels run one after another",
        severity=evidence.severity(saving),
        affected_ns=affected,
        saving_ns=saving,
        evidence=f"{chains:,} chains of {int(length[length > 1].sum()):,} elementwise kernels take "
        f"{percent(affected / max(int(evidence.work['duration_ns'].sum()), 1))} of the kernel time"
        + (f"; fused, {int(moved.sum()) / 1e6:,.1f} MB less would move" if moved.sum() else ""),
        action="torch.compile(model) fuses them; by hand: F.gelu and F.layer_norm instead of their formulas, "
        "optimizers with fused=True (torch.optim.AdamW(..., fused=True)) or foreach=True.",
        reasoning="Each chain of elementwise kernels that follow each other directly on a stream is taken to last as long as "
        f"its longest one: {ms(int(part.sum()))} less kernel time, {ms(saving)} less span, as the host launches. An upper "
        "bound: neighbours need not depend on each other, nor have one shape.",
        rows=_by_pair(evidence, rows[chained], part[chained]),
    )


def _is_longest(time: Int64s, longest: Int64s, chain: Int64s) -> Bools:
    """The first of the longest kernels of each chain."""
    candidates = np.flatnonzero(time == longest)
    first = candidates[np.r_[True, chain[candidates][1:] != chain[candidates][:-1]]] if len(candidates) else candidates
    found = np.zeros(len(time), dtype=np.bool_)
    found[first] = True
    return found


def _generated(evidence: Evidence) -> Bools:
    """Kernels that a compiler has fused already."""
    known = np.zeros(len(evidence.trace.strings), dtype=np.bool_)
    for code in np.unique(evidence.names).tolist():
        known[code] = is_generated(evidence.trace.strings[code])
    found: Bools = known[evidence.names]
    return found


@needs(KERNELS)
def split_k(evidence: Evidence) -> Answer:
    """A product of one row is split over K to fill the device, and a second kernel adds the parts up."""
    reduces = evidence.of_kind("splitk_reduce")
    if evidence.work_share(reduces) < evidence.thresholds.work / 5:
        return None
    rows = evidence.rows_per_product
    owner = evidence.work["owner"]
    single = np.unique(owner[(rows < evidence.thresholds.gemv_rows) & (owner >= 0)])
    known = evidence.work["has_bytes"] & reduces
    if 2 * evidence.time(known) < evidence.time(reduces):
        return CannotTell("split_k", "the shapes of the products that are split are not known")
    beside = reduces & np.isin(owner, single)
    if evidence.work_share(beside) < evidence.thresholds.work / 5:
        return None
    faster = np.where(beside, evidence.work["duration_ns"], 0)
    saving = evidence.shorter(faster)
    return Finding(
        code="split_k",
        title="Products of few rows are split, and added up by a second kernel",
        severity=evidence.severity(saving),
        affected_ns=evidence.time(beside),
        saving_ns=saving,
        evidence=f"{int(beside.sum()):,} split-K reductions beside products of few rows take "
        f"{percent(evidence.work_share(beside))} of the kernel time, and as many launches",
        action="torch.compile(model, mode='max-autotune') chooses among kernels that need none; from PyTorch 2.10 on "
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = (False, False) (for bfloat16 allow_bf16_...) "
        "forbids cuBLAS to split. Measure: a product that is not split may take longer.",
        reasoning=f"The time of these reductions, {ms(evidence.time(beside))}, of which {ms(saving)} shorten the span, as the "
        "host launches: an upper bound, as if the products took no longer without.",
        rows=_by_pair(evidence, np.flatnonzero(beside), faster[beside]),
    )


@needs(KERNELS)
def layout_conversions(evidence: Evidence) -> Answer:
    """Convolutions want another layout than the tensors have, so each is converted before and after."""
    conversions = evidence.named(LAYOUT)
    if not evidence.of_family("convolution").any() or evidence.work_share(conversions) < evidence.thresholds.work / 5:
        return None
    faster = np.where(conversions, evidence.work["duration_ns"], 0)
    saving = evidence.shorter(faster)
    return Finding(
        code="layout_conversions",
        title="Tensors change their layout around convolutions",
        severity=evidence.severity(saving),
        affected_ns=evidence.time(conversions),
        saving_ns=saving,
        evidence=f"{int(conversions.sum()):,} conversions between NCHW and NHWC take "
        f"{percent(evidence.work_share(conversions))} of the kernel time",
        action="model.to(memory_format=torch.channels_last) and inputs.to(memory_format=torch.channels_last), once, before "
        "the loop.",
        reasoning=f"The time of these kernels, {ms(evidence.time(conversions))}, of which {ms(saving)} shorten the span, as "
        "the host launches: channels_last keeps tensors in the layout that the convolutions want.",
        rows=_by_pair(evidence, np.flatnonzero(conversions), faster[conversions]),
    )


def _by_pair(evidence: Evidence, rows: Int64s, faster: Any) -> tuple[Mapping[str, Any], ...]:
    """The kernels of these rows of `work` by name, those that would save most first."""
    names, time = evidence.names[rows], evidence.work["duration_ns"][rows]
    found = [
        {
            "kernel": str(evidence.trace.strings[code]),
            "count": int((names == code).sum()),
            "time_ns": int(time[names == code].sum()),
            "faster_ns": int(faster[names == code].sum()),
        }
        for code in np.unique(names).tolist()
    ]
    return tuple(sorted(found, key=lambda row: (-row["faster_ns"], -row["time_ns"], row["kernel"]))[:WORST])
