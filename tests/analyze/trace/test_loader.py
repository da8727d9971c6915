"""The loader: exact on every format, and one line for whatever is no trace."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from properties import examples
from synthetic import EVENT_ARGS, EVENT_FIELDS, TraceBuilder, load_bytes

from tracekit.analyze.trace.events import CollectiveArgs, parse_typed
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.repair import parse_tolerant
from tracekit.analyze.trace.trace import Category, Signature, Trace
from tracekit.errors import TraceError

FUZZ = examples(150)


def small() -> TraceBuilder:
    """Two threads' worth of everything that the loader tells apart, by names without a repetition."""
    builder = TraceBuilder()
    builder.annotation(0, 900, "step")
    builder.operator(5, 200, "aten::mm")
    builder.launch(call=(10, 40), kernel=(100, 50), name="gemm", grid=[4, 1, 1], block=[64, 2, 1])
    builder.memcpy(160, 10, bytes=4096, stream=8)
    builder.memset(175, 5)
    builder.call(300, 90, "cudaDeviceSynchronize")
    builder.call(400, 3, "cuLaunchKernel", driver=True, correlation=77)
    builder.module(500, 100)
    return builder


def error_of(data: bytes, name: str = "broken.json") -> str:
    """The one line that a file with this content is refused with."""
    with pytest.raises(TraceError) as caught:
        load_bytes(data, name)
    line = str(caught.value)
    assert "\n" not in line
    assert name in line
    return line


def codes(trace: Trace) -> dict[str, int]:
    return {warning.code: warning.count for warning in trace.warnings}


def times(trace: Trace) -> list[tuple[int, int]]:
    return list(zip(trace.events["start_ns"].tolist(), trace.events["duration_ns"].tolist(), strict=True))


# --- Formats -----------------------------------------------------------------------------------------------------------


def test_everything_the_analyses_use_arrives():
    trace = small().trace("a.json")

    assert trace.name == "a.json"
    assert trace.entries == len(trace) == 9
    assert trace.warnings == ()
    assert trace.events["category"].tolist() == [
        Category.ANNOTATION,
        Category.OPERATOR,
        Category.RUNTIME,
        Category.KERNEL,
        Category.MEMCPY,
        Category.MEMSET,
        Category.RUNTIME,
        Category.DRIVER,
        Category.PYTHON,
    ]
    assert trace.gpu["stream"].tolist() == [7, 8, 7]
    assert trace.gpu["bytes"].tolist() == [None, 4096, None]
    assert trace.gpu["grid"].tolist() == [[4, 1, 1], None, None]
    assert trace.threads[0] == ("100", "1")


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_compression_is_told_by_content_not_by_name(name):
    builder = small()

    assert times(load_bytes(builder.json_gz(), name)) == times(load_bytes(builder.json(), name)) == times(builder.trace())


def test_a_bare_list_of_events_is_a_trace():
    bare = load_bytes(small().json(bare=True))

    assert times(bare) == times(small().trace())
    assert bare.device is None


def test_a_byte_order_mark_and_space_around_are_no_matter():
    data = small().json()

    assert (
        times(load_bytes(b"\xef\xbb\xbf" + data)) == times(load_bytes(b" \n" * 5000 + data + b"\n\n")) == times(small().trace())
    )


def test_gzip_of_several_members_is_one_file():
    data = small().json()

    assert times(load_bytes(gzip.compress(data[:300]) + gzip.compress(data[300:]))) == times(small().trace())


def test_old_format_with_capitalised_categories_and_whole_microseconds():
    builder = TraceBuilder(old_format=True)
    builder.operator(1_000, 60_000)
    builder.launch(call=(2_000, 5_000), kernel=(10_000, 3_000))
    builder.memcpy(14_000, 1_000)
    builder.memset(16_000, 1_000)
    trace = builder.trace()

    assert b'"Kernel"' in builder.json()
    assert trace.events["category"].tolist() == [
        Category.OPERATOR,
        Category.RUNTIME,
        Category.KERNEL,
        Category.MEMCPY,
        Category.MEMSET,
    ]
    assert times(trace) == [(0, 60_000), (1_000, 5_000), (9_000, 3_000), (13_000, 1_000), (15_000, 1_000)]


