"""What do many rows with one key have in common: what they add up to, which of them is the first?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Floats, Int64s


@dataclass(frozen=True)
class Groups:
    """Rows grouped by a key; every array has one entry a distinct key, in ascending order of the keys."""

    keys: Int64s
    code: Int64s
    """For each row the place of its key."""

    @property
    def count(self) -> Int64s:
        """Rows of each key."""
        return np.bincount(self.code, minlength=len(self.keys)).astype(np.int64)

    def sum(self, values: Int64s) -> Int64s:
        """Sum of each key's values, exact (int64; a weighted bincount would go through doubles)."""
        total = np.zeros(len(self.keys), dtype=np.int64)
        np.add.at(total, self.code, values)
        return total

    def sum_of_floats(self, values: Floats) -> Floats:
        """Sum of each key's values, in doubles; NaN where one of them is."""
        total = np.zeros(len(self.keys), dtype=np.float64)
        np.add.at(total, self.code, values)
        return total

    def order_by(self, values: Int64s) -> list[Int64s]:
        """For each key its rows, by ascending value."""
        order = np.lexsort((values, self.code))
        return np.split(order, np.cumsum(self.count)[:-1])


def group(keys: Int64s) -> Groups:
    """Group rows by an integer key."""
    distinct, code = np.unique(keys, return_inverse=True)
    return Groups(distinct.astype(np.int64), code.reshape(-1).astype(np.int64))


def earliest_by_key(keys: Int64s, table_keys: Int64s, table_times: Int64s, table_rows: Int64s, missing: int) -> Int64s:
    """For each of `keys` the entry of `table_rows` whose key is the same and whose time is least; -1 if there is none.

    Ties go to the earlier entry. A key equal to `missing` matches nothing.
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
    """Whether each key is the first of its value in the array."""
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first
