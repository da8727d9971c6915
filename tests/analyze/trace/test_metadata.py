"""What a file says about its device, its graphs and its ids beside its times."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from synthetic import TraceBuilder, load_bytes

from tracekit.analyze.trace.formats import EXPORT_HINT
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Device
from tracekit.errors import TraceError


def device(*properties: object, used: int = 0) -> Device | None:
    builder = TraceBuilder(deviceProperties=list(properties))
    builder.kernel(0, 5, device=used)
    return builder.trace().device


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
            {"id": 0, "name": "T4", "computeMajor": 7, "computeMinor": 5, "numSms": 40, "totalGlobalMem": 10},
            Device("T4", "7.5", 40, 10),
        ),
        (
            {
                "id": 0,
                "name": "T4",
                "maxThreadsPerMultiprocessor": 1024,
                "regsPerMultiprocessor": 65536,
                "sharedMemPerMultiprocessor": 65536,
            },
            Device("T4", None, None, None, 1024, 65536, 65536),
        ),
        ({"id": 0}, Device("unnamed GPU", None, None, None)),
        ({"id": 0, "name": ""}, Device("unnamed GPU", None, None, None)),
        ({"id": 0, "name": "T4", "computeMajor": 7}, Device("T4", None, None, None)),
        ({"id": 0, "name": "T4", "computeMinor": 5}, Device("T4", None, None, None)),
        ({"id": 0, "name": "T4", "computeMajor": "7", "computeMinor": 5}, Device("T4", None, None, None)),
        ({"id": 0, "name": 4, "numSms": "40", "totalGlobalMem": 1.5}, Device("4", None, 40, None)),
    ],
)
def test_what_is_known_of_a_device(properties, expected):
    assert device(properties) == expected


def test_the_device_is_the_one_with_most_events():
    builder = TraceBuilder(deviceProperties=["odd", {"id": 0, "name": "first"}, {"id": 1, "name": "second"}, {"id": "2"}])
    builder.kernel(0, 5, device=0)
    for start in (10, 20):
        builder.kernel(start, 5, device=1)
    trace = builder.trace()

    assert trace.device == Device("second", None, None, None)
    assert trace.device_names == {0: "first", 1: "second"}


def test_a_device_that_is_not_listed_is_one_of_those_that_all_are_alike():
    assert device({"id": 0, "name": "MI300"}, {"id": 1, "name": "MI300"}, used=5) == Device("MI300", None, None, None)
    assert device({"id": 0, "name": "MI300"}, used=5) == Device("MI300", None, None, None)
    assert device({"id": 0, "name": "MI300"}, {"id": 1, "name": "CPU"}, used=5) is None
    assert device(used=5) is None


@pytest.mark.parametrize("properties", [None, {}, "T4", 5])
def test_properties_that_are_no_list_say_nothing(properties):
    builder = TraceBuilder(deviceProperties=properties)
    builder.kernel(0, 5)

    assert (builder.trace().device, builder.trace().device_names) == (None, {})


def test_without_gpu_events_there_is_no_device():
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "T4"}])
    builder.operator(0, 5)

    assert (builder.trace().device, builder.trace().device_names) == (None, {0: "T4"})


@pytest.mark.parametrize(
    ("args", "label"),
    [
        ({"str": "one", "annotation": "two", "name": "three"}, "one"),
        ({"str": "", "annotation": "two", "name": "three"}, "two"),
        ({"annotation": None, "name": "three"}, "three"),
        ({"str": ["layer", 1]}, "['layer', 1]"),
        ({"str": 5}, "5"),
        ({}, None),
    ],
)
def test_the_label_of_a_graphs_node(args, label):
    builder = TraceBuilder()
    builder.kernel(0, 5)["args"].update(args)
    builder.kernel(10, 5)["args"].update({"graph node id": 7, **args})

    assert builder.trace().gpu["label"].tolist() == [None, label]


@pytest.mark.parametrize("value", [0, "a", True, 1.5, None, [1]])
def test_an_external_id_is_a_number_above_zero(value):
    builder = TraceBuilder()
    builder.operator(0, 5, **{"External id": value})
    builder.kernel(10, 5, **{"External id": value})
    builder.operator(20, 5, **{"External id": 9})
    builder.kernel(30, 5, **{"External id": 9})

    assert builder.trace().gpu["operator"].tolist() == [-1, 2]


def test_an_external_id_is_sought_only_where_no_call_has_the_correlation():
    builder = TraceBuilder()
    builder.operator(0, 5, **{"External id": 9})
    builder.launch(call=(10, 5), kernel=(30, 5), **{"External id": 9})
    builder.kernel(50, 5, correlation=777, **{"External id": 9})

    assert builder.trace().gpu["operator"].tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), (0, 0), ("5", None), (1.5, None), (True, None), ([1], None), (2**70, None)]
)
def test_the_number_of_a_graph_and_of_its_node_are_whole_numbers(value, expected):
    builder = TraceBuilder()
    builder.kernel(0, 5, **{"graph id": value, "graph node id": value})
    builder.kernel(10, 5)
    gpu = builder.trace().gpu

    assert gpu["graph_id"].tolist() == gpu["graph_node_id"].tolist() == [expected, None]


@pytest.mark.parametrize(
    ("args", "place"),
    [({"device": 1, "stream": 2}, (1, 2)), ({"device": 1}, (1, 6)), ({"stream": 2}, (5, 2)), ({}, (5, 6)), (None, (5, 6))],
)
def test_the_device_and_stream_are_those_of_the_arguments_or_else_of_the_track(args, place):
    builder = TraceBuilder()
    builder.kernel(0, 5).update(pid=5, tid=6, args=args)
    gpu = builder.trace().gpu

    assert (gpu["device"].tolist(), gpu["stream"].tolist()) == ([place[0]], [place[1]])


def test_a_track_with_a_name_has_a_number_that_no_other_has():
    builder = TraceBuilder()
    for tid in (0, "a", "b", 1, "c", "a", -1):
        builder.kernel(0, 5).update(tid=tid, args={})
    streams = builder.trace().gpu["stream"].tolist()

    assert (streams[0], streams[3]) == (0, 1)
    assert streams[1] == streams[5]
    assert all(streams[place] < 0 for place in (1, 2, 4))
    assert len({*streams[:5]}) == 5


def test_without_gpu_events_their_columns_still_hold_numbers():
    builder = TraceBuilder()
    builder.operator(0, 5)
    gpu = builder.trace().gpu

    assert [gpu[name].dtype for name in ("event", "device", "stream", "operator")] == [np.int64] * 4


@pytest.mark.parametrize(
    ("change", "one", "many"),
    [
        (
            {"name": 5},
            "1 entry has fields of the wrong type; those fields were ignored",
            "2 entries have fields of the wrong type; those fields were ignored",
        ),
        ({"ts": None}, "1 event has no start time; it was left out", "2 events have no start time; they were left out"),
        (
            {"dur": None},
            "1 event has no duration; it counts as 0 ns long",
            "2 events have no duration; they count as 0 ns long",
        ),
        ({"dur": -1}, "1 event ends before it starts; it was left out", "2 events end before they start; they were left out"),
        (
            {"name": "C:\new.py(3): run"},
            "1 name is a Windows path whose backslashes are not escaped; it was read as it is written",
            "2 names are Windows paths whose backslashes are not escaped; they were read as they are written",
        ),
    ],
)  # fmt: skip
def test_what_is_said_about_odd_events(change, one, many):
    builder = TraceBuilder()
    builder.kernel(0, 5)
    for told in (one, many):
        builder.operator(10, 5, "odd").update(change)
        assert [warning.message for warning in builder.trace().warnings] == [told]


@pytest.mark.parametrize("fraction", ["", ".0", ".000"])
@pytest.mark.parametrize(
    ("time", "events"),
    [(2**61 // 1000 - 1, 2), (2**61 // 1000, 1), (1 - 2**61 // 1000, 2), (-(2**61 // 1000), 1)],
)
def test_the_largest_time(time, events, fraction):
    """However it is written, and whether or not doubles can hold the other times."""
    for first in ("1700000000000000.123", "1700000000000000", "1.5"):
        entry = '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": %s, "dur": 1}'
        trace = load_bytes(f"[{entry % first}, {entry % f'{time}{fraction}'}]".encode())
        assert len(trace) == events


def test_an_event_without_a_duration_takes_no_time():
    builder = TraceBuilder()
    builder.kernel(0, 5)
    builder.kernel(10, 5)["dur"] = None
    trace = builder.trace()

    assert trace.events["duration_ns"].tolist() == [5, 0]


@pytest.mark.parametrize(("base", "counted"), [(10**18, 10**18), (None, 0), ("1", 0), (True, 0), (1.5, 0)])
def test_the_moment_from_which_times_are_counted(base, counted):
    builder = TraceBuilder(base_ns=5_000_000, **({} if base is None else {"baseTimeNanoseconds": base}))
    builder.kernel(300, 5)
    builder.operator(100, 5)
    trace = builder.trace()

    assert trace.start_ns.tolist() == [200, 0]
    assert trace.origin_ns == counted + 5_000_100


@pytest.mark.parametrize(
    ("info", "rank", "kept"),
    [
        ({"rank": 3, "backend": "nccl"}, 3, {"distributed": {"rank": 3, "backend": "nccl"}}),
        ({"rank": "3"}, 3, {"distributed": {"rank": "3"}}),
        ({"backend": "nccl"}, None, {"distributed": {"backend": "nccl"}}),
        ({}, None, {}),
        ([1], None, {}),
        (None, None, {}),
    ],
)
def test_what_a_file_says_about_its_run(info, rank, kept):
    builder = TraceBuilder(distributedInfo=info)
    builder.kernel(0, 5)

    assert (builder.trace().rank, builder.trace().metadata) == (rank, kept)


@pytest.mark.parametrize(
    ("value", "place"), [(0, 0), (20, 20), (-1, -1), (1.5, -1), (True, -1), (None, -1), ([1], -1), (2**70, -1)]
)
def test_where_the_device_waited(value, place):
    builder = TraceBuilder()
    builder.kernel(0, 5)
    builder.wait(10, 5)["args"].update(stream=value, wait_on_stream=value, device=value)
    builder.wait(20, 5)["args"] = None
    waits = builder.trace().waits

    assert waits["event"].tolist() == [1, 2]
    assert [waits[name].tolist() for name in ("device", "stream", "on_stream")] == [[place, -1]] * 3


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_before(enabled):
    builder = TraceBuilder()
    builder.kernel(0, 5)
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        builder.trace()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_a_trace_knows_its_file(tmp_path):
    builder = TraceBuilder()
    builder.kernel(0, 5)
    trace = load(builder.write(tmp_path / "a.json.gz"))

    assert (trace.name, trace.path) == ("a.json.gz", str(tmp_path / "a.json.gz"))


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("[]", "the trace has no events", "profile at least one step before exporting"),
        ('{"traceEvents": []}', "the trace has no events", "profile at least one step before exporting"),
        ('[{"ph": "M", "name": "a"}]', "none of its 1 entry is a complete event with a time", EXPORT_HINT),
        ('[{"ph": "M"}, {"ph": "X"}]', "none of its 2 entries is a complete event with a time", EXPORT_HINT),
        (
            '[{"ph": "X", "cat": "something", "name": "a", "ts": 1, "dur": 1}]',
            "no complete event is of a category that torch.profiler writes: this looks like a Chrome trace of some other program",
            EXPORT_HINT,
        ),
    ],
)
def test_what_is_wrong_with_a_trace_without_events(tmp_path, text, what, mend):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        load(path)

    assert (caught.value.what, caught.value.where, caught.value.mend) == (what, path, mend)
