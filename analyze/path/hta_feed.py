"""What must HTA be given so that its numbers agree with ours?

HolisticTraceAnalysis (HTA) reads a Chrome trace and builds a graph of which event depends on which. An unchanged trace loses
information there. HTA keeps one kernel of each CUDA graph launch and knows few of the calls that launch. It distinguishes
streams only within one device, and takes stream 0 for no stream. It finds host waits only in `cuda_sync` events, which no
profiler records by default. So we write a trace for HTA, in whole nanoseconds:

- All launching calls have one name. If a call launches several GPU events (the nodes of a graph), each further one gets a
  launch of 1 ns inside the call.
- The streams of all devices are numbered from 1. The events of a stream follow each other: if one starts before the one before
  it has ended, or before its own launch, its start is moved to that time.
- If a GPU event ends during a blocking call, the call waited for it; of several, for the last. A `Stream Sync` records that.
- GPU events without a recorded launch get a launch of 1 ns before everything else, as most were launched before the recording.
- For some GPU events HTA finds no reason why they start late. Such an event counts as behind the one that ended last before it,
  on any stream, if that ended after its launch. It may have waited for that one, but waits between streams are not recorded.
- Host events that last longer than the one around them are cut.
- A second launching thread, such as autograd's, may work while the first records nothing. Its events are then moved to the
  first thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..activity.idle import blocking_calls
from ..trace.arrays import Bools, Int64s
from ..trace.intervals import merge, nest
from ..trace.trace import CALLS, Category, Trace

BASE = 1 << 40
"""The number added to all times and correlations.

HTA stores a column in the smallest integer type that holds it, and later overflows that type. Large numbers prevent this.
"""
LAUNCH, WAIT, CALL = "cudaLaunchKernelExC", "cudaStreamSynchronize", "cuda call"
"""The names under which calls are written: a launch, a wait, and any other call.

HTA recognises calls by name, and treats some names specially. Those are not used here.
"""
HOST_PROCESS, GPU_PROCESS = 2, 1
UNRECORDED = -1
"""The row of a call that was not recorded. Arrays over the events have one more entry at the end for it."""
NESTED = 100
"""How many launches may be nested at one moment of a thread. HTA visits nested events by recursion, which limits the depth."""
LATEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Feed:
    """The trace for HTA. Its entries are in this order: host events, launches of 1 ns, GPU events, waits.

    `event` has, for each entry, the row of `events` that it stands for; for a launch or a wait that is the call's row. A launch
    that was not recorded has the row of its GPU event. `start_ns` and `end_ns` are the entry's times. `waited` says for each
    entry whether it is a call that waits.
    """

    event: Int64s
    start_ns: Int64s
    end_ns: Int64s
    lane: Int64s
    correlation: Int64s
    category: tuple[str, ...]
    name: tuple[str, ...]
    waited: Bools
    behind: Int64s
    """For each entry that is a GPU event, the entry for which it may have waited, or -1; -1 for all other entries."""
    unlaunched: int
    """The number of GPU events whose launch was not recorded."""
    moved: int
    """The number of GPU events that start later here than recorded."""
    cut: int
    """The number of host events that end earlier here than recorded."""

    def entries(self) -> Iterator[dict[str, Any]]:
        """The trace's events, as the dictionaries that go into its JSON."""
        rows = zip(
            self.category,
            self.name,
            (self.start_ns + BASE).tolist(),
            (self.end_ns - self.start_ns).tolist(),
            self.lane.tolist(),
            self.correlation.tolist(),
            strict=True,
        )
        # If the linked event has index 0, HTA takes it for none. So the first event is one to which nothing links.
        yield {"ph": "X", "cat": "user_annotation", "name": "all", "pid": 0, "tid": 0, "ts": BASE, "dur": 1, "args": {}}
        for category, name, start, duration, lane, correlation in rows:
            args = {"correlation": correlation + BASE} if correlation >= 0 else {}
            gpu = category in GPU_CATEGORIES
            if gpu:
                args["stream"] = lane
            process = GPU_PROCESS if gpu else HOST_PROCESS
            yield {
                "ph": "X", "cat": category, "name": name, "pid": process, "tid": lane,
                "ts": start, "dur": duration, "args": args,
            }  # fmt: skip


