"""Whose is the GPU's time while several kernels run at once?

A kernel's duration says how long it was there. Where kernels overlap, on several streams or because one is launched as the
programmatic dependent of another and waits for it inside, durations count the same time more than once. Here each moment counts
once, for the kernel that began first of those that run then: it is what the others wait for, or share the device with.
"""

from __future__ import annotations

import numpy as np

from .trace import Category, Int64s, Trace


def busy_ns(trace: Trace) -> Int64s:
    """For each row of `trace.gpu` how much of its device's busy time is the kernel's own, at most its duration; 0 for copies.

    On each device they add up to the union of its kernels.
    """
    own = np.zeros(len(trace.gpu), dtype=np.int64)
    order = trace.gpu_order
    order = order[trace.events["category"][trace.gpu["event"][order]] == Category.KERNEL]
    for device in np.unique(trace.gpu["device"][order]).tolist():
        here = order[trace.gpu["device"][order] == device]
        start, end = trace.start_ns[trace.gpu["event"][here]], trace.end_ns[trace.gpu["event"][here]]
        # Some kernel that began before runs until `taken`, so all that comes earlier is taken.
        taken = np.maximum.accumulate(np.concatenate((start[:1], end[:-1])))
        own[here] = np.maximum(end - np.maximum(start, taken), 0)
    return own
