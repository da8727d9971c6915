"""The columns that stages hand to each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tracekit.table import Table


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "name": np.array(["b", "a", "c", "a"], dtype=object),
            "time_ns": np.array([5, 2**62, 5, 7], dtype=np.int64),
            "share": np.array([0.1, 0.5, 0.25, 0.15]),
            "operator": np.array([None, "x", None, "y"], dtype=object),
        }
    )


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        Table({"a": np.arange(2), "b": np.arange(3)})


def test_length(table):
    assert len(table) == 4
    assert len(Table({})) == len(Table({"a": np.empty(0)})) == 0


def test_rows_are_sorted_by_the_first_name_then_the_next(table):
    assert table.sorted_by("name", "time_ns")["time_ns"].tolist() == [7, 2**62, 5, 5]


def test_sorting_keeps_the_order_of_equal_rows_both_ways(table):
    assert table.sorted_by("time_ns")["name"].tolist() == ["b", "c", "a", "a"]
    assert table.sorted_by("time_ns", descending=True)["name"].tolist() == ["a", "a", "b", "c"]


def test_rows_are_taken_by_place_and_by_mask(table):
    assert table.take(np.array([3, 0]))["name"].tolist() == ["a", "b"]
    assert table.take(table["share"] > 0.2)["name"].tolist() == ["a", "c"]
    assert table.head(2)["name"].tolist() == ["b", "a"]
    assert len(table.head(10)) == 4


def test_records_hold_plain_values(table):
    first = table.records()[1]

    assert first == {"name": "a", "time_ns": 2**62, "share": 0.5, "operator": "x"}
    assert [type(value) for value in first.values()] == [str, int, float, str]
    assert Table({"a": np.empty(0)}).records() == []


def test_pandas_sees_the_same(table):
    frame = table.to_pandas()

    assert isinstance(frame, pd.DataFrame)
    assert frame["time_ns"].dtype == np.int64
    assert frame.to_dict("records")[3] == {"name": "a", "time_ns": 7, "share": 0.15, "operator": "y"}