@pytest.mark.parametrize("category", ["hip_runtime", "cuda_runtime", "Runtime"])
def test_runtime_calls_of_all_releases(category):
    builder = TraceBuilder()
    builder.event(0, 5, cat=category, name="hipLaunchKernel", pid=1, tid=1)

    assert builder.trace().calls.tolist() == [0]


def test_metadata_of_device_and_rank():
    builder = TraceBuilder(
        deviceProperties=[
            {"id": 0, "name": "Idle GPU"},
            {"id": 1, "name": "Tesla T4", "computeMajor": 7, "computeMinor": 5, "numSms": 40, "totalGlobalMem": 1 << 34},
        ],
        distributedInfo={"rank": 3, "world_size": 8},
        baseTimeNanoseconds=1_700_000_000_000_000_000,
    )
    builder.kernel(0, 5, device=1)
    trace = builder.trace()

    assert trace.rank == 3
    assert trace.device is not None
    assert (trace.device.name, trace.device.compute_capability) == ("Tesla T4", "7.5")
    assert (trace.device.multiprocessors, trace.device.memory_bytes) == (40, 1 << 34)


@pytest.mark.parametrize(
    "properties", [{}, "x", [None, 3], [{"id": 0, "name": []}], [{"id": 5, "name": []}, {"id": 6}], [{"id": 0}]]
)
@pytest.mark.parametrize("distributed", [[], "x", {"rank": True}, {"rank": "x"}, {"rank": None}])
def test_odd_metadata_costs_nothing_but_itself(properties, distributed):
    builder = TraceBuilder(deviceProperties=properties, distributedInfo=distributed)
    builder.kernel(0, 5)
    trace = builder.trace()

    assert len(trace) == 1
    assert trace.rank is None


def test_only_complete_events_count_but_all_entries_do():
    builder = small()
    builder.entries.append({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}})
    builder.entries.append({"ph": "s", "id": 4, "pid": 1, "tid": 2, "ts": 3.5, "cat": "ac2g", "name": "ac2g"})
    trace = builder.trace()

    assert trace.entries == 11
    assert len(trace) == 9


# --- Exact times -------------------------------------------------------------------------------------------------------

durations = st.integers(0, 10**10)
starts = st.one_of(
    st.integers(0, 10**6),
    st.integers(-(10**12), 10**15),
    st.integers(1_600_000_000 * 10**9, 2_000_000_000 * 10**9),  # absolute, since 1970
    st.integers(2**43 * 1000 - 5000, 2**43 * 1000 + 5000),  # where doubles stop telling nanoseconds apart
    st.integers(2**53 - 1000, 2**53 + 1000),
)


@given(st.lists(st.tuples(starts, durations), min_size=1, max_size=8))
@examples(200)
def test_times_are_exact_to_the_nanosecond(spans):
    builder = TraceBuilder()
    for start, duration in spans:
        builder.operator(start, duration)
    first = min(start for start, _ in spans)

    assert times(builder.trace()) == [(start - first, duration) for start, duration in spans]


@given(
    st.integers(0, 2_000_000_000 * 10**9),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**5)), min_size=1, max_size=5),
)
@examples(60)
def test_the_base_of_times_does_not_matter(base, spans):
    here, there = TraceBuilder(), TraceBuilder(base_ns=base)
    for start, duration in spans:
        here.operator(start, duration)
        there.operator(start, duration)

    assert times(here.trace()) == times(there.trace())


