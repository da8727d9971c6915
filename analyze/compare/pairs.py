"""Which kernels of two traces do the same work under different names?

Another dtype, another library or another version gives kernels other names: `vectorized_elementwise_kernel<Half>` becomes
`<BFloat16>`, a kernel of cuBLAS becomes one of Triton. By name alone the old one has vanished and the new one has appeared. But
the same operator launched both, with inputs of the same shapes, in the same layer. That is the evidence, and it has several
grades: see EVIDENCE. Where it is lacking, as in a graph's replay, nothing is paired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tracekit.names import split_path
from tracekit.table import Table
from tracekit.taxonomy import Family

from ..trace.arrays import Bools, Int64s, Objects, objects
from ..trace.group import group
from .fusions import name_in_kernels
from .side import Side

FLOAT_TYPE = re.compile(
    r"(?<![a-z0-9])(?:(?:c10|at|cutlass|cuda)::)?_*(?:nv_)?"
    r"(?:(?:bfloat16|float16|float32|float64|bfloat|float|half|double|bf16|fp?(?:16|32|64)|tf32)(?:_t(?![a-z0-9]))?)+(?![a-z0-9])",
    re.IGNORECASE,
)
"""A floating-point type in a kernel's name, as C++, cuBLAS, CUTLASS, cuDNN and Triton write it. Several may stand in a row."""

TEMPLATES = frozenset({Family.GEMM.value, Family.ATTENTION.value, Family.CONVOLUTION.value})
"""The families of generated kernels that do the whole work of the operator in their name: `triton_tem_fused_mm_0`."""

LAYER = "layer"
PLAIN = "plain"
EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "operators, shapes, layer": ("operators", "shapes", LAYER, "family"),
    "operators, shapes": ("operators", "shapes", "family"),
    "operator, shapes": ("operator", "shapes", "family"),
    "outer operator, shapes, layer": ("outer", "outer_shapes", LAYER, "family"),
    "outer operator, shapes": ("outer", "outer_shapes", "family"),
    "only kernel of operators, shapes, layer": ("only", "operators", "shapes", LAYER),
    "operator in the generated name, shapes, layer": ("source", "sorted_shapes", LAYER, "family"),
    "operators, layer, name without dtype": ("operators", LAYER, "family", PLAIN),
    "operator, name without dtype": ("operator", "family", PLAIN),
}
"""What two kernels must have in common to be a pair, the strongest evidence first. Only the layer may be unknown."""
ELSEWHERE = "operator, paired elsewhere"
"""The weakest evidence: the operators are the same, and with inputs of other shapes the two names are a pair."""
GRADES = (*EVIDENCE, ELSEWHERE)


@dataclass(frozen=True)
class Pair:
    """A kernel of A and one of B that do the same work, and how much of each one's work that is.

    `evidence` is the weakest of GRADES that was needed. A kernel may be in several pairs, and part of its work in none.
    """

    a_name: str
    b_name: str
    evidence: str
    a_count: int
    a_time_ns: int
    b_count: int
    b_time_ns: int


@dataclass(frozen=True)
class _Rows:
    """The origins of the kernels that only one of the traces has by name.

    `name` numbers the names, those of both traces in alphabetical order. `partner` is the number of the kernel of the other
    trace that does the same work, or -1, and `grade` is the place in GRADES of what told it.
    """

    table: Table
    name: Int64s
    partner: Int64s
    grade: Int64s

    def paired(self, rows: Int64s, partner: Int64s, grade: int) -> _Rows:
        """The same, in which these rows have partners."""
        partners, grades = self.partner.copy(), self.grade.copy()
        partners[rows], grades[rows] = partner, grade
        return _Rows(self.table, self.name, partners, grades)

    @property
    def left(self) -> Int64s:
        """The rows that have no partner yet."""
        return np.flatnonzero(self.partner < 0).astype(np.int64)


def pairs(a: Side, b: Side) -> tuple[Pair, ...]:
    """The kernels of A and B that do the same work under different names, in the order of their names.

    Only kernels whose name the other trace lacks are paired. Of several kernels with the same evidence, those whose names
    differ in floating-point types alone are paired first, then by time, the most first. The rest remains without a pair.
    """
    tables = _only_here(a, b), _only_here(b, a)
    names = sorted({name for table in tables for name in table["name"].tolist()})
    of_a, of_b = (_rows(table, names) for table in tables)
    for grade, columns in enumerate(EVIDENCE.values()):
        for wanted in dict.fromkeys(((*columns, PLAIN), columns)) if PLAIN not in columns else (columns,):
            of_a, of_b = _matched(of_a, of_b, wanted, grade)
    of_a, of_b = _paired_elsewhere(of_a, of_b)
    return tuple(_pairs(of_a, of_b, names))


