"""Whose is a stream's time while several of its kernels run at once?

A stream runs one kernel after another, and so durations add up, unless a kernel was launched as the programmatic dependent of
the one before it: it then begins early and waits for that one inside. Its duration holds the wait, and time counts twice. Here
each moment of a stream counts once, for the kernel that began first of those that run then: it is what the others wait for.
Kernels of different streams share the device, and each has its own time in full.
"""

from __future__ import annotations

import numpy as np

from ..trace.arrays import Int64s
from ..trace.intervals import exclusive
from ..trace.once import once
from ..trace.trace import Trace


@once
def busy_ns(trace: Trace) -> Int64s:
    """For each row of `trace.gpu` how much of its stream's busy time is the kernel's own, at most its duration; 0 for copies.

    On each stream they add up to the union of its kernels.
    """
    own = np.zeros(len(trace.gpu), dtype=np.int64)
    kernels = trace.kernels_in_order
    device, stream = trace.gpu["device"][kernels], trace.gpu["stream"][kernels]
    by_stream = np.lexsort((np.arange(len(kernels)), stream, device))
    begins = np.flatnonzero((np.diff(device[by_stream]) != 0) | (np.diff(stream[by_stream]) != 0)) + 1
    for here in np.split(kernels[by_stream], begins):
        own[here] = exclusive(trace.start_ns[trace.gpu["event"][here]], trace.end_ns[trace.gpu["event"][here]])
    return own