@given(st.lists(st.tuples(st.integers(0, 2 * 10**15), st.integers(0, 10**7)), min_size=1, max_size=5))
@examples(60)
def test_whole_microseconds_are_exact(spans_us):
    builder = TraceBuilder(old_format=True)
    for start, duration in spans_us:
        builder.operator(start * 1000, duration * 1000)
    first = min(start for start, _ in spans_us)

    assert times(builder.trace()) == [((start - first) * 1000, duration * 1000) for start, duration in spans_us]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1.0005", 1000),
        ("1.0015", 1002),
        ("0.5015", 502),
        ("1.00050001", 1001),
        ("1e1", 10_000),
        ("2.5e-3", 2),
        ("3.5e-3", 4),
        ("0.0004", 0),
        ('"7.25"', 7250),
    ],
)
def test_other_spellings_of_a_number_round_half_to_even(text, ns):
    entry = f'{{"ph": "X", "cat": "cpu_op", "name": "a", "pid": 1, "tid": 1, "ts": 1, "dur": {text}}}'

    assert times(load_bytes(f"[{entry}]".encode())) == [(0, ns)]


def test_integers_and_fractions_may_be_mixed():
    entry = '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": %s, "dur": 1}'
    texts = ("1700000000000000", "1700000000000001.001", "1700000000000002.25")
    trace = load_bytes(f"[{', '.join(entry % text for text in texts)}]".encode())

    assert trace.start_ns.tolist() == [0, 1001, 2250]


# --- What is odd about single events -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "warnings"),
    [
        ("dur", None, {"events_without_duration": 1}),
        ("dur", "soon", {"events_without_duration": 1, "ill_typed_events": 1}),
        ("dur", True, {"events_without_duration": 1, "ill_typed_events": 1}),
        ("dur", -5, {"negative_durations": 1}),
        ("dur", -0.001, {"negative_durations": 1}),
        ("ts", None, {"events_without_time": 1}),
        ("ts", [], {"events_without_time": 1, "ill_typed_events": 1}),
        ("ts", 10**30, {"events_without_time": 1, "ill_typed_events": 1}),
        ("ts", -(2**63), {"events_without_time": 1, "ill_typed_events": 1}),
        ("ts", "Infinity", {"events_without_time": 1, "ill_typed_events": 1}),
        ("ts", "1e999999999999999999", {"events_without_time": 1, "ill_typed_events": 1}),
        ("ts", "1e-999999999999999999", {}),
        ("ts", "0.125", {}),
        ("name", 5, {"ill_typed_events": 1}),
        ("name", None, {}),
        ("cat", 5, {"ill_typed_events": 1, "unread_device_events": 1}),
        ("cat", None, {"unread_device_events": 1}),
        ("args", None, {}),
        ("args", "none", {}),
        ("args", [1], {}),
        ("args", {"correlation": "3", "stream": "7", "device": None}, {}),
        ("args", {"correlation": 2**80, "bytes": "much", "grid": "4x4", "registers per thread": 2**80}, {}),
        ("args", {"correlation": 1.5, "shared memory": -1.5, "est. achieved occupancy %": "high"}, {}),
        ("args", {"device": 2**80, "stream": {}}, {}),
        ("args", {"correlation": "1e999999999999999999", "bytes": "1e-999999999999999999"}, {}),
        ("pid", "python 3", {}),
        ("pid", 2**80, {}),
        ("pid", True, {}),
        ("tid", "stream 7", {}),
        ("tid", 1.5, {}),
    ],
)  # fmt: skip
def test_one_odd_field_costs_a_warning_and_not_the_trace(field, value, warnings):
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    odd = builder.kernel(20, 5, "odd", correlation=9)
    odd[field] = value
    trace = builder.trace()

    assert codes(trace) == warnings
    assert trace.entries == 3
    left_out = {"events_without_time", "negative_durations"} & warnings.keys()
    assert len(trace) == (2 if left_out else 3)
    assert times(trace)[:2] == [(0, 5), (10, 5)]


@pytest.mark.parametrize("field", ["ts", "dur", "args", "pid", "tid", "cat", "name"])
def test_a_missing_field_is_as_good_as_null(field):
    missing, null = TraceBuilder(), TraceBuilder()
    for builder in (missing, null):
        builder.kernel(0, 5)
    del missing.kernel(20, 5, "odd")[field]
    null.kernel(20, 5, "odd")[field] = None
    missing_trace, null_trace = missing.trace(), null.trace()

    assert times(missing_trace) == times(null_trace)
    assert codes(missing_trace) == codes(null_trace)


