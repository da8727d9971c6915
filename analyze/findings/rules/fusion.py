"""Are there kernels whose work another kernel could do along the way?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tracekit.inductor import is_generated
from tracekit.wording import counted, form, percent, size

from ...trace.arrays import Bools, Int64s
from ...trace.group import group
from ..facts import Facts
from ..finding import Answer, CannotTell, Finding
from .conversions import of_casts, of_weights
from .dequantising import of_weights_dequantised
from .needs import KERNELS, needs
from .optimizers import of_optimizers
from .wording import kept, kernels

LAYOUT = re.compile(r"(?:nchw|nhwc|ncdhw|ndhwc)_?(?:to|2)_?(?:nchw|nhwc|ncdhw|ndhwc)|batched_transpose_\d", re.IGNORECASE)
"""Matches the names of cuDNN's and MIOpen's kernels that change a tensor's layout for a convolution."""
NHWC = re.compile(r"channels_last|nhwc", re.IGNORECASE)
NCHW_POOLING = re.compile(r"pool\w*nchw|pool\w*_nchw", re.IGNORECASE)
BACKWARD = re.compile(r"aten::.*backward")
STATISTICS = re.compile(r"collect_statistics|bn_fw_tr|batchnorm_fwtr|batch_norm_stats", re.IGNORECASE)
CHANNELS_LAST_SHARE = 0.5
"""The share of the bandwidth that norms and pooling reach in channels_last. Measured: 0.4 to 0.7 in three pairs on an H200."""
TRAINING_PASSES, BACKWARD_PASSES = 3 / 2, 5 / 3
"""How often a norm in training moves what its formula counts once: forward it reads its input twice, backward both inputs."""


@needs(KERNELS)
def elementwise_chains(facts: Facts) -> Answer:
    """Elementwise kernels run one after another, and each reads what the one before it wrote.

    One fused kernel would keep the values in registers.
    """
    other = _generated(facts) | of_weights(facts) | of_casts(facts) | of_weights_dequantised(facts) | of_optimizers(facts)
    chains = _chains(facts, facts.of_family("elementwise") & ~other)
    if facts.work_share(chains.members) < facts.thresholds.work:
        return None
    if facts.is_capture:
        return CannotTell("elementwise_chains", "a graph is captured here: profile its replays, which are what it is made for")
    saved = facts.fewer(chains.faster_ns, chains.faster_ns > 0)
    moved = int(facts.work["bytes"][chains.faster_ns > 0].sum())
    return Finding(
        code="elementwise_chains",
        title="Elementwise kernels run one after another",
        severity=facts.severity(saved),
        affected_ns=facts.time(chains.members),
        **saved.fields,
        evidence=f"{counted(chains.count, 'chain')} of {counted(int(chains.members.sum()), 'elementwise kernel')} "
        f"{form(chains.count, 'takes', 'take')} {percent(facts.work_share(chains.members))} of the kernel time"
        + (f"; fused, {size(moved)} less would move" if moved else "")
        + f", and {counted(int((chains.faster_ns > 0).sum()), 'launch', 'launches')} less",
        action="torch.compile(model) fuses them; by hand: F.gelu, F.layer_norm and F.rms_norm instead of their formulas.",
        snippet="model = torch.compile(model)",
        reasoning="Elementwise kernels with no other kernel between them on their stream are taken to last as long together as "
        f"the longest of them. {kept(int(chains.faster_ns.sum()), saved.saving_ns)} An upper bound: neighbours need not depend "
        "on each other, nor have one shape.",
        rows=kernels(facts, chains.members, chains.faster_ns),
    )


@dataclass(frozen=True)
class _Chains:
    """Chains of kernels that follow each other.

    `members` says for each row of `work` whether it is in a chain; `faster_ns` is its saving in ns if the chain is fused.
    """

    count: int
    members: Bools
    faster_ns: Int64s


def _chains(facts: Facts, mask: Bools) -> _Chains:
    """The chains: two or more of these kernels in a row on one stream, with no other kernel between them.

    The longest kernel of a chain keeps its time; the others save theirs.
    """
    order = facts.in_order
    inside, lane = mask[order], facts.lane[order]
    follows = np.zeros(len(order), dtype=np.bool_)
    follows[1:] = inside[1:] & inside[:-1] & (lane[1:] == lane[:-1])
    rows, chain = order[inside], np.cumsum(inside & ~follows)[inside] - 1
    length = np.bincount(chain)
    time, chained = facts.work["duration_ns"][rows], length[chain] > 1
    longest = np.lexsort((time, chain))[np.cumsum(length) - 1]
    faster, members = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.bool_)
    faster[rows[chained]], members[rows] = time[chained], chained
    faster[rows[longest]] = 0
    return _Chains(int((length > 1).sum()), members, faster)


def _generated(facts: Facts) -> Bools:
    """Which kernels a compiler has fused already."""
    known = np.zeros(len(facts.trace.strings), dtype=np.bool_)
    for code in np.unique(facts.names).tolist():
        known[code] = is_generated(facts.trace.strings[code])
    found: Bools = known[facts.names]
    return found


