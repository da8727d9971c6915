"""Kernel time that no operator answers for."""

from __future__ import annotations

from synthetic import TraceBuilder

from tracekit.analyze.activity.kernels_without_operator import WithoutOperator, without_operator


def test_without_kernels_there_is_nothing_to_attribute():
    builder = TraceBuilder()
    builder.operator(0, 10)
    builder.memcpy(20, 5)
    assert without_operator(builder.trace()) is None


def test_kernels_that_operators_launch_are_attributed():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))
    builder.graph(call=(20, 5), kernels=[(300, 10)])
    assert without_operator(builder.trace()) == WithoutOperator(0, 0, 0.0, 0, 0, 0)


def test_one_nanosecond_is_all_of_one_nanosecond():
    builder = TraceBuilder()
    builder.kernel(0, 1)
    assert without_operator(builder.trace()) == WithoutOperator(1, 1, 1.0, 0, 0, 1)


def test_each_reason():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 50))
    builder.graph(call=(110, 5), kernels=[(300, 1), (310, 2)])
    builder.launch(call=(120, 5), kernel=(400, 7))
    builder.kernel(500, 40, correlation=77)
    builder.memcpy(600, 1000)
    assert without_operator(builder.trace()) == WithoutOperator(4, 50, 0.5, replayed_ns=3, outside_ns=7, unlaunched_ns=40)
