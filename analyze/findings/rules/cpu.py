"""Where a program runs on the CPU alone: what takes its time?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tracekit.wording import counted, duration, form, percent, quantity

from ...activity.operators import self_times
from ...structure.completeness import holds_unread_work
from ...trace.arrays import Bools, Floats, Int64s
from ...trace.group import group
from ...trace.intervals import merge
from ...trace.once import once
from ...trace.trace import Signature, Trace
from ...work.call import OperatorCall, UnrecordedError
from ...work.formulas import work_of
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import Need, needs

SHORT_NS = 10_000
"""An operator that takes less is one that PyTorch takes longer to dispatch than to compute."""
COPIES = re.compile(r"aten::copy_\Z")
PRODUCTS = re.compile(r"aten::(?:addmm|mm|bmm|baddbmm|_addmm_activation|matmul|linear)\Z|mkldnn::_linear_pointwise\Z")
SLOW_GFLOPS = 20.0
"""A product of numbers of two bytes below this rate is taken to be computed without the processor's help: assumed.

One core with vector units does more than twice as many operations a second in FP32.
"""
LEAST_FLOPS = 10_000_000
"""A smaller product says little about the processor's speed."""
WORST = 5


@once
def _concurrency(trace: Trace) -> float:
    """How many threads are inside operators on average, while any is."""
    rows = trace.operators
    thread = trace.events["thread"][rows]
    each = 0
    for one in np.unique(thread).tolist():
        mine = rows[thread == one]
        each += merge(trace.start_ns[mine], trace.end_ns[mine]).total
    either = merge(trace.start_ns[rows], trace.end_ns[rows]).total
    return each / either if either else 0.0


DEVICE_LISTED = Need(
    "the trace lists a device or its calls, but no work of it: profile with ProfilerActivity.CUDA to see what ran where",
    lambda e: (
        e.gpu is not None or not (e.trace.device or e.trace.device_names or len(e.trace.calls) or holds_unread_work(e.trace))
    ),
)
OPERATORS = Need("the trace has no operators", lambda e: e.gpu is not None or len(e.trace.operators) > 0)
TYPES = Need(
    "the types of operators' inputs were not recorded (record_shapes=True)",
    lambda e: e.gpu is not None or bool(e.trace.signatures),
)
THREADS = Need(
    "how many threads an operator used is not recorded: compare torch.get_num_threads() with the number of cores, and time a "
    "step with half and twice as many (torch.set_num_threads)",
    lambda e: e.gpu is not None or _concurrency(e.trace) >= e.thresholds.concurrency,
)


@dataclass(frozen=True)
class _Cpu:
    """The operators of a program on the CPU: their rows, and of each its own time in ns and whether none is around it."""

    rows: Int64s
    self_ns: Int64s
    is_outermost: Bools
    has_children: Bools

    @property
    def total_ns(self) -> int:
        """All operators' own time."""
        return int(self.self_ns.sum())


@once
def _cpu(trace: Trace) -> _Cpu:
    rows, parent = trace.operators, trace.operator_forest.parent
    holds = np.zeros(len(trace) + 1, dtype=np.bool_)
    holds[parent] = True
    return _Cpu(rows, self_times(trace), parent < 0, holds[rows])


@needs(DEVICE_LISTED, OPERATORS)
def cpu_small_operators(facts: Facts) -> Answer:
    """On the CPU most of the time goes to operators that are so short that dispatching them is what takes the time."""
    if facts.gpu is not None:
        return None
    trace, found = facts.trace, _cpu(facts.trace)
    length = trace.events["duration_ns"][found.rows]
    small = found.is_outermost & (length < SHORT_NS)
    outermost, time = int(length[found.is_outermost].sum()), int(length[small].sum())
    if time < facts.thresholds.cpu_small * max(outermost, 1):
        return None
    number = int(small.sum())
    return Finding(
        code="cpu_small_operators",
        title="Most of the time goes to very small operators",
        severity="medium",
        affected_ns=time,
        saving_ns=None,
        evidence=f"{counted(number, 'operator')} of less than {duration(SHORT_NS)} take {duration(time)}, "
        f"{percent(time / max(outermost, 1))} of all operators' time, {duration(time / max(number, 1))} each: PyTorch "
        "dispatches for as long as it computes",
        action="Let each operator do more: a larger batch, one operator on a stacked tensor in place of a Python loop, "
        "torch.compile(model), which fuses them and writes C++ (on the CPU as well); torch.inference_mode() where no gradient "
        "is needed.",
        snippet="model = torch.compile(model)",
        reasoning="No estimate: how much of these times is dispatch, and how much the profiler adds to each, is not recorded.",
        rows=_by_name(trace, found.rows[small], length[small]),
    )


