"""What do many durations with one key add up to?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
