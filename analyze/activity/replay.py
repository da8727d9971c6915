"""How much shorter would the GPU's time be if some kernels took less time, and the host launched as before?

A faster kernel helps only if the next one is already queued. Otherwise the GPU just waits longer for the host. So the trace is
played again with the new durations:

- Each event follows the one before it after the same gap as before, but not before its launching call has returned.
- If the host waited for the device, it launches the next event earlier, by as much as the device finishes earlier.
- Events of several streams are played in the order of their starts and overlap as they did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace.arrays import Bools, Int64s
from ..trace.intervals import exclusive
from ..trace.trace import Trace
from .idle import blocking_calls, gaps

FREE = np.iinfo(np.int64).max // 4
"""The slack of an event that may start earlier without limit, as soon as the events before it end. No time is as large."""


@dataclass(frozen=True)
class Replay:
    """A device's GPU events, ready to be played again.

    `order` holds rows of `trace.gpu` in the order of their starts. For each event in this order, `own_ns` is the time that it
    adds to the busy time, and `slack_ns` is how much earlier it could start. `waited` says whether the host waited for the
    events before it and launched it only then. `end_ns` is when the last of them ends.
    """

    order: Int64s
    own_ns: Int64s
    slack_ns: Int64s
    waited: Bools
    end_ns: int

    def saved_ns(self, saving: Int64s) -> int:
        """How much earlier the last event ends, in ns, if each event takes `saving` ns less.

        `saving` has an entry for each row of `trace.gpu`. Of an event no more than its `own_ns` is saved.
        """
        if not len(self.order):
            return 0
        saved = np.minimum(np.maximum(saving[self.order], 0), self.own_ns)
        until = np.cumsum(saved)
        # The lead of event i is how much earlier it ends than recorded: min(lead of i - 1, slack of i) + saved i. This line
        # computes that recursion for all events at once.
        lead = until + np.minimum.accumulate(self.slack_ns - (until - saved))
        ahead = np.flatnonzero(self.waited) - 1
        return int(lead[ahead[ahead >= 0]].sum() + lead[-1])


@dataclass(frozen=True)
class Replays:
    """The replay of each device of a process. Devices are played apart: one does not wait for another."""

    devices: tuple[Replay, ...]

    def saved_ns(self, saving: Int64s) -> int:
        """How much shorter the span of `gpu` gets, in ns, if each event takes `saving` ns less.

        The span is a sum over the devices. All share one window, and it ends when the last of them is done.
        """
        if not self.devices:
            return 0
        ends = max(one.end_ns for one in self.devices)
        sooner = max(one.end_ns - one.saved_ns(saving) for one in self.devices)
        return len(self.devices) * (ends - sooner)


def replay(trace: Trace) -> Replays:
    """The GPU events of a trace, with how much earlier each could start."""
    event = trace.gpu["event"]
    start, call = trace.start_ns[event], trace.call_of_gpu
    slack = np.where(call >= 0, np.maximum(start - trace.end_ns[call], 0), FREE)
    slack[~trace.first_of_launch] = FREE  # a later node of a graph waits for no call
    found = gaps(trace)
    found = found.take(found["after"] >= 0)
    after = found["after"]
    slack[after[found["device_wait_ns"] == 0]] = 0  # the device waited for the host, or for something unknown
    waited = np.zeros(len(event), dtype=np.bool_)
    thread = np.where(found["call"] >= 0, trace.events["thread"][found["call"]], -1)
    # `waiting` says whether the thread of the next launch was in a blocking call when the gap began.
    waiting = trace.covered(blocking_calls(trace), thread, found["start_ns"] - 1, found["start_ns"]) > 0
    waited[after] = waiting & (found["device_wait_ns"] == 0)
    return Replays(tuple(_of_device(trace, rows, slack[rows], waited[rows]) for rows in trace.by_device.values()))


def _of_device(trace: Trace, order: Int64s, slack: Int64s, waited: Bools) -> Replay:
    """The replay of one device's events, which are given in the order of their starts."""
    event = trace.gpu["event"][order]
    start, end = trace.start_ns[event], trace.end_ns[event]
    slack = np.concatenate((np.zeros(1, dtype=np.int64), slack[1:]))  # the first one begins the window
    return Replay(order, exclusive(start, end), slack, waited, int(end.max()))
