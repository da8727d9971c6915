"""Damages a real trace at random, in ways that profilers, mergers and editors of traces do.

    document = fuzzed(seed)    # a trace's document and the changes that were made to it

The same seed always gives the same document, so a failure can be repeated.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from repository import ROOT
from shared_data import SHARED

MOST_EVENTS = 500
"""A damaged trace is a stretch of the real one: many different inputs find more than a few long ones."""

Entry = dict[str, Any]

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 2**70, 0.0, -0.0, 0.0005, -12.3456789, 1e300, -1e300, 1e-320, math.nan, math.inf,
    "", "0", "7", "-1", "1e5", "1e999", "NaN", "Infinity", "kernel", "cudaLaunchKernel", "aten::mm", "ProfilerStep#3", "<b>&amp;", "\x00", "é\u2028",
    [], [1], [[]], ["a", None], {}, {"a": 1}, {"correlation": 1}, [0, 0, 0], [2**40, 1, 1],
)  # fmt: skip
"""Values of every type that JSON has, and of every size that a column does not."""

ODD_PHASES = ("X", "B", "E", "i", "M", "s", "f", "C", "b", "e", "N", "", "XX")
ODD_CATEGORIES = (
    "kernel", "Kernel", "gpu_memcpy", "gpu_memset", "cuda_runtime", "cuda_driver", "xpu_runtime", "cpu_op", "user_annotation", "gpu_user_annotation",
    "python_function", "ac2g", "fwdbwd", "overhead", "cuda_sync", "Trace", "collective_comm", "unheard_of", "",
)  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """A damaged trace: its document, the real trace that it was made of, and what was done to it."""

    document: Entry
    source: str
    changes: tuple[str, ...]

    def write(self, path: Path) -> Path:
        """Write it as JSON, with `NaN` and `Infinity` where a value is such."""
        path.write_text(json.dumps(self.document), encoding="utf-8")
        return path


def fuzzed(seed: int) -> Fuzzed:
    """A real trace's stretch with one to five changes."""
    chance = random.Random(seed)
    source = chance.choice(sources())
    document = stretch(source, chance)
    changes = []
    for _ in range(chance.randint(1, 5)):
        change = chance.choice(CHANGES)
        changes.append(change(document, chance) if _events(document) else "nothing left to change")
    return Fuzzed(document, source.name, tuple(changes))


def sources() -> list[Path]:
    """The project's traces, and those of the shared folder where there is one."""
    return _sources_of(ROOT / "traces") + [
        path for room in ("traces", "h200", "serving") for path in _sources_of(SHARED / room)
    ]


def _sources_of(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.glob("*") if path.name.endswith((".json", ".json.gz")) and ".run." not in path.name
    )


@cache
def _text(source: Path) -> bytes:
    content = source.read_bytes()
    return gzip.decompress(content) if source.suffix == ".gz" else content


@cache
def _whole(source: Path) -> tuple[Entry, list[Entry], list[Entry]]:
    """The document without its events, the events without a time of their own, and the others by start."""
    document = json.loads(_text(source))
    if isinstance(document, list):
        document = {"traceEvents": document}
    events = document.pop("traceEvents")
    fixed = [event for event in events if event.get("ph") != "X"]
    return (
        document,
        fixed[:50],
        sorted((event for event in events if event.get("ph") == "X"), key=lambda event: float(event["ts"])),
    )


def stretch(source: Path, chance: random.Random) -> Entry:
    """Some hundred events of a trace that follow each other, with what the file says of the whole. A copy of its own."""
    document, fixed, timed = _whole(source)
    start = chance.randrange(max(1, len(timed) - MOST_EVENTS))
    return json.loads(json.dumps({**document, "traceEvents": fixed + timed[start : start + MOST_EVENTS]}))


# --- The changes: each damages the document and says what it did -------------------------------------------------------


def set_fields(document: Entry, chance: random.Random) -> str:
    """Overwrite one field of some events, with one odd value or with several."""
    chosen = _some(document, chance)
    keys = sorted({key for event in chosen for key in event})
    key = chance.choice(keys)
    value, several = _odd(key, chance), chance.random() < 0.3
    for event in chosen:
        event[key] = _odd(key, chance) if several else copy.deepcopy(value)
    return f"{key} = {'odd values' if several else repr(value)} in {len(chosen)} events"


def set_arguments(document: Entry, chance: random.Random) -> str:
    """Overwrite one of the arguments of some events."""
    chosen = [event for event in _some(document, chance) if _arguments(event)]
    keys = sorted({key for event in chosen for key in event["args"]})
    if not keys:
        return "no arguments to change"
    key, value = chance.choice(keys), _odd_value(chance)
    for event in chosen:
        event["args"][key] = copy.deepcopy(value)
    return f"args.{key} = {value!r} in {len(chosen)} events"


def remove_fields(document: Entry, chance: random.Random) -> str:
    """Remove one field of some events, or one argument."""
    chosen = _some(document, chance)
    inside = chance.random() < 0.5
    places = [event.get("args") if inside else event for event in chosen]
    keys = sorted({key for place in places if isinstance(place, dict) for key in place})
    if not keys:
        return "no field to remove"
    key = chance.choice(keys)
    for place in places:
        if isinstance(place, dict):
            place.pop(key, None)
    return f"no {'args.' if inside else ''}{key} in {len(chosen)} events"


def drop(document: Entry, chance: random.Random) -> str:
    """Drop some events, or all of a category."""
    events = _events(document)
    if chance.random() < 0.3:
        category = chance.choice(sorted({str(event.get("cat")) for event in events}))
        dropped = [event for event in events if str(event.get("cat")) == category]
    else:
        dropped = _some(document, chance)
    gone = set(map(id, dropped))
    document["traceEvents"] = [event for event in document["traceEvents"] if id(event) not in gone]
    return f"dropped {len(gone)} events"