@pytest.mark.parametrize(
    "token", ["NaN", "Infinity", "-Infinity", "1e400", "1e99999999999999999999", "-1e99999999999999999999"]
)
def test_numbers_that_are_no_time(token):
    good = '{"ph": "X", "cat": "kernel", "name": "a", "pid": 0, "tid": 7, "ts": 1.5, "dur": 0.25}'
    trace = load_bytes(f"[{good}, {good.replace('1.5', token)}]".encode())

    assert times(trace) == [(0, 250)]
    assert codes(trace)["events_without_time"] == 1


def test_entries_that_are_no_events_are_counted():
    builder = small()
    builder.entries += [None, 5, "text", [], True]
    trace = builder.trace()

    assert trace.entries == 14
    assert len(trace) == 9
    assert codes(trace) == {"ill_typed_events": 5}


def test_far_apart_times_do_not_overflow():
    builder = TraceBuilder()
    builder.kernel(-(2 * 10**18), 10)
    builder.kernel(2 * 10**18, 2 * 10**18)
    trace = builder.trace()

    assert trace.start_ns.tolist() == [0, 4 * 10**18]
    assert trace.end_ns.tolist() == [10, 6 * 10**18]


def test_a_track_with_a_name_is_no_track_with_a_number_below_zero():
    builder = TraceBuilder()
    for tid in ("main", -1, "other", -2):
        entry = builder.kernel(0, 5)
        entry["tid"] = tid
        del entry["args"]
    numbers = builder.trace().gpu["stream"].tolist()
    assert (numbers[1], numbers[3]) == (-1, -2)
    assert len(set(numbers)) == 4
    assert max(numbers) < 0


def test_string_tracks_are_kept_apart():
    builder = TraceBuilder()
    for tid in ("stream a", "stream b", "stream a"):
        builder.entries.append({"ph": "X", "cat": "kernel", "name": "k", "pid": "gpu", "tid": tid, "ts": 1, "dur": 1})
    trace = builder.trace()
    first, second, third = trace.gpu["stream"].tolist()

    assert first == third != second
    assert trace.threads == (("gpu", "stream a"), ("gpu", "stream b"))


NAMES = ["<script>alert(1)</script>", "a\u0000b", "tab\there", "\x1b[31mred", "😀 ядро", "\u202eevil", ""]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_kept_as_they_are(name):
    builder = TraceBuilder()
    builder.kernel(0, 5, name)

    assert builder.trace().strings.tolist() == [name]


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"a\nb\x01c", b"\xc3"])
def test_names_that_are_not_quite_text(raw):
    """Broken UTF-8, lone surrogates and raw control characters: read, and always fit to be written as UTF-8."""
    builder = TraceBuilder()
    builder.kernel(0, 5, "NAME")
    builder.kernel(7, 5, "other")
    trace = load_bytes(builder.json().replace(b"NAME", b"x" + raw + b"y"))

    assert trace.strings[0].encode().startswith(b"x")
    assert trace.strings[0].endswith("y")
    assert trace.strings[1] == "other"


def test_ten_thousand_streams():
    builder = TraceBuilder()
    for stream in range(10_000):
        builder.launch(call=(stream * 10, 3), kernel=(stream * 10 + 5, 100), stream=stream)
    begin = time.perf_counter()
    trace = builder.trace()

    assert time.perf_counter() - begin < 2
    assert len(set(trace.gpu["stream"].tolist())) == 10_000


