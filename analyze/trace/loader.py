"""How does a profiler's file become a Trace, exactly?

The typed parse is the fast way: one pass over the JSON into small structs, which then become columns. Three kinds of file need
another way:

- Some files have times that a double cannot hold to the nanosecond: absolute microseconds with a fraction, as PyTorch 2.2
  and 2.3 write them. They are parsed again with decimals.
- Some files have fields of the wrong type. They are cleaned event by event, so that one odd event costs a warning and not the
  trace.
- Some files are not JSON, because PyTorch did not escape what it wrote. They are mended (`mend.py`) and then read as any other.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import compress
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tracekit.errors import TraceError
from tracekit.table import Table
from tracekit.wording import counted, number

from .arrays import Floats, Int64s, Objects, objects
from .categories import categorize
from .categories import warnings as category_warnings
from .doubled import without_doubles
from .events import LARGEST_US, NOTHING, Args, CollectiveArgs, Event, Parsed, parse_typed, small_int
from .formats import EXPORT_HINT
from .mend import BrokenTextError, mend
from .mend import warnings as mend_warnings
from .merged import ranks_of
from .names import names_as_written
from .plausible import plausible
from .producer import written_by
from .repair import SEVERAL, NotJsonError, cut_off, parse_tolerant
from .scopes import scoped
from .source import read_bytes
from .trace import (
    CALLS,
    COLLECTIVE,
    GPU,
    HOST_CALL,
    NO_CORRELATION,
    WAIT,
    Category,
    Device,
    Signature,
    Trace,
    TraceWarning,
)

WRITE_AGAIN = "write the trace again with with_stack=False, or with a newer PyTorch, which escapes what it writes"

CALLS_OF_A_LAUNCH = 2
"""So many calls at most carry the id of one launch: a runtime call and the driver call inside it."""

EXACT_BELOW_US = 2.0**43
"""Below this many microseconds, neighbouring doubles are less than 0.001 apart, so a double keeps three decimals."""


def load(path: str | os.PathLike[str]) -> Trace:
    """Read one torch.profiler trace, `.json` or `.json.gz`.

    Raises TraceError if the file cannot be read, is cut off or is not a profiler trace. The error names the file and the
    remedy.
    """
    path = Path(path)
    found = parse(read_bytes(path), path)
    if len(found) > 1:
        what = f"holds the merged traces of {counted(len(found), 'rank')}"
        raise TraceError(what, where=path, mend="use load_ranks, or tracekit analyze")
    return found[0]


def load_ranks(path: str | os.PathLike[str]) -> tuple[Trace, ...]:
    """Read a file in which somebody merged the traces of several ranks: a trace for each, by rank. Raises TraceError."""
    path = Path(path)
    return parse(read_bytes(path), path)


def parse(data: bytes, path: Path) -> tuple[Trace, ...]:
    """Read the text of a trace, as `read_bytes` returns it; `path` names the file. Raises TraceError as `load` does.

    A file of several ranks gives a trace for each of them, any other file one.
    """
    with _collector_paused():
        try:
            return _load_json_or_mend(data, path)
        except _ForeignError as error:
            raise TraceError(
                f"no complete event is of a category that torch.profiler writes: this looks like {written_by(data)}",
                where=path,
                mend=EXPORT_HINT,
            ) from error


def _load_json_or_mend(data: bytes, path: Path) -> tuple[Trace, ...]:
    try:
        return _load_json(data, path)
    except NotJsonError as error:
        return _load_mended(data, path, error)


def _load_json(data: bytes, path: Path) -> tuple[Trace, ...]:
    """Load a document that is JSON. Raises NotJsonError if it is not."""
    try:
        return _load_typed(data, path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        return build_all(parse_tolerant(data, path), path)


def _load_mended(data: bytes, path: Path, refused: NotJsonError) -> tuple[Trace, ...]:
    """Load a document that is not JSON, as `refused` says, if its events can be mended. Raises TraceError otherwise."""
    if b'"ph"' not in data or "Extra data" in refused.what or SEVERAL in refused.what:
        raise refused
    try:
        mended = mend(data)
    except BrokenTextError as error:
        if refused.cut_off:
            raise refused from error
        if error.cut_off:
            raise cut_off(error.at, path) from refused
        what = f"not JSON at byte {number(error.at)}, and it cannot be mended"
        raise TraceError(what, where=path, mend=WRITE_AGAIN) from refused
    told = tuple(mend_warnings(mended))
    return tuple(replace(trace, warnings=(*told, *trace.warnings)) for trace in _load_json(mended.text, path))


def _load_typed(data: bytes, path: Path) -> tuple[Trace, ...]:
    """Load a well-typed document.

    Raises msgspec.DecodeError, UnicodeDecodeError, RecursionError or OverflowError if the document is not well-typed.
    """
    try:
        return build_all(parse_typed(data, float), path)
    except _InexactError:
        return build_all(parse_typed(data, Decimal), path)


class _ForeignError(Exception):
    """No event of the file is of a category that a PyTorch profiler writes."""


class _InexactError(Exception):
    """A double may not hold some time of the file exactly."""


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector. A parse makes many objects but no cycles, so the collector would find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def build_all(parsed: Parsed, path: Path) -> tuple[Trace, ...]:
    """The traces of a file's ranks, or its only one. Raises TraceError if no event can be used."""
    ranks = ranks_of(parsed)
    if not ranks:
        return (build(parsed, path),)
    return tuple(
        replace(
            build(one.parsed, path),
            name=_encodable(f"{path.name} [{one.label}]"),
            rank=one.rank,
            metadata={"distributed": _distributed(parsed), "merged_ranks": len(ranks)},
        )
        for one in ranks
    )


