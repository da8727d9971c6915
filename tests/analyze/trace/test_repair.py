"""What one broken event costs the others: nothing. And what a document is that is no trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from operator_calls import recorded, t
from synthetic import TraceBuilder

from tracekit.analyze.trace.formats import EXPORT_HINT
from tracekit.analyze.trace.repair import NotJsonError, parse_tolerant
from tracekit.analyze.trace.trace import Trace
from tracekit.errors import TraceError
from tracekit.table import Table

RANK = {"rank": 3, "backend": "nccl", "world_size": 4}
T4 = {"id": 0, "name": "Tesla T4", "computeMajor": 7, "computeMinor": 5, "numSms": 40, "totalGlobalMem": 15_000_000_000}
COLLECTIVE = {
    "Collective name": "allreduce",
    "Process Group Name": "0",
    "Process Group Ranks": "[0, 1, 2, 3]",
    "Group size": 4,
    "Seq": 17,
    "In msg nelems": 1_000,
    "Out msg nelems": 2_000,
    "dtype": "Float",
}


def full() -> TraceBuilder:
    """Every field that the loader reads, each with a value that no other field has."""
    base_ns = 1_700_000_000_000_000_123  # more than a double can hold in microseconds
    builder = TraceBuilder(base_ns=base_ns, deviceProperties=[T4], distributedInfo=RANK, baseTimeNanoseconds=10**18)
    builder.annotation(0, 900, "step")
    builder.operator(5, 200, "aten::mm", **recorded(t(2, 3), t(3, 4), 1), **{"External id": 71})
    more = {"registers per thread": 40, "shared memory": 1024, "est. achieved occupancy %": 62.5}
    builder.launch(call=(10, 40), kernel=(100, 50), name="gemm", grid=[4, 2, 1], block=[64, 2, 1], **more)
    builder.kernel(160, 9, "linked by its id", **{"External id": 71})
    builder.kernel(180, 9, "node", stream=9, **{"context": 1, "graph id": 5, "graph node id": 6, "str": "layer 1"})
    builder.kernel(190, 9, "node", stream=9, **{"graph id": 5, "graph node id": 7, "annotation": "layer 2"})
    builder.kernel(200, 9, "node", stream=9, **{"graph id": 5, "graph node id": 8})["args"]["name"] = "layer 3"
    builder.memcpy(220, 10, bytes=4096, stream=8, device=1).update(pid=50, tid=60)
    builder.operator(300, 50, "record_param_comms", **COLLECTIVE)
    builder.launch(call=(310, 5), kernel=(350, 50), name="ncclDevKernel_AllReduce", **COLLECTIVE)
    builder.wait(450, 10, stream=11, on=12, device=1)
    builder.module(500, 100)
    return builder


def columns(table: Table) -> dict[str, list[object]]:
    return {name: column.tolist() for name, column in table.columns.items()}


def content(trace: Trace) -> dict[str, object]:
    """All that a trace holds, without its warnings."""
    signatures = [[part and json.loads(part) for part in signature] for signature in trace.signatures]
    names = {"names": trace.names(np.arange(len(trace))).tolist(), "threads": trace.threads, "signatures": signatures}
    tables = {"events": columns(trace.events), "gpu": columns(trace.gpu), "collectives": columns(trace.collectives)}
    tables["waits"] = columns(trace.waits)
    about = (trace.device, trace.device_names, trace.rank, trace.metadata, trace.origin_ns)
    return {**names, **tables, "about": about}


@pytest.mark.parametrize("entry", ["an event", float("nan")])  # NaN is no JSON, so another parser reads the file
def test_one_entry_that_is_no_event_changes_nothing_about_the_others(entry):
    whole = full().trace()
    builder = full()
    builder.entries.append(entry)
    broken = builder.trace()

    assert content(broken) == content(whole)
    assert whole.warnings == ()
    assert [(warning.code, warning.count) for warning in broken.warnings] == [("ill_typed_events", 1)]
    assert broken.entries == whole.entries + 1


def test_the_scene_leaves_no_column_empty():
    """Otherwise the test above would compare nothing with nothing."""
    trace = full().trace()

    for table in (trace.gpu, trace.collectives, trace.waits):
        for name, column in table.columns.items():
            assert any(value not in (None, -1) for value in column.tolist()), name


def test_numbers_may_come_as_text():
    builder, text = full(), full()
    for entry in text.entries:
        for key in (
            "correlation",
            "device",
            "stream",
            "bytes",
            "registers per thread",
            "shared memory",
            "est. achieved occupancy %",
            "wait_on_stream",
        ):
            if key in entry.get("args", {}):
                entry["args"][key] = str(entry["args"][key])

    assert content(text.trace()) == content(builder.trace())


@pytest.mark.parametrize("value", [[4, 2, 1.5], [4, True, 1], "4, 2, 1", {"x": 4}, 4])
def test_a_grid_that_is_no_list_of_whole_numbers_is_not_recorded(value):
    builder = TraceBuilder()
    builder.kernel(0, 5, grid=value, block=[1, 1, 1])
    builder.entries.append(None)

    assert (builder.trace().gpu["grid"].tolist(), builder.trace().gpu["block"].tolist()) == ([None], [[1, 1, 1]])


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (5, "5"),
        (2**63 - 1, str(2**63 - 1)),
        (2**63, str(2**63)),
        (-(2**63), str(-(2**63))),
        ("main", "main"),
        (True, "?"),
        (1.5, "?"),
        (None, "?"),
        ([1], "?"),
    ],
)
def test_a_track_is_a_number_or_text(value, label):
    builder = TraceBuilder()
    entry = builder.operator(0, 5)
    entry["pid"] = entry["tid"] = value
    builder.entries.append("an event")

    assert builder.trace().threads == ((label, label),)


def test_tracks_of_the_gpu_are_told_apart_by_number_or_by_text():
    builder = TraceBuilder()
    for tid in (5, 2**63 - 1, 2**63, 2**64, "main", 2**63):
        entry = builder.kernel(0, 5)
        entry["tid"] = tid
        del entry["args"]
    builder.entries.append("an event")
    numbers = builder.trace().gpu["stream"].tolist()

    assert numbers[:2] == [5, 2**63 - 1]
    assert all(number < 0 for number in numbers[2:])
    assert numbers[2] == numbers[5] != numbers[3] != numbers[4]


def repaired(**fields: object) -> int:
    """How many entries are called ill-typed if one has these fields."""
    builder = TraceBuilder()
    builder.kernel(0, 5)
    builder.kernel(10, 5).update(fields)
    builder.entries.append(7)
    return sum(warning.count for warning in builder.trace().warnings if warning.code == "ill_typed_events") - 1


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 0),
        ({"name": 5}, 1),
        ({"cat": ["kernel"]}, 1),
        ({"ts": "soon"}, 1),
        ({"dur": {}}, 1),
        ({"name": 5, "dur": "long"}, 1),
        ({"name": None, "dur": None}, 0),
        ({"ph": "M", "name": 5, "ts": "soon"}, 0),  # of metadata nothing is read
        ({"ph": 5, "name": 5}, 0),
        ({"pid": [1], "tid": {}, "args": "none"}, 0),
    ],
)
def test_which_entries_count_as_repaired(fields, count):
    assert repaired(**fields) == count


# --- What is no trace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({"nodes": [], "schema": "1"}, "a PyTorch execution trace (ExecutionTraceObserver)"),
        ({"nodes": []}, "JSON without a traceEvents list"),
        ({"schema": "1"}, "JSON without a traceEvents list"),
        ({"segments": []}, "a CUDA memory snapshot"),
        ({"device_traces": []}, "a CUDA memory snapshot"),
        ({"variant": "baseline", "schema_version": 1}, "a tracekit run manifest"),
        ({"variant": "baseline"}, "JSON without a traceEvents list"),
        ({"schema_version": 1}, "JSON without a traceEvents list"),
        ({"traceEvents": "none"}, "JSON without a traceEvents list"),
        ({}, "JSON without a traceEvents list"),
        ([[1, 2], [[3]]], "a memory timeline"),
        ([[1], 2], "some other JSON"),
        ([{"cat": "kernel"}], "some other JSON"),
        ([5], "some other JSON"),
        ("traceEvents", "some other JSON"),
    ],
)
def test_other_documents_are_named(document, what):
    with pytest.raises(TraceError) as caught:
        parse_tolerant(json.dumps(document).encode(), Path("a.json"))

    assert caught.value.what == f"this is {what}, not a profiler trace"
    assert caught.value.mend == EXPORT_HINT
    assert caught.value.where == Path("a.json")


def error_of(data: bytes) -> NotJsonError:
    with pytest.raises(NotJsonError) as caught:
        parse_tolerant(data, Path("a.json"))
    assert caught.value.where == Path("a.json")
    return caught.value


@pytest.mark.parametrize(
    "data", [b'[{"ph": "X"', b'[{"nan": NaN, "name": "ab', b"[NaN, tr", b"[NaN, -Inf", b"[NaN, 1.", b"[NaN, 1e+", b"[NaN,  "]
)
def test_a_text_that_ends_too_early_is_cut_off_where_it_ends(data):
    error = error_of(data)

    assert (error.at, error.cut_off) == (len(data), True)
    assert error.what == f"the JSON is cut off at byte {len(data)}"
    assert error.mend == "copy the file again, or let the profiler finish"


@pytest.mark.parametrize(
    ("data", "at"),
    [(b"[1, oops]", 4), (b"[NaN, oops]", 6), (b'["\xc3\xa4", NaN, oops]', 12), (b'["\xff\xff", oops]', 7), (b"[NaN] x", 6)],
)
def test_a_text_that_is_no_json_is_so_from_some_byte_on(data, at):
    error = error_of(data)

    assert (error.at, error.cut_off) == (at, False)
    assert error.what.startswith(f"not JSON at byte {at} (")
    assert error.mend == EXPORT_HINT


@pytest.mark.parametrize(("data", "at"), [(b"[NaN] [", 6), (b'{"a": NaN}\n{"a": 1}', 11)])
def test_several_documents_in_one_file_are_said_to_be_so(data, at):
    error = error_of(data)

    assert error.what == f"more than one JSON document: the next one begins at byte {at}"
    assert error.mend == "write each trace into a file of its own"
    assert not error.cut_off


def test_what_is_nested_too_deeply_is_said_so():
    data = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(TraceError) as caught:
        parse_tolerant(data, Path("a.json"))

    assert (caught.value.what, caught.value.mend) == ("the JSON is nested too deeply", EXPORT_HINT)


def test_control_characters_and_odd_numbers_are_accepted():
    data = (
        b'[{"ph": "X", "cat": "kernel", "name": "a\nb", "ts": 1.5, "dur": 0.0625, "nan": NaN, "large": 1e99999999999999999999}]'
    )
    (event,) = parse_tolerant(data, Path("a.json")).events

    assert (event.name, str(event.ts), str(event.dur)) == ("a\nb", "1.5", "0.0625")