@needs(DEVICE_LISTED, OPERATORS)
def cpu_copies(facts: Facts) -> Answer:
    """On the CPU a good part of the time goes to copying tensors: other layouts, other types, contiguous copies."""
    if facts.gpu is not None:
        return None
    trace, found = facts.trace, _cpu(facts.trace)
    copies = trace.strings_that(COPIES.match)[trace.events["name"][found.rows]] & ~_of_single_numbers(trace, found.rows)
    time = int(found.self_ns[copies].sum())
    if time < facts.thresholds.cpu_copies * max(found.total_ns, 1):
        return None
    rows = _by_name(trace, _asked_by(trace, found.rows[copies]), found.self_ns[copies])
    return Finding(
        code="cpu_copies",
        title="The program copies tensors",
        severity="medium",
        affected_ns=time,
        saving_ns=_alone(trace, time),
        evidence=f"{counted(int(copies.sum()), 'copy', 'copies')} {form(int(copies.sum()), 'takes', 'take')} {duration(time)}, "
        f"{percent(time / max(found.total_ns, 1))} of all operators' time, most for {rows[0]['operator']} "
        f"({duration(rows[0]['time_ns'])})",
        action="Keep one layout and one type: convert weights and inputs once before the loop (.to(dtype), .contiguous(), "
        "memory_format=torch.channels_last), take views (.reshape, .view, narrow) in place of .contiguous() and cat, and write "
        "into buffers that exist (out=).",
        snippet="model = model.to(memory_format=torch.channels_last)  # and its inputs, once",
        reasoning="The time of these copies. One thread runs the operators, so it ends sooner by what it does not do: an upper "
        "bound."
        if _alone(trace, time) is not None
        else "No estimate: several threads run operators, and nothing tells which one is waited for.",
        rows=rows,
    )


