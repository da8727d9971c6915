"""Which events can be saved from a document that the typed parse refused, and what is the document if it is no trace?"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tracekit.errors import TraceError
from tracekit.wording import number

from .events import NOTHING, CollectiveArgs, Event, Parsed, complete, finite_number, small_int
from .formats import EXPORT_HINT
from .source import first_line


def parse_tolerant(data: bytes, path: Path) -> Parsed:
    """Parse a document that the typed parse refused, and save the events that can be saved.

    Raises NotJsonError if the text is not JSON, and TraceError that says what the document is if it is no trace.
    """
    document = _any_json(data, path)
    if isinstance(document, dict) and isinstance(document.get("traceEvents"), list):
        entries, outer = document["traceEvents"], document
    elif isinstance(document, list) and any(isinstance(entry, dict) and "ph" in entry for entry in document):
        entries, outer = document, {}
    else:
        raise TraceError(f"{_looks_like(document)}, not a profiler trace", where=path, mend=EXPORT_HINT)
    cleaned = [_cleaned(entry) for entry in entries]
    return Parsed(
        complete([event for event, _ in cleaned if event is not None]),
        outer.get("deviceProperties"),
        outer.get("distributedInfo"),
        len(entries),
        sum(odd for _, odd in cleaned),
        outer.get("baseTimeNanoseconds"),
    )


SEVERAL = "more than one JSON document"


class NotJsonError(TraceError):
    """The text is not JSON. `at` is the byte at which that shows, and `cut_off` whether it only ends too early."""

    def __init__(self, what: str, path: Path, mend: str, at: int, *, cut_off: bool = False) -> None:
        super().__init__(what, where=path, mend=mend)
        self.at = at
        self.cut_off = cut_off


_UNFINISHED = re.compile(
    r"""(?:"(?:[^"\\]|\\.)*\\?|\\?u[0-9A-Fa-f]{0,4}|[.eE][-+]?|-|tr?u?|fa?l?s?|nu?l?|Na?|-?In?f?i?n?i?t?)?\s*""", re.DOTALL
)
"""The rest of a text that ends too early, from where a JSON parser stops.

It is empty or the first part of a string, number or literal.
"""


def _any_json(data: bytes, path: Path) -> Any:
    """Any JSON value, with fractions as decimals. NaN and control characters are accepted: some exporters write them.

    Raises NotJsonError if the text is no JSON or is cut off.
    """
    try:
        return msgspec.json.Decoder(float_hook=_decimal).decode(data)
    except (UnicodeDecodeError, RecursionError):
        pass
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise cut_off(len(data), path) from error
    text = data.decode("utf-8", "surrogateescape")  # encodes back to the same bytes
    try:
        return json.loads(text, strict=False, parse_float=_decimal, parse_constant=lambda _: None)
    except RecursionError as error:
        raise TraceError("the JSON is nested too deeply", where=path, mend=EXPORT_HINT) from error
    except ValueError as error:
        stop = getattr(error, "pos", 0)
        if _UNFINISHED.fullmatch(text, stop):
            raise cut_off(len(data), path) from error
        at = len(text[:stop].encode("utf-8", "surrogateescape"))
        if "Extra data" in str(error) and text[stop : stop + 1] in ("{", "["):
            what = f"{SEVERAL}: the next one begins at byte {number(at)}"
            raise NotJsonError(what, path, "write each trace into a file of its own", at) from error
        raise NotJsonError(f"not JSON at byte {number(at)} ({first_line(error)})", path, EXPORT_HINT, at) from error


def _decimal(text: str) -> Decimal | None:
    """The number, or None if its exponent is too large even for a Decimal."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


def cut_off(at: int, path: Path) -> NotJsonError:
    """The error for a text that ends too early."""
    what = f"the JSON is cut off at byte {number(at)}"
    return NotJsonError(what, path, "copy the file again, or let the profiler finish", at, cut_off=True)


def _looks_like(document: Any) -> str:
    """Say what a JSON document that is no trace most likely is."""
    if isinstance(document, dict):
        if "nodes" in document and "schema" in document:
            return "this is a PyTorch execution trace (ExecutionTraceObserver)"
        if "segments" in document or "device_traces" in document:
            return "this is a CUDA memory snapshot"
        if "variant" in document and "schema_version" in document:
            return "this is a tracekit run manifest"
        return "this is JSON without a traceEvents list"
    if isinstance(document, list) and document and all(isinstance(part, list) for part in document):
        return "this is a memory timeline"
    return "this is some other JSON"


def _cleaned(entry: Any) -> tuple[Event[Any] | None, bool]:
    """The entry as an Event without its ill-typed fields, and whether the entry or a field that we read was ill-typed."""
    if not isinstance(entry, dict):
        return None, True
    args = entry.get("args")
    event: Event[Any] = Event(
        ph=_text(entry.get("ph")),
        cat=_text(entry.get("cat")),
        name=_text(entry.get("name")),
        pid=_track_label(entry.get("pid")),
        tid=_track_label(entry.get("tid")),
        ts=finite_number(entry.get("ts")),
        dur=finite_number(entry.get("dur")),
        args=_cleaned_args(args if isinstance(args, dict) else {}),
    )
    if event.ph != "X":
        return event, False
    read = ("cat", "name", "ts", "dur")
    return event, any(entry.get(key) is not None and getattr(event, key) is None for key in read)


def _cleaned_args(args: dict[Any, Any]) -> CollectiveArgs:
    """The fields of `args` that have the right type. Integers may come as text."""
    occupancy = finite_number(args.get("est. achieved occupancy %"))
    return CollectiveArgs(
        correlation=small_int(args.get("correlation")),
        external=args.get("External id"),
        device=small_int(args.get("device")),
        stream=small_int(args.get("stream")),
        bytes=small_int(args.get("bytes")),
        grid=_dims(args.get("grid")),
        block=_dims(args.get("block")),
        registers=small_int(args.get("registers per thread")),
        shared_memory=small_int(args.get("shared memory")),
        occupancy=None if occupancy is None else float(occupancy),
        graph=args.get("graph id"),
        graph_node=args.get("graph node id"),
        wait_on_stream=small_int(args.get("wait_on_stream")),
        context=args.get("context"),
        mark=args.get("str"),
        annotation=args.get("annotation"),
        name=args.get("name"),
        dims=_raw(args, "Input Dims"),
        types=_raw(args, "Input type"),
        strides=_raw(args, "Input Strides"),
        concrete=_raw(args, "Concrete Inputs"),
        collective=args.get("Collective name"),
        process_group=args.get("Process Group Name"),
        group_ranks=args.get("Process Group Ranks"),
        group_size=args.get("Group size"),
        sequence=args.get("Seq"),
        in_elements=args.get("In msg nelems"),
        out_elements=args.get("Out msg nelems"),
        dtype=args.get("dtype"),
    )


def _raw(args: dict[Any, Any], key: str) -> msgspec.Raw:
    """The argument, encoded as JSON text again. `NOTHING` if it is missing or cannot be encoded."""
    try:
        return msgspec.Raw(msgspec.json.encode(args[key]))
    except (KeyError, UnicodeEncodeError, RecursionError):
        return NOTHING


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _track_label(value: Any) -> int | str | None:
    if type(value) is int:
        return value if abs(value) < 2**63 else str(value)
    return value if isinstance(value, str) else None


def _dims(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and all(type(part) is int for part in value) else None
