"""Is each kernel's work one operator's, and each operator's counted once?"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analyze.work.operator_of_kernel import ancestry, owners


def owned(parent: list[int], known: set[int], launching: list[int]) -> list[int]:
    """Owners in a forest given by parents; -1 is the row beyond the last."""
    rows = np.array([*parent, -1])
    is_known = np.array([row in known for row in range(len(parent))] + [False])
    return owners(np.array(launching, dtype=np.int64), is_known, rows).tolist()


def test_the_innermost_known_operator_does_the_work() -> None:
    # linear 0 > addmm 1 > something unknown 2
    assert owned([-1, 0, 1], {0, 1}, [2, 1]) == [1, 1]
    assert owned([-1, 0, 1], {0}, [2]) == [0]
    assert owned([-1, 0, 1], set(), [2, -1]) == [-1, -1]


def test_an_operator_that_launches_around_another_has_all_of_its_kernels() -> None:
    # layer_norm_backward 0 launches itself and through sum 1; the neighbour 2 is another's.
    assert owned([-1, 0, -1], {0, 1, 2}, [0, 1, 2]) == [0, 0, 2]
    # An owner two levels up, over one that owns nothing.
    assert owned([-1, 0, 1, 2], {0, 1, 3}, [0, 3]) == [0, 0]


def test_an_operator_that_only_calls_others_owns_nothing() -> None:
    # matmul 0 > copy_ 1, bmm 2
    assert owned([-1, 0, 0], {0, 1, 2}, [1, 2]) == [1, 2]


def test_ancestry_is_what_launches_and_all_around_it() -> None:
    parent = np.array([-1, 0, 1, -1, 3, -1])
    assert ancestry(np.array([2, 2, -1]), parent).tolist() == [0, 1, 2]
    assert ancestry(np.array([], dtype=np.int64), parent).tolist() == []


@st.composite
def forests(draw: st.DrawFn) -> tuple[list[int], set[int], list[int]]:
    size = draw(st.integers(1, 12))
    parent = [draw(st.integers(-1, row - 1)) for row in range(size)]
    known = draw(st.sets(st.integers(0, size - 1)))
    return parent, known, draw(st.lists(st.integers(-1, size - 1), max_size=12))


@given(forests())
def test_no_owner_lies_within_another(forest: tuple[list[int], set[int], list[int]]) -> None:
    parent, known, launching = forest
    found = owned(parent, known, launching)
    for launcher, owner in zip(launching, found, strict=True):
        around = []
        while launcher >= 0:
            around.append(launcher)
            launcher = parent[launcher]
        assert owner in around or (owner == -1 and not known & set(around))
        assert owner == -1 or owner in known
        while owner >= 0:
            owner = parent[owner]
            assert owner == -1 or owner not in found
