"""Are times that cannot be left out or cut and said, and all others left as they are?"""

from __future__ import annotations

import numpy as np
import pytest
from repository import TRACES
from synthetic import Ns, TraceBuilder

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.launches import launches
from tracekit.analyze.activity.operators import host
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.plausible import EARLY_NS, FAR_NS, LATE_NS, OVERLAP_NS
from tracekit.taxonomy import Taxonomy

MS = 1_000_000
BASE = 10**13


def loop(kernels: int = 6) -> TraceBuilder:
    """Kernels of 60 µs, one every 100 µs."""
    builder = TraceBuilder(base_ns=BASE)
    for number in range(kernels):
        at = 100_000 * number
        builder.launch(call=(at + 5_000, 5_000), kernel=(at + 15_000, 60_000))
    return builder


def analysis(builder: TraceBuilder) -> Analysis:
    return Analysis(builder.trace(), Taxonomy([]))


def codes(builder: TraceBuilder) -> list[str]:
    return [warning.code for warning in analysis(builder).warnings]


def figures(builder: TraceBuilder) -> tuple[int, int]:
    found = gpu(builder.trace())
    return found.span_ns, found.busy_ns


def test_plausible_times_stay():
    assert codes(loop()) == []
    assert figures(loop()) == (560_000, 360_000)


@pytest.mark.parametrize(("early", "expected"), [(EARLY_NS + 1, ["impossible_times"]), (EARLY_NS, ["clock_skew"])])
def test_a_kernel_long_before_its_call_is_left_out(early, expected):
    builder = loop()
    builder.launch(call=(700_000, 5_000), kernel=(700_000 - early, 10_000), stream=8, name="time traveller")
    found = analysis(builder)
    assert [warning.code for warning in found.warnings] == expected  # its launch has not lost it
    if expected == ["impossible_times"]:
        assert figures(builder) == (560_000, 360_000)
        assert "time traveller (10.0 µs)" in found.warnings[0].message
        assert not found.complete
    else:
        assert found.complete


def test_clocks_that_differ_are_one_warning_and_no_negative_latency():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(6):
        builder.launch(call=(10_000 * number, 4_000), kernel=(10_000 * number - 2_500, 3_000))
    found = analysis(builder)
    (warning,) = found.warnings
    assert (warning.code, warning.count) == ("clock_skew", 6)
    assert "2.50 µs" in warning.message
    assert launches(builder.trace()).latency.p50 is None
    assert found.complete


