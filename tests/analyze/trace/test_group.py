"""Sums and orders by key, exact for counts that a double cannot hold."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from tracekit.analyze.trace.group import group


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-(2**58), 2**58)), min_size=1, max_size=12))
@examples(200)
def test_groups(rows):
    expected: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, (key, value) in enumerate(rows):
        expected[key].append((value, place))
    values = np.array([value for _, value in rows], np.int64)
    found = group(np.array([key for key, _ in rows], np.int64))

    assert found.keys.tolist() == sorted(expected)
    assert found.count.tolist() == [len(expected[key]) for key in sorted(expected)]
    assert found.sum(values).tolist() == [sum(value for value, _ in expected[key]) for key in sorted(expected)]
    ordered = [part.tolist() for part in found.order_by(values)]
    assert ordered == [[place for _, place in sorted(expected[key])] for key in sorted(expected)]


def test_no_rows_no_groups():
    found = group(np.empty(0, np.int64))

    assert found.keys.tolist() == found.count.tolist() == found.sum(np.empty(0, np.int64)).tolist() == []
