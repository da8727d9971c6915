"""What is a metric's value in a trace?

A metric is a figure of the document that `analyze --json` prints, such as `gpu.busy_ns`. Or it is a column of one of its
tables, added up over the rows whose name matches a pattern: `kernels.time_ns` of `*softmax*`. Or it is a time without the
profiler, which the run manifest tells.
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
from .unprofiled import RUN_METRIC, STEP_METRIC, unprofiled_value

FAMILIES = "families"
KEYS: Mapping[str, str] = {FAMILIES: "family", "kernels": "name", "operators": "name", "layers": "path", "copies": "name"}
"""The column of each table that a pattern is compared with."""
NO_SUMS = frozenset({"unique_kernels", "threads"})
"""Figures that do not grow with the number of steps."""
UNPROFILED = (STEP_METRIC, RUN_METRIC)
"""The times without the profiler. They are of a step, or of the run that was timed, however many steps were profiled."""
ALL = "*"
"""The pattern that every name matches. It cannot be mistyped, so where a table has no rows the value is 0."""
METRICS = (
    *UNPROFILED,
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
"""The names of all metrics."""


@dataclass(frozen=True)
class Metric:
    """A metric by its name; a metric of a table also has `match`, the pattern of its rows.

    In a pattern, `*` stands for any text and `?` for one character.
    """

    name: str
    match: str | None = None

    def __str__(self) -> str:
        return f"{self.name} of {self.match}" if self.match is not None else self.name

    @property
    def is_time(self) -> bool:
        """Whether the metric is a time, in ns."""
        return self.name.endswith("_ns")


def checked_metric(name: str, match: str | None, where: object) -> Metric:
    """The metric of that name. Raises TracekitError, which names `where`, if there is no such metric.

    Raises it as well if the metric needs a pattern and has none, or takes no pattern and has one.
    """
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
    """The metric's value. None if the trace has no such figure, or no row whose name matches the pattern."""
    if metric.name in UNPROFILED:
        told = unprofiled_value(side, metric.name)
        return round(told.median) if told else None
    if metric.match is None:
        # Without GPU events, idle time is stored as 0. But then it is not known, so it has no value.
        section = metric.name.split(".")[0]
        return side.figures.get(metric.name) if section != "idle" or side.has("gpu") else None
    name, column = metric.name.split(".")
    table, key = side.tables["kernels" if name == FAMILIES else name], KEYS[name]
    found = _matches(table, key, metric.match)
    if key == "path":
        found &= ~_inside(table, found)
    is_told = found.any() or (metric.match == ALL and side.has("gpu"))
    return int(table[column][found].sum()) if is_told else None


def _matches(table: Table, key: str, pattern: str) -> Bools:
    """Which rows have a name that matches the pattern as a whole."""
    parts = {"*": ".*", "?": "."}
    regex = re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.DOTALL)
    return np.fromiter((regex.fullmatch(text) is not None for text in table[key]), np.bool_, len(table))


def _inside(layers: Table, found: Bools) -> Bools:
    """Which layers lie inside a layer that was found. They must not be added, because its time includes theirs."""
    prefixes = tuple(f"{path}/" for path in layers["path"][found])
    return np.fromiter((path.startswith(prefixes) for path in layers["path"]), np.bool_, len(layers))
