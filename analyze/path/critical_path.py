"""Which chain of events did the time depend on?

HTA finds the path (`hta_graph`): the longest chain of host work, launches, kernels and waits. The path covers each moment from
its start to its end once, so its parts add up to its length, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.table import Table
from tracekit.wording import counted, duration, form

from ..trace.arrays import Bools, Int64s, Objects
from ..trace.trace import Category, Trace, TraceWarning
from .hta_feed import GPU_CATEGORIES, Feed, feed
from .hta_graph import Edge, HtaError, HtaPath, hta_path

BOUNDS = {
    "operator": "host",
    "call": "host",
    "outside": "host",
    "launch": "launch_latency",
    "kernel": "kernel",
    "communication": "communication",
    "copy": "copy",
    "delay": "kernel_delay",
    "behind": "kernel_delay",
    "queued": "kernel_delay",
    "unattributed": "unattributed",
    "return": "sync",
    "waiting": "sync",
}
"""For each kind of part of the path, what bounds its time."""
KINDS = tuple(BOUNDS)


@dataclass(frozen=True)
class Scope:
    """The part of a trace whose path is asked for: one instance of an annotation.

    `name` is the annotation's name, or the beginning of it. `index` counts its instances from 0. Without an index it is the
    longest instance, without a name the whole trace.
    """

    name: str | None = None
    index: int | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope that `NAME` or `NAME:INDEX` asks for."""
        name, colon, index = text.rpartition(":")
        return cls(name, int(index)) if colon and index.isdecimal() else cls(text)


@dataclass(frozen=True)
class CriticalPath:
    """The path through one trace, or through one instance of the annotation `window`.

    `segments` has its parts in the order of time: `kind`, `bound`, `name`, `lane`, `start_ns`, `duration_ns`. `bounds` sums
    them up by bound and kind, and `events` by bound, kind and name. Both have `count`, `time_ns` and `share` (of `length_ns`),
    the most time first. `hta_own_ns` is the length of the longest path by HTA's own weights, and `hta_own_elapsed_ns` the time
    that passes along that path.
    """

    window: str | None
    start_ns: int
    length_ns: int
    segments: Table
    bounds: Table
    events: Table
    hta_version: str
    hta_own_ns: int
    hta_own_elapsed_ns: int
    notes: tuple[TraceWarning, ...]


@dataclass(frozen=True)
class NoCriticalPath:
    """There is no critical path; `reason` says why, in one line."""

    reason: str


def critical_path(trace: Trace, family_of: dict[str, str], scope: Scope) -> CriticalPath | NoCriticalPath:
    """The critical path within `scope`, or why there is none. `family_of` maps a kernel's name to its family.

    Raises MissingExtraError if HTA is not installed.
    """
    span = _span(trace, scope)
    if isinstance(span, NoCriticalPath):
        return span
    if not (trace.call_of_gpu >= 0).any():
        return NoCriticalPath("no GPU event with a recorded launch")
    fed = feed(trace, *span[1:])
    if not any(category in GPU_CATEGORIES for category in fed.category):
        return NoCriticalPath(f"nothing within {span[0]} launches GPU work")
    try:
        found = hta_path(fed)
    except HtaError as error:
        return NoCriticalPath(f"HTA fails on this trace: {error}")
    segments = _segments(trace, fed, found.edges, family_of)
    length = int(segments["duration_ns"].sum())
    return CriticalPath(
        window=span[0],
        start_ns=int(found.edges["start_ns"][0]),
        length_ns=length,
        segments=segments,
        bounds=_summed(segments, "bound", "kind"),
        events=_summed(segments, "bound", "kind", "name"),
        hta_version=found.version,
        hta_own_ns=found.own_ns,
        hta_own_elapsed_ns=found.own_elapsed_ns,
        notes=tuple(_notes(fed, found, length)),
    )