def _distributed(parsed: Parsed) -> dict[str, Any]:
    return parsed.distributed_info if isinstance(parsed.distributed_info, dict) else {}


def build(parsed: Parsed, path: Path) -> Trace:
    """Turn parsed events into columns. Raises TraceError if no event can be used."""
    if not parsed.entries:
        raise TraceError("the trace has no events", where=path, mend="profile at least one step before exporting")
    events = parsed.events
    start, has_start = _nanoseconds(events, "ts")
    duration, has_duration = _nanoseconds(events, "dur")
    usable = has_start & (duration >= 0)
    if not usable.any():
        raise TraceError(
            f"none of its {counted(parsed.entries, 'entry', 'entries')} is a complete event with a time",
            where=path,
            mend=EXPORT_HINT,
        )
    if not usable.all():
        events = [event for event, keep in zip(events, usable.tolist(), strict=True) if keep]
    start = start[usable]
    strings, names = _codes(list(map(attrgetter("name"), events)))
    threads, thread = _codes(list(map(attrgetter("pid", "tid"), events)))
    categories = categorize(events)
    if not categories.known:
        raise _ForeignError
    category = categories.of_event
    texts, as_written = names_as_written([_encodable(text or "") for text in strings])
    process = _codes([pid for pid, _ in threads])[1][thread]
    correlation = _correlations(events, category, start, process)
    signatures, signature = _signatures(events, np.flatnonzero(category == Category.OPERATOR))
    table = Table(
        {
            "category": category,
            "name": names,
            "start_ns": start - start.min(),
            "duration_ns": duration[usable],
            "thread": thread,
            "correlation": correlation,
            "signature": signature,
        }
    )
    gpu = _gpu_table(events, category, correlation)
    distributed = _distributed(parsed)
    trace = Trace(
        name=_encodable(path.name),
        path=str(path),
        entries=parsed.entries,
        rank=small_int(distributed.get("rank")),
        device=_device(parsed.device_properties, gpu),
        device_names=_device_names(parsed.device_properties),
        strings=objects(texts),
        threads=tuple((_label(pid), _label(tid)) for pid, tid in threads),
        events=table,
        gpu=gpu,
        signatures=tuple(signatures),
        collectives=_collectives(events, category, _named(strings, names, HOST_CALL)),
        waits=_waits(events, category),
        origin_ns=(parsed.base_time if type(parsed.base_time) is int else 0) + int(start.min()),
        warnings=(
            *_warnings(parsed, has_start, has_duration, duration, int(np.isin(names, as_written).sum())),
            *category_warnings(categories),
        ),
        metadata={"distributed": distributed} if distributed else {},
    )
    return plausible(without_doubles(scoped(trace)))


def _nanoseconds(events: Sequence[Event[Any]], key: str) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """The field as whole nanoseconds, from microseconds (half to even), and which events have it. Without it the value is 0.

    Raises _InexactError if doubles do not hold the values exactly, OverflowError if a number is no time.
    """
    values = list(map(attrgetter(key), events))
    present = np.ones(len(values), dtype=np.bool_)
    if None in values:
        present = np.array([value is not None for value in values], dtype=np.bool_)
        values = [0 if value is None else value for value in values]
    if Decimal in set(map(type, values)):
        return _from_decimals(values), present
    us = np.array(values)
    if us.dtype == np.float64:
        return _from_doubles(us), present
    if us.dtype != np.int64 or not np.all((us > -LARGEST_US) & (us < LARGEST_US)):
        raise OverflowError
    return us * 1000, present


