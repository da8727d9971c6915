"""Which kernel does a stream's time belong to while several of its kernels run at once?

As a rule a stream runs one kernel after another, so the durations add up. The exception is programmatic dependent launch: a
kernel begins early and waits inside for the kernel before it. Its duration includes the wait, so that time counts twice.

Here each moment of a stream counts once. It belongs to the kernel that began first among those that run then, because the
others wait for it. Kernels of different streams share the device, and each keeps its full time.
"""

from __future__ import annotations

import numpy as np

from ..trace.arrays import Int64s
from ..trace.intervals import exclusive
from ..trace.once import once
from ..trace.trace import Trace


@once
def busy_ns(trace: Trace) -> Int64s:
    """For each row of `trace.gpu`, the part of its stream's busy time that belongs to the kernel, in ns; 0 for copies.

    It is at most the kernel's duration. On each stream the parts add up to the union of its kernels.
    """
    own = np.zeros(len(trace.gpu), dtype=np.int64)
    kernels = trace.kernels_in_order
    device, stream = trace.gpu["device"][kernels], trace.gpu["stream"][kernels]
    by_stream = np.lexsort((np.arange(len(kernels)), stream, device))
    begins = np.flatnonzero((np.diff(device[by_stream]) != 0) | (np.diff(stream[by_stream]) != 0)) + 1
    for here in np.split(kernels[by_stream], begins):
        own[here] = exclusive(trace.start_ns[trace.gpu["event"][here]], trace.end_ns[trace.gpu["event"][here]])
    return own
