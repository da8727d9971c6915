"""Which parts is the GPU's span made of?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracekit.wording import is_number

from .bundle import TraceBundle
from .legend import CAUSES, FAMILIES, Term, family


@dataclass(frozen=True)
class BudgetPart:
    """One part of the span, in ns.

    `raw_ns` is the time that was measured. `time_ns` is the part of the span, scaled down where streams overlap.
    """

    term: Term
    time_ns: float
    raw_ns: int
    count: int | None = None


@dataclass(frozen=True)
class Budget:
    """The GPU's span in ns: busy time by family and idle time by cause."""

    span_ns: int
    busy_ns: int
    idle_ns: int
    busy: tuple[BudgetPart, ...]
    idle: tuple[BudgetPart, ...]

    @property
    def raw_busy_ns(self) -> int:
        """The sum of all GPU events, in ns. It exceeds `busy_ns` where streams overlap."""
        return sum(part.raw_ns for part in self.busy)

    @property
    def overlaps(self) -> bool:
        return self.raw_busy_ns > self.busy_ns

    def share(self, time_ns: float) -> float:
        """A time in ns as a share of the span; 0 without a span."""
        return time_ns / self.span_ns if self.span_ns else 0.0


def budget(trace: TraceBundle) -> Budget | None:
    """The time budget of a trace. None if no GPU event was recorded."""
    gpu = trace.gpu
    if gpu is None:
        return None
    busy_ns, raw, counts = figure(gpu, "busy_ns"), Counter[str](), Counter[str]()
    for entry in trace.documents("families"):
        raw[family(entry.get("family")).key] += figure(entry, "time_ns")
        counts[family(entry.get("family")).key] += figure(entry, "count")
    for time_ns, count in zip(trace.column("copies", "time_ns"), trace.column("copies", "count"), strict=True):
        raw["memory"] += int(time_ns or 0)
        counts["memory"] += int(count or 0)
    scale = busy_ns / raw.total() if raw.total() > 0 else 0.0
    idle: Mapping[str, Any] = trace.document.get("idle") or {}
    return Budget(
        span_ns=figure(gpu, "span_ns"),
        busy_ns=busy_ns,
        idle_ns=figure(gpu, "idle_ns"),
        busy=tuple(BudgetPart(term, raw[key] * scale, raw[key], counts[key]) for key, term in FAMILIES.items() if raw[key]),
        idle=tuple(BudgetPart(term, ns, ns) for key, term in CAUSES.items() if (ns := figure(idle, f"{key}_ns"))),
    )


def figure(entry: Mapping[str, Any] | None, key: str) -> int:
    """A figure of the document as a whole number; 0 if it is absent or not a number."""
    value = (entry or {}).get(key)
    return int(value) if is_number(value) else 0
