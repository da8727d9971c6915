from __future__ import annotations

import pytest

from tracekit.kernels.shape import HEAD_WIDTHS, MOST_SEQUENCES, WIDEST, Shape, obstacle

SHAPES = [
    Shape(width, head_width, batch)
    for head_width in HEAD_WIDTHS
    for width in range(head_width, WIDEST + 1, head_width)
    for batch in range(1, MOST_SEQUENCES + 1)
]


@pytest.mark.parametrize(
    ("width", "head_width", "batch", "reason"),
    [
        (768, 64, 1, None),
        (WIDEST, 64, MOST_SEQUENCES, None),
        (768, 48, 1, "heads must be 32, 64 or 128 wide, not 48"),
        (800, 64, 1, "a multiple of 64"),
        (0, 64, 1, "at most 1600"),
        (1664, 64, 1, "at most 1600"),
        (768, 64, 0, "1 to 16, not 0"),
        (768, 64, 17, "1 to 16, not 17"),
    ],
)
def test_what_the_kernels_cannot_run(width: int, head_width: int, batch: int, reason: str | None) -> None:
    found = obstacle(width, head_width, batch)
    assert found is None if reason is None else reason in str(found)


def test_the_work_of_every_shape_comes_out_even_where_the_source_says_so() -> None:
    for shape in SHAPES:
        assert obstacle(shape.width, shape.head_width, shape.batch) is None
        assert 4 * 32 * shape.warps >= shape.width, shape  # a thread brings eight numbers of gamma or beta
        assert max(shape.warps, shape.wide_warps) <= 32, shape
        for rows in (shape.fp16_rows, shape.int8_rows):
            assert shape.width % rows.residual == 0, shape  # no block is without outputs
            assert (rows.norm % 8, rows.residual % 8) == (0, 0), shape
