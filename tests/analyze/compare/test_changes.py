"""Rows of two tables, matched."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analyze.compare.changes import changes
from tracekit.table import Table

Rows = list[tuple[str, str, int, int]]


def table(rows: Rows) -> Table:
    name, family, time, count = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Table(
        {
            "name": np.array(name, dtype=object),
            "family": np.array(family, dtype=object),
            "time_ns": np.array(time, dtype=np.int64),
            "count": np.array(count, dtype=np.int64),
        }
    )


def changed(a: Rows, b: Rows, steps: tuple[int, int] = (1, 1)) -> Table:
    return changes(table(a), table(b), "name", ("time_ns", "count"), steps, ("family",))


def test_each_kind_of_change_the_largest_first():
    a = [("gone", "f", 7, 1), ("fast", "f", 100, 2), ("slow", "f", 10, 1), ("same", "f", 5, 1), ("often", "f", 5, 1)]
    b = [("new", "g", 8, 3), ("fast", "f", 40, 2), ("slow", "g", 15, 1), ("same", "f", 5, 1), ("often", "f", 5, 2)]

    assert [tuple(row.values()) for row in changed(a, b).records()] == [
        # name, change, families, times and their difference, counts and theirs
        ("fast", "faster", "f", "f", 100, 40, -60, 2, 2, 0),
        ("new", "appeared", None, "g", 0, 8, 8, 0, 3, 3),
        ("gone", "vanished", "f", None, 7, 0, -7, 1, 0, -1),
        ("slow", "slower", "f", "g", 10, 15, 5, 1, 1, 0),
        ("often", "same", "f", "f", 5, 5, 0, 1, 2, 1),
    ]


def test_rows_of_one_name_are_added_up():
    assert changed([("x", "f", 1, 1), ("x", "f", 2, 1)], [("x", "f", 3, 2)]).records() == []


def test_of_unequal_steps_what_counts_is_a_step():
    found = changed([("a", "f", 100, 2), ("b", "f", 10, 2)], [("a", "f", 200, 4), ("b", "f", 30, 4)], steps=(2, 4))

    assert [(row["name"], row["change"], row["delta_time_ns"]) for row in found.records()] == [
        ("b", "slower", 20),
        ("a", "same", 100),
    ]


def test_tables_without_rows():
    assert changed([], []).records() == []
    assert [row["change"] for row in changed([], [("x", "f", 1, 1)]).records()] == ["appeared"]


ROWS = st.lists(st.tuples(st.sampled_from("abcdefg"), st.just("f"), st.integers(0, 50), st.integers(1, 3)), max_size=8)


@given(ROWS, ROWS, st.integers(1, 4), st.integers(1, 4))
def test_changes_add_up_and_are_mirrored(a, b, steps_a, steps_b):
    there, back = changed(a, b, (steps_a, steps_b)), changed(b, a, (steps_b, steps_a))

    for place, figure in ((2, "time_ns"), (3, "count")):
        assert there[f"delta_{figure}"].sum() == sum(row[place] for row in b) - sum(row[place] for row in a)
    assert there["name"].tolist() == back["name"].tolist()
    other = {"vanished": "appeared", "appeared": "vanished", "faster": "slower", "slower": "faster", "same": "same"}
    assert [other[change] for change in there["change"]] == back["change"].tolist()
    assert there["a_time_ns"].tolist() == back["b_time_ns"].tolist()
    assert (-there["delta_count"]).tolist() == back["delta_count"].tolist()


@given(ROWS)
def test_nothing_changes_to_itself(rows):
    assert len(changed(rows, rows)) == 0