def _from_decimals(us: Sequence[Any]) -> Int64s:
    if any(abs(value) >= LARGEST_US for value in us):
        raise OverflowError
    ns = [int((Decimal(value) * 1000).to_integral_value(ROUND_HALF_EVEN)) for value in us]
    return np.array(ns, dtype=np.int64)


def _from_doubles(us: Floats) -> Int64s:
    """The times in nanoseconds. Raises _InexactError unless each double stands for exactly one whole nanosecond."""
    if not np.all(np.abs(us) < EXACT_BELOW_US):
        raise _InexactError
    ns = np.rint(us * 1000.0)
    if not np.array_equal(ns / 1000.0, us):
        raise _InexactError
    return ns.astype(np.int64)


T = TypeVar("T")


def _codes(values: list[T]) -> tuple[list[T], npt.NDArray[np.int32]]:
    """The distinct values in order of appearance, and each value's place among them."""
    distinct = list(dict.fromkeys(values))
    code = {value: place for place, value in enumerate(distinct)}
    return distinct, np.fromiter(map(code.__getitem__, values), np.int32, len(values))


def _signatures(events: Sequence[Event[Any]], operators: npt.NDArray[np.intp]) -> tuple[list[Signature], npt.NDArray[np.int32]]:
    """The distinct inputs of operators, as the trace writes them, and for each event the place of its inputs or -1."""
    called = [events[row].args for row in operators.tolist()]
    known = np.fromiter((args is not None and args.dims is not NOTHING for args in called), np.bool_, len(called))
    written = list(map(attrgetter("dims", "types", "strides", "concrete"), compress(called, known)))
    # Only distinct inputs are copied out of the parsed text. NUL can join the parts, because JSON holds none.
    codes = _codes(list(map(b"\0".join, written)))[1]
    first = np.unique(codes, return_index=True)[1]
    signature = np.full(len(events), -1, dtype=np.int32)
    signature[operators[known]] = codes
    distinct = [(bytes(d), bytes(t), bytes(s), bytes(v)) for d, t, s, v in (written[place] for place in first.tolist())]
    return distinct, signature


def _correlations(
    events: Sequence[Event[Any]], category: npt.NDArray[np.int8], start: Int64s, process: npt.NDArray[np.int32]
) -> Int64s:
    """The correlation of each event, or NO_CORRELATION. 0 is none, unless a call has it: profilers write it for want of one."""
    none, without = NO_CORRELATION, Args()
    found = [(event.args or without).correlation for event in events]
    ids = np.array([none if c is None else c for c in found] if None in found else found, dtype=np.int64)
    is_call = np.isin(category, CALLS)
    if not (is_call & (ids == 0)).any():
        ids[ids == 0] = none
    placeholders = _placeholders(ids[is_call], start[is_call], process[is_call], ids[np.isin(category, GPU)])
    if len(placeholders):
        ids[np.isin(ids, placeholders)] = none
    return ids


def _placeholders(of_calls: Int64s, starts: Int64s, process: npt.NDArray[np.int32], of_work: Int64s) -> Int64s:
    """The numbers that stand for no id: a process's calls at many moments carry them, and several GPU events.

    In a file of many processes each may count from 1.
    """
    number, count = np.unique(of_calls, return_counts=True)
    many = number[count > CALLS_OF_A_LAUNCH]
    if not len(many):
        return many
    mine = np.isin(of_calls, many)
    moments = np.unique(np.stack((of_calls[mine], process[mine], starts[mine]), axis=1), axis=0)
    number, count = np.unique(moments[:, :2], axis=0, return_counts=True)
    worked, times = np.unique(of_work, return_counts=True)
    return np.intersect1d(number[count > CALLS_OF_A_LAUNCH, 0], worked[times > 1])


def _gpu_table(events: Sequence[Event[Any]], category: npt.NDArray[np.int8], correlation: Int64s) -> Table:
    """A row for each kernel, copy and fill. If the arguments lack the device or stream, the event's pid or tid is taken."""
    rows = np.flatnonzero(np.isin(category, GPU))
    found = [events[row] for row in rows.tolist()]
    args = [event.args or Args() for event in found]
    return Table(
        {
            "event": rows.astype(np.int64),
            "device": _track([e.pid if a.device is None else a.device for a, e in zip(args, found, strict=True)]),
            "stream": _track([e.tid if a.stream is None else a.stream for a, e in zip(args, found, strict=True)]),
            "context": _contexts([a.context for a in args]),
            "operator": _operators(events, category, correlation, rows),
            "bytes": _small_ints([a.bytes for a in args]),
            "grid": objects([a.grid for a in args]),
            "block": objects([a.block for a in args]),
            "registers": _small_ints([a.registers for a in args]),
            "shared_memory_bytes": _small_ints([a.shared_memory for a in args]),
            "occupancy_percent": objects([a.occupancy for a in args]),
            "graph_id": _ids(list(map(attrgetter("graph"), args))),
            "graph_node_id": _ids(list(map(attrgetter("graph_node"), args))),
            "label": objects([None if a.graph_node is None else _graph_label(a) for a in args]),
        }
    )


