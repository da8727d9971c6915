"""Results that are computed once for each trace."""

from __future__ import annotations

from dataclasses import replace

from synthetic import TraceBuilder

from tracekit.analyze.trace.once import once
from tracekit.analyze.trace.trace import Trace


def trace() -> Trace:
    builder = TraceBuilder()
    builder.kernel(0, 10)
    return builder.trace()


def test_each_function_is_called_once_for_each_trace():
    called: list[str] = []

    @once
    def first(trace: Trace) -> str:
        called.append("first")
        return f"first {len(called)}"

    @once
    def second(trace: Trace) -> str:
        called.append("second")
        return f"second {len(called)}"

    one, other = trace(), trace()

    assert [first(one), second(one), first(one), second(one)] == ["first 1", "second 2", "first 1", "second 2"]
    assert [first(other), first(other)] == ["first 3", "first 3"]
    assert called == ["first", "second", "first"]
    assert first(replace(one)) == "first 4"  # a trace that was made anew keeps no results


def test_a_function_keeps_its_name():
    def named(trace: Trace) -> int:
        """What it is."""
        return len(trace)

    assert (once(named).__name__, once(named).__doc__) == ("named", "What it is.")