@pytest.mark.parametrize(("at", "gone"), [(-FAR_NS - MS, True), (60 * FAR_NS, True), (-FAR_NS // 2, False)])
def test_a_lone_event_without_a_call_far_from_all_others_sets_no_span(at, gone):
    builder = loop()
    builder.kernel(at, 1_000, "lone", correlation=999)
    found = analysis(builder)
    assert ("impossible_times" in codes(builder)) is gone
    assert (figures(builder)[0] == 560_000) is gone
    assert not found.complete


def test_a_lone_event_with_its_call_is_a_pause():
    builder = loop()
    builder.launch(call=(60 * FAR_NS, 5_000), kernel=(60 * FAR_NS + 9_000, 1_000))
    assert codes(builder) == []


def test_a_kernel_that_outlasts_later_ones_of_its_stream_is_cut_to_the_next():
    builder = loop()
    builder.entries[3]["dur"] = type(builder.entries[3]["dur"])(3_000 * MS)  # the second kernel
    found = analysis(builder)
    assert codes(builder) == ["impossible_times"]
    assert figures(builder) == (560_000, 400_000)  # it ends where the third begins
    assert found.gpu.kernel_time_ns == 400_000
    assert not found.complete


@pytest.mark.parametrize(("over", "flagged"), [(8_000, False), (OVERLAP_NS, False), (OVERLAP_NS + 1, True)])
def test_overlaps_that_may_be(over, flagged):
    """An overlap of microseconds may be a programmatic dependent launch."""
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 50_000 + over, "long")
    builder.kernel(50_000, 90_000)
    assert ("impossible_times" in codes(builder)) is flagged


def test_streams_and_graph_branches_may_overlap():
    builder = loop()
    builder.launch(call=(0, 5_000), kernel=(15_000, 500_000), stream=8)
    builder.graph(call=(600_000, 5_000), kernels=[(700_000, 900_000), (710_000, 10_000), (730_000, 10_000), (750_000, 9_000)])
    assert codes(builder) == []


def test_a_kernel_ends_before_the_wait_for_the_device_returns():
    builder = loop()
    builder.call(560_000, 40_000, "cudaDeviceSynchronize")
    assert codes(builder) == []
    builder.entries[-2]["dur"] = type(builder.entries[-2]["dur"])(50 * MS)  # the last kernel
    assert codes(builder) == ["impossible_times"]
    assert figures(builder) == (585_000, 385_000)


def last(builder: TraceBuilder, ns: int) -> None:
    """Let the GPU event added last take so long."""
    entry = builder.entries[-1]
    entry["dur"] = type(entry["dur"])(ns)


def messages(builder: TraceBuilder) -> list[tuple[str, int]]:
    return [(warning.message, warning.count) for warning in builder.trace().warnings]


def durations(builder: TraceBuilder) -> list[int]:
    trace = builder.trace()
    return trace.events["duration_ns"][trace.gpu["event"]].tolist()


# --- What is said ------------------------------------------------------------------------------------------------------


def test_how_many_start_long_before_their_calls_and_which_is_the_worst():
    builder = loop()
    builder.launch(call=(30 * MS, 5_000), kernel=(20 * MS, 10), stream=8, name="early")
    told = "1 GPU event starts long before the call that launched it and was left out: impossible; the worst is early (10.0 ms)"
    assert messages(builder) == [(told, 1)]

    builder.launch(call=(60 * MS, 5_000), kernel=(20 * MS + 20, 10), stream=8, name="earlier" + 60 * "x")
    builder.launch(call=(30 * MS, 5_000), kernel=(20 * MS + 40, 10), stream=8, name="early, too")
    told = "3 GPU events start long before the calls that launched them and were left out: impossible; the worst is earlier"
    assert messages(builder) == [(told + 53 * "x" + " (40.0 ms)", 3)]


def test_how_many_lie_far_away():
    builder = loop(200)
    builder.kernel(60 * FAR_NS, 1_000, "far")
    told = "GPU event lies far from all others, has no call and was left out: impossible; the worst is far"
    assert messages(builder) == [(f"1 {told}", 1)]

    builder.kernel(61 * FAR_NS, 1_000, "farther")
    told = "GPU events lie far from all others, have no calls and were left out: impossible; the worst is far"
    assert messages(builder) == [(f"2 {told}", 2)]


def test_how_many_were_cut():
    builder = loop(3)
    last(builder, 70 * MS)
    builder.kernel(300_000, 10)
    builder.kernel(300_020, 10)
    told = (
        "1 GPU event lasts over later ones of its stream or a wait for the device and was cut: impossible; the worst is kernel"
    )
    assert messages(builder) == [(f"{told} (70.0 ms)", 1)]
    assert durations(builder) == [60_000, 60_000, 85_000, 10, 10]

    builder = loop(3)
    for at, length in ((400_000, 90 * MS), (600_000, 80 * MS)):
        builder.kernel(at, length, f"long {length // MS}")
        for later in (100_000, 100_020, 100_040):
            builder.kernel(at + later, 10)
    told = "2 GPU events last over later ones of their streams or a wait for the device and were cut: impossible; the worst is long 90"
    assert messages(builder) == [(f"{told} (90.0 ms)", 2)]


@pytest.mark.parametrize(
    ("count", "told"),
    [(1, "1 GPU event starts before the call that launched it"), (2, "2 GPU events start before the call that launched them")],
)
def test_how_far_the_clocks_differ(count, told):
    builder = loop()
    for number in range(count):
        builder.launch(call=(MS + 20_000 * number, 4_000), kernel=(MS + 20_000 * number - 2_500 + 500 * number, 10), stream=8)
    more = "by 2.50 µs at most: the clocks of host and device differ, so latencies and the causes of short gaps are wrong by about as much"
    assert messages(builder) == [(f"{told}, {more}", count)]


def test_a_kernel_that_starts_with_its_call_is_in_time():
    builder = loop()
    builder.launch(call=(MS, 5_000), kernel=(MS, 10))
    assert messages(builder) == []


def test_later_nodes_of_a_graph_follow_the_first_and_not_the_call():
    builder = loop()
    builder.graph(call=(MS, 5_000), kernels=[(MS + 10_000, 10), (MS + 20_000, 10)])
    builder.graph(call=(3 * MS, 5_000), kernels=[(3 * MS - 9_000, 10), (3 * MS - 5_000, 10)])
    (warning,) = builder.trace().warnings
    assert (warning.code, warning.count) == ("clock_skew", 1)


def test_a_trace_without_gpu_events_stays():
    builder = TraceBuilder()
    builder.call(0, 5_000, "cudaDeviceSynchronize")
    assert messages(builder) == []


# --- Which lie apart ---------------------------------------------------------------------------------------------------


def left(builder: TraceBuilder) -> int:
    """How many GPU events are left."""
    return len(builder.trace().gpu)


@pytest.mark.parametrize(("others", "gone"), [(1, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize("at", [-60 * FAR_NS, 60 * FAR_NS])
def test_there_must_be_others_to_lie_apart_from(others, gone, at):
    builder = loop(others)
    builder.kernel(at, 1_000)
    assert left(builder) == others + 1 - gone


@pytest.mark.parametrize(("kernels", "far", "gone"), [(99, 1, 1), (98, 2, 2), (98, 3, 0), (296, 3, 0), (297, 3, 3)])
@pytest.mark.parametrize("side", [-1, 1])
def test_only_few_may_lie_apart(kernels, far, gone, side):
    builder = loop(kernels)
    for number in range(far):
        builder.kernel(side * 600 * FAR_NS + 10 * number, 5)
    assert left(builder) == kernels + far - gone


@pytest.mark.parametrize(("gap", "gone"), [(FAR_NS, 0), (FAR_NS + 1, 1)])
@pytest.mark.parametrize("side", ["before", "after"])
def test_how_far_is_far(gap, gone, side):
    builder = loop()
    builder.kernel(15_000 - gap - 7 if side == "before" else 575_000 + gap, 7)
    assert left(builder) == 7 - gone


@pytest.mark.parametrize(("gap", "gone"), [(10 * 2 * FAR_NS + 9, 0), (10 * 2 * FAR_NS + 10, 1)])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_long_run_may_have_longer_pauses(gap, gone, side):
    """The others run for two seconds."""
    builder = TraceBuilder(base_ns=BASE)
    for number in range(4):
        builder.launch(call=(number * FAR_NS // 2, 10), kernel=(number * FAR_NS // 2 + 20, FAR_NS // 2))
    builder.kernel(20 - gap - 7 if side == "before" else 2 * FAR_NS + 20 + gap, 7)
    assert left(builder) == 5 - gone


def test_beyond_an_event_with_a_call_nothing_lies_apart():
    builder = loop(200)
    builder.kernel(600 * FAR_NS, 5)
    builder.launch(call=(600 * FAR_NS, 5), kernel=(600 * FAR_NS + 10, 5))
    assert left(builder) == 202


def test_a_call_that_is_the_first_in_the_file_is_a_call():
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(60 * FAR_NS, 5_000), kernel=(60 * FAR_NS + 9_000, 1_000))
    for number in range(4):
        builder.kernel(100 * number, 10)
    assert left(builder) == 5


def test_a_run_lasts_until_its_last_event_ends_whenever_that_began():
    builder = loop(4)
    builder.kernel(-15 * FAR_NS, 10)
    builder.launch(call=(0, 5), kernel=(10, 2 * FAR_NS), stream=8)
    assert left(builder) == 6


@pytest.mark.parametrize(("late", "gone"), [(FAR_NS, 0), (FAR_NS + 1, 1)])
def test_a_call_explains_what_follows_it_within_a_second(late, gone):
    builder = loop()
    builder.launch(call=(600_000, 5_000), kernel=(605_000 + late, 1_000), stream=8)
    assert left(builder) == 7 - gone


def test_where_hardly_any_event_has_a_call_none_lies_apart():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(6):
        builder.kernel(100 * number, 10)
    builder.kernel(60 * FAR_NS, 10)
    assert left(builder) == 7


def both_sides(kernels: int, before: int, after: int) -> TraceBuilder:
    """Kernels in a run, and others a minute before and after it."""
    builder = loop(kernels)
    for number in range(before):
        builder.kernel(-60 * FAR_NS + 10 * number, 5)
    for number in range(after):
        builder.kernel(60 * FAR_NS + 10 * number, 5)
    return builder


@pytest.mark.parametrize(
    ("kernels", "before", "after", "gone"),
    [(6, 1, 1, 2), (2, 1, 1, 2), (6, 2, 1, 0), (6, 1, 2, 0), (396, 1, 3, 4), (396, 3, 1, 4)],
)
def test_some_may_lie_apart_on_both_sides(kernels, before, after, gone):
    assert left(both_sides(kernels, before, after)) == kernels + before + after - gone


def test_on_both_sides_both_must_be_far_and_alone():
    builder = both_sides(6, 1, 0)
    builder.kernel(FAR_NS // 2, 5)
    assert left(builder) == 7  # the run lasts half a second

    builder = both_sides(6, 1, 0)
    builder.launch(call=(60 * FAR_NS, 5), kernel=(60 * FAR_NS + 10, 5))
    assert left(builder) == 8


@pytest.mark.parametrize(("seconds", "gone"), [(5, 2), (7, 0)])
def test_on_both_sides_the_run_between_says_what_is_far(seconds, gone):
    """Also if one event alone makes the run so long."""
    builder = both_sides(6, 1, 0)
    for at in (seconds * FAR_NS, (seconds + 60) * FAR_NS):
        builder.kernel(at, 5)
    builder.entries[-2]["args"]["correlation"] = 777
    builder.call(seconds * FAR_NS - 10, 5, correlation=777)
    assert left(builder) == 9 - gone


# --- Which start too early ---------------------------------------------------------------------------------------------


def leads(*us: int) -> TraceBuilder:
    """A launch for each of these, whose kernel starts so many µs after its call."""
    builder = TraceBuilder(base_ns=BASE)
    for number, lead in enumerate(us):
        at = 100 * FAR_NS + 100_000 * number
        builder.launch(call=(at, 5_000), kernel=(at + 1_000 * lead, 10), stream=number)
    return builder


@pytest.mark.parametrize(
    ("early", "others", "gone"), [(1, 3, 1), (1, 2, 0), (2, 4, 2), (2, 3, 0), (3, 17, 0), (3, 296, 0), (3, 297, 3)]
)
def test_few_among_others_may_not_start_even_a_little_early(early, others, gone):
    builder = leads(*(-20,) * early, *(10,) * others)
    assert left(builder) == early + others - gone
    assert codes(builder) == (["impossible_times"] if gone else ["clock_skew"])


@pytest.mark.parametrize(
    ("us", "gone"),
    [
        ((-5_000, -5_000, 10), 0),  # most: the clocks differ
        ((-5_000, -5_000, 10, 10), 2),
        ((10, -5_000, -5_000, 10, 10), 2),
        ((-5_000, 0, 10), 1),  # who starts with its call is not early
        ((-5_000,), 0),
    ],
)
def test_where_most_start_early_the_clocks_differ(us, gone):
    assert left(leads(*us)) == len(us) - gone


def test_those_that_start_with_their_calls_are_no_early_ones():
    assert left(leads(-20, 0, 0, 0, 0, 0)) == 5


def test_events_without_a_call_say_nothing_about_the_clocks():
    builder = leads(-5_000, -5_000, 10)
    for number in range(10):
        builder.kernel(100 * FAR_NS + 1_000 * number, 10, stream=20)
    assert left(builder) == 13
    assert codes(builder)[0] == "clock_skew"


# --- Which are too long ------------------------------------------------------------------------------------------------


def test_a_long_kernel_is_cut_on_its_own_stream_device_and_context_alone():
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 10 * MS, "long", stream=7, context=1)
    for at, stream, device, context in ((100, 8, 0, 1), (120, 7, 1, 1), (140, 7, 0, 2)):
        builder.kernel(at, 10, stream=stream, device=device, context=context)
    assert durations(builder)[0] == 10 * MS
    builder.kernel(220, 10, stream=7, context=1)
    assert durations(builder)[0] == 220


def test_a_copy_may_run_beside_a_kernel_under_the_same_number():
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 10 * MS, stream=0)
    builder.memcpy(100, 10 * MS, stream=0)
    builder.kernel(10 * MS, 10, stream=0)
    assert durations(builder) == [10 * MS, 10 * MS, 10]


def test_neighbours_that_are_both_too_long_are_both_cut():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(4):
        builder.launch(call=(100_000 * number, 5_000), kernel=(100_000 * number + 10_000, 4_294_967_295))
    builder.call(500_000, 10_000, "cudaMalloc")
    assert durations(builder) == [100_000, 100_000, 100_000, 200_000]  # the last one ends with all else


def test_the_last_event_alone_cannot_last_far_beyond_everything_else():
    builder = loop()
    last(builder, 10**15)
    assert durations(builder)[-1] == 0  # all else had ended before it began
    builder.call(900_000, 300_000, "cudaDeviceSynchronize", thread=2)
    assert durations(builder)[-1] > 10_000


@pytest.mark.parametrize(("others", "cut"), [(1, False), (2, True)])
def test_there_must_be_others_to_last_beyond(others, cut):
    builder = loop(others + 1)
    builder.entries[-1]["args"]["stream"] = 8
    last(builder, 10**15)
    assert (durations(builder)[-1] < 10**15) is cut


def test_without_the_host_nobody_knows_when_all_had_ended():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(4):
        builder.kernel(100 * number, 10**15 if number == 3 else 10)
    assert durations(builder)[-1] == 10**15


@pytest.mark.parametrize(("beyond", "cut"), [(FAR_NS, False), (FAR_NS + 1, True)])
def test_how_far_beyond_all_else_is_far(beyond, cut):
    builder = loop()
    builder.operator(0, 800_000)
    builder.launch(call=(600_000, 5_000), kernel=(610_000, 190_000 + beyond), stream=8)
    assert durations(builder)[-1] == (190_000 if cut else 190_000 + beyond)


def test_all_else_lasts_from_its_own_beginning():
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 600 * FAR_NS, stream=8)
    for number in range(4):
        at = 100 * FAR_NS + 100 * number
        builder.launch(call=(at, 10), kernel=(at + 20, 10))
    assert durations(builder)[0] == 100 * FAR_NS + 330


def test_a_copy_that_the_host_does_not_wait_for_may_go_on():
    builder = loop()
    builder.call(600_000, 5_000, "cudaMemcpyAsync", correlation=77)
    builder.memcpy(610_000, 900_000, correlation=77)
    assert durations(builder)[-1] == 900_000


def test_all_kernels_of_one_stream_are_waited_for():
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 10_000))
    builder.launch(call=(20_000, 5_000), kernel=(30_000, 50 * MS))
    builder.call(50_000, 50_000, "cudaStreamSynchronize")
    assert durations(builder) == [10_000, 70_000]


@pytest.mark.parametrize(
    ("late", "a_little", "just", "cut"),
    [(2, 0, 0, True), (3, 0, 0, False), (3, 2, 0, False), (3, 3, 0, True), (3, 2, 1, False)],
)
def test_where_most_outlast_their_waits_the_clocks_differ(late, a_little, just, cut):
    builder = TraceBuilder(base_ns=BASE)
    overs = [200_000] * late + [50_000] * a_little + [0] * just
    for number, over in enumerate(overs):
        at = 10 * MS * number
        builder.launch(call=(at, 5_000), kernel=(at + 10_000, 90_000 + over))
        builder.call(at + 20_000, 80_000, "cudaDeviceSynchronize")
    expected = [90_000 + (0 if cut and over == 200_000 else over) for over in overs]
    assert durations(builder) == expected


def test_a_copy_that_waits_for_itself_ends_before_it_returns():
    builder = loop()
    builder.call(600_000, 50_000, "cudaMemcpy", correlation=77)
    builder.memcpy(610_000, 40_000 + LATE_NS, correlation=77)
    assert codes(builder) == []
    last(builder, 40_000 + LATE_NS + 1)
    assert durations(builder)[-1] == 40_000


def test_a_kernel_with_a_call_far_before_it_lies_apart_too():
    builder = loop()
    builder.launch(call=(600_000, 5_000), kernel=(600_000 + 3_600 * FAR_NS, 1_000), stream=8)
    assert codes(builder) == ["impossible_times"]
    assert figures(builder)[0] == 560_000


@pytest.mark.parametrize("offset", [-5_000 * MS, -1_490_000, 5_000 * MS])
def test_a_constant_offset_of_the_clocks_takes_nothing_away(offset):
    """All of a device's events at once are moved by seconds."""
    builder = loop()
    builder.call(560_000, 40_000, "cudaDeviceSynchronize")
    for entry in builder.entries:
        if entry["cat"] == "kernel":
            entry["ts"] = Ns(entry["ts"] + offset)
    assert figures(builder) == (560_000, 360_000)
    assert codes(builder) == (["clock_skew"] if offset < 0 else [])


def test_streams_with_few_events_do_not_save_the_others():
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(0, 10, stream=1)
    builder.kernel(0, 10 * MS, stream=2)
    for place in range(3):
        builder.kernel(100 + 10 * place, 5, stream=2)
    assert durations(builder) == [10, 100, 5, 5, 5]


def test_other_long_kernels_of_a_stream_are_cut_each_for_itself():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(2):
        builder.kernel(20 * MS * number, 10 * MS)
        for place in range(3):
            builder.kernel(20 * MS * number + MS + 100 * place, 10)
    assert durations(builder) == [MS, 10, 10, 10] * 2


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        ("cudaDeviceSynchronize", 90_000),
        ("hipDeviceSynchronize", 90_000),
        ("cuCtxSynchronize", 90_000),
        ("cudaStreamSynchronize", 90_000),  # there is but one stream
        ("cudaEventSynchronize", 50 * MS),  # of which event is not recorded
    ],
)
def test_which_calls_wait_for_the_whole_device(wait, expected):
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 50 * MS))
    builder.call(50_000, 50_000, wait)
    assert durations(builder) == [expected]