# --- What is no trace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n\t " * 3000, "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b"hello", "not JSON at byte 0"),
        (b'{"traceEvents": [], oops}', "not JSON at byte 20"),
        (b'\xff\xff{"a": 1}', "not JSON at byte 0"),
        (b'{"\xff\xff": 1, oops}', "not JSON at byte 10"),
        (b"{}", "without a traceEvents list"),
        (b'{"traceEvents": {"a": 1}}', "without a traceEvents list"),
        (b'{"traceEvents": null}', "without a traceEvents list"),
        (b'{"traceEvents": []}', "no events"),
        (b'{"traceEvents": [{"ph": "M", "name": "process_name"}]}', "none of its 1 entry"),
        (b"[]", "no events"),
        (b"null", "some other JSON"),
        (b"17", "some other JSON"),
        (b'"traceEvents"', "some other JSON"),
        (b"[1, 2, 3]", "some other JSON"),
        (b"[" * 100_000, "cut off|nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"schema": "1.1.1-chakra.0.0.4", "nodes": []}', "execution trace"),
        (b'{"segments": [], "device_traces": [[]]}', "memory snapshot"),
        (b"[[1, 2], [[3, 4], [5, 6]]]", "memory timeline"),
        (b'{"schema_version": 1, "variant": "baseline"}', "run manifest"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_named(data, says):
    with pytest.raises(TraceError, match=says):
        load_bytes(data)
    assert "broken.json" in error_of(data)


@pytest.mark.parametrize("digits", [4_000, 5_000, 50_000])
@pytest.mark.parametrize("key", ["tid", "ts", "dur", "correlation"])
def test_numbers_of_thousands_of_digits_do_no_harm(key, digits):
    """Python reads integers up to some length; either way nothing breaks."""
    loads_or_refuses(re.sub(rf'"{key}": [\d.]+'.encode(), f'"{key}": {"9" * digits}'.encode(), small().json()))


def test_json_cut_off_anywhere_names_the_byte():
    data = small().json()
    for cut in range(1, len(data)):
        assert f"cut off at byte {cut:,}" in error_of(data[:cut]), cut


def test_json_with_nan_cut_off_anywhere_names_the_byte():
    """Such a file takes the other parser."""
    data = small().json().replace(b"{", b'{"nan": NaN, "text": "a\\u00e9\\"b\\\\", "no": [-Infinity, false, null, 1.5e-3], ', 1)
    assert loads_or_refuses(data) is not None
    for cut in range(12, len(data)):
        assert f"cut off at byte {cut:,}" in error_of(data[:cut]), data[:cut]


def test_bare_list_cut_off_anywhere_names_the_byte():
    data = small().json(bare=True)
    for cut in range(1, len(data), 7):
        assert f"cut off at byte {cut:,}" in error_of(data[:cut]), cut


def test_gzip_cut_off_anywhere_names_its_length():
    data = small().json_gz()
    for cut in range(2, len(data)):
        line = error_of(data[:cut], "cut.json.gz")
        assert "cut off or damaged" in line
        assert f"{cut:,} bytes" in line


def test_unreadable_paths(tmp_path):
    for path, reason in ((tmp_path / "none.json", "No such file"), (tmp_path, "directory")):
        with pytest.raises(TraceError, match=reason):
            load(path)


# --- Anything at all ---------------------------------------------------------------------------------------------------


def loads_or_refuses(data: bytes) -> Trace | None:
    """A Trace, or None for a TraceError; anything else fails the test."""
    try:
        trace = load_bytes(data)
    except TraceError:
        return None
    assert (trace.events["duration_ns"] >= 0).all()
    assert (trace.end_ns >= trace.start_ns).all()
    assert trace.start_ns.min() == 0
    return trace


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["X", "kernel", "cpu_op", "1e999999999999999999", "NaN", "-1", "1" * 5000]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["traceEvents", "ph", "ts", "dur", "args", "nodes", "schema"]), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=200))
@FUZZ
def test_fuzz_bytes(data):
    loads_or_refuses(data)
    loads_or_refuses(b"\x1f\x8b" + data)
    loads_or_refuses(b'{"traceEvents": [' + data)


@given(json_values)
@FUZZ
def test_fuzz_json(document):
    loads_or_refuses(json.dumps(document).encode())
    loads_or_refuses(json.dumps({"traceEvents": document, "deviceProperties": document, "distributedInfo": document}).encode())


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(EVENT_FIELDS + EVENT_ARGS), json_values), min_size=1, max_size=4))
@examples(300)
def test_fuzz_fields(changes):
    builder = small()
    for change in changes:
        builder.set(*change)
    loads_or_refuses(builder.json())


