"""How much work did each run of a kernel do?"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tracekit.devices import PEAKS
from tracekit.table import Table

from ..trace.arrays import Bools, Int64s
from ..trace.group import group
from ..trace.trace import Trace
from .call import DTYPES
from .formulas import find_formula, work_of
from .operator_of_kernel import ancestry, owners, parents
from .work import Work

TF32 = re.compile(r"tf32|(?<![a-z])s1688(?!b?f16)", re.IGNORECASE)
"""A kernel's name that matches has FP32 operands, which are rounded to TF32 for the tensor cores."""

_LIST_ITEM = re.compile(
    r"OpaqueType<(?P<bytes>\d+)"
    r"|(?:CatArray\w*|multi_tensor_apply\w*<.*?Functor\w*)<(?P<dtype>double|float|c10::Half|c10::BFloat16|long|int|bool)\b"
)
"""The size or type of the elements, in the name of a kernel that takes lists of tensors."""

_TELLING = 1_000
"""How many characters of a kernel's name are searched. Its types stand at the beginning."""

_SAFE_NS = 2**31
"""The square of a time in ns below this fits into int64."""


def kernel_work(trace: Trace) -> Table:
    """A row for each kernel of `trace.gpu`, in the same order: its time, and its work as far as it is known.

    Columns: `gpu` (row of `trace.gpu`), `duration_ns`, `operator` (row of `trace.events`: the innermost operator that launched
    it, or -1), `owner` (row of `trace.events`: the operator whose work it does, or -1), `flops`, `bytes` (int64, 0 where
    unknown), `has_flops`, `has_bytes` (whether they are known) and `peak` (place in `PEAKS` of the peak with which its FLOPs
    are compared, -1 where unknown). If one owner has several kernels, its work is divided among them in proportion to their
    times. The parts are integers and add up exactly.
    """
    gpu = trace.gpu_kernels
    rows = trace.gpu["event"][gpu]
    duration, operator = trace.events["duration_ns"][rows], trace.operator_of_gpu[gpu]
    parent = parents(trace)
    # Without a single recorded input, no operator's work can be known.
    asked = ancestry(operator if trace.signatures else operator[:0], parent)
    works, which = _works(trace, asked, _list_items(trace, rows, operator)[asked])
    known = np.zeros(len(trace) + 1, dtype=np.bool_)
    known[asked] = which >= 0
    owner = owners(operator, known, parent)
    mine = owner >= 0
    work = np.full(len(gpu), -1, dtype=np.int64)
    work[mine] = which[np.searchsorted(asked, owner[mine])]
    flops, moved, peaks = _columns(works)
    return Table(
        {
            "gpu": gpu,
            "duration_ns": duration,
            "operator": operator,
            "owner": owner,
            "flops": _apportioned(np.maximum(flops, 0)[work], duration, owner, trace.start_ns[rows]),
            "bytes": _apportioned(moved[work], duration, owner, trace.start_ns[rows]),
            "has_flops": mine & (flops[work] >= 0),
            "has_bytes": mine,
            "peak": _tf32(trace, rows, owner, peaks[work]),
        }
    )


def _works(trace: Trace, rows: Int64s, list_item: Int64s) -> tuple[list[Work], Int64s]:
    """The distinct known works of these operators, and for each operator the place of its work among them, or -1.

    The work is computed once for all operators with one name, one signature and one size of list elements.
    """
    name, signature = trace.events["name"][rows].astype(np.int64), trace.events["signature"][rows].astype(np.int64)
    has_formula = np.zeros(len(trace.strings), dtype=np.bool_)
    for code in np.unique(name).tolist():
        has_formula[code] = find_formula(trace.strings[code]) is not None
    ask = np.flatnonzero(has_formula[name] & (signature >= 0))
    sizes = len(trace.signatures) + 1, int(list_item.max(initial=0)) + 1
    questions = group((name[ask] * sizes[0] + signature[ask]) * sizes[1] + list_item[ask])
    works: list[Work] = []
    place = np.full(len(questions.keys), -1, dtype=np.int64)
    for at, key in enumerate(questions.keys.tolist()):
        pair, item = divmod(key, sizes[1])
        operator, written = divmod(pair, sizes[0])
        work = work_of(trace.strings[operator], trace.signatures[written], item or None)
        if work is not None:
            place[at] = len(works)
            works.append(work)
    which = np.full(len(rows), -1, dtype=np.int64)
    which[ask] = place[questions.code]
    return works, which


