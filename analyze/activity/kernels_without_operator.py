"""How much kernel time was launched by no operator, and why?"""

from __future__ import annotations

from dataclasses import dataclass

from ..trace.trace import Trace
from .launches import graph_kernels


@dataclass(frozen=True)
class WithoutOperator:
    """Kernels that no host operator launched. Times are in ns; the three reasons add up to `time_ns`."""

    kernels: int
    time_ns: int
    share: float
    """Their share of all kernel time."""
    replayed_ns: int
    """Time of kernels that a CUDA graph replayed whose launch lies in no operator."""
    outside_ns: int
    """Time of other kernels whose launching call lies in no operator."""
    unlaunched_ns: int
    """Time of kernels whose launching call was not recorded."""


def without_operator(trace: Trace) -> WithoutOperator | None:
    """The kernels that no operator launched, or None if the trace has no kernels."""
    is_kernel = trace.is_kernel
    if not is_kernel.any():
        return None
    alone = is_kernel & (trace.operator_of_gpu < 0)
    replayed, launched = graph_kernels(trace), trace.call_of_gpu >= 0
    duration = trace.events["duration_ns"][trace.gpu["event"]]
    time = int(duration[alone].sum())
    return WithoutOperator(
        kernels=int(alone.sum()),
        time_ns=time,
        share=time / max(int(duration[is_kernel].sum()), 1),
        replayed_ns=int(duration[alone & replayed].sum()),
        outside_ns=int(duration[alone & launched & ~replayed].sum()),
        unlaunched_ns=int(duration[alone & ~launched].sum()),
    )
