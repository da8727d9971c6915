"""Locks and messages between launches, where stacks tell."""

from __future__ import annotations

import pytest
from rule_traces import asked, reason, told
from synthetic import THREAD, TraceBuilder

from tracekit.analyze.findings.rules.python_stalls import lock_waits, logging

US = 1_000


def late(function: str | None, inner: str | None = None, *, gap: int = 400, operator: str | None = None) -> TraceBuilder:
    """Two kernels of 500 µs with a gap, in which the launching thread is in `function`, and that in `inner` or an operator."""
    builder = TraceBuilder()
    builder.operator(0, 30 * US, "aten::mm")
    builder.launch(call=(10 * US, 10 * US), kernel=(30 * US, 500 * US))
    end = 530 + gap
    for depth, name in enumerate((function, inner)):
        if name is not None:
            span = ((530 + depth) * US, (gap - 10 - 2 * depth) * US)
            builder.event(*span, cat="python_function", name=name, pid=100, tid=THREAD)
    if operator is not None:
        builder.operator(540 * US, (gap - 30) * US, operator)
    builder.operator((end - 10) * US, 40 * US, "aten::mm")
    builder.launch(call=((end - 5) * US, 5 * US), kernel=(end * US, 500 * US))
    return builder


@pytest.mark.parametrize(
    "name",
    [
        "<built-in method acquire of _thread.lock object at 0x7f00>",
        "threading.py(288): wait",
        "/usr/lib/python3.11/queue.py(154): get",
        "pthread_mutex_lock",
    ],
)
def test_a_lock_between_launches(name):
    finding = told(lock_waits, late("train.py(7): fetch", name))
    assert finding.affected_ns == 388 * US
    assert finding.saving_ns == pytest.approx(388 * US, rel=0.01)
    assert finding.rows[0]["idle_ns"] == 388 * US
    assert asked(logging, late("train.py(7): fetch", name)) is None


@pytest.mark.parametrize("name", ["<built-in function print>", "logging/__init__.py(1477): info", "tqdm/std.py(1185): update"])
def test_messages_between_launches(name):
    finding = told(logging, late("train.py(7): report", name))
    assert finding.affected_ns == 388 * US
    assert "logger.info" in finding.snippet
    assert asked(lock_waits, late("train.py(7): report", name)) is None


def test_printing_a_tensor_runs_operators():
    assert told(logging, late("<built-in function print>", operator="aten::abs")).affected_ns >= 370 * US


@pytest.mark.parametrize("name", ["train.py(9): lock_weights", "model.py(3): print_shapes", "blog/__init__.py(3): info"])
def test_names_that_are_something_else(name):
    assert asked(lock_waits, late(name)) is None
    assert asked(logging, late(name)) is None


def test_hardly_any_time_and_no_stacks():
    assert asked(lock_waits, late("threading.py(288): wait", gap=50)) is None
    assert "with_stack=True" in reason(lock_waits, late(None))
    assert "with_stack=True" in reason(logging, late(None))
    builder = TraceBuilder()
    builder.kernel(0, 10)
    assert "no runtime calls" in reason(lock_waits, builder)