def _contexts(values: list[Any]) -> Int64s:
    """The device's context of each event; -1 where none is recorded."""
    if set(map(type, values)) <= {type(None)}:
        return np.full(len(values), -1, dtype=np.int64)
    return np.array([_place(value) for value in values], dtype=np.int64)


def _waits(events: Sequence[Event[Any]], category: npt.NDArray[np.int8]) -> Table:
    """A row for each wait that the device's profiler saw."""
    rows = np.flatnonzero(category == Category.SYNC)
    args = [events[row].args or Args() for row in rows.tolist()]
    columns = (
        rows,
        *([_place(a.device) for a in args], [_place(a.stream) for a in args], [_place(a.wait_on_stream) for a in args]),
    )
    return Table({name: np.array(column, dtype=np.int64) for name, column in zip(WAIT, columns, strict=True)})


def _place(number: Any) -> int:
    """The number of a device or stream; -1 for none, as profilers write it."""
    return number if type(number) is int and 0 <= number < LARGEST_US else -1


def _operators(
    events: Sequence[Event[Any]], category: npt.NDArray[np.int8], correlation: Int64s, gpu: npt.NDArray[np.intp]
) -> Int64s:
    """For each GPU event that no call has the correlation of, the operator with its External id (row of `events`), or -1."""
    found = np.full(len(gpu), -1, dtype=np.int64)
    called = correlation[np.isin(category, CALLS)]
    unlinked = np.flatnonzero(~np.isin(correlation[gpu], called[called != NO_CORRELATION]))
    if not len(unlinked):
        return found
    operators = np.flatnonzero(category == Category.OPERATOR).tolist()
    row_of: dict[int | None, int] = {}
    for row in operators:
        external = _external(events[row])
        if external is not None:
            row_of[external] = row if external not in row_of else -1  # of several, nobody knows which
    found[unlinked] = [row_of.get(_external(events[row]), -1) for row in gpu[unlinked].tolist()]
    return found


def _external(event: Event[Any]) -> int | None:
    """The event's External id; 0 is none."""
    external = event.args.external if event.args is not None else None
    return external if type(external) is int and external else None


def _ids(values: list[Any]) -> Objects:
    """The values that are whole numbers, else None: the field may hold anything."""
    if set(map(type, values)) <= {type(None)}:
        return np.full(len(values), None, dtype=object)
    return _small_ints([value if type(value) is int else None for value in values])


def _named(strings: Sequence[str | None], names: npt.NDArray[np.int32], name: str) -> npt.NDArray[np.bool_]:
    """For each event, whether it has this name."""
    found: npt.NDArray[np.bool_] = names == (strings.index(name) if name in strings else -1)
    return found


def _collectives(events: Sequence[Event[Any]], category: npt.NDArray[np.int8], is_host_call: npt.NDArray[np.bool_]) -> Table:
    """A row for each kernel and host call that names its collective."""
    of_host = _with_collective(events, np.flatnonzero(is_host_call))
    # The profiler copies the description from the host call to its kernel. If no host call has one, as in old traces, no
    # kernel has one.
    may = category == Category.KERNEL if of_host or not is_host_call.any() else np.zeros(len(category), dtype=np.bool_)
    found = sorted((*of_host, *_with_collective(events, np.flatnonzero(may))), key=itemgetter(0))
    texts, numbers = COLLECTIVE[1:5], COLLECTIVE[5:]
    return Table(
        {
            "event": np.array([row for row, _ in found], dtype=np.int64),
            **{name: objects([_text(getattr(a, name)) for _, a in found]) for name in texts},
            **{name: objects([small_int(getattr(a, name)) for _, a in found]) for name in numbers},
        }
    )


def _with_collective(events: Sequence[Event[Any]], rows: npt.NDArray[np.intp]) -> list[tuple[int, CollectiveArgs]]:
    """The rows, among these, that name a collective, each with its arguments."""
    if not _told_collectives(events):
        return []
    args: list[Any] = [events[row].args for row in rows.tolist()]
    return [(row, a) for row, a in zip(rows.tolist(), args, strict=True) if a is not None and a.collective is not None]


