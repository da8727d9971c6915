"""Which of many events with one key came first?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


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


def is_first_of_key(keys: Int64s) -> npt.NDArray[np.bool_]:
    """Whether each key is the first of its value in the array."""
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first
