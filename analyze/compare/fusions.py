"""Which operators had kernels of their own in one trace that generated kernels replace in the other?

The name of a kernel that Inductor generated lists the source operators that went into it. That alone does not prove that an
operator's own kernel is gone, because a graph hides which operator launched which kernel. So an operator counts as fused only
where there is no other explanation.
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
"""Families whose work a generated kernel of another family does not take over.

For example, a generated elementwise kernel that lists `addmm` only added its bias.
"""

_Row = dict[str, Any]


@dataclass(frozen=True)
class Fusion:
    """An operator that launches kernels in one trace and none in the other, where generated kernels list it.

    In the first trace it launched `kernels` kernels, which took `time_ns`. `into` are the generated kernels of the other trace;
    `into_time_ns` is their time, including whatever else they do.
    """

    operator: str
    kernels: int
    time_ns: int
    into: tuple[str, ...]
    into_time_ns: int


def fusions(a: Side, b: Side) -> tuple[Fusion, ...]:
    """The operators of A whose kernels were fused into generated kernels in B, those with the most time first.

    Four things must hold. No kernel that the operator launched in A has the same name in B, and no other operator launched
    these kernels. The operator launches no kernel in B. Generated kernels that A does not have list it. And B has no new kernel
    of unknown origin in the same family, which could be the operator's own.
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
        into = listing.get(name_in_kernels(name), [])
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
    """The generated kernels that are new in B, as a list for each operator that their names contain."""
    listing: dict[str, list[_Row]] = defaultdict(list)
    for generated in side.tables["generated_kernels"].records():
        if generated["name"] in new and generated["source"]:
            for operator in generated["source"].split(", "):
                listing[operator].append(new[generated["name"]])
    return listing


def _unknown(side: Side, new: set[str]) -> set[str]:
    """The families of new kernels whose origin is unknown: no operator launched them, and they are not generated."""
    generated = set(side.tables["generated_kernels"]["name"].tolist())
    return {
        row["family"]
        for row in side.tables["kernels"].records()
        if row["name"] in new and row["operator"] is None and row["name"] not in generated
    }


def _has_no_others(operator: _Row, own: list[_Row]) -> bool:
    """Whether the operator and its kernels belong to each other alone.

    `own` are the kernels of which this operator launched the largest part, by time. It must have launched no other kernels,
    and no other operator may have launched these.
    """
    counted, timed = sum(row["count"] for row in own), sum(row["time_ns"] for row in own)
    return bool((counted, timed) == (operator["kernels"], operator["kernel_time_ns"]))


def name_in_kernels(operator: str) -> str:
    """How the names of generated kernels write an operator: `add` for `aten::add_`."""
    plain = operator.removeprefix(ATEN)
    return plain[:-1] if plain.endswith("_") and not plain.endswith("__") else plain