def _told_collectives(events: Sequence[Event[Any]]) -> bool:
    """Whether the parse read the arguments of collectives. It did so for all events or for none."""
    return isinstance(next((event.args for event in events if event.args is not None), None), CollectiveArgs)


def _text(value: Any) -> str | None:
    return _encodable(value) if isinstance(value, str) else None


def _graph_label(args: Args) -> str | None:
    """The label that the kernel got when its graph was captured, or None."""
    return next((_encodable(str(mark)) for mark in (args.mark, args.annotation, args.name) if mark), None)


def _small_ints(values: list[Any]) -> Objects:
    """The values as integers that a Parquet column can hold, else None. Each distinct value is converted once."""
    known = {value: small_int(value) for value in set(values)}
    return objects([known[value] for value in values])


def _track(labels: list[Any]) -> Int64s:
    """Track numbers. A label that is no number gets one below zero that no other track has."""
    distinct, codes = _codes(labels)
    taken = set(distinct)
    free = (number for number in range(-1, -1 - len(distinct), -1) if number not in taken)
    numbers = [label if isinstance(label, int) else next(free) for label in distinct]
    return np.array(numbers, dtype=np.int64)[codes] if labels else np.empty(0, np.int64)


def _encodable(text: str) -> str:
    """The text, in which everything that UTF-8 cannot hold (a lone surrogate) is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _label(part: int | str | None) -> str:
    return "?" if part is None else _encodable(str(part))


def _device(properties: Any, gpu: Table) -> Device | None:
    """The properties of the device with most GPU events. None without GPU events, or if that device is not listed."""
    if not isinstance(properties, list) or not len(gpu):
        return None
    ids, counts = np.unique(gpu["device"], return_counts=True)
    used = int(ids[np.argmax(counts)])
    listed = [device for device in properties if isinstance(device, dict)]
    # ROCm numbers all agents of a node, including its CPUs, so the id may not be listed. If all listed devices have one name,
    # any of them will do.
    found = next((device for device in listed if device.get("id") == used), None)
    if found is None and len({str(device.get("name")) for device in listed}) == 1:
        found = listed[0]
    return None if found is None else _described(found)


def _device_names(properties: Any) -> dict[int, str]:
    """The name of each device that is listed, by its number."""
    listed = [device for device in properties if isinstance(device, dict)] if isinstance(properties, list) else []
    return {device["id"]: _described(device).name for device in listed if type(device.get("id")) is int}


def _described(device: dict[str, Any]) -> Device:
    major, minor = device.get("computeMajor"), device.get("computeMinor")
    return Device(
        name=_encodable(str(device.get("name") or "unnamed GPU")),
        compute_capability=f"{major}.{minor}" if isinstance(major, int) and isinstance(minor, int) else None,
        multiprocessors=small_int(device.get("numSms")),
        memory_bytes=small_int(device.get("totalGlobalMem")),
        threads_each=small_int(device.get("maxThreadsPerMultiprocessor")),
        registers_each=small_int(device.get("regsPerMultiprocessor")),
        shared_memory_each=small_int(device.get("sharedMemPerMultiprocessor")),
    )


def _warnings(
    parsed: Parsed,
    has_start: npt.NDArray[np.bool_],
    has_duration: npt.NDArray[np.bool_],
    duration: Int64s,
    as_written: int,
) -> Iterator[TraceWarning]:
    found: tuple[tuple[str, int, str, str], ...] = (
        (
            "ill_typed_events",
            parsed.repaired,
            "entry has fields of the wrong type; those fields were ignored",
            "entries have fields of the wrong type; those fields were ignored",
        ),
        (
            "events_without_time",
            int((~has_start).sum()),
            "event has no start time; it was left out",
            "events have no start time; they were left out",
        ),
        (
            "events_without_duration",
            int((has_start & ~has_duration).sum()),
            "event has no duration; it counts as 0 ns long",
            "events have no duration; they count as 0 ns long",
        ),
        (
            "negative_durations",
            int((duration < 0).sum()),
            "event ends before it starts; it was left out",
            "events end before they start; they were left out",
        ),
        (
            "backslashes_as_escapes",
            as_written,
            "name is a Windows path whose backslashes are not escaped; it was read as it is written",
            "names are Windows paths whose backslashes are not escaped; they were read as they are written",
        ),
    )
    for code, count, one, many in found:
        if count:
            yield TraceWarning(code, counted(count, one, many), count)
