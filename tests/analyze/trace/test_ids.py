"""Does an id tie only what belongs together?"""

from __future__ import annotations

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.activity.operators import operators
from tracekit.analyze.trace.trace import NO_CORRELATION, Trace


def launching_calls(trace: Trace) -> list[str | None]:
    """For each GPU event, the name of the call that launched it."""
    return [None if call < 0 else str(trace.names(trace.call_of_gpu)[at]) for at, call in enumerate(trace.call_of_gpu.tolist())]


def kernels_of(trace: Trace) -> dict[str, int]:
    return {row["name"]: row["kernels"] for row in operators(trace).records()}


def test_a_plain_launch_has_one_kernel_and_a_graphs_launch_has_all():
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::mm")
    builder.call(10, 5, "cudaLaunchKernel", correlation=7)
    builder.call(30, 5, "cudaGraphLaunch", correlation=8)
    for at, correlation in ((100, 7), (200, 7), (300, 8), (400, 8)):
        builder.kernel(at, 10, correlation=correlation)
    trace = builder.trace()

    assert launching_calls(trace) == ["cudaLaunchKernel", None, "cudaGraphLaunch", "cudaGraphLaunch"]
    assert trace.first_of_launch.tolist() == [True, True, True, False]
    assert kernels_of(trace) == {"aten::mm": 3}


def test_a_batch_of_copies_has_one_call():
    builder = TraceBuilder()
    builder.call(10, 5, "cudaMemcpyBatchAsync", correlation=7)
    for at in (100, 200):
        builder.memcpy(at, 10, correlation=7)
    trace = builder.trace()
    assert launching_calls(trace) == ["cudaMemcpyBatchAsync"] * 2
    assert trace.first_of_launch.tolist() == [True, False]


def test_zero_is_no_id_unless_a_call_has_it():
    builder = TraceBuilder()
    builder.call(10, 5, "hipLaunchKernel", correlation=1)
    for at, correlation in ((100, 1), (200, 0), (300, 0)):
        builder.kernel(at, 10, correlation=correlation)
    assert builder.trace().first_of_launch.tolist() == [True, True, True]
    assert launching_calls(builder.trace()) == ["hipLaunchKernel", None, None]

    builder.call(20, 5, "hipGraphLaunch", correlation=0)
    assert launching_calls(builder.trace()) == ["hipLaunchKernel", "hipGraphLaunch", "hipGraphLaunch"]
    assert builder.trace().first_of_launch.tolist() == [True, True, False]


@pytest.mark.parametrize("placeholder", [0, -1, 2**32 - 1])
def test_a_number_that_all_calls_carry_is_no_id(placeholder):
    builder = TraceBuilder()
    for number in range(6):
        builder.call(100 * number, 5, correlation=placeholder)
        builder.kernel(100 * number + 20, 10, correlation=placeholder)
    trace = builder.trace()
    assert (trace.events["correlation"] == NO_CORRELATION).all()
    assert launching_calls(trace) == [None] * 6


def test_a_runtime_call_and_its_driver_call_share_an_id():
    builder = TraceBuilder()
    builder.call(0, 9, correlation=0)
    builder.call(2, 5, "cuLaunchKernel", correlation=0, driver=True)
    builder.kernel(20, 10, correlation=0)
    builder.kernel(40, 10, correlation=0)
    assert launching_calls(builder.trace()) == ["cudaLaunchKernel", None]


@pytest.mark.parametrize(
    ("starts", "kernels", "is_id"), [((0, 0, 2), 2, True), ((0, 20, 40), 1, True), ((0, 20, 40), 2, False)]
)
def test_calls_at_many_moments_and_several_events_make_a_number_no_id(starts, kernels, is_id):
    builder = TraceBuilder()
    for start in starts:
        builder.call(start, 9, correlation=5)
    for number in range(kernels):
        builder.kernel(100 + 20 * number, 10, correlation=5)
    assert (launching_calls(builder.trace())[0] is not None) is is_id


def test_an_id_that_many_processes_use_once_is_an_id():
    """Somebody merged their files: each counts from 1."""
    builder = TraceBuilder()
    for process in range(3):
        builder.call(100 * process, 9, correlation=1)["pid"] = 900 + process
        builder.kernel(100 * process + 20, 10, correlation=1, device=process)
    assert launching_calls(builder.trace()) == ["cudaLaunchKernel"] * 3


def external(builder: TraceBuilder, number: int | str) -> None:
    """Give the last entry an External id."""
    builder.entries[-1].setdefault("args", {})["External id"] = number


def test_an_external_id_of_several_operators_names_none():
    builder = TraceBuilder()
    for start, name in ((0, "aten::add"), (200, "aten::mul")):
        builder.operator(start, 100, name)
        external(builder, 42)
    builder.kernel(500, 10, correlation=9)
    external(builder, 42)
    assert kernels_of(builder.trace()) == {"aten::add": 0, "aten::mul": 0}


def test_the_external_id_names_the_operator_where_no_call_does():
    builder = TraceBuilder()
    builder.operator(0, 100, "triton_wrapper")
    external(builder, 42)
    builder.operator(200, 100, "aten::mm")
    external(builder, 43)
    builder.kernel(500, 10, "triton_poi_fused_0", correlation=9)  # its cuLaunchKernel was not recorded
    external(builder, 42)
    builder.launch(call=(210, 5), kernel=(600, 10), name="gemm")
    external(builder, 42)  # the call knows better
    builder.kernel(700, 10, "nobody's", correlation=10)
    external(builder, 0)
    builder.kernel(800, 10, "somebody's", correlation=11)
    external(builder, "42")

    assert kernels_of(builder.trace()) == {"triton_wrapper": 1, "aten::mm": 1}