def _span(trace: Trace, scope: Scope) -> tuple[str | None, int | None, int | None] | NoCriticalPath:
    """The name, start and end in ns of the annotation's instance, or why there is none. All None for the whole trace."""
    if scope.name is None:
        return None, None, None
    rows = trace.where(Category.ANNOTATION)
    names = trace.names(rows)
    exact = names == scope.name
    rows = rows[exact] if exact.any() else rows[np.array([name.startswith(scope.name) for name in names], dtype=np.bool_)]
    if not len(rows):
        return NoCriticalPath(f"no annotation begins with {scope.name!r}")
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    if scope.index is not None and scope.index >= len(rows):
        return NoCriticalPath(f"annotation {scope.name!r} has {len(rows)} instances, counted from 0; none is {scope.index}")
    index = int(trace.events["duration_ns"][rows].argmax()) if scope.index is None else scope.index
    row = rows[index]
    name = f"{trace.names(rows[index : index + 1])[0]} (instance {index} of {len(rows)})"
    return name, int(trace.start_ns[row]), int(trace.end_ns[row])


def _segments(trace: Trace, fed: Feed, edges: Table, family_of: dict[str, str]) -> Table:
    """The path's edges that take time, with names. Successive edges of one kind and one event become one segment."""
    edges = edges.take(edges["end_ns"] > edges["start_ns"])
    kind = _kinds(trace, fed, edges, family_of)
    event = _events(fed, edges)
    outside = kind == KINDS.index("outside")
    event[outside] = _around(trace, fed, edges.take(outside))
    same = (kind[1:] == kind[:-1]) & (event[1:] == event[:-1])
    opens = np.flatnonzero(np.concatenate(([True], ~same)))[: len(kind)]
    start, kind, event = edges["start_ns"][opens], kind[opens], event[opens]
    lanes = _lanes(trace, fed.event[edges["before"][opens]])
    kinds = np.array(KINDS, dtype=object)[kind]
    names = np.full(len(event), None, dtype=object)
    names[event >= 0] = trace.names(event[event >= 0])
    return Table(
        {
            "kind": kinds,
            "bound": np.array([BOUNDS[one] for one in kinds.tolist()], dtype=object),
            "name": names,
            "lane": lanes,
            "start_ns": start,
            "duration_ns": np.diff(start, append=edges["end_ns"][-1:]),
        }
    )


def _events(fed: Feed, edges: Table) -> Int64s:
    """The row of `events` to which each edge's time belongs, or -1. A delay belongs to the event that comes late."""
    edge, entry = edges["edge"], edges["within"].copy()
    late = np.isin(edge, (Edge.LAUNCH, Edge.QUEUED, Edge.BEHIND, Edge.NEXT, Edge.RETURN, Edge.WAITING))
    entry[late] = edges["after"][late]
    return np.where(entry >= 0, fed.event[entry], -1)


def _kinds(trace: Trace, fed: Feed, edges: Table, family_of: dict[str, str]) -> Int64s:
    """For each edge, the place of its kind in KINDS."""
    edge = edges["edge"]
    kind = np.full(len(edge), KINDS.index("outside"), dtype=np.int64)
    for one in (Edge.LAUNCH, Edge.QUEUED, Edge.BEHIND, Edge.RETURN, Edge.WAITING):
        kind[edge == one] = KINDS.index(one.name.lower())
    work = np.flatnonzero((edge == Edge.WORK) & (edges["within"] >= 0))
    rows = fed.event[edges["within"][work]]
    kind[work] = _work_kinds(trace, rows, family_of)
    following = np.flatnonzero(edge == Edge.NEXT)
    late = _launched_late(trace, fed.event[edges["after"][following]], edges["start_ns"][following])
    kind[following] = np.where(late, KINDS.index("launch"), KINDS.index("delay"))
    delayed = np.flatnonzero(np.isin(edge, (Edge.QUEUED, Edge.NEXT, Edge.BEHIND)))
    unknown = ~_launched(trace)[fed.event[edges["after"][delayed]]]
    kind[delayed[unknown]] = KINDS.index("unattributed")
    return kind


def _work_kinds(trace: Trace, rows: Int64s, family_of: dict[str, str]) -> Int64s:
    category = trace.events["category"][rows]
    communicates = trace.strings_that(lambda name: family_of.get(name) == "communication")
    kernel = np.where(communicates[trace.events["name"][rows]], KINDS.index("communication"), KINDS.index("kernel"))
    kind = np.full(len(rows), KINDS.index("call"), dtype=np.int64)
    kind[category == Category.OPERATOR] = KINDS.index("operator")
    kind[category == Category.KERNEL] = kernel[category == Category.KERNEL]
    kind[np.isin(category, (Category.MEMCPY, Category.MEMSET))] = KINDS.index("copy")
    return kind


