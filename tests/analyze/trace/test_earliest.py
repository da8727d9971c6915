"""Which of several came first, against a search through all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from tracekit.analyze.trace.group import earliest_by_key, is_first_of_key

MISSING = -(2**63)
keys = st.integers(0, 4) | st.just(MISSING) | st.sampled_from([-1, 2**62])


@given(st.lists(keys, max_size=8), st.lists(st.tuples(keys, st.integers(0, 3)), max_size=8))
@examples(300)
def test_earliest_by_key(asked, table):
    rows = [10 * place for place in range(len(table))]
    found = earliest_by_key(
        keys=np.array(asked, np.int64),
        table_keys=np.array([key for key, _ in table], np.int64),
        table_times=np.array([time for _, time in table], np.int64),
        table_rows=np.array(rows, np.int64),
        missing=MISSING,
    )

    def plain(key: int) -> int:
        matches = [(time, row) for (other, time), row in zip(table, rows, strict=True) if other == key != MISSING]
        return min(matches)[1] if matches else -1

    assert found.tolist() == [plain(key) for key in asked]


@given(st.lists(keys, max_size=10))
@examples(100)
def test_is_first_of_key(values):
    expected = [value not in values[:place] for place, value in enumerate(values)]

    found = is_first_of_key(np.array(values, np.int64))

    assert found.tolist() == expected
    assert found.dtype == np.bool_
