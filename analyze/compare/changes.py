"""What of one table is different in another, row by row?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracekit.table import Table

from ..trace.arrays import Int64s, Objects

VANISHED, APPEARED, FASTER, SLOWER, SAME = "vanished", "appeared", "faster", "slower", "same"


def changes(
    a: Table, b: Table, key: str, figures: Sequence[str], steps: tuple[int, int] = (1, 1), labels: Sequence[str] = ()
) -> Table:
    """The rows of two tables that differ, matched by the text in the column `key`, the largest difference first.

    `name` (the key), `change`, for each label the columns `a_…` and `b_…` (None where there is no such row), and for each
    figure, a column of int64 that adds up, `a_…`, `b_…` and `delta_…`. The first figure decides between `faster` and `slower`
    and the order: of a step, where the tables are of so many `steps`. A row of one table alone has `vanished` or `appeared`.
    """
    names, place = np.unique(np.concatenate((a[key], b[key])), return_inverse=True)
    of_a, of_b = np.split(place.reshape(-1), [len(a)])
    columns: dict[str, Objects | Int64s] = {"name": names, "change": _change(names, of_a, of_b)}
    for label in labels:
        columns |= {f"a_{label}": _spread(a[label], of_a, names), f"b_{label}": _spread(b[label], of_b, names)}
    for figure in figures:
        before, after = _sums(a[figure], of_a, names), _sums(b[figure], of_b, names)
        columns |= {f"a_{figure}": before, f"b_{figure}": after, f"delta_{figure}": after - before}
    # Of a step: both multiplied by the number of steps of the other, so as to stay exact.
    weighed = columns[f"b_{figures[0]}"] * steps[0] - columns[f"a_{figures[0]}"] * steps[1]
    both = columns["change"] == SAME
    columns["change"][both & (weighed < 0)] = FASTER
    columns["change"][both & (weighed > 0)] = SLOWER
    differs = ~both | np.any([columns[f"delta_{figure}"] != 0 for figure in figures], axis=0)
    order = np.argsort(-np.abs(weighed), kind="stable")
    return Table(columns).take(order[differs[order]])


def _change(names: Objects, of_a: Int64s, of_b: Int64s) -> Objects:
    """In which of the tables each name is."""
    change: Objects = np.full(len(names), SAME, dtype=object)
    in_a, in_b = np.isin(np.arange(len(names)), of_a), np.isin(np.arange(len(names)), of_b)
    change[~in_b] = VANISHED
    change[~in_a] = APPEARED
    return change


def _spread(values: Objects, place: Int64s, names: Objects) -> Objects:
    """For each name a value of its rows, None where it has none."""
    found: Objects = np.full(len(names), None, dtype=object)
    found[place] = values
    return found


def _sums(values: Int64s, place: Int64s, names: Objects) -> Int64s:
    total = np.zeros(len(names), dtype=np.int64)
    np.add.at(total, place, values)
    return total