def test_of_several_streams_a_wait_for_one_says_nothing():
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 50 * MS))
    builder.kernel(10_000, 10, stream=8)
    builder.call(50_000, 50_000, "cudaStreamSynchronize")
    assert durations(builder) == [50 * MS, 10]


@pytest.mark.parametrize(("over", "cut"), [(LATE_NS, False), (LATE_NS + 1, True)])
def test_clocks_may_differ_at_the_end_of_a_wait_too(over, cut):
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 90_000 + over))
    builder.call(50_000, 50_000, "cudaDeviceSynchronize")
    assert durations(builder) == [90_000 if cut else 90_000 + over]


@pytest.mark.parametrize(("begins", "cut"), [(4_999, False), (5_000, True)])
def test_a_wait_that_began_before_the_launch_had_returned_is_not_for_its_kernel(begins, cut):
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 50 * MS))
    builder.call(begins, 100_000 - begins, "cudaDeviceSynchronize", thread=2)
    assert durations(builder) == [90_000 if cut else 50 * MS]


def test_of_several_waits_the_first_to_return_counts_in_whatever_order_the_file_names_them():
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 50 * MS))
    builder.call(300_000, 10_000, "cudaDeviceSynchronize")
    builder.call(60_000, 200_000, "cudaDeviceSynchronize", thread=2)
    builder.call(70_000, 50_000, "cudaDeviceSynchronize", thread=3)
    builder.launch(call=(280_000, 5_000), kernel=(290_000, 40 * MS), stream=9)
    builder.launch(call=(400_000, 5_000), kernel=(410_000, 60 * MS), stream=8)
    assert durations(builder) == [110_000, 20_000, 60 * MS]  # no wait follows the last launch