def _only_here(side: Side, other: Side) -> Table:
    """The origins of a trace's kernels that the other one lacks by name, with the columns that EVIDENCE speaks of."""
    table, theirs = side.tables["kernel_origins"], set(other.tables["kernels"]["name"].tolist())
    here = np.array([name not in theirs for name in table["name"].tolist()], dtype=np.bool_)
    mine, only = table.take(here), _is_only_kernel(table)[here]
    sources = _single_sources(side)
    operators = mine["operator"].tolist()
    names, shapes = mine["name"].tolist(), mine["shapes"].tolist()
    own = [None if one is None else name_in_kernels(one) for one in operators]
    return Table(
        {
            **mine.columns,
            "outer": objects([None if path is None else split_path(path)[0] for path in mine["operators"].tolist()]),
            "only": objects(["only" if one else None for one in only.tolist()]),
            "source": objects([sources.get(name, operator) for name, operator in zip(names, own, strict=True)]),
            "sorted_shapes": objects([None if one is None else _sorted_shapes(one) for one in shapes]),
            PLAIN: objects([FLOAT_TYPE.sub("T", name) for name in names]),
        }
    )


def _is_only_kernel(table: Table) -> Bools:
    """For each origin, whether its operator launches no other kernel for inputs of these shapes in this layer."""
    keys = list(zip(*(table[name].tolist() for name in ("operators", "shapes", LAYER)), strict=True))
    kernels: dict[tuple[str | None, ...], set[str]] = {}
    for key, name in zip(keys, table["name"].tolist(), strict=True):
        kernels.setdefault(key, set()).add(name)
    return np.array([len(kernels[key]) == 1 for key in keys], dtype=np.bool_)


def _single_sources(side: Side) -> dict[str, str]:
    """The operator that each generated kernel's name lists, for kernels that do the whole work of a single operator."""
    kernels = side.tables["kernels"]
    families = dict(zip(kernels["name"].tolist(), kernels["family"].tolist(), strict=True))
    generated = side.tables["generated_kernels"].records()
    return {
        row["name"]: row["source"]
        for row in generated
        if row["source"] and ", " not in row["source"] and families.get(row["name"]) in TEMPLATES
    }


def _sorted_shapes(shapes: str) -> str:
    """The shapes in an order that does not depend on that of the operator's arguments."""
    return ", ".join(sorted(re.findall(r"\[[^\[\]]*\]", shapes)))


def _rows(table: Table, names: Sequence[str]) -> _Rows:
    number = {name: place for place, name in enumerate(names)}
    none = np.full(len(table), -1, dtype=np.int64)
    return _Rows(table, np.array([number[name] for name in table["name"].tolist()], dtype=np.int64), none, none)


def _matched(a: _Rows, b: _Rows, columns: Sequence[str], grade: int) -> tuple[_Rows, _Rows]:
    """Pair kernels that have these columns in common.

    Of several kernels with one key in each trace, the one with the most time belongs to the one with the most time, and so on.
    """
    left_a, left_b = a.left, b.left
    key_a, key_b = _keys(a.table.take(left_a), b.table.take(left_b), columns)
    left_a, left_b = left_a[key_a >= 0], left_b[key_b >= 0]
    if not len(left_a) or not len(left_b):
        return a, b
    ranked_a = _Ranked.of(key_a[key_a >= 0], a.name[left_a], a.table["time_ns"][left_a])
    ranked_b = _Ranked.of(key_b[key_b >= 0], b.name[left_b], b.table["time_ns"][left_b])
    width = max(ranked_a.widest, ranked_b.widest)
    _, at_a, at_b = np.intersect1d(ranked_a.place(width), ranked_b.place(width), assume_unique=True, return_indices=True)
    for_a, for_b = ranked_a.partners(at_a, ranked_b.name[at_b]), ranked_b.partners(at_b, ranked_a.name[at_a])
    return (
        a.paired(left_a[for_a >= 0], for_a[for_a >= 0], grade),
        b.paired(left_b[for_b >= 0], for_b[for_b >= 0], grade),
    )


