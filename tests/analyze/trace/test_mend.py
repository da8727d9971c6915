"""Text that is not quite JSON: the events are read anyway, and what was mended is told."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import examples
from synthetic import TraceBuilder, load_bytes
from unescaped import PLACE, base, filled, with_frames

from tracekit.analyze.activity.gpu import gpu
from tracekit.analyze.activity.idle import idle
from tracekit.analyze.trace.mend import BrokenTextError, Mended, mend, warnings
from tracekit.analyze.trace.mend_value import Mends
from tracekit.analyze.trace.trace import Trace, TraceWarning
from tracekit.errors import TraceError


def codes(trace: Trace) -> dict[str, int]:
    return {warning.code: warning.count for warning in trace.warnings}


def columns(trace: Trace) -> dict[str, list[object]]:
    """Everything of the events but their names."""
    return {name: trace.events[name].tolist() for name in ("category", "start_ns", "duration_ns", "thread", "correlation")}


def frame_names(trace: Trace, count: int) -> list[str]:
    rows = range(len(trace) - count, len(trace))
    return [trace.strings[trace.events["name"][row]] for row in rows]


def is_like(trace: Trace, names: list[str]) -> None:
    """The trace is the one that a file with everything escaped holds, names aside."""
    right = load_bytes(with_frames(names, escaped=True))
    assert columns(trace) == columns(right)
    assert gpu(trace) == gpu(right)
    assert idle(trace) == idle(right)


# --- Backslashes -------------------------------------------------------------------------------------------------------

PATHS = [
    r"C:\Users\me\model.py(12): forward",
    r"C:\work\envs\torch\cuda\__init__.py(219): _lazy_init",
    r"C:\new\table\model.py(3): forward \x",
    r"torch\cuda\__init__.py(219): _lazy_init",
    r"\\server\share\new\model.py(1): run",
    r"D:\u12\x.py(1): f",
    r"ends with one \x" + "\\",
    r"<lambda \d+\n>",
]


@pytest.mark.parametrize("name", PATHS)
def test_a_text_with_an_impossible_escape_was_not_escaped_at_all(name):
    trace = load_bytes(with_frames([name, "plain", name], escaped=False))

    is_like(trace, [name, "plain", name])
    assert frame_names(trace, 3) == [name, "plain", name]
    assert codes(trace) == {"unescaped_backslashes": 2}
    assert "2 texts hold backslashes" in trace.warnings[0].message


@pytest.mark.parametrize("name", [*PATHS, r"C:\new\table", 'say "\\hi"', "tab\tand line\n", "ядро \\ 核"])
def test_escaped_backslashes_stay_as_they_are(name):
    trace = load_bytes(with_frames([name], escaped=True))

    assert frame_names(trace, 1) == [name]
    assert codes(trace) == {}


@pytest.mark.parametrize(
    "name", [r"torch\nn\functional.py(3): relu", r"C:\new\table", r"C:\tmp\bin.py(1): \n", r"nn\b.pyw(7): f"]
)
def test_a_path_of_which_every_backslash_begins_an_escape(name):
    """Such a file is JSON; only the names tell."""
    trace = load_bytes(with_frames([name, "plain", name], escaped=False))

    assert frame_names(trace, 3) == [name, "plain", name]
    assert codes(trace) == {"backslashes_as_escapes": 2}
    assert "backslash" in trace.warnings[0].message


@pytest.mark.parametrize("name", ["step\n2", "a\tb.py", "C: \n", "what?\n.py(3): f", "two\nlines of a docstring"])
def test_other_names_keep_their_line_breaks(name):
    trace = load_bytes(with_frames([name], escaped=True))

    assert frame_names(trace, 1) == [name]
    assert codes(trace) == {}


def test_a_mended_text_changes_no_other_event():
    names = ["plain", r"C:\Users\x.py(1): f", 'quoted "here"', "\\u00e4 stays", r"tab\t stays"]
    data = filled(with_frames(names[:1] + [PLACE.format(place) for place in range(1, 5)], escaped=False), [], escaped=False)
    for place, written in ((1, names[1]), (2, r"quoted \"here\""), (3, names[3]), (4, names[4])):
        data = data.replace(PLACE.format(place).encode(), written.encode())

    assert frame_names(load_bytes(data), 5) == ["plain", names[1], 'quoted "here"', "ä stays", "tab\t stays"]


# --- Quotes ------------------------------------------------------------------------------------------------------------

QUOTED = [
    'say "hi"',
    '{"device": "cpu", "dtype": "float32"}(12): run',
    '[{"a": 1}, {"b": 2}](3): f',
    '{"name": "x", "id": 3}(12): run',
    '"',
    '""',
    'a"b',
    '"start',
    'end"',
    'a "b" c "d" e',
    'C:\\Users\\"me".py(3): f',
    'x}], {"y',
    'x", "cat": "y" z',
]


@pytest.mark.parametrize("name", QUOTED)
def test_raw_quotes_in_a_name(name):
    trace = load_bytes(with_frames(["plain", name, "plain"], escaped=False))

    is_like(trace, ["plain", name, "plain"])
    assert frame_names(trace, 3)[::2] == ["plain", "plain"]
    if "\\" not in name:
        assert frame_names(trace, 3)[1] == name
    assert codes(trace)["unescaped_quotes"] == 1


def test_backslashes_before_raw_quotes_stand_for_themselves():
    name = 'C:\\Users\\\\"me"\\x.py(3): f'

    assert frame_names(load_bytes(with_frames([name], escaped=False)), 1) == [name]


def test_raw_quotes_in_an_argument_and_the_name():
    builder = base()
    builder.operator(1_050_000, 10, PLACE.format(0), stack=PLACE.format(1), last=3)
    trace = load_bytes(filled(builder.json(), ['a "b" c', '{"x": "y", "z": "w"}'], escaped=False))

    assert trace.strings[-1] == 'a "b" c'
    assert codes(trace) == {"unescaped_quotes": 2}
    assert len(trace) == 13


@pytest.mark.parametrize("name", ['a", "pid": 3, "b"c', 'x"}, {"ph": "X", "name": "y" z'])
def test_a_text_that_would_hide_a_field_is_refused(name):
    """Nobody can tell whether these are one name or more fields."""
    line = refusal(with_frames(["plain", name], escaped=False))

    assert line is None or re.search(r"not JSON at byte [\d,]+", line)


@pytest.mark.parametrize("lost", [b'"name": "aten::mm', b'"name": "gemm', b'"cat": "cpu_op', b'"cat": "kernel'])
@pytest.mark.parametrize("end", [True, False])
def test_a_lost_quote_swallows_no_field_and_no_event(lost, end):
    data = base().json()
    at = data.index(lost)
    broken = (
        data[: at + len(lost)] + b"#" + data[at + len(lost) + 1 :]
        if end
        else data.replace(lost, lost.replace(b': "', b": "), 1)
    )
    line = refusal(broken)

    assert line is not None
    assert re.search(r"not JSON at byte [\d,]+", line)
    assert "with_stack=False" in line


def test_the_error_names_the_byte_at_which_the_event_begins():
    data = base().json().replace(b"aten::mm", b"aten::mm\\x", 1)
    at = data.rindex(b'{"ph": "X"')
    line = refusal(data[:at] + data[at:].replace(b'"ts": ', b'"ts": oops'))

    assert line is not None
    assert f"not JSON at byte {at:,}, and it cannot be mended" in line


# --- Metadata, values, commas ------------------------------------------------------------------------------------------


def test_metadata_that_cannot_be_mended_is_skipped_and_named():
    data = base().json()[:-1] + b',\n"INFO": [oops "x],\n"config": {1: 2},\n"WARNING": ["x"]}'
    trace = load_bytes(data)

    assert columns(trace) == columns(base().trace())
    assert codes(trace) == {"skipped_metadata": 2}
    assert "INFO, config" in trace.warnings[0].message


@pytest.mark.parametrize(
    "member",
    [
        '"INFO": ["Logging event "event_id": 64, "stream": 7"]',
        '"config": "{"lr": 0.1, "name": "adam", "steps": 3}"',
        '"path": "C:\\Users\\me"',
        '"note": "say "hi""',
    ],
)
@pytest.mark.parametrize("behind", [True, False])
def test_metadata_with_raw_quotes_or_backslashes_is_mended(member, behind):
    data = base().json()
    data = data[:-1] + b",\n" + member.encode() + b"\n}" if behind else b"{" + member.encode() + b",\n" + data[1:]
    trace = load_bytes(data)

    assert columns(trace) == columns(base().trace())
    assert list(codes(trace)) == ["unescaped_backslashes" if "\\" in member else "unescaped_quotes"]


def test_lines_tell_where_a_member_ends():
    trace = load_bytes(base().json()[:-1] + b',\n"note": "say "hi", "you": there",\n"distributedInfo": {"rank": 2}}')

    assert trace.rank == 2
    assert codes(trace) == {"unescaped_quotes": 1}


def test_members_on_one_line():
    trace = load_bytes(base().json()[:-1] + b', "config": "{"lr": 0.1, "a": "b"}", "distributedInfo": {"rank": 2}}')

    assert trace.rank == 2
    assert codes(trace) == {"unescaped_quotes": 1}


def test_an_object_in_quotes_is_that_object():
    info = '"distributedInfo": "{"backend": "nccl", "rank": 3, "world_size": 4}",\n'
    trace = load_bytes(b"{" + info.encode() + base().json()[1:])

    assert trace.rank == 3
    assert codes(trace) == {"unescaped_quotes": 1}


def test_whole_metadata_is_untouched():
    builder = TraceBuilder(note='say "hi"', path="C:\\new", distributedInfo={"rank": 1})
    builder.kernel(0, 5)

    assert builder.trace().warnings == ()
    assert builder.trace().rank == 1


@pytest.mark.parametrize("bare", [True, False])
def test_a_trailing_comma_is_ignored(bare):
    data = base().json(bare=bare)
    broken = data[:-1] + b",]" if bare else data[:-2] + b", ],\n}"
    trace = load_bytes(broken)

    assert columns(trace) == columns(base().trace())
    assert codes(trace) == {"trailing_commas": 1 if bare else 2}


def test_a_trailing_comma_in_an_event():
    data = base().json().replace(b'"stream": 7', b'"grid": [1, 2, 3,], "stream": 7', 1)

    assert codes(load_bytes(data)) == {"trailing_commas": 1}


@pytest.mark.parametrize("word", ["nan", "-nan", "inf", "-inf", "N/A", "None", "-nan(ind)"])
def test_a_value_that_is_no_json_counts_as_not_recorded(word):
    data = base().json().replace(b'"stream": 7', b'"est. achieved occupancy %": ' + word.encode() + b', "stream": 7')
    trace = load_bytes(data)

    assert trace.gpu["occupancy_percent"].tolist() == [None] * 4
    assert codes(trace) == {"unreadable_values": 4}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "null", "1e400", "-0.5e-3"])
def test_values_that_are_read_as_before(word):
    data = base().json().replace(b'"stream": 7', b'"est. achieved occupancy %": ' + word.encode() + b', "stream": 7')

    assert codes(load_bytes(data)) == {}


@pytest.mark.parametrize("word", ["banana", "007", "0x55", "1.2.3", "'text'"])
def test_a_value_that_nobody_can_know_is_refused(word):
    data = base().json().replace(b'"stream": 7', b'"odd": ' + word.encode() + b', "stream": 7')
    line = refusal(data)

    assert line is not None
    assert "not JSON at byte" in line
    assert "with_stack=False" in line
    assert "newer PyTorch" in line


def test_nested_objects_and_lists_within_arguments_are_no_ends_of_events():
    builder = base()
    builder.operator(1_050_000, 10, "nest", deep=[{"a": [{"b": 1}, {"c": 2}]}, {}], many=[{"x": place} for place in range(100)])
    builder.module(1_060_000, 10, PLACE.format(0))
    trace = load_bytes(filled(builder.json(), [r"C:\Users\x"], escaped=False))

    assert len(trace) == 14
    assert codes(trace) == {"unescaped_backslashes": 1}


# --- The whole text ----------------------------------------------------------------------------------------------------


def document(before: str = "", behind: str = "", event: str = '{"a": nan}') -> bytes:
    """A document with one event that has to be mended, so that all of its text is looked at."""
    return f'{{{before}"traceEvents": [{event}]{behind}}}'.encode()


def test_what_is_whole_stays_to_the_byte():
    written = mend(document('"note": "[1, 2]", "more": "{}",\n', ',\n"last": ["x"] ,"text": "y"\n'))

    assert written.text == b'{"note": "[1, 2]",\n"more": "{}",\n"traceEvents": [{"a": null}],\n"last": ["x"],\n"text": "y"}'
    assert (written.mends, written.skipped) == (Mends(values=1), ())


@pytest.mark.parametrize("bare", [True, False])
def test_only_the_broken_events_are_written_anew(bare):
    events = '[{"a": 1 } , {"b": nan},\n{"c": {"d": [2]}}, {"e": nan}, {"f": 3}]'
    text = events if bare else f'{{"traceEvents": {events}}}'

    assert mend(text.encode()).text == text.replace("nan", "null").encode()


@pytest.mark.parametrize("space", ["", " ", "\n ", " \t \r\n"])
def test_space_around_the_text_is_no_part_of_it(space):
    assert mend(f'{space}[{{"a": nan}}]{space}'.encode()).text == b'[{"a": null}]'
    assert mend(space.encode() + document() + space.encode()).text == b'{"traceEvents": [{"a": null}]}'


def test_a_list_without_events_is_whole():
    assert mend(b'{"note": nan, "traceEvents": [ ]}').text == b'{"note": null,\n"traceEvents": []}'
    assert mend(b" [ ] ").text == b"[]"


@pytest.mark.parametrize("comma", [",", " , "])
def test_a_comma_behind_the_last_member_is_ignored(comma):
    written = mend(document(behind=', "distributedInfo": {"rank": 2}' + comma))

    assert written.text == b'{"traceEvents": [{"a": null}],\n"distributedInfo": {"rank": 2}}'
    assert written.mends == Mends(values=1, commas=1)


def test_space_before_a_comma_is_no_part_of_a_value():
    written = mend(document('"distributedInfo": "{"rank": 3}" ,\n'))

    assert written.text == b'{"distributedInfo": {"rank": 3},\n"traceEvents": [{"a": null}]}'
    assert written.mends == Mends(values=1, quotes=1)


def test_only_the_member_that_cannot_be_mended_is_left_out():
    assert mend(document('"one": 1,\n"odd": {1: 2},\n"two": 2,\n')).skipped == ("odd",)
    assert mend(document('"one": 1,\n"odd": {1: 2},\n')).skipped == ("odd",)
    assert mend(document().replace(b"{", b'{"\xff": {1: 2},\n', 1)).skipped == ("\ufffd",)
    written = mend(document(behind=', "one": 1,\n"odd": {1: 2}, "more": 3,\n"last": {1: 2}'))
    assert written.skipped == ("odd", "last")
    assert b'"one": 1' in written.text


@pytest.mark.parametrize(
    ("data", "at", "cut_off"),
    [
        (b"", 0, True),
        (b"  ", 2, True),
        (b'[{"a": nan}], x]', 12, False),
        (b'{"traceEvents": [{"a": nan}]', 28, True),
        (b'[{"a": nan}', 11, True),
        (b'[{"a": nan}}', 12, True),
        (b'[{"a": 1}, {"b": oops}]', 11, False),
        (b'{"events": [nan]}', 0, False),
        (b'"traceEvents": [nan]}', 0, False),
        (b'{oops "traceEvents": [{"a": nan}]}', 1, False),
        (b'{"traceEvents": [{"a": nan}], oops}', 30, False),
        (b'{"traceEvents": [{"a": nan}', 27, True),
    ],
)
def test_from_where_on_a_text_is_broken(data, at, cut_off):
    with pytest.raises(BrokenTextError) as caught:
        mend(data)

    assert (caught.value.at, caught.value.cut_off, str(caught.value)) == (at, cut_off, f"broken at byte {at}")


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (
            1,
            [
                ("unescaped_backslashes", "1 text holds backslashes that are not escaped; it was read as it is written"),
                ("unescaped_quotes", "1 text holds quotes that are not escaped; it was read as it is written"),
                ("unreadable_values", "1 value, such as nan, is not JSON; it counts as not recorded"),
                ("trailing_commas", "1 comma stands before a closing bracket; it was ignored"),
                ("skipped_metadata", "1 entry of the file's metadata is not JSON and was left out: key 0"),
            ],
        ),
        (
            2,
            [
                ("unescaped_backslashes", "2 texts hold backslashes that are not escaped; they were read as they are written"),
                ("unescaped_quotes", "2 texts hold quotes that are not escaped; they were read as they are written"),
                ("unreadable_values", "2 values, such as nan, are not JSON; they count as not recorded"),
                ("trailing_commas", "2 commas stand before a closing bracket; they were ignored"),
                ("skipped_metadata", "2 entries of the file's metadata are not JSON and were left out: key 0, key 1"),
            ],
        ),
        (0, []),
    ],
)
def test_what_the_reader_is_told(count, told):
    mended = Mended(b"", Mends(count, count, count, count), tuple(f"key {number}" for number in range(count)))

    assert list(warnings(mended)) == [TraceWarning(code, message, count) for code, message in told]


# --- Properties --------------------------------------------------------------------------------------------------------

parts = st.sampled_from(
    [*'\\"{}[],: \n\tnux', "\\U", "\\n", '"a"', '": "', '", "', "C:\\", ".py(3): f", "é核😀", '"}', "}, {", "]", "0041"]
)
names = st.lists(st.lists(parts, max_size=7).map("".join) | st.text(max_size=8), min_size=1, max_size=3)
ENDS_A_TEXT = re.compile(r'"\s*[,:}\]]')


def refusal(data: bytes) -> str | None:
    """The one line with which the file is refused, or None."""
    try:
        load_bytes(data, "x.json")
    except TraceError as error:
        line = str(error)
        assert "\n" not in line
        assert "x.json" in line
        return line
    return None


@given(names)
@examples(300)
def test_figures_are_right_or_the_file_is_refused(texts):
    # A name that ends its own text and goes on as JSON cannot be told from fields.
    assume(not any(ENDS_A_TEXT.search(text) for text in texts))
    data = with_frames(texts, escaped=False)
    line = refusal(data)
    if line is None:
        is_like(load_bytes(data), texts)
    else:
        assert re.search(r"at byte [\d,]+", line)


@given(names)
@examples(200)
def test_no_name_makes_a_crash(texts):
    sums_add_up_or_refused(with_frames(texts, escaped=False))


def sums_add_up_or_refused(data: bytes) -> None:
    if refusal(data) is not None:
        return
    trace = load_bytes(data)
    figures = gpu(trace)
    if figures is not None:
        assert figures.busy_ns + figures.idle_ns == figures.span_ns
        assert idle(trace).total_ns == figures.idle_ns


def test_a_broken_file_cut_off_anywhere_names_the_byte():
    data = with_frames([*PATHS, *QUOTED], escaped=False)
    brackets = [found.end() for found in re.finditer(rb"[\]}]", data) if 20 < found.end() < len(data)]
    for cut in {*range(20, len(data), 11), *brackets}:
        line = refusal(data[:cut])
        assert line is not None
        assert f"cut off at byte {cut:,};" in line, data[:cut]


@pytest.mark.parametrize("rest", [b" extra", b"\0", b"]"])
def test_text_after_the_end_is_not_called_cut_off(rest):
    line = refusal(base().json() + rest)

    assert line is not None
    assert re.search(r"not JSON at byte [\d,]+", line)


def test_a_broken_file_that_is_whole_is_not_called_cut_off():
    data = with_frames([*PATHS, *QUOTED], escaped=False).replace(b'"dur": 0.500', b'"dur": oops')[:-1]
    line = refusal(data + b',\n"notes": {"pid": 3, "tid": [{"dur": 4}]}}')

    assert line is not None
    assert "cut off" not in line


@given(st.data())
@examples(150)
def test_flipped_bytes_of_a_broken_file(data):
    content = bytearray(with_frames([PATHS[0], QUOTED[1], "plain"], escaped=False))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    sums_add_up_or_refused(bytes(content))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8))  # fmt: skip
@examples(100)
def test_what_is_json_is_not_changed(value):
    """Not one byte of a whole event or member changes, whatever stands in it."""
    builder = TraceBuilder(anything=value)
    builder.operator(0, 10, "aten::mm", anything=value)
    builder.kernel(20, 10)
    found = mend(builder.json())

    assert json.loads(found.text) == json.loads(builder.json())
    assert vars(found.mends) == {"backslashes": 0, "quotes": 0, "values": 0, "commas": 0}
    assert found.skipped == ()
