"""Which operators' kernels did generated kernels take over?

The name of a kernel that Inductor generated lists the operators of the source that went into it. That alone does not say that
an operator's own kernel is gone: a graph hides who launched what. It is said only where nothing else can be meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracekit.taxonomy import Family

from .side import Side

ATEN = "aten::"
LIBRARY = frozenset({Family.GEMM.value, Family.ATTENTION.value, Family.CONVOLUTION.value, Family.COMMUNICATION.value})
"""Families whose work stays what it is: a generated elementwise kernel that lists `addmm` added its bias."""

_Row = dict[str, Any]


@dataclass(frozen=True)
class Fusion:
    """An operator that launched `kernels` kernels of `time_ns` in one trace, and none in the other, where `into` list it.

    `into_time_ns` is the time of those generated kernels with all that they do.
    """

    operator: str
    kernels: int
    time_ns: int
    into: tuple[str, ...]
    into_time_ns: int


def fusions(a: Side, b: Side) -> tuple[Fusion, ...]:
    """The operators of A whose kernels were fused into generated kernels in B, by their time.

    All kernels that the operator launched, and no other one did, are gone by name; it launches none in B; generated kernels
    that A does not have list it; and B has no new kernel of unknown origin of the same family, which could be its own.
    """
    return tuple(sorted(_fusions(a, b), key=lambda fusion: (-fusion.time_ns, fusion.operator)))


def _fusions(a: Side, b: Side) -> Iterator[Fusion]:
    kernels_a, kernels_b = ({row["name"]: row for row in side.tables["kernels"].records()} for side in (a, b))
    listing = _listing(b, {name: row for name, row in kernels_b.items() if name not in kernels_a})
    if not listing:
        return
    launches_in_b = {row["name"] for row in b.tables["operators"].records() if row["kernels"]}
    unknown = _unknown(b, kernels_b.keys() - kernels_a.keys())
    launched = defaultdict(list)
    for row in kernels_a.values():
        launched[row["operator"]].append(row)
    for operator in a.tables["operators"].records():
        name, own = operator["name"], launched[operator["name"]]
        into = listing.get(_in_names(name), [])
        families = {row["family"] for row in own}
        if (
            own
            and into
            and name not in launches_in_b
            and not any(row["name"] in kernels_b for row in own)
            and _has_no_others(operator, own)
            and not families & unknown
            and families & LIBRARY <= {row["family"] for row in into}
        ):
            generated = tuple(sorted(row["name"] for row in into))
            yield Fusion(name, operator["kernels"], operator["kernel_time_ns"], generated, sum(row["time_ns"] for row in into))


def _listing(side: Side, new: dict[str, _Row]) -> dict[str, list[_Row]]:
    """The new kernels that were generated, by each operator that their names list."""
    listing: dict[str, list[_Row]] = defaultdict(list)
    for generated in side.tables["generated_kernels"].records():
        if generated["name"] in new and generated["source"]:
            for operator in generated["source"].split(", "):
                listing[operator].append(new[generated["name"]])
    return listing


def _unknown(side: Side, new: set[str]) -> set[str]:
    """The families of new kernels that no operator launched and that are not generated: anybody's."""
    generated = set(side.tables["generated_kernels"]["name"].tolist())
    return {
        row["family"]
        for row in side.tables["kernels"].records()
        if row["name"] in new and row["operator"] is None and row["name"] not in generated
    }


def _has_no_others(operator: _Row, own: list[_Row]) -> bool:
    """Whether the kernels that it launched most of are all that it launched, and nobody else launched them."""
    counted, timed = sum(row["count"] for row in own), sum(row["time_ns"] for row in own)
    return bool((counted, timed) == (operator["kernels"], operator["kernel_time_ns"]))


def _in_names(operator: str) -> str:
    """How the names of generated kernels call an operator: `add` for `aten::add_`."""
    plain = operator.removeprefix(ATEN)
    return plain[:-1] if plain.endswith("_") and not plain.endswith("__") else plain
