"""Which launch belongs to which GPU event if several processes use the same ids?

Correlations count from 1 in each process. If somebody merged the traces of several processes into one file, an id alone does
not say whose it is. The events of one device belong to one process, mostly: to the one after whose calls they start soonest.
Then the ids of each process are made its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tracekit.table import Table
from tracekit.wording import counted, number

from .arrays import Int64s
from .trace import NO_CORRELATION, Trace, TraceWarning

FAR_NS = 10**15
"""Stands for the lag of an event that starts before its call, or has none in that process."""


def scoped(trace: Trace) -> Trace:
    """The trace in which no two processes share an id.

    A warning says so. Where the events of a device could be of any of them, nobody knows whose they are: their ids are removed.
    """
    correlation = trace.events["correlation"]
    calls = trace.calls[correlation[trace.calls] != NO_CORRELATION]
    process = _processes(trace)
    if not len(calls) or np.ptp(process[trace.events["thread"][calls]]) == 0:
        return trace
    shared = _shared_ids(correlation[calls], process[trace.events["thread"][calls]])
    if not len(shared):
        return trace
    event, waits = trace.gpu["event"], trace.waits["event"]
    device, lane = _lanes(trace, process)
    owner = np.full(len(trace), -1, dtype=np.int64)
    owner[calls] = process[trace.events["thread"][calls]]
    for rows, lanes in ((event, lane), (waits, _numbered(trace.waits["device"], process[trace.events["thread"][waits]]))):
        for one in np.unique(lanes).tolist():
            owner[rows[lanes == one]] = _owner(trace, rows[lanes == one], calls, owner[calls])
    known = correlation != NO_CORRELATION
    is_lost = known & (owner < 0) & np.isin(np.arange(len(trace)), np.concatenate((event, waits)))
    size = 2 * (int(np.abs(correlation[known]).max()) + 1)
    new = np.where(known & (owner >= 0), correlation + owner * size, correlation)
    new[is_lost] = NO_CORRELATION
    return replace(
        trace,
        events=Table({**trace.events.columns, "correlation": new}),
        gpu=Table({**trace.gpu.columns, "device": device}),
        warnings=(*trace.warnings, _warning(len(shared), len(np.unique(owner[calls])), int(is_lost[event].sum()))),
    )


def _lanes(trace: Trace, process: Int64s) -> tuple[Int64s, Int64s]:
    """The device of each GPU event, and the number of the process and device under which the file has it.

    A program that merges files may give each file's devices other processes and leave their own numbers. Then each process's
    device is another one.
    """
    device = trace.gpu["device"]
    track = process[trace.events["thread"][trace.gpu["event"]]]
    lane = _numbered(device, track)
    return (device, lane) if len(np.unique(lane)) == len(np.unique(device)) else (lane, lane)


def _numbered(device: Int64s, track: Int64s) -> Int64s:
    """A number for each pair of a device and the process under which the file has it."""
    pair = np.unique(np.stack((device, track), axis=1), axis=0, return_inverse=True)[1]
    return pair.reshape(-1).astype(np.int64)


def _warning(ids: int, processes: int, lost: int) -> TraceWarning:
    shared = f"{counted(processes, 'process', 'processes')} use the same {number(ids)} ids, as in files that were merged"
    if lost:
        return TraceWarning(
            "colliding_ids",
            f"{shared}: nobody knows which launched {counted(lost, 'GPU event', 'GPU events')}; analyse each trace alone",
            lost,
        )
    return TraceWarning("shared_ids", f"{shared}: each device's events are taken for those of one process", ids)


def _processes(trace: Trace) -> Int64s:
    """The number of each thread's process."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(pid, len(known)) for pid, _ in trace.threads], dtype=np.int64)


def _shared_ids(correlation: Int64s, process: Int64s) -> Int64s:
    """The ids that calls of several processes carry."""
    pairs = np.unique(np.stack((correlation, process), axis=1), axis=0)
    ids, count = np.unique(pairs[:, 0], return_counts=True)
    return ids[count > 1]


def _owner(trace: Trace, event: Int64s, calls: Int64s, process: Int64s) -> int:
    """The process that launched most of these GPU events, by how soon they follow its calls; -1 if it cannot be told."""
    ids, start = trace.events["correlation"][event], trace.start_ns[event]
    owners = np.unique(process)
    lags = []
    for owner in owners.tolist():
        mine = calls[process == owner]
        mine = mine[np.argsort(trace.events["correlation"][mine], kind="stable")]
        known = trace.events["correlation"][mine]
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        lag = start - trace.start_ns[mine][place]
        lags.append(np.where((known[place] == ids) & (lag >= 0), lag, FAR_NS))
    middle = np.median(np.stack(lags), axis=1)
    best = int(np.argmin(middle))
    is_told = (middle == middle[best]).sum() == 1  # never where the events follow nobody's calls: then all are equally far
    return int(owners[best]) if is_told else -1
