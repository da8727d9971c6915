"""What is a metric's value in a trace?

A metric is a figure of the document that `analyze --json` prints, `gpu.busy_ns`, or a column of one of its tables, added up
over the rows whose name a pattern matches: `kernels.time_ns` of `*softmax*`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tracekit.errors import TracekitError
from tracekit.schema import TABLES as SCHEMA
from tracekit.table import Table

from ..trace.arrays import Bools
from .side import FIGURES, TABLES, Side

FAMILIES = "families"
KEYS: Mapping[str, str] = {FAMILIES: "family", "kernels": "name", "operators": "name", "layers": "path", "copies": "name"}
"""The column of each table that a pattern is matched with."""
NO_SUMS = frozenset({"unique_kernels", "threads"})
"""Figures that do not grow with the number of steps."""
METRICS = (
    *(f"{section}.{figure}" for section, figures in FIGURES.items() for figure in figures if figure not in NO_SUMS),
    *(f"{FAMILIES}.{column}" for column in ("time_ns", "count")),
    *(
        f"{table}.{column}"
        for table, columns in TABLES.items()
        if table in KEYS
        for column in columns
        if SCHEMA[table][column].adds_up
    ),
)
"""All metrics by name."""


@dataclass(frozen=True)
class Metric:
    """A metric; `match` is the pattern of rows, with `*` for anything and `?` for one character, of a table's metric only."""

    name: str
    match: str | None = None

    def __str__(self) -> str:
        return f"{self.name} of {self.match}" if self.match is not None else self.name

    @property
    def is_time(self) -> bool:
        """Whether its unit is the nanosecond."""
        return self.name.endswith("_ns")


def checked_metric(name: str, match: str | None, where: object) -> Metric:
    """The metric of that name. Raises TracekitError, naming `where`, if there is none or it takes, or lacks, a pattern."""
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, 3) or ("gpu.span_ns", "kernels.time_ns")
        raise TracekitError(
            f"no metric is called {name[:80]!r}", where=where, mend=f"there is {', '.join(close)}; see docs/diff.md"
        )
    table = name.split(".")[0]
    if match is not None and table not in KEYS:
        raise TracekitError(f"{name} takes no `match`", where=where, mend=f"use a metric of {', '.join(KEYS)}")
    if match is None and table in KEYS:
        raise TracekitError(f"{name} needs a `match`", where=where, mend='such as match = "*softmax*"')
    return Metric(name, match)


def value(side: Side, metric: Metric) -> int | None:
    """The metric's value; None where the trace has no such figure, or no row that the pattern matches."""
    if metric.match is None:
        # Without GPU events nothing was idle either, but that is not to be known.
        section = metric.name.split(".")[0]
        return side.figures.get(metric.name) if section != "idle" or side.has("gpu") else None
    name, column = metric.name.split(".")
    table, key = side.tables["kernels" if name == FAMILIES else name], KEYS[name]
    found = _matches(table, key, metric.match)
    if key == "path":
        found &= ~_inside(table, found)
    return int(table[column][found].sum()) if found.any() else None


def _matches(table: Table, key: str, pattern: str) -> Bools:
    """Which rows have a name that the whole pattern matches."""
    parts = {"*": ".*", "?": "."}
    regex = re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.DOTALL)
    return np.fromiter((regex.fullmatch(text) is not None for text in table[key]), np.bool_, len(table))


def _inside(layers: Table, found: Bools) -> Bools:
    """Which layers lie in one that was found: its time holds theirs already."""
    prefixes = tuple(f"{path}/" for path in layers["path"][found])
    return np.fromiter((path.startswith(prefixes) for path in layers["path"]), np.bool_, len(layers))
