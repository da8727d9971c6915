"""What must HTA be given so that its numbers agree with ours?

HolisticTraceAnalysis (HTA) reads a Chrome trace and builds a graph of what depends on what. Read as it is, a trace loses
things there: HTA keeps one kernel of each CUDA graph launch, knows few of the calls that launch, tells streams apart only
within one device, takes a stream 0 for no stream, and finds no host wait unless the profiler recorded `cuda_sync` events,
which none does by default. So we write it a trace of our own, in whole nanoseconds:

- launching calls have one name; each further GPU event of one call (the nodes of a graph) gets a launch of 1 ns within it;
- each stream of each device is a stream from 1 up, and its events follow each other: one that starts before the one before
  it has ended, or before its own launch, starts then;
- a blocking call that ends after a GPU event ended within it waited for that (of several, the last): a `Stream Sync`;
- GPU events whose launch was not recorded get one of 1 ns before everything else: most were launched before the recording;
- a GPU event that HTA finds no reason for to start late is behind the one that ended last before it, on whichever stream, if
  that ended after its launch: it may have waited for it, but waits between streams are not recorded;
- host events are cut where they outlast the one around them;
- what a second launching thread does while the first records nothing, as autograd's, stands on the thread of the first.
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
"""Added to times and correlations: HTA stores columns in the smallest integers that hold them, and then overflows these."""
LAUNCH, WAIT, CALL = "cudaLaunchKernelExC", "cudaStreamSynchronize", "cuda call"
"""The names that calls go by: HTA reads them, and has its own ideas about some that we don't use."""
HOST_PROCESS, GPU_PROCESS = 2, 1
UNRECORDED = -1
"""Stands for a call that was not recorded; in arrays over the events it has the last place, beyond them."""
NESTED = 100
"""So many launches may stand at one moment of a thread, one within the other: HTA walks down them by recursion."""
LATEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Feed:
    """The trace for HTA. Its entries stand in this order: the host events, launches of 1 ns, the GPU events, the waits.

    `event` is for each entry the row of `events` that it stands for (of a launch or a wait, the call's). `start_ns` and
    `end_ns` are its times. `waited` says for each entry whether it is a call that waits.
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
    """For each entry the entry that a GPU event may have waited for, or -1."""
    unlaunched: int
    """GPU events whose launch was not recorded."""
    moved: int
    """GPU events that start later than recorded."""
    cut: int
    """Host events that end earlier than recorded."""

    def entries(self) -> Iterator[dict[str, Any]]:
        """The trace's events."""
        rows = zip(
            self.category,
            self.name,
            (self.start_ns + BASE).tolist(),
            (self.end_ns - self.start_ns).tolist(),
            self.lane.tolist(),
            self.correlation.tolist(),
            strict=True,
        )
        # HTA takes the index 0 of a linked event for none, so the first entry is one that nothing links to.
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
    """The trace for HTA, or of it the host events that start in [start_ns, end_ns) and the GPU events that they launched."""
    host = trace.where(Category.OPERATOR, *CALLS)
    chosen = np.zeros(len(trace) + 1, dtype=np.bool_)
    if start_ns is not None and end_ns is not None:
        host = host[(trace.start_ns[host] >= start_ns) & (trace.start_ns[host] < end_ns)]
    else:
        chosen[UNRECORDED] = True
    chosen[host] = True
    gpu = np.flatnonzero(chosen[trace.call_of_gpu]).astype(np.int64)
    call = trace.call_of_gpu[gpu]

    # Host events without a length say nothing, but a launch must have one to be seen.
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

    place = np.full(len(trace) + 1, -1, dtype=np.int64)  # of each host event
    place[host] = np.arange(len(host))
    correlation = np.full(len(host), -1, dtype=np.int64)
    correlation[place[call[own]]] = np.flatnonzero(own)
    correlation[place[waiting]] = len(gpu) + np.arange(len(waiting))
    waited = np.zeros(len(host), dtype=np.bool_)
    waited[place[waiting]] = True

    unrecorded = call[extra] == UNRECORDED
    extra_lane = np.where(unrecorded, len(trace.threads) + 1 + extra // NESTED, lane[place[call[extra]]])
    wait_end = np.maximum(gpu_start[awaited], gpu_end[awaited] - 1)  # before the next event of the stream, if that is at once
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
    """Operators by their own names, calls by those that HTA is to know them by."""
    operator = trace.events["category"][host] == Category.OPERATOR
    names = zip(trace.names(host).tolist(), operator.tolist(), waited.tolist(), (correlation >= 0).tolist(), strict=True)
    for name, is_operator, waits, launches in names:
        yield name if is_operator else WAIT if waits else LAUNCH if launches else CALL


def _host_lanes(trace: Trace, host: Int64s, call: Int64s) -> Int64s:
    """For each host event the thread that it stands on, from 1 up.

    A block of events (they overlap, and nothing overlaps them) of a launching thread goes to the thread that launches most,
    where that has nothing meanwhile: it can only be waiting for this one.
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
    """For each interval the number of its block, and each block's start and end."""
    order = np.argsort(start, kind="stable")
    latest = np.maximum.accumulate(end[order])
    opens = np.concatenate(([True], start[order][1:] >= latest[:-1]))
    block = np.empty(len(start), dtype=np.int64)
    block[order] = np.cumsum(opens) - 1
    closes = np.concatenate((opens[1:], [True]))
    return block, start[order][opens], latest[closes]


def _cut_to_nest(host: Int64s, lane: Int64s, start: Int64s, end: Int64s) -> int:
    """Cut `end` of host events that outlast the one around them, outermost first; return how many."""
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
    """For each GPU event its stream, from 1 up, its start and its end, so that the events of a stream follow each other.

    The union of each stream's events stays as it is, but for events that start before their launch.
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
    """The calls that waited (rows of `events`), and the GPU event (place in `gpu_end`) that each waited for.

    It is the last to end within the call, of those launched before it or by it. A copy that was over before its call
    returned was waited for, whatever the call's name.
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
    """For each GPU event the last to end before it starts, if that ended after its launch; or -1."""
    order = np.lexsort((start, end))
    place = np.searchsorted(end[order], start, side="right") - 1
    # An event without a length is neither behind itself nor behind those that are behind it.
    place[order] = np.minimum(place[order], np.arange(len(order)) - 1)
    last: Int64s = order[place]
    behind: Int64s = np.where((place >= 0) & (end[last] > launched), last, -1)
    return behind


def _launches(gpu_start: Int64s, call: Int64s, start: Int64s, end: Int64s, waiting: Int64s) -> tuple[Bools, Int64s]:
    """For each GPU event whether its call itself is its launch, and the start of the launch.

    It is where it is the call's first event, unless the call waits: HTA lets an event be linked to one other.
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
    # One after the other; where the call is too short for that, spread over it.
    offset = np.where(size <= length, number, number * length // np.maximum(size, 1))
    return own, start[call] + offset
