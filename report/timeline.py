"""What happened on the host and on the GPU around the worst gaps?

This is the data of the timeline, which dossier.js draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracekit.names import shorten

from .bundle import TraceBundle
from .legend import cause, family
from .nonbreaking import duration

# The host is above the device, and outer events are above inner ones. So a launch leads downwards to its kernel.
_KINDS = ("annotation", "operator", "call", "gpu")
_KIND_LABELS = {"annotation": "annotations", "operator": "operators", "call": "runtime calls"}
_MAX_EVENTS = 4_000

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Gap:
    """An idle gap of the GPU, in ns of the trace."""

    start_ns: int
    end_ns: int
    cause: str

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass
class _Names:
    """Stores each name once. A decode step repeats the same few hundred names a thousand times."""

    index: dict[str, int] = field(default_factory=dict)

    def add(self, name: str) -> int:
        return self.index.setdefault(name, len(self.index))


def timeline(trace: TraceBundle) -> dict[str, Any] | None:
    """The windows, lanes and events as JSON values. None if the bundle has no timeline.

    Times are in ns from the start of their window.
    """
    windows: dict[int, list[Row]] = defaultdict(list)
    for row in trace.rows("timeline"):
        if row["start_ns"] is not None and row["duration_ns"] is not None:
            windows[int(row["window"])].append(row)
    if not windows:
        return None
    names, gaps, used = _Names(), _gaps(trace), set[int]()
    views = [_window(rows, gaps, used, names) for _, rows in sorted(windows.items())]
    full = list(names.index)
    return {
        "windows": views,
        "names": full,
        "short": {at: short for at, name in enumerate(full) if (short := shorten(name)) != name},
    }


def _gaps(trace: TraceBundle) -> list[Gap]:
    return [
        Gap(int(row["start_ns"]), int(row["start_ns"]) + int(row["duration_ns"]), cause(row["cause"]).key)
        for row in trace.rows("gaps")
        if row["start_ns"] is not None and row["duration_ns"]
    ]


def _window(rows: Sequence[Row], gaps: Sequence[Gap], used: set[int], names: _Names) -> dict[str, Any]:
    start, end = _extent(rows)
    inside = [at for at, gap in enumerate(gaps) if gap.start_ns < end and gap.end_ns > start]
    # Gaps and windows are sorted, the longest first. So this window is about the first gap that no earlier window took.
    main = next((at for at in inside if at not in used), inside[0] if inside else None)
    if main is not None:
        used.add(main)
        start, end = min(start, gaps[main].start_ns), max(end, gaps[main].end_ns)
    order = sorted({_lane_key(row) for row in rows})
    lanes = {key: at for at, key in enumerate(order)}
    return {
        "label": _label(gaps[main] if main is not None else None, start, end),
        "end": end - start,
        "at": start,
        "gap": [gaps[main].start_ns - start, gaps[main].end_ns - start, cause(gaps[main].cause).label]
        if main is not None
        else None,
        "gaps": [[gaps[at].start_ns - start, gaps[at].end_ns - start] for at in inside if at != main],
        "lanes": [_lane(key, rows) for key in order],
        "events": _events(rows, lanes, start, end, names),
    }


def _extent(rows: Sequence[Row]) -> tuple[int, int]:
    """The start of the first and the end of the last event of the device and of runtime calls.

    Operators around them are not counted, because they may begin much earlier and end much later.
    """
    near = [row for row in rows if row["lane_kind"] in ("gpu", "call")] or list(rows)
    return min(int(row["start_ns"]) for row in near), max(int(row["start_ns"]) + int(row["duration_ns"]) for row in near)


def _lane_key(row: Row) -> tuple[int, str, str]:
    kind = str(row["lane_kind"])
    device = kind == "gpu"
    # All lanes of one thread stay together. Those of the device come last.
    return (1 if device else 0, str(row["lane"]), f"{_KINDS.index(kind) if kind in _KINDS else 9}{kind}")


def _lane(key: tuple[int, str, str], rows: Sequence[Row]) -> dict[str, Any]:
    _, lane, kind = key
    depth = max((int(row["depth"] or 0) for row in rows if _lane_key(row) == key), default=0)
    label = _KIND_LABELS.get(kind[1:])
    return {"label": f"{lane} · {label}" if label else lane, "depth": depth + 1}


def _events(
    rows: Sequence[Row], lanes: Mapping[tuple[int, str, str], int], start: int, end: int, names: _Names
) -> dict[str, list[Any]]:
    """The events as columns, which take a third of the space of objects. If there are too many, the longest ones."""
    chosen = sorted(rows, key=lambda row: -int(row["duration_ns"]))[:_MAX_EVENTS]
    chosen.sort(key=lambda row: (lanes[_lane_key(row)], int(row["depth"] or 0), int(row["start_ns"])))
    return {
        "lane": [lanes[_lane_key(row)] for row in chosen],
        "depth": [int(row["depth"] or 0) for row in chosen],
        "name": [names.add(str(row["name"])) for row in chosen],
        "colour": [_colour(row) for row in chosen],
        "start": [int(row["start_ns"]) - start for row in chosen],
        "length": [int(row["duration_ns"]) for row in chosen],
    }


def _colour(row: Row) -> str:
    kind = str(row["lane_kind"])
    return family(row["family"]).token if kind == "gpu" else f"--lane-{kind if kind in _KINDS else 'call'}"


def _label(gap: Gap | None, start: int, end: int) -> str:
    if gap is None:
        return f"{duration(end - start)} from {duration(start)}"
    return f"{duration(gap.duration_ns)} idle at {duration(gap.start_ns)}, {cause(gap.cause).label}"
