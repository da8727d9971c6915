"""Which rows of one table are different in another, and by how much?"""

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

    The columns are `name` (the key) and `change`, then `a_…` and `b_…` for each label (None where a table lacks the row). A row
    whose labels differ is a row that differs. For each figure, an int64 column of the tables that adds up, there are `a_…`,
    `b_…` and `delta_…`. `change` is `vanished` or `appeared` for a row that only one table has; else the first figure decides
    between `faster` and `slower`. The first figure also decides the order. Where the traces have different numbers of `steps`,
    it is compared per step.
    """
    names, place = np.unique(np.concatenate((a[key], b[key])), return_inverse=True)
    of_a, of_b = np.split(place.reshape(-1), [len(a)])
    columns: dict[str, Objects | Int64s] = {"name": names, "change": _change(names, of_a, of_b)}
    relabelled = np.zeros(len(names), dtype=np.bool_)
    for label in labels:
        columns |= {f"a_{label}": _spread(a[label], of_a, names), f"b_{label}": _spread(b[label], of_b, names)}
        relabelled |= columns[f"a_{label}"] != columns[f"b_{label}"]
    for figure in figures:
        before, after = _sums(a[figure], of_a, names), _sums(b[figure], of_b, names)
        columns |= {f"a_{figure}": before, f"b_{figure}": after, f"delta_{figure}": after - before}
    # The difference per step: each side is multiplied by the number of steps of the other one, so that it stays exact.
    weighed = columns[f"b_{figures[0]}"] * steps[0] - columns[f"a_{figures[0]}"] * steps[1]
    both = columns["change"] == SAME
    columns["change"][both & (weighed < 0)] = FASTER
    columns["change"][both & (weighed > 0)] = SLOWER
    differs = ~both | relabelled | np.any([columns[f"delta_{figure}"] != 0 for figure in figures], axis=0)
    order = np.argsort(-np.abs(weighed), kind="stable")
    return Table(columns).take(order[differs[order]])


def _change(names: Objects, of_a: Int64s, of_b: Int64s) -> Objects:
    """For each name, whether it is in both tables (`same`), only in A (`vanished`) or only in B (`appeared`)."""
    change: Objects = np.full(len(names), SAME, dtype=object)
    in_a, in_b = np.isin(np.arange(len(names)), of_a), np.isin(np.arange(len(names)), of_b)
    change[~in_b] = VANISHED
    change[~in_a] = APPEARED
    return change


def _spread(values: Objects, place: Int64s, names: Objects) -> Objects:
    """For each name, the value of one of its rows; None where the table has no such row."""
    found: Objects = np.full(len(names), None, dtype=object)
    found[place] = values
    return found


def _sums(values: Int64s, place: Int64s, names: Objects) -> Int64s:
    total = np.zeros(len(names), dtype=np.int64)
    np.add.at(total, place, values)
    return total