@given(st.data())
@examples(300)
def test_fuzz_damage(data):
    content = bytearray(small().json() if data.draw(st.booleans()) else small().json_gz())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "delete", "insert"]))
        if how == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "delete":
            del content[place : place + data.draw(st.integers(1, 20))]
        else:
            content[place:place] = data.draw(st.binary(min_size=1, max_size=4))
    loads_or_refuses(bytes(content))


# What operators were called with


def called(builder: TraceBuilder) -> list[tuple[str, Signature | None]]:
    """Each operator's name and signature, as loaded."""
    trace = builder.trace()
    rows = trace.operators
    codes = trace.events["signature"][rows].tolist()
    return list(zip(trace.names(rows).tolist(), [trace.signatures[code] if code >= 0 else None for code in codes], strict=True))


def test_operators_keep_their_inputs_each_distinct_one_once():
    builder = TraceBuilder()
    builder.operator(0, 10, "aten::mm", **recorded(t(2, 3), t(3, 4)))
    builder.operator(20, 10, "aten::copy_")
    builder.operator(40, 10, "aten::bmm", **recorded(t(2, 3), t(3, 4)))
    builder.operator(60, 10, "aten::mm", **recorded(t(2, 3), t(3, 5)))
    builder.kernel(80, 10)
    builder.annotation(100, 10)
    first, second = (b"[[2, 3], [3, 4]]", b"[[2, 3], [3, 5]]")

    found = called(builder)
    assert [name for name, _ in found] == ["aten::mm", "aten::copy_", "aten::bmm", "aten::mm"]
    assert [written and written[0] for _, written in found] == [first, None, first, second]
    assert found[0][1] == (first, b'["float", "float"]', b"[[3, 1], [4, 1]]", b'["", ""]')
    trace = builder.trace()
    assert len(trace.signatures) == 2
    assert trace.events["signature"].tolist() == [0, -1, 0, 1, -1, -1]


def test_inputs_that_an_older_profiler_left_out_are_empty():
    builder = TraceBuilder()
    builder.operator(0, 10, "aten::mm", **{"Input Dims": [[2, 3], [3, 4]], "Input type": ["float", "float"]})
    assert called(builder) == [("aten::mm", (b"[[2, 3], [3, 4]]", b'["float", "float"]', b"", b""))]


def test_inputs_survive_the_repair_of_another_field():
    builder = TraceBuilder()
    builder.operator(0, 10, "aten::mm", **recorded(t(2, 3), t(3, 4)))
    builder.operator(20, 10, "aten::mm", correlation="odd", **recorded(t(2, 3), t(3, 4)))
    found = called(builder)
    assert [msgspec.json.decode(written[0]) for _, written in found if written] == [[[2, 3], [3, 4]]] * 2
    assert len({written for _, written in found}) == 1


@pytest.mark.parametrize("value", [7, None, "text", {"a": [1]}, [[[]]], [1e400]])
def test_inputs_of_any_kind_are_kept_as_they_are(value):
    builder = TraceBuilder()
    builder.operator(0, 10, "aten::mm", **{"Input Dims": value, "Input type": ["float"]})
    ((_, written),) = called(builder)
    assert written is not None
    assert written[1] == b'["float"]'


def test_both_parses_read_the_same_of_a_well_typed_event():
    """A field that only one of them knows would be lost in a file with one odd entry."""
    arguments = {field.encode_name: 1 for field in msgspec.structs.fields(CollectiveArgs)}
    arguments |= {"grid": [1, 2, 3], "block": [4, 5, 6]}
    event = {"ph": "X", "cat": "kernel", "name": "k", "pid": 1, "tid": "two", "ts": 3, "dur": 4, "args": arguments}
    data = json.dumps({"distributedInfo": {"rank": 0}, "traceEvents": [event]}).encode()

    (typed,), (tolerant,) = parse_typed(data, float).events, parse_tolerant(data, Path("x.json")).events
    for field in msgspec.structs.fields(CollectiveArgs):
        one, other = getattr(typed.args, field.name), getattr(tolerant.args, field.name)
        assert bytes(one) == bytes(other) if isinstance(one, msgspec.Raw) else one == other, field.name
