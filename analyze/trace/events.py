"""Which events does a file's JSON hold? One typed pass over the text, into small structs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

Time = TypeVar("Time")
Entry = TypeVar("Entry")

LARGEST_US = 2**61 // 1000
"""A number of this size or more is not taken for a time.

Below it, the difference of two times plus a duration still fits into int64 in nanoseconds.
"""


METADATA_BYTES = 1 << 17
"""How many bytes of a file's beginning, and of its end, are searched for information about the run."""

NOTHING = msgspec.Raw(b"")
"""The value of a field that an event does not have."""


class Args(msgspec.Struct, gc=False):
    """The arguments of an event that the analyses use. The parser skips all others."""

    correlation: int | None = None
    # Ties a GPU event to the operator that launched it, and is the operator's own number.
    external: Any = msgspec.field(default=None, name="External id")
    device: int | None = None
    stream: int | None = None
    bytes: int | str | None = None  # ROCm's profiler writes text
    grid: list[int] | None = None
    block: list[int] | None = None
    registers: int | None = msgspec.field(default=None, name="registers per thread")
    shared_memory: int | None = msgspec.field(default=None, name="shared memory")
    occupancy: float | None = msgspec.field(default=None, name="est. achieved occupancy %")
    # A kernel of a CUDA graph may have a label. torch.cuda._graph_annotations marks it while the graph is captured.
    # torch.cuda._annotate_cuda_graph_trace writes the mark into the arguments, under one of these names.
    graph: Any = msgspec.field(default=None, name="graph id")
    graph_node: Any = msgspec.field(default=None, name="graph node id")
    wait_on_stream: Any = None
    context: Any = None
    mark: Any = msgspec.field(default=None, name="str")
    annotation: Any = None
    name: Any = None
    # The inputs of an operator. They are kept as text: few are distinct, and only those of operators that launched something
    # are ever decoded.
    dims: msgspec.Raw = msgspec.field(default=NOTHING, name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=NOTHING, name="Input type")
    strides: msgspec.Raw = msgspec.field(default=NOTHING, name="Input Strides")
    concrete: msgspec.Raw = msgspec.field(default=NOTHING, name="Concrete Inputs")


class CollectiveArgs(Args, gc=False):
    """The arguments of `Args` and those that describe a collective, on its host call and its kernel.

    They are read only in traces of distributed runs: see `_is_distributed`.
    """

    collective: Any = msgspec.field(default=None, name="Collective name")
    process_group: Any = msgspec.field(default=None, name="Process Group Name")
    group_ranks: Any = msgspec.field(default=None, name="Process Group Ranks")
    group_size: Any = msgspec.field(default=None, name="Group size")
    sequence: Any = msgspec.field(default=None, name="Seq")
    in_elements: Any = msgspec.field(default=None, name="In msg nelems")
    out_elements: Any = msgspec.field(default=None, name="Out msg nelems")
    dtype: Any = None


class Event(msgspec.Struct, Generic[Time], gc=False):
    """One entry of `traceEvents`; `ts` and `dur` in microseconds."""

    ph: str | None = None
    cat: str | None = None
    name: str | None = None
    pid: int | str | None = None
    tid: int | str | None = None
    ts: Time | None = None
    dur: Time | None = None
    args: Args | None = None


class CollectiveEvent(Event[Time], Generic[Time], gc=False):
    """An `Event` whose arguments include those of a collective."""

    args: CollectiveArgs | None = None


class Document(msgspec.Struct, Generic[Entry]):
    """The parts of the file that we read. Metadata stays undecoded here, so that any value in it is accepted."""

    events: list[Entry] = msgspec.field(name="traceEvents")
    device_properties: msgspec.Raw = msgspec.field(name="deviceProperties", default=msgspec.Raw(b"null"))
    distributed_info: msgspec.Raw = msgspec.field(name="distributedInfo", default=msgspec.Raw(b"null"))
    base_time: msgspec.Raw = msgspec.field(name="baseTimeNanoseconds", default=msgspec.Raw(b"null"))


@dataclass(frozen=True)
class Parsed:
    """A file's events, from the typed parse or from the tolerant one."""

    events: list[Event[Any]]
    """The complete events (`ph` X)."""
    device_properties: Any
    distributed_info: Any
    entries: int
    repaired: int
    """How many entries had to be cleaned or dropped."""
    base_time: Any = None
    """The moment from which the events' times are counted, in ns since 1970; None if the file does not say."""


def parse_typed(data: bytes, time: type) -> Parsed:
    """Parse a well-typed document; `ts` and `dur` become int or `time`. Raises msgspec.DecodeError."""
    kind: Any = int | float if time is float else time
    if data[:64].lstrip()[:1] == b"[":
        entries = msgspec.json.Decoder(list[Event[kind]]).decode(data)
        return Parsed(complete(entries), None, None, len(entries), 0)
    entry: Any = CollectiveEvent if _is_distributed(data) else Event
    document = msgspec.json.Decoder(Document[entry[kind]]).decode(data)
    return Parsed(
        complete(document.events),
        _lenient(document.device_properties),
        _lenient(document.distributed_info),
        len(document.events),
        0,
        _lenient(document.base_time),
    )


def _is_distributed(data: bytes) -> bool:
    """Whether the file says which rank it is, or describes a collective.

    The profiler writes the rank before the events; after them counts as well.
    """
    told = any(b'"distributedInfo"' in part for part in (data[:METADATA_BYTES], data[-METADATA_BYTES:]))
    return told or b'"Collective name"' in data


def complete(entries: Sequence[Event[Any]]) -> list[Event[Any]]:
    """The complete events (`ph` X)."""
    return [event for event in entries if event.ph == "X"]


def _lenient(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None


def finite_number(value: Any) -> int | Decimal | None:
    """`value` as a number of microseconds, also from text. None if it is not finite or not below `LARGEST_US`."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(value)
    except ArithmeticError:
        return None
    return number if number.is_finite() and -LARGEST_US < number < LARGEST_US else None  # abs may overflow


def small_int(value: Any) -> int | None:
    """`value` as an integer below `LARGEST_US`, which int64 holds, also from text. None if it is no such integer."""
    if type(value) is int:
        return value if abs(value) < LARGEST_US else None
    number = finite_number(value)
    return int(number) if number is not None and number == int(number) else None
