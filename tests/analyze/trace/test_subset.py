"""What stays of a trace if some events are left out: all that is said of the others."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.trace.subset import subset
from tracekit.analyze.trace.trace import Trace, TraceWarning

SAID = (TraceWarning("code", "message", 1),)


def scene() -> Trace:
    """Two kernels that External ids link to operators, two that name their collectives, and two waits."""
    builder = TraceBuilder(distributedInfo={"rank": 0})
    builder.operator(0, 10, "aten::mm", **{"External id": 1})
    builder.kernel(20, 5, "of mm", **{"External id": 1})
    builder.operator(30, 10, "aten::add", **{"External id": 2})
    builder.kernel(50, 5, "of add", **{"External id": 2})
    builder.kernel(60, 5, "reduce", **{"Collective name": "allreduce"})
    builder.kernel(70, 5, "gather", **{"Collective name": "allgather"})
    builder.wait(80, 5, "Stream Wait Event", stream=7, on=9)
    builder.wait(90, 5, "Event Sync", stream=8, on=10)
    return builder.trace()


def without(trace: Trace, *names: str) -> Trace:
    keep = ~np.isin(trace.names(np.arange(len(trace))), names)
    return subset(trace, keep, keep[trace.gpu["event"]], SAID)


def told(trace: Trace) -> dict[str, object]:
    gpu, operator = trace.gpu["event"], trace.gpu["operator"]
    names = [None if row < 0 else trace.names(np.array([row]))[0] for row in operator.tolist()]
    collectives = zip(trace.names(trace.collectives["event"]), trace.collectives["collective"], strict=True)
    return {
        "events": dict(zip(trace.names(np.arange(len(trace))).tolist(), trace.start_ns.tolist(), strict=True)),
        "operators": dict(zip(trace.names(gpu).tolist(), names, strict=True)),
        "collectives": dict(collectives),
        "waits": dict(zip(trace.names(trace.waits["event"]).tolist(), trace.waits["on_stream"].tolist(), strict=True)),
    }


def test_without_nothing_all_stays():
    trace = scene()

    assert told(without(trace)) == told(trace)
    assert without(trace).warnings == SAID


@pytest.mark.parametrize("gone", ["of mm", "of add", "reduce", "gather", "Stream Wait Event", "Event Sync"])
def test_without_an_event_the_others_keep_their_operators_and_collectives(gone):
    expected = {part: {name: value for name, value in said.items() if name != gone} for part, said in told(scene()).items()}

    assert told(without(scene(), gone)) == expected


def test_without_its_operator_a_kernel_has_none():
    trace = without(scene(), "aten::mm")

    assert told(trace)["operators"] == {"of mm": None, "of add": "aten::add", "reduce": None, "gather": None}
    assert trace.gpu["operator"].tolist() == [-1, 1, -1, -1]


def test_the_first_row_is_a_row_like_any_other():
    trace = without(scene(), "aten::add", "of add")

    assert trace.gpu["operator"].tolist() == [0, -1, -1]
    assert trace.gpu["event"].tolist() == [1, 2, 3]