def _columns(works: Sequence[Work]) -> tuple[Int64s, Int64s, Int64s]:
    """The FLOPs (-1 where only the bytes are known), bytes and peak of each work. The last entry stands for unknown work."""
    flops = [-1 if work.flops is None else work.flops for work in works]
    peaks = [PEAKS.index(work.peak) for work in works]
    return (
        np.array([*flops, -1], dtype=np.int64),
        np.array([*(work.bytes for work in works), 0], dtype=np.int64),
        np.array([*peaks, -1], dtype=np.int64),
    )


def _list_items(trace: Trace, rows: Int64s, operator: Int64s) -> Int64s:
    """For each row of `events`, the size in bytes of an element in its lists of tensors.

    The names of the kernels that it launched say the size. It is 0 if no name does.
    """
    by_name = np.zeros(len(trace.strings), dtype=np.int64)
    for code in np.unique(trace.events["name"][rows]).tolist():
        if found := _LIST_ITEM.search(trace.strings[code][:_TELLING]):
            by_name[code] = int(found["bytes"]) if found["bytes"] else DTYPES[found["dtype"]].bytes
    items = np.zeros(len(trace) + 1, dtype=np.int64)
    np.maximum.at(items, operator, by_name[trace.events["name"][rows]])
    items[-1] = 0
    return items


def _tf32(trace: Trace, rows: Int64s, owner: Int64s, peak: Int64s) -> Int64s:
    """The peaks, with FP32 replaced by TF32 for owners that have a kernel whose name says TF32."""
    rounding = np.zeros(len(trace.strings), dtype=np.bool_)
    for code in np.unique(trace.events["name"][rows]).tolist():
        rounding[code] = TF32.search(trace.strings[code][:_TELLING]) is not None
    rounds = np.zeros(len(trace) + 1, dtype=np.bool_)
    rounds[owner[rounding[trace.events["name"][rows]]]] = True
    rounds[-1] = False
    is_fp32: Bools = peak == PEAKS.index("fp32")
    return np.where(is_fp32 & rounds[owner], PEAKS.index("tf32"), peak)


def _apportioned(total: Int64s, duration: Int64s, owner: Int64s, start: Int64s) -> Int64s:
    """Each run's part of its owner's `total`, in proportion to its time; 0 for runs without an owner.

    The parts are integers and add up exactly to the total. A part is the difference of two cumulative shares, each rounded
    down: the one up to and including its run, less the one before it. Runs of an owner are in the order of their start, so
    that the order of the file's events does not matter.
    """
    order = np.lexsort((start, owner))
    order = order[owner[order] >= 0]
    parts = np.zeros(len(total), dtype=np.int64)
    if not len(order):
        return parts
    of, whole = owner[order], total[order]
    first = np.flatnonzero(np.concatenate(([True], of[1:] != of[:-1])))
    runs = np.diff(np.concatenate((first, [len(of)])))
    time = duration[order]
    lasting = np.repeat(np.add.reduceat(time, first), runs)
    time = np.where(lasting > 0, time, 1)  # if all runs took no time at all, they share evenly
    until = np.cumsum(time)
    until -= np.repeat(until[first] - time[first], runs)
    all_of_it = until[np.repeat(first + runs - 1, runs)]
    scale = np.maximum(1, -(-all_of_it // _SAFE_NS))
    until, all_of_it = until // scale, all_of_it // scale
    quotient, rest = np.divmod(whole, all_of_it)
    reached = quotient * until + rest * until // all_of_it
    before: npt.NDArray[np.int64] = np.concatenate(([0], reached[:-1]))
    before[first] = 0
    parts[order] = reached - before
    return parts