GPU_CATEGORIES = frozenset({"kernel", "gpu_memcpy", "gpu_memset", "cuda_sync"})
_WRITTEN = {
    Category.KERNEL: "kernel",
    Category.MEMCPY: "gpu_memcpy",
    Category.MEMSET: "gpu_memset",
    Category.RUNTIME: "cuda_runtime",
    Category.DRIVER: "cuda_runtime",
    Category.OPERATOR: "cpu_op",
}


def feed(trace: Trace, start_ns: int | None = None, end_ns: int | None = None) -> Feed:
    """The trace for HTA.

    If `start_ns` and `end_ns` are given, it holds only the host events that start in [start_ns, end_ns), and the GPU events
    that they launched.
    """
    host = trace.where(Category.OPERATOR, *CALLS)
    chosen = np.zeros(len(trace) + 1, dtype=np.bool_)
    if start_ns is not None and end_ns is not None:
        host = host[(trace.start_ns[host] >= start_ns) & (trace.start_ns[host] < end_ns)]
    else:
        chosen[UNRECORDED] = True
    chosen[host] = True
    gpu = np.flatnonzero(chosen[trace.call_of_gpu]).astype(np.int64)
    call = trace.call_of_gpu[gpu]

    # Host events without a length are left out. A launch must have a length to be kept, so it gets at least 1 ns.
    first = min(trace.start_ns[host].min(initial=LATEST), trace.start_ns[trace.gpu["event"][gpu]].min(initial=LATEST))
    start, end = np.append(trace.start_ns, first), np.append(trace.end_ns, first)
    end[call] = np.maximum(end[call], start[call] + 1)
    host = host[end[host] > start[host]]
    lane = _host_lanes(trace, host, call[call != UNRECORDED])
    cut = _cut_to_nest(host, lane, start, end)

    gpu_rows = trace.gpu["event"][gpu]
    stream, gpu_start, gpu_end = _in_sequence(trace, gpu, start[call])
    waiting, awaited = _waits(trace, host, call, start, end, gpu_start, gpu_end)
    own, launch_start = _launches(gpu_start, call, start, end, waiting)
    extra = np.flatnonzero(~own)

    place = np.full(len(trace) + 1, -1, dtype=np.int64)  # the place of each host event in `host`
    place[host] = np.arange(len(host))
    correlation = np.full(len(host), -1, dtype=np.int64)
    correlation[place[call[own]]] = np.flatnonzero(own)
    correlation[place[waiting]] = len(gpu) + np.arange(len(waiting))
    waited = np.zeros(len(host), dtype=np.bool_)
    waited[place[waiting]] = True

    unrecorded = call[extra] == UNRECORDED
    extra_lane = np.where(unrecorded, len(trace.threads) + 1 + extra // NESTED, lane[place[call[extra]]])
    wait_end = np.maximum(gpu_start[awaited], gpu_end[awaited] - 1)  # before the next event of the stream can start
    categories = trace.events["category"]
    before_gpu, others = len(host) + len(extra), len(extra) + len(gpu) + len(waiting)
    behind = np.full(len(host) + others, -1, dtype=np.int64)
    other = _behind(gpu_start, gpu_end, launch_start)
    behind[before_gpu : before_gpu + len(gpu)] = np.where(other >= 0, before_gpu + other, -1)
    return Feed(
        event=np.concatenate((host, np.where(unrecorded, gpu_rows[extra], call[extra]), gpu_rows, waiting)),
        start_ns=np.concatenate((start[host], launch_start[extra], gpu_start, start[waiting])),
        end_ns=np.concatenate((end[host], launch_start[extra] + 1, gpu_end, wait_end)),
        lane=np.concatenate((lane, extra_lane, stream, stream[awaited])),
        correlation=np.concatenate((correlation, extra, np.arange(len(gpu)), len(gpu) + np.arange(len(waiting)))),
        category=(
            *(_WRITTEN[Category(code)] for code in categories[host].tolist()),
            *["cuda_runtime"] * len(extra),
            *(_WRITTEN[Category(code)] for code in categories[gpu_rows].tolist()),
            *["cuda_sync"] * len(waiting),
        ),
        name=(
            *_host_names(trace, host, correlation, waited),
            *[LAUNCH] * len(extra),
            *trace.names(gpu_rows).tolist(),
            *["Stream Sync"] * len(waiting),
        ),
        waited=np.concatenate((waited, np.zeros(others, dtype=np.bool_))),
        behind=behind,
        unlaunched=int(unrecorded.sum()),
        moved=int((gpu_start > trace.start_ns[gpu_rows]).sum()),
        cut=cut,
    )


def _host_names(trace: Trace, host: Int64s, correlation: Int64s, waited: Bools) -> Iterator[str]:
    """The names of the host events: an operator's own name, and for a call the name under which HTA is to see it."""
    operator = trace.events["category"][host] == Category.OPERATOR
    names = zip(trace.names(host).tolist(), operator.tolist(), waited.tolist(), (correlation >= 0).tolist(), strict=True)
    for name, is_operator, waits, launches in names:
        yield name if is_operator else WAIT if waits else LAUNCH if launches else CALL


def _host_lanes(trace: Trace, host: Int64s, call: Int64s) -> Int64s:
    """For each host event, the number of the thread on which it is written, from 1 up.

    A block is a group of overlapping events of one thread that no other event of that thread overlaps. A block of another
    launching thread is moved to the thread that launches most, if that thread has no event in the meantime: it can only be
    waiting for this block.
    """
    thread = trace.events["thread"][host].astype(np.int64)
    launches = np.bincount(trace.events["thread"][call], minlength=len(trace.threads))
    lane = thread + 1
    order = [one for one in np.argsort(-launches, kind="stable").tolist() if launches[one]]
    if not order:
        return lane
    start, end = trace.start_ns[host], trace.end_ns[host]
    main = thread == order[0]
    taken = merge(start[main], end[main])
    for other in order[1:]:
        here = np.flatnonzero(thread == other)
        block, block_start, block_end = _blocks(start[here], end[here])
        free = taken.within(block_start, block_end) == 0
        lane[here[free[block]]] = order[0] + 1
        taken = merge(np.concatenate((taken.start, block_start[free])), np.concatenate((taken.end, block_end[free])))
    return lane


def _blocks(start: Int64s, end: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """For each interval, the number of its block, and the start and end of each block."""
    order = np.argsort(start, kind="stable")
    latest = np.maximum.accumulate(end[order])
    opens = np.concatenate(([True], start[order][1:] >= latest[:-1]))
    block = np.empty(len(start), dtype=np.int64)
    block[order] = np.cumsum(opens) - 1
    closes = np.concatenate((opens[1:], [True]))
    return block, start[order][opens], latest[closes]


def _cut_to_nest(host: Int64s, lane: Int64s, start: Int64s, end: Int64s) -> int:
    """Cut `end` of the host events that last longer than the one around them, outermost first. Return how many were cut."""
    cut = np.zeros(len(end), dtype=np.bool_)
    parent = np.full(len(end) + 1, -1, dtype=np.int64)
    while True:
        parent[host] = nest(host, lane.astype(np.int32), start[host], end[host]).parent
        around = parent[host]
        crosses = np.zeros(len(end) + 1, dtype=np.bool_)
        crosses[host] = (around >= 0) & (end[host] > end[around])
        outermost = host[crosses[host] & ~crosses[around]]
        if not len(outermost):
            return int(cut.sum())
        end[outermost] = end[parent[outermost]]
        cut[outermost] = True


def _in_sequence(trace: Trace, gpu: Int64s, launched: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """For each GPU event, its stream (from 1 up), start and end, changed so that the events of a stream follow each other.

    The union of each stream's events does not change, except where events start before their launch.
    """
    rows = trace.gpu["event"][gpu]
    lanes = np.stack((trace.gpu["device"][gpu], trace.gpu["stream"][gpu]), axis=1)
    distinct, stream = np.unique(lanes, axis=0, return_inverse=True)
    stream = stream.reshape(-1)
    start = np.maximum(trace.start_ns[rows], launched)
    end = np.maximum(trace.end_ns[rows], start)
    for one in range(len(distinct)):
        here = np.flatnonzero(stream == one)
        here = here[np.lexsort((end[here], start[here]))]
        latest = np.maximum.accumulate(end[here])
        start[here[1:]] = np.maximum(start[here[1:]], latest[:-1])
        end[here] = np.maximum(end[here], start[here])
    return stream.astype(np.int64) + 1, start, end


def _waits(
    trace: Trace, host: Int64s, call: Int64s, start: Int64s, end: Int64s, gpu_start: Int64s, gpu_end: Int64s
) -> tuple[Int64s, Int64s]:
    """The calls that waited (rows of `events`), and the GPU event (place in `gpu_end`) for which each waited.

    Candidates are the events that were launched before the call or by it. The call waited for the last of them to end during
    the call. If a copy ended before its own call returned, that call counts as waiting, whatever its name is.
    """
    waits = np.zeros(len(trace), dtype=np.bool_)
    waits[blocking_calls(trace)] = True
    waits[_copies(trace, call, end, gpu_end)] = True
    waiting = host[waits[host]]
    if not len(call):
        return waiting[:0], call
    order = np.argsort(gpu_end, kind="stable")
    ends, launched = gpu_end[order], start[call[order]]
    candidate = np.searchsorted(ends, end[waiting], side="right") - 1
    while len(late := np.flatnonzero((candidate >= 0) & (launched[candidate] > start[waiting]))):
        candidate[late] -= 1
    found = (candidate >= 0) & (ends[candidate] > start[waiting])
    return waiting[found], order[candidate[found]]


def _copies(trace: Trace, call: Int64s, end: Int64s, gpu_end: Int64s) -> Int64s:
    """The copying calls that returned after their copy."""
    copying = trace.strings_that(lambda name: "memcpy" in name.lower())
    returned: Int64s = call[(call != UNRECORDED) & copying[trace.events["name"][call]] & (gpu_end <= end[call])]
    return returned


def _behind(start: Int64s, end: Int64s, launched: Int64s) -> Int64s:
    """For each GPU event, the event that ended last before its start, if that ended after its launch, else -1."""
    order = np.lexsort((start, end))
    place = np.searchsorted(end[order], start, side="right") - 1
    # An event without a length must not be behind itself, nor behind an event that is behind it.
    place[order] = np.minimum(place[order], np.arange(len(order)) - 1)
    last: Int64s = order[place]
    behind: Int64s = np.where((place >= 0) & (end[last] > launched), last, -1)
    return behind


def _launches(gpu_start: Int64s, call: Int64s, start: Int64s, end: Int64s, waiting: Int64s) -> tuple[Bools, Int64s]:
    """For each GPU event, whether its call itself is its launch, and the start of the launch.

    The call is the launch of its first GPU event, unless the call waits. HTA links an event to only one other, so all further
    events, and those of a waiting call, need a launch of their own.
    """
    order = np.lexsort((gpu_start, call))
    grouped = call[order]
    opens = np.concatenate(([True], grouped[1:] != grouped[:-1])) if len(grouped) else np.empty(0, dtype=np.bool_)
    first = np.flatnonzero(opens)
    sizes = np.diff(np.concatenate((first, [len(grouped)])))
    number = np.empty(len(call), dtype=np.int64)
    number[order] = np.arange(len(grouped)) - np.repeat(first, sizes)
    size = np.empty(len(call), dtype=np.int64)
    size[order] = np.repeat(sizes, sizes)
    waits = np.zeros(len(start), dtype=np.bool_)
    waits[waiting] = True
    own = (number == 0) & ~waits[call] & (call != UNRECORDED)
    length = end[call] - start[call]
    # The launches follow each other, 1 ns apart. If the call is too short for that, they are spread over it.
    offset = np.where(size <= length, number, number * length // np.maximum(size, 1))
    return own, start[call] + offset
