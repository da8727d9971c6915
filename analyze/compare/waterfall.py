"""Which parts make one trace's span longer or shorter than another's, to the nanosecond?

A GPU's span is busy or idle. Busy time is the sum of the kernels by family and of the copies, minus what they do at the same
time. That part is called `overlap`: several streams run at once, or a kernel of a stream begins while the one before it still
runs. Idle time has six causes. All of these parts add up to the span, so their differences add up to the difference of the
spans.

A host's span is the self time of its operators and the rest. The rest is the time outside of operators, minus what several
threads do at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracekit.schema import CAUSES
from tracekit.taxonomy import Family

from .side import Side

MEMORY = "memory"
"""The name of the part for copies and fills by the copy engines."""

KINDS = ("busy", "overlap", "idle", "host")
OPERATORS, REST = "operators", "rest"
ORDER = (*(family.value for family in Family), MEMORY, *CAUSES, OPERATORS, REST)

_Key = tuple[str, str]


@dataclass(frozen=True)
class SpanPart:
    """A part of the span in each trace, in ns. The part `overlap` and the host's rest may be negative."""

    name: str
    kind: str
    a_ns: int
    b_ns: int

    @property
    def delta_ns(self) -> int:
        """How much the part makes B's span longer, in ns; negative if it makes it shorter."""
        return self.b_ns - self.a_ns


@dataclass(frozen=True)
class Waterfall:
    """How A's span becomes B's, in ns: `a_ns` plus the differences of all parts is `b_ns`."""

    a_ns: int
    b_ns: int
    parts: tuple[SpanPart, ...]

    @property
    def delta_ns(self) -> int:
        """How much longer B's span is, in ns; negative if it is shorter."""
        return self.b_ns - self.a_ns


def waterfall(a: Side, b: Side, section: str) -> Waterfall:
    """How the span of A becomes that of B. Both must have the figures of `section`, which is `gpu` or `host`."""
    parts = _gpu_parts if section == "gpu" else _host_parts
    of_a, of_b = parts(a), parts(b)
    keys = sorted(of_a.keys() | of_b.keys(), key=_place)
    return Waterfall(
        a_ns=a.figures[f"{section}.span_ns"],
        b_ns=b.figures[f"{section}.span_ns"],
        parts=tuple(SpanPart(name, kind, of_a.get((kind, name), 0), of_b.get((kind, name), 0)) for kind, name in keys),
    )


def _gpu_parts(side: Side) -> dict[_Key, int]:
    busy: dict[_Key, int] = {}
    kernels = side.tables["kernels"]
    for family, ns in zip(kernels["family"].tolist(), kernels["time_ns"].tolist(), strict=True):
        busy["busy", family] = busy.get(("busy", family), 0) + ns
    busy["busy", MEMORY] = sum(side.tables["copies"]["time_ns"].tolist())
    overlap = side.figures["gpu.busy_ns"] - sum(busy.values())
    return busy | {("overlap", "overlap"): overlap} | {("idle", cause): side.figures[f"idle.{cause}_ns"] for cause in CAUSES}


def _host_parts(side: Side) -> dict[_Key, int]:
    operators = side.figures["host.operator_self_ns"]
    return {("host", OPERATORS): operators, ("host", REST): side.figures["host.span_ns"] - operators}


def _place(key: _Key) -> tuple[int, int, str]:
    """The sort key of a part. Families that we do not know come last; a user's own rules may have put them into a bundle."""
    kind, name = key
    return KINDS.index(kind), ORDER.index(name) if name in ORDER else len(ORDER), name
