"""What do the rows with one key add up to, and which of them comes first?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Floats, Int64s


@dataclass(frozen=True)
class Groups:
    """Rows grouped by a key. Every result has one entry for each distinct key, in ascending order of the keys."""

    keys: Int64s
    code: Int64s
    """For each row, the place of its key in `keys`."""

    @property
    def count(self) -> Int64s:
        """The number of rows of each key."""
        return np.bincount(self.code, minlength=len(self.keys)).astype(np.int64)

    def sum(self, values: Int64s) -> Int64s:
        """The exact sum of each key's values, int64. A weighted bincount would compute in doubles."""
        total = np.zeros(len(self.keys), dtype=np.int64)
        np.add.at(total, self.code, values)
        return total

    def sum_of_floats(self, values: Floats) -> Floats:
        """The sum of each key's values, in doubles. It is NaN if one of the values is NaN."""
        total = np.zeros(len(self.keys), dtype=np.float64)
        np.add.at(total, self.code, values)
        return total

    def order_by(self, values: Int64s) -> list[Int64s]:
        """For each key, its rows in ascending order of their values."""
        order = np.lexsort((values, self.code))
        return np.split(order, np.cumsum(self.count)[:-1])


def group(keys: Int64s) -> Groups:
    """Group rows by an integer key."""
    distinct, code = np.unique(keys, return_inverse=True)
    return Groups(distinct.astype(np.int64), code.reshape(-1).astype(np.int64))


def earliest_by_key(keys: Int64s, table_keys: Int64s, table_times: Int64s, table_rows: Int64s, missing: int) -> Int64s:
    """For each of `keys`, the entry of `table_rows` with an equal key and the earliest time, or -1 if no key is equal.

    If two times are equal, the entry that stands first in the table is taken. A key equal to `missing` matches nothing.
    """
    order = np.lexsort((table_times, table_keys))
    order = order[table_keys[order] != missing]
    unique, first = np.unique(table_keys[order], return_index=True)
    if not len(unique):
        return np.full(len(keys), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(unique, keys), len(unique) - 1)
    found = table_rows[order[first[place]]]
    return np.where(unique[place] == keys, found, -1)


def is_first_of_key(keys: Int64s) -> Bools:
    """For each key, whether no earlier entry of the array has the same value."""
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first
