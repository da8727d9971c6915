"""How much shorter would the GPU's time get if some of its kernels took less, and the host launched as it did?

A kernel that gets faster helps only as far as the next one was queued already: where the GPU would only wait longer for the
host, nothing is gained. So the trace is played again: each event follows the one before it with the gap that it had, but starts
no earlier than its launching call had returned. Where the host had waited for the device, it launches on sooner by as much as
the device is done sooner. Events of several streams are played in the order of their starts, overlapping as they did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Int64s
from ..trace.intervals import exclusive
from ..trace.trace import Trace
from .idle import blocking_calls, gaps

FREE = np.iinfo(np.int64).max // 4
"""More than any time: an event that may start as much sooner as the ones before it end."""


@dataclass(frozen=True)
class Replay:
    """A trace's GPU events in the order of their starts, as rows of `trace.gpu`, with what each allows.

    `own_ns` is what each adds to the busy time; `slack_ns` how much sooner it could start; `waited` tells that the host waited
    for what came before it, and launched it after that.
    """

    order: Int64s
    own_ns: Int64s
    slack_ns: Int64s
    waited: Bools

    def saved_ns(self, saving: Int64s) -> int:
        """How much sooner the last event ends if each row of `trace.gpu` takes so much less (at most all it has)."""
        if not len(self.order):
            return 0
        saved = np.minimum(np.maximum(saving[self.order], 0), self.own_ns)
        until = np.cumsum(saved)
        # The lead of event i over what was recorded: min(lead of i - 1, slack of i) + saved i, which unrolls to this.
        lead = until + np.minimum.accumulate(self.slack_ns - (until - saved))
        ahead = np.flatnonzero(self.waited) - 1
        return int(lead[ahead[ahead >= 0]].sum() + lead[-1])


def replay(trace: Trace) -> Replay:
    """What a trace allows its GPU events."""
    order = trace.gpu_order
    event = trace.gpu["event"][order]
    start, end = trace.start_ns[event], trace.end_ns[event]
    call = trace.call_of_gpu[order]
    slack = np.where(call >= 0, np.maximum(start - trace.end_ns[call], 0), FREE)
    slack[~trace.first_of_launch[order]] = FREE  # a later node of a graph waits for no call
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    found = gaps(trace)
    after = place[found["after"]]
    slack[after[found["device_wait_ns"] == 0]] = 0  # the host, or nobody knows who, let the device wait
    slack[:1] = 0
    waited = np.zeros(len(order), dtype=np.bool_)
    thread = np.where(found["call"] >= 0, trace.events["thread"][found["call"]], -1)
    # Whether the thread of the next launch was in a blocking call when the gap began.
    waiting = trace.covered(blocking_calls(trace), thread, found["start_ns"] - 1, found["start_ns"]) > 0
    waited[after] = waiting & (found["device_wait_ns"] == 0)
    return Replay(order, exclusive(start, end), slack, waited)