@dataclass(frozen=True)
class _Ranked:
    """The kernels of each key, ranked by their time in it: for each kernel of a key its key, name and rank, from 0 on.

    `code` is the place of each row's kernel among these.
    """

    key: Int64s
    name: Int64s
    rank: Int64s
    code: Int64s

    @staticmethod
    def of(key: Int64s, name: Int64s, time_ns: Int64s) -> _Ranked:
        size = int(name.max()) + 1
        kernels = group(key * size + name)
        keys, names = np.divmod(kernels.keys, size)
        order = np.lexsort((names, -kernels.sum(time_ns), keys))
        rank = np.empty(len(order), dtype=np.int64)
        first = np.searchsorted(keys, keys[order])  # `keys` ascends, so it is in the same order
        rank[order] = np.arange(len(order)) - first
        return _Ranked(keys, names, rank, kernels.code)

    @property
    def widest(self) -> int:
        """The number of kernels of the key that has most."""
        return int(self.rank.max()) + 1

    def place(self, width: int) -> Int64s:
        """One number for each key and rank."""
        return self.key * width + self.rank

    def partners(self, at: Int64s, names: Int64s) -> Int64s:
        """For each row, the name of the partner, where the kernels at these places have these partners; else -1."""
        found = np.full(len(self.key), -1, dtype=np.int64)
        found[at] = names
        return found[self.code]


def _keys(a: Table, b: Table, columns: Sequence[str]) -> tuple[Int64s, Int64s]:
    """One number for each combination of values in these columns, the same for both tables; -1 where a value is not known."""
    joined, known = np.zeros(len(a) + len(b), dtype=np.int64), np.ones(len(a) + len(b), dtype=np.bool_)
    for column in columns:
        values = [*a[column].tolist(), *b[column].tolist()]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        code = np.array([numbers[value] for value in values], dtype=np.int64)
        joined = group(joined * (len(numbers) + 1) + code).code
        if column != LAYER:
            known &= np.array([value is not None for value in values], dtype=np.bool_)
    return tuple(np.split(np.where(known, joined, -1), [len(a)]))  # type: ignore[return-value]


def _paired_elsewhere(a: _Rows, b: _Rows) -> tuple[_Rows, _Rows]:
    """Pair what is left of two kernels that are a pair already, where the operator is the same.

    The pairs with the most time come first.
    """
    known: dict[tuple[int, int], int] = {}
    for rows, swap in ((a, False), (b, True)):
        for name, partner, time in zip(rows.name.tolist(), rows.partner.tolist(), rows.table["time_ns"].tolist(), strict=True):
            if partner >= 0:
                pair = (partner, name) if swap else (name, partner)
                known[pair] = known.get(pair, 0) + time
    for of_a, of_b in sorted(known, key=lambda pair: (-known[pair], min(pair), max(pair))):
        in_a, in_b = (rows.left[rows.name[rows.left] == one] for rows, one in ((a, of_a), (b, of_b)))
        shared = set(a.table["operator"][in_a].tolist()) & set(b.table["operator"][in_b].tolist()) - {None}
        if shared:
            a = a.paired(in_a[_among(a.table["operator"][in_a], shared)], np.int64(of_b), len(EVIDENCE))
            b = b.paired(in_b[_among(b.table["operator"][in_b], shared)], np.int64(of_a), len(EVIDENCE))
    return a, b


def _among(values: Objects, wanted: set[str | None]) -> Bools:
    return np.array([value in wanted for value in values.tolist()], dtype=np.bool_)


def _pairs(a: _Rows, b: _Rows, names: Sequence[str]) -> Iterator[Pair]:
    """The pairs: the rows of both traces, added up by the two names."""
    size, has_a, has_b = len(names), a.partner >= 0, b.partner >= 0
    of_a, of_b = group((a.name * size + a.partner)[has_a]), group((b.partner * size + b.name)[has_b])
    sums = [
        of.sum(rows.table[figure][has]).tolist()
        for of, rows, has in ((of_a, a, has_a), (of_b, b, has_b))
        for figure in ("count", "time_ns")
    ]
    grade = np.maximum(_largest(of_a.code, a.grade[has_a], len(of_a.keys)), _largest(of_b.code, b.grade[has_b], len(of_b.keys)))
    for key, weakest, *figures in zip(of_a.keys.tolist(), grade.tolist(), *sums, strict=True):
        first, second = divmod(key, size)
        yield Pair(names[first], names[second], GRADES[weakest], *figures)


def _largest(code: Int64s, values: Int64s, size: int) -> Int64s:
    found = np.zeros(size, dtype=np.int64)
    np.maximum.at(found, code, values)
    return found
