"""Is the program without the profiler one that takes as long as the real one?"""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder, queue

from tracekit.analyze.activity.program import DISPATCH_NS, program
from tracekit.analyze.activity.unprofiled import CLOSE, LEAST_HOST, MOST_HOST, USUAL_HOST, fitted
from tracekit.analyze.activity.whatif import Program


def host_ns(played: Program) -> float:
    return float((played.work_ns + played.call_ns).sum())


def loop(kernel: int, rounds: int = 50, wait: bool = False) -> Program:
    """Rounds of four operators and a launch, 10,000 ns each on the host, with a kernel of so many ns."""
    builder, host, device = TraceBuilder(), 0, 0
    for _ in range(rounds):
        for number in range(4):
            builder.operator(host + 2_000 * number, 1_900, "aten::add")
        start = max(host + 9_500, device)
        builder.launch(call=(host + 8_000, 1_000), kernel=(start, kernel))
        host, device = host + 10_000, start + kernel
        if wait:
            builder.call(host, max(device - host, 0) + 1_000, "cudaStreamSynchronize")
            host = max(host, device) + 1_000
    return program(builder.trace())


@pytest.mark.parametrize("share", [0.35, 0.5, 0.7, 0.9])
def test_where_the_host_limits_its_cost_is_found_by_the_time_without_the_profiler(share):
    played = loop(500)
    assert fitted(played, share * played.total_ns).total_ns == pytest.approx(share * played.total_ns, rel=CLOSE)


def test_a_host_keeps_some_of_its_time():
    played = loop(500)
    assert host_ns(fitted(played, 0)) >= 0.5 * LEAST_HOST**2 * host_ns(played)


def test_where_the_device_limits_the_host_takes_its_usual_share():
    played = loop(20_000)
    found = fitted(played, played.total_ns)
    assert found.total_ns == pytest.approx(played.total_ns, rel=CLOSE)
    assert host_ns(found) == pytest.approx(USUAL_HOST * host_ns(played), rel=0.01)


def test_a_device_that_ran_more_slowly_with_the_profiler_is_made_faster():
    played = loop(20_000)
    found = fitted(played, 0.7 * played.total_ns)
    assert found.total_ns == pytest.approx(0.7 * played.total_ns, rel=CLOSE)
    assert (found.duration_ns < 0.75 * played.duration_ns).all()


def test_a_host_that_the_device_hides_takes_less_than_the_device():
    """With the profiler the host limits, at 10,000; without it the device does, at 5,000, and the host takes that or less."""
    played = loop(4_000)
    found = fitted(played, 50 * (4_000 + DISPATCH_NS))
    assert LEAST_HOST * host_ns(played) < host_ns(found) < 0.5 * host_ns(played)


def test_a_program_that_takes_longer_without_the_profiler_is_slower_where_nothing_is_recorded():
    """Operators still cost the profiler. So the rest is what took longer."""
    played = loop(500)
    assert fitted(played, 2 * played.total_ns).total_ns == pytest.approx(2 * played.total_ns)
    device = loop(20_000)
    assert fitted(device, 2 * device.total_ns).total_ns == pytest.approx(2 * device.total_ns, rel=CLOSE)


def test_what_the_hosts_work_does_not_explain_is_what_waiting_costs():
    played = loop(2_000, wait=True)
    found = fitted(played, 0.95 * played.total_ns)
    assert found.total_ns == pytest.approx(0.95 * played.total_ns, rel=CLOSE)
    waits = found.waits_for >= 0
    assert (found.call_ns[waits] > played.call_ns[waits]).all()
    without = found.without_waits(waits).without_call_share(np.where(waits, 1.0, 0.0))
    assert without.total_ns < MOST_HOST * played.total_ns


def test_a_program_of_one_launch_takes_as_long_as_it_should():
    played = program(queue((0, 10, 100)).trace())
    assert fitted(played, 110).total_ns == pytest.approx(110, rel=0.1)