@needs(DEVICE_LISTED, OPERATORS, TYPES)
def cpu_float64(facts: Facts) -> Answer:
    """On the CPU operators compute in double precision: twice the bytes, and half as many numbers in a vector."""
    if facts.gpu is not None:
        return None
    trace, found = facts.trace, _cpu(facts.trace)
    wide = _of_types(trace, found.rows, "fp64")
    time = int(found.self_ns[wide].sum())
    if time < facts.thresholds.cpu_types * max(found.total_ns, 1):
        return None
    saving = _alone(trace, time // 2)
    return Finding(
        code="cpu_float64",
        title="Operators compute in double precision",
        severity="medium",
        affected_ns=time,
        saving_ns=saving,
        evidence=f"{counted(int(wide.sum()), 'operator')} with float64 inputs take {duration(time)}, "
        f"{percent(time / max(found.total_ns, 1))} of all operators' time",
        action="Use float32: arrays from NumPy are float64 unless told otherwise (torch.from_numpy(x).float()), and "
        "torch.set_default_dtype(torch.float32) is the default. Keep float64 where the result needs its digits.",
        snippet="x = torch.from_numpy(array).to(torch.float32)",
        reasoning="Half of their time: float32 has half of the bytes and twice as many numbers in a vector."
        if saving is not None
        else "No estimate: several threads run operators, and nothing tells which one is waited for.",
        rows=_by_name(trace, found.rows[wide], found.self_ns[wide]),
    )


@needs(DEVICE_LISTED, OPERATORS, TYPES)
def cpu_half(facts: Facts) -> Answer:
    """On the CPU products of bfloat16 or float16 run slowly, as without the processor's help."""
    if facts.gpu is not None:
        return None
    trace, found = facts.trace, _cpu(facts.trace)
    products = trace.strings_that(PRODUCTS.match)[trace.events["name"][found.rows]] & ~found.has_children
    half = products & _of_types(trace, found.rows, "bf16", "fp16")
    time = int(found.self_ns[half].sum())
    if time < facts.thresholds.cpu_types * max(found.total_ns, 1):
        return None
    flops = _flops(trace, found.rows)
    large = flops >= LEAST_FLOPS
    narrow, other = half & large, products & large & ~half
    if not narrow.any():
        return None
    rate = float(flops[narrow].sum()) / max(int(found.self_ns[narrow].sum()), 1)
    wide = float(flops[other].sum()) / max(int(found.self_ns[other].sum()), 1) if other.any() else 0.0
    if rate >= max(SLOW_GFLOPS, wide / 2):
        return None
    beside = f", where float32 does {quantity(wide, 'GFLOP/s')}" if wide else ""
    return Finding(
        code="cpu_half",
        title="Products of two-byte numbers are slow on this processor",
        severity="medium",
        affected_ns=time,
        saving_ns=None,
        evidence=f"{counted(int(half.sum()), 'product')} of bfloat16 or float16 take {duration(time)}, "
        f"{percent(time / max(found.total_ns, 1))} of all operators' time, at {quantity(rate, 'GFLOP/s')}{beside}",
        action="Compare with float32: only processors with AVX512-BF16 or AMX compute bfloat16 fast, and few compute float16 "
        "(torch.backends.cpu.get_cpu_capability() and lscpu tell). To save bytes, quantise weights to INT8 instead.",
        snippet="model = model.float()",
        reasoning="No estimate: the trace does not say what the processor can do.",
        rows=_by_name(trace, found.rows[half], found.self_ns[half]),
    )


@needs(DEVICE_LISTED, OPERATORS, THREADS)
def cpu_threads(facts: Facts) -> Answer:
    """On the CPU several threads run operators at once, and each uses many cores."""
    if facts.gpu is not None:
        return None
    trace, several = facts.trace, _concurrency(facts.trace)
    rows = trace.operators
    thread = trace.events["thread"][rows]
    number, cores = len(np.unique(thread)), facts.manifest.host.cores if facts.manifest else None
    known = f", on {counted(cores, 'core')}" if cores else ""
    return Finding(
        code="cpu_threads",
        title="Several threads run operators at once, each with threads of its own",
        severity="medium" if cores and several > cores / 2 else "low",
        affected_ns=int(merge(trace.start_ns[rows], trace.end_ns[rows]).total),
        saving_ns=None,
        evidence=f"{counted(number, 'thread')} run operators, {quantity(several, 'at once')} on average{known}; each operator "
        "may use as many threads as there are cores",
        action="Divide the cores among the threads, so that they do not get in each other's way: "
        "torch.set_num_threads(cores // threads) in each of them, or OMP_NUM_THREADS; DataLoader workers use one each by "
        "default.",
        snippet="torch.set_num_threads(max(1, os.cpu_count() // workers))",
        reasoning="No estimate: how many threads each operator used is not recorded.",
        rows=tuple(
            {"thread": "/".join(trace.threads[one]), "operators": int((thread == one).sum())}
            for one in np.unique(thread).tolist()
        ),
    )


def _alone(trace: Trace, ns: int) -> int | None:
    """The time, if one thread runs all operators and so ends sooner by it; else None."""
    return ns if len(np.unique(trace.events["thread"][trace.operators])) == 1 else None


def _of_single_numbers(trace: Trace, rows: Int64s) -> Bools:
    """Which of these operators have a tensor without a dimension first: PyTorch makes such ones of numbers in Python."""
    single = np.array([signature[0].startswith(b"[[],") for signature in trace.signatures] + [False], dtype=np.bool_)
    found: Bools = single[trace.events["signature"][rows]]
    return found


def _asked_by(trace: Trace, rows: Int64s) -> Int64s:
    """For each of these operators, the outermost one around it that PyTorch itself calls for it: `aten::contiguous`."""
    parent = np.full(len(trace) + 1, -1, dtype=np.int64)
    parent[trace.operators] = trace.operator_forest.parent
    current: Int64s = rows.copy()
    inner = np.append(trace.strings_that(COPYING.match)[trace.events["name"]], False)
    while (goes := (parent[current] >= 0) & inner[parent[current]]).any():
        current[goes] = parent[current[goes]]
    return current


COPYING = re.compile(r"aten::(?:copy_|clone|contiguous|to|_to_copy|reshape|cat|stack|_reshape_copy|type_as)\Z")


def _of_types(trace: Trace, rows: Int64s, *types: str) -> Bools:
    """Which of these operators have a tensor of one of these types among their inputs. A single number is no tensor."""
    has = np.array([_has_type(signature, types) for signature in trace.signatures] + [False], dtype=np.bool_)
    found: Bools = has[trace.events["signature"][rows]]
    return found


@cache
def _has_type(signature: Signature, types: tuple[str, ...]) -> bool:
    """Whether a tensor of one of these types, and of at least one dimension, is among these inputs."""
    try:
        return any(tensor.dtype.name in types and tensor.shape for tensor in OperatorCall.parse("", signature).tensors())
    except UnrecordedError:
        return False


def _flops(trace: Trace, rows: Int64s) -> Floats:
    """The FLOPs of each of these operators, 0 where not known."""
    name, signature = trace.events["name"][rows].astype(np.int64), trace.events["signature"][rows].astype(np.int64)
    pairs = group(name * (len(trace.signatures) + 1) + signature + 1)
    is_product = trace.strings_that(PRODUCTS.match)
    known = np.zeros(len(pairs.keys))
    for at, key in enumerate(pairs.keys.tolist()):
        code, written = divmod(key, len(trace.signatures) + 1)
        work = work_of(trace.strings[code], trace.signatures[written - 1], None) if written and is_product[code] else None
        known[at] = work.flops or 0 if work else 0
    found: Floats = known[pairs.code]
    return found


def _by_name(trace: Trace, rows: Int64s, ns: Int64s) -> tuple[Mapping[str, Any], ...]:
    """These operators by name, the most time first."""
    by_name = group(trace.events["name"][rows])
    time = by_name.sum(ns)
    return tuple(
        {"operator": str(trace.strings[by_name.keys[at]]), "count": int(by_name.count[at]), "time_ns": int(time[at])}
        for at in np.lexsort((by_name.keys, -time))[:WORST].tolist()
    )
