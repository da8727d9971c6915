"""What one more launch costs, on made-up and on real traces."""

from __future__ import annotations

from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.activity.launch_costs import LaunchCosts, launch_costs
from tracekit.analyze.trace.loader import load
from tracekit.devices import datasheets


def test_gaps_between_queued_kernels_and_time_between_launches() -> None:
    builder = TraceBuilder()
    # Launched every 100 ns, while the first kernel runs: all others are queued, 30, 10 and 20 ns apart.
    at = 1000
    for number, gap in enumerate((0, 30, 10, 20)):
        at += gap
        builder.launch(call=(100 * number, 5), kernel=(at, 500))
        at += 500
    assert launch_costs(builder.trace()) == LaunchCosts(gap_ns=20, launch_ns=100)


def test_waiting_is_not_launching() -> None:
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(50, 10))
    builder.call(10, 60, "cudaStreamSynchronize")
    builder.launch(call=(100, 5), kernel=(150, 10))
    assert launch_costs(builder.trace()) == LaunchCosts(gap_ns=None, launch_ns=40)


def test_later_nodes_of_a_graph_are_no_launches() -> None:
    builder = TraceBuilder()
    builder.graph(call=(0, 5), kernels=[(50, 10), (61, 10), (72, 10)])
    assert launch_costs(builder.trace()) == LaunchCosts(gap_ns=None, launch_ns=None)


def test_threads_launch_for_themselves_and_a_first_call_is_left_out() -> None:
    builder = TraceBuilder()
    for thread in (1, 2):
        for number in range(150):
            # The first launch of a thread takes a long time to come back.
            start = 100_000 + 10 * number if number else 0
            builder.call(start + thread, 5, "cudaLaunchKernel", thread=thread, correlation=1000 * thread + number)
    assert launch_costs(builder.trace()).launch_ns == 10


def test_threads_count_alike_however_far_apart_each_launches() -> None:
    builder = TraceBuilder()
    for thread, apart in ((1, 10), (2, 30)):
        for number in range(3):
            builder.call(apart * number, 5, "cudaLaunchKernel", thread=thread, correlation=100 * thread + number)
    assert launch_costs(builder.trace()).launch_ns == 20


def test_the_least_gap_is_one_nanosecond() -> None:
    builder = TraceBuilder()
    for number in range(3):
        builder.launch(call=(10 * number, 5), kernel=(100 + 51 * number, 50))
    assert launch_costs(builder.trace()).gap_ns == 1


def test_the_t4s_entry_is_what_its_trace_shows() -> None:
    measured = datasheets()[0].measured
    found = launch_costs(load(needed("traces/t4_gpt2_mlp.json")))
    assert (found.gap_ns, found.launch_ns) == (measured.gap_ns, measured.launch_ns)