def _launched_late(trace: Trace, rows: Int64s, free_ns: Int64s) -> Bools:
    """For each GPU event, whether its launching call had not yet returned when its stream became free, as in `idle`."""
    call = np.full(len(trace), -1, dtype=np.int64)
    call[trace.gpu["event"]] = np.where(trace.first_of_launch, trace.call_of_gpu, -1)
    late: Bools = (call[rows] >= 0) & (trace.end_ns[call[rows]] > free_ns)
    return late


def _launched(trace: Trace) -> Bools:
    """For each event, whether its launch is known. A graph's later nodes were launched with the first, so they count."""
    known = np.ones(len(trace), dtype=np.bool_)
    known[trace.gpu["event"]] = (trace.call_of_gpu >= 0) | ~trace.first_of_launch
    return known


def _around(trace: Trace, fed: Feed, edges: Table) -> Int64s:
    """The innermost Python frame or annotation open at the start of each edge, or -1.

    It is looked for on the thread of the event before the edge.
    """
    thread = trace.events["thread"][fed.event[edges["before"]]]
    return trace.nested(trace.where(Category.ANNOTATION, Category.PYTHON)).innermost(thread, edges["start_ns"])


def _lanes(trace: Trace, rows: Int64s) -> Objects:
    """The lane on which each event ran: `stream 7`, `thread 1234`."""
    stream = np.full(len(trace), -1, dtype=np.int64)
    stream[trace.gpu["event"]] = np.arange(len(trace.gpu))
    threads = np.array([f"thread {thread}" for _, thread in trace.threads], dtype=object)
    lanes: Objects = threads[trace.events["thread"][rows]]
    on_gpu = np.flatnonzero(stream[rows] >= 0)
    numbers = trace.gpu["stream"][stream[rows[on_gpu]]].tolist()
    lanes[on_gpu] = np.array([f"stream {number}" for number in numbers], dtype=object)
    return lanes


def _summed(segments: Table, *by: str) -> Table:
    """The sums of the segments over these columns, the most time first."""
    keys = np.stack([np.unique(segments[name].astype(str), return_inverse=True)[1] for name in by], axis=1)
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    time = np.zeros(len(first), dtype=np.int64)
    np.add.at(time, group, segments["duration_ns"])
    count = np.bincount(group, minlength=len(first)).astype(np.int64)
    columns = {name: segments[name][first] for name in by}
    share = time / max(int(time.sum()), 1)
    return Table({**columns, "count": count, "time_ns": time, "share": share}).sorted_by("time_ns", descending=True)


def _notes(fed: Feed, found: HtaPath, length: int) -> list[TraceWarning]:
    """The warnings that a reader must know before trusting the path."""
    unweighed = found.own_elapsed_ns - found.own_ns
    missed = int(fed.end_ns.max() - fed.start_ns.min()) - length
    own, elapsed = duration(unweighed), duration(found.own_elapsed_ns)
    told = {
        "hta_unweighed": (
            unweighed,
            f"HTA's own weights leave out {own} of the {elapsed} that pass along its own longest path: host time between "
            "outermost operators, and returns from waits",
        ),
        "unlaunched": (
            fed.unlaunched,
            f"{counted(fed.unlaunched, 'GPU event has', 'GPU events have')} no recorded launch and "
            f"{form(fed.unlaunched, 'counts', 'count')} as launched before the trace",
        ),
        "moved": (
            fed.moved,
            f"{counted(fed.moved, 'GPU event starts', 'GPU events start')} before the one before on the stream ends, or before "
            "the launch; here they start then",
        ),
        "cut": (
            fed.cut,
            f"{counted(fed.cut, 'host event outlasts', 'host events outlast')} the one around and "
            f"{form(fed.cut, 'is', 'are')} cut",
        ),
        "backward": (
            found.backward,
            f"{counted(found.backward, 'edge')} of HTA's {form(found.backward, 'goes', 'go')} back in time and "
            f"{form(found.backward, 'is', 'are')} left out",
        ),
        "missed": (missed, f"{duration(missed)} before the path's start or after its end: no chain leads there"),
        "no_wait": (
            int(not fed.waited.any()),
            "no call is seen to wait for the GPU, so that its work is on the path only at the end",
        ),
    }
    return [TraceWarning(code, message, count) for code, (count, message) in told.items() if count]