@needs(KERNELS)
def split_k(facts: Facts) -> Answer:
    """A product of few rows is split over K to fill the device, and a second kernel adds up the parts."""
    reduces = facts.of_kind("splitk_reduce")
    if facts.work_share(reduces) < facts.thresholds.work / 5:
        return None
    rows = facts.rows_per_product
    owner = facts.work["owner"]
    single = np.unique(owner[(rows < facts.thresholds.gemv_rows) & (owner >= 0)])
    known = facts.work["has_bytes"] & reduces
    if 2 * facts.time(known) < facts.time(reduces):
        return CannotTell("split_k", "the shapes of the products that are split are not known")
    beside = reduces & np.isin(owner, single)
    if facts.work_share(beside) < facts.thresholds.work / 5:
        return None
    number = int(beside.sum())
    return Finding(
        code="split_k",
        title="Products of few rows are split, and added up by a second kernel",
        severity="low",
        affected_ns=facts.time(beside),
        saving_ns=None,
        evidence=f"{counted(number, 'split-K reduction')} beside products of few rows {form(number, 'takes', 'take')} "
        f"{percent(facts.work_share(beside))} of the kernel time, and as many launches",
        action="torch.compile(model, mode='max-autotune') measures kernels that need none. Do not just forbid cuBLAS to split "
        "(allow_bf16_reduced_precision_reduction = (False, False)): a step of products of one row took longer without it.",
        snippet="model = torch.compile(model, mode='max-autotune')",
        reasoning="No estimate: what the product takes without the split is not known. Measured on an H200, a step of 24 "
        "products of 1 x 4,096 x 4,096 in bfloat16 took 416 µs with cuBLAS's split, 637 µs without.",
        rows=kernels(facts, beside, np.where(beside, facts.work["duration_ns"], 0)),
    )


@needs(KERNELS)
def layout_conversions(facts: Facts) -> Answer:
    """Convolutions want a different layout from the one that the tensors have, so kernels convert it before and after.

    Norms and pooling between them are slower in NCHW, too.
    """
    conversions = facts.named(LAYOUT)
    if not facts.of_family("convolution").any() or facts.work_share(conversions) < facts.thresholds.work / 5:
        return None
    faster = np.where(conversions, facts.work["duration_ns"], _in_channels_last(facts))
    saved, number = facts.fewer(faster, conversions), int(conversions.sum())
    norms = (faster > 0) & ~conversions
    return Finding(
        code="layout_conversions",
        title="Tensors change their layout around convolutions",
        severity=facts.severity(saved),
        affected_ns=facts.time(conversions | norms),
        **saved.fields,
        evidence=f"{counted(number, 'conversion')} between NCHW and NHWC {form(number, 'takes', 'take')} "
        f"{percent(facts.work_share(conversions))} of the kernel time"
        + (f"; batch norms and pooling in NCHW take {percent(facts.work_share(norms))}" if norms.any() else ""),
        action="model.to(memory_format=torch.channels_last) and inputs.to(memory_format=torch.channels_last), once, before "
        "the loop.",
        snippet="model = model.to(memory_format=torch.channels_last)\n"
        "images = images.to(memory_format=torch.channels_last)  # each batch",
        reasoning=f"The conversions vanish, with their launches. Batch norms and pooling in NCHW take as long as "
        f"{percent(CHANNELS_LAST_SHARE)} of the memory's bandwidth allows, which such kernels reach in channels_last (seen on "
        f"H200s). {kept(int(faster.sum()), saved.saving_ns)}",
        rows=kernels(facts, conversions | norms, faster),
    )


def _in_channels_last(facts: Facts) -> Int64s:
    """How much less the batch norms and poolings in NCHW would take in channels_last, in ns; one entry for each kernel.

    An operator moves its bytes as often as it needs them: a training step's norms read their input again for its statistics.
    """
    time, sheet = facts.work["duration_ns"], facts.sheet
    slow = (facts.of_kind("batchnorm") & ~facts.named(NHWC)) | facts.named(NCHW_POOLING)
    if sheet is None or not slow.any():
        return np.zeros(len(time), dtype=np.int64)
    operator = np.where(slow, facts.work["operator"], -1)
    known = np.flatnonzero(operator >= 0)
    by_operator = group(operator[known])
    passes = np.where(_is_backward(facts)[known], BACKWARD_PASSES, np.where(_is_training(facts)[known], TRAINING_PASSES, 1.0))
    moved = by_operator.sum_of_floats(facts.work["bytes"][known] * passes)
    least = moved / (sheet.memory_gb_s * CHANNELS_LAST_SHARE)
    whole = by_operator.sum(time[known])
    left = np.where(moved > 0, np.minimum(least / np.maximum(whole, 1), 1.0), 1.0)
    found = np.zeros(len(time), dtype=np.int64)
    found[known] = np.rint(time[known] * (1 - left[by_operator.code])).astype(np.int64)
    return found


def _is_backward(facts: Facts) -> Bools:
    return facts.launched_by(BACKWARD)


def _is_training(facts: Facts) -> Bools:
    """Which kernels belong to a norm that computes its statistics: a kernel of its operator collects them."""
    operator = facts.work["operator"]
    collects = operator[facts.named(STATISTICS) & (operator >= 0)]
    return np.isin(operator, collects)