def test_without_its_call_or_with_several_devices_no_wait_says_anything():
    builder = TraceBuilder(base_ns=BASE)
    builder.kernel(10_000, 50 * MS)
    builder.call(60_000, 10_000, "cudaDeviceSynchronize")
    assert durations(builder) == [50 * MS]

    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(10_000, 50 * MS))
    builder.call(60_000, 10_000, "cudaDeviceSynchronize")
    builder.kernel(20_000, 10, device=1)
    assert durations(builder) == [50 * MS, 10]


def test_a_kernel_that_begins_after_the_wait_for_it_returned_takes_no_time():
    builder = TraceBuilder(base_ns=BASE)
    builder.launch(call=(0, 5_000), kernel=(200_000, 50 * MS))
    builder.call(60_000, 10_000, "cudaDeviceSynchronize")
    assert durations(builder) == [0]


def test_what_is_cut_and_what_is_left_out_are_said_apart():
    builder = loop()
    builder.launch(call=(30 * MS, 5_000), kernel=(20 * MS, 10), stream=8, name="early")
    builder.kernel(60 * FAR_NS, 1_000, "far")
    builder.entries[3]["dur"] = type(builder.entries[3]["dur"])(3_000 * MS)
    trace = builder.trace()
    assert [(warning.code, warning.count) for warning in trace.warnings] == [("impossible_times", 1)] * 3
    assert trace.names(trace.gpu["event"]).tolist() == ["kernel"] * 6
    assert not {"early", "far"} & set(trace.names(np.arange(len(trace))))
    assert figures(builder) == (560_000, 400_000)


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.trace.json.gz")), ids=lambda path: path.name.split(".")[0])
def test_real_traces_have_no_such_times(path):
    assert not {"impossible_times", "clock_skew"} & {warning.code for warning in load(path).warnings}


@pytest.mark.parametrize("strays", [1, 2])
def test_events_of_the_host_at_the_time_zero_are_left_out(strays):
    builder = loop(12)
    for number in range(strays):
        builder.operator(-BASE + number, 10, "aten::stray")  # the file's times count from its base
    builder.operator(0, 10, "aten::add")
    trace = builder.trace()
    assert [(warning.code, warning.count) for warning in trace.warnings] == [("impossible_times", strays)]
    assert "aten::stray" in trace.warnings[0].message
    assert host(trace).span_ns < 10 * MS


def test_a_host_that_pauses_has_no_strays():
    builder = TraceBuilder(base_ns=BASE)
    for number in range(20):
        builder.operator(2 * FAR_NS * number, 10)
    assert codes(builder) == ["no_gpu_events"]
