"""Which collectives a trace of a distributed run names, and which events hold them."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.trace.trace import COLLECTIVE, HOST_CALL

SAID = {
    "Collective name": "allreduce",
    "Process Group Name": "0",
    "Process Group Ranks": "[0, 1]",
    "dtype": "Float",
    "Group size": 2,
    "Seq": 17,
    "In msg nelems": 1_000,
    "Out msg nelems": 2_000,
}
FIELDS = ("allreduce", "0", "[0, 1]", "Float", 2, 17, 1_000, 2_000)


def distributed() -> TraceBuilder:
    builder = TraceBuilder(distributedInfo={"rank": 0})
    builder.operator(0, 5, "aten::mm")
    builder.kernel(10, 5, "gemm")
    return builder


def collectives(builder: TraceBuilder) -> list[tuple[object, ...]]:
    """The rows: each event's and what it says."""
    table = builder.trace().collectives
    assert tuple(table.columns) == COLLECTIVE
    return [tuple(row.values()) for row in table.records()]


def test_host_calls_and_kernels_that_name_their_collective_in_the_files_order():
    builder = distributed()
    builder.kernel(100, 50, "nccl", **SAID)
    builder.operator(50, 20, HOST_CALL, **SAID)
    builder.operator(80, 20, HOST_CALL)
    builder.operator(80, 20, "other", **SAID)
    builder.memcpy(200, 20, **SAID)
    builder.kernel(300, 20, "other kernel", **{"Seq": 5})
    builder.kernel(400, 50, "nccl", **{**SAID, "Seq": 18})

    assert collectives(builder) == [(2, *FIELDS), (3, *FIELDS), (8, *FIELDS[:5], 18, *FIELDS[6:])]


def test_kernels_alone_name_them_too():
    builder = distributed()
    builder.kernel(100, 50, "nccl", **SAID)

    assert collectives(builder) == [(2, *FIELDS)]


def test_if_no_host_call_says_anything_no_kernel_does():
    builder = distributed()
    builder.operator(50, 20, HOST_CALL)
    builder.kernel(100, 50, "nccl", **SAID)

    assert collectives(builder) == []


def test_collectives_are_read_where_no_rank_is_recorded_too():
    """SGLang's traces have none."""
    builder = TraceBuilder()
    builder.kernel(100, 50, "nccl", **SAID)
    assert builder.trace().collectives["collective"].tolist() == ["allreduce"]


def test_a_trace_without_collectives_has_none():
    builder = TraceBuilder()
    builder.kernel(100, 50, "nccl")
    table = builder.trace().collectives

    assert len(table) == 0
    assert tuple(table.columns) == COLLECTIVE


def test_without_collectives_rows_are_still_numbers():
    assert distributed().trace().collectives["event"].dtype == np.int64


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"Seq": "18"}, "sequence", 18),
        ({"Seq": 1.5}, "sequence", None),
        ({"Group size": None}, "group_size", None),
        ({"dtype": 5}, "dtype", None),
        ({"Process Group Ranks": [0, 1]}, "group_ranks", None),
    ],
)
def test_a_field_of_another_type_is_not_recorded(change, column, value):
    builder = distributed()
    builder.kernel(100, 50, "nccl", **{**SAID, **change})

    assert builder.trace().collectives[column].tolist() == [value]