def double(document: Entry, chance: random.Random) -> str:
    """Write some events twice, the second time a little later or not."""
    later = chance.choice([0, 0, 1, 1000])
    copies = [json.loads(json.dumps(event)) for event in _some(document, chance)]
    for event in copies:
        if _is_number(event.get("ts")):
            event["ts"] += later
    document["traceEvents"] += copies
    return f"doubled {len(copies)} events {later} µs later"


def swap(document: Entry, chance: random.Random) -> str:
    """Exchange one field of events, pair by pair."""
    events = _events(document)
    key = chance.choice(["ts", "dur", "name", "cat", "pid", "tid", "args"])
    pairs = chance.choice([1, 3, 30])
    for _ in range(pairs):
        one, other = chance.choice(events), chance.choice(events)
        one[key], other[key] = other.get(key), one.get(key)
    return f"swapped {key} of {pairs} pairs"


def move(document: Entry, chance: random.Random) -> str:
    """Move some events in time."""
    by = chance.choice([-1e9, -1e6, -50.0, -2.5, -0.001, 0.001, 2.5, 50.0, 1e6, 1e9])
    chosen = _some(document, chance)
    for event in chosen:
        if _is_number(event.get("ts")):
            event["ts"] += by
    return f"moved {len(chosen)} events by {by} µs"


def stretch_durations(document: Entry, chance: random.Random) -> str:
    """Make some events longer or shorter."""
    factor = chance.choice([0, -1, 0.001, 0.5, 10, 1e6])
    chosen = _some(document, chance)
    for event in chosen:
        if _is_number(event.get("dur")):
            event["dur"] *= factor
    return f"{len(chosen)} events {factor} times as long"


def other_places(document: Entry, chance: random.Random) -> str:
    """Put some events on another process, thread, stream or device."""
    key = chance.choice(["pid", "tid", "stream", "device"])
    chosen = _some(document, chance)
    for event in chosen:
        value = chance.choice([0, 1, 2, 7, "thread 5", "[TP01] 7"])
        place = event if key in ("pid", "tid") else event.get("args")
        if isinstance(place, dict):
            place[key] = value
    return f"{key} of {len(chosen)} events"


def shuffle_ids(document: Entry, chance: random.Random) -> str:
    """Give some events the correlation of others."""
    holders = [event["args"] for event in _some(document, chance) if "correlation" in _arguments(event)]
    ids = [arguments["correlation"] for arguments in holders]
    chance.shuffle(ids)
    for arguments, correlation in zip(holders, ids, strict=True):
        arguments["correlation"] = correlation
    return f"shuffled {len(ids)} correlations"


def reorder(document: Entry, chance: random.Random) -> str:
    """Write the events in another order, which must not matter."""
    chance.shuffle(document["traceEvents"])
    return "shuffled all events"


def foreign_entries(document: Entry, chance: random.Random) -> str:
    """Write things among the events that are no events."""
    for _ in range(chance.randint(1, 5)):
        document["traceEvents"].insert(chance.randrange(len(document["traceEvents"]) + 1), _odd_value(chance))
    return "foreign entries"


def set_metadata(document: Entry, chance: random.Random) -> str:
    """Overwrite what the file says of the whole."""
    key = chance.choice(
        [key for key in document if key != "traceEvents"] + ["deviceProperties", "distributedInfo", "baseTimeNanoseconds"]
    )
    value = _odd_value(chance)
    if isinstance(document.get(key), dict) and document[key] and chance.random() < 0.5:
        inner = chance.choice(sorted(document[key]))
        document[key][inner] = value
        return f"{key}.{inner} = {value!r}"
    if isinstance(document.get(key), list) and document[key] and isinstance(document[key][0], dict) and chance.random() < 0.7:
        inner = chance.choice(sorted(document[key][0]))
        document[key][0][inner] = value
        return f"{key}[0].{inner} = {value!r}"
    document[key] = value
    return f"{key} = {value!r}"


CHANGES: tuple[Callable[[Entry, random.Random], str], ...] = (
    set_fields, set_fields, set_arguments, set_arguments, remove_fields, drop, double, swap, move, stretch_durations, other_places, shuffle_ids, reorder,
    foreign_entries, set_metadata,
)  # fmt: skip


def _events(document: Entry) -> list[Entry]:
    return [event for event in document["traceEvents"] if isinstance(event, dict)]


def _arguments(event: Entry) -> Entry:
    arguments = event.get("args")
    return arguments if isinstance(arguments, dict) else {}


def _some(document: Entry, chance: random.Random) -> list[Entry]:
    """One event, a few, or a share of all; of one category or of any."""
    events = _events(document)
    if chance.random() < 0.5:
        category = chance.choice(events).get("cat")
        events = [event for event in events if event.get("cat") == category]
    how_many = chance.choice([1, 1, 3, len(events) // 10, len(events) // 2, len(events)])
    return chance.sample(events, max(1, min(how_many, len(events))))


def _odd(key: str, chance: random.Random) -> Any:
    if key == "ph" and chance.random() < 0.8:
        return chance.choice(ODD_PHASES)
    if key == "cat" and chance.random() < 0.8:
        return chance.choice(ODD_CATEGORIES)
    return _odd_value(chance)


def _odd_value(chance: random.Random) -> Any:
    """One of the odd values, which a later change may change."""
    return copy.deepcopy(chance.choice(ODD_VALUES))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
