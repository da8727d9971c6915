"""What one broken piece of JSON becomes, to the byte."""

from __future__ import annotations

import json

import pytest

from tracekit.analyze.trace.mend_value import Mends, ValueMender


def event(piece: str, most_bytes: int = 10**6) -> tuple[object, Mends] | None:
    """The value of a mended event and what was mended, or None."""
    mends = Mends()
    fixed = ValueMender(most_bytes).event(piece.encode(), mends)
    if fixed is None:
        assert mends == Mends()
        return None
    return json.loads(fixed), mends


def metadata(piece: str) -> tuple[object, Mends] | None:
    mends = Mends()
    fixed = ValueMender(10**6).metadata(piece.encode(), mends)
    return None if fixed is None else (json.loads(fixed), mends)


@pytest.mark.parametrize(
    ("piece", "value", "mends"),
    [
        ('{"name": nan, "args": {}, "list": []}', {"name": None, "args": {}, "list": []}, Mends(values=1)),
        ('{"a": [1, nan, -inf], "b": N/A}', {"a": [1, None, None], "b": None}, Mends(values=3)),
        ('{"a": [1, 2, ], "b": {"c": 3,},}', {"a": [1, 2], "b": {"c": 3}}, Mends(commas=3)),
        ('{"a": [[], {}, ], "b": -0.5e-3,}', {"a": [[], {}], "b": -0.0005}, Mends(commas=2)),
        (r'{"name": "C:\Users\me", "b": "\x"}', {"name": r"C:\Users\me", "b": r"\x"}, Mends(backslashes=2)),
        (r'{"name": "C:\Users\me", "b": "a\nb"}', {"name": r"C:\Users\me", "b": "a\nb"}, Mends(backslashes=1)),
        (r'{"name": "C:\Users", "b": nan}', {"name": r"C:\Users", "b": None}, Mends(backslashes=1, values=1)),
        (r'{"name": "say "hi" \x", "b": 1}', {"name": r'say "hi" \x', "b": 1}, Mends(backslashes=1, quotes=1)),
        (r'{"name": "say \"hi\"", "b": nan}', {"name": 'say "hi"', "b": None}, Mends(values=1)),
        (r'{"name": "one \\", "b": "two \" three", "c": nan}', {"name": "one \\", "b": 'two " three', "c": None}, Mends(values=1)),
        ('{"a": "x "y" z", "ts": 1, "b": "u "v" w"}', {"a": 'x "y" z', "ts": 1, "b": 'u "v" w'}, Mends(quotes=2)),
        ('{"a": "", "b": nan, "": ""}', {"a": "", "b": None, "": ""}, Mends(values=1)),
        (r'{"name": "a \\" b", "x": 1}', {"name": 'a \\" b', "x": 1}, Mends(quotes=1)),
        (r'{"name": "say \"hi\" and "you" too", "x": 1}', {"name": 'say "hi" and "you" too', "x": 1}, Mends(quotes=1)),
        (r'{"name": "a \\\"b "c" d", "x": 1}', {"name": 'a \\"b "c" d', "x": 1}, Mends(quotes=1)),
        ('{"a": ["x "y" z", "u"], "b": [["v"]]}', {"a": ['x "y" z', "u"], "b": [["v"]]}, Mends(quotes=1)),
    ],
)  # fmt: skip
def test_what_a_piece_becomes(piece, value, mends):
    assert event(piece) == (value, mends)


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        # The first reading that needs one text with raw quotes is taken, although two such texts would be shorter.
        ('{"name": "a "b", "c": "d"", "x": 1}', 'a "b", "c": "d"'),
        ('{"name": "a "b", "c": "d", oops", "x": 1}', 'a "b", "c": "d", oops'),
        ('{"name": "a "b", "c": "d", "e": f", "x": 1}', 'a "b", "c": "d", "e": f'),
    ],
)
def test_as_few_texts_as_possible_hold_raw_quotes(piece, name):
    assert event(piece) == ({"name": name, "x": 1}, Mends(quotes=1))


@pytest.mark.parametrize(
    "piece",
    [
        '{"a": [1}',
        '{"a": 1]',
        '{"a": [nan}]',
        '{"a": {nan]}',
        "nan]",
        "nan}",
        '{"a": nan',
        '{"a": nan}}',
        '{"a": nan} x',
        '{"a" nan}',
        '{"a": nan "b": 1}',
        '{"a": nan, , "b": 1}',
        '{, "a": nan}',
        '{"a": nan, "b": }',
        '{"a":, "b": nan}',
        '{"a": [, nan]}',
        '{"a": [nan nan]}',
        '{"a": oops}',
        '{"a": [1 {}], "b": nan}',
        '{nan: 1}',
        '{"a\\x": nan}',
        '{"a": 1 : nan}',
        "",
        "   ",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_alone(piece):
    assert event(piece) is None


def test_no_field_of_an_event_is_twice_there_or_hidden_in_a_text():
    assert event('{"ts": nan, "args": {"ts": 1}}') == ({"ts": None, "args": {"ts": 1}}, Mends(values=1))
    assert event('{"ts": nan, "ts": 1}') is None
    assert event('{"other": nan, "other": 1}') == ({"other": 1}, Mends(values=1))
    assert event('{"args": "a "name": b", "x": 1}') is None
    assert event('{"args": "a "other": b", "x": 1}') == ({"args": 'a "other": b', "x": 1}, Mends(quotes=1))
    assert event('{"a": "b "ts": 1, "c": "d"}') is None


def test_the_work_on_one_file_is_limited():
    piece = '{"a": "x "y" z"}'

    assert event(piece, most_bytes=10 * len(piece)) == ({"a": 'x "y" z'}, Mends(quotes=1))
    assert event(piece, most_bytes=len(piece)) is None


@pytest.mark.parametrize(
    ("piece", "value", "mends"),
    [
        ('"{"a": 1, "b": ["c"]}"', {"a": 1, "b": ["c"]}, Mends(quotes=1)),
        ('"[1, "a"]"', [1, "a"], Mends(quotes=1)),
        ('" {"a": 1} "', {"a": 1}, Mends(quotes=1)),
        ('"say "hi""', 'say "hi"', Mends(quotes=1)),
        ('["saw "ts": 5, twice"]', ['saw "ts": 5, twice'], Mends(quotes=1)),
        ('["saw "name": here"]', ['saw "name": here'], Mends(quotes=1)),
        ('["a {"b": 1} c [2] d"]', ['a {"b": 1} c [2] d'], Mends(quotes=1)),
        ('[1, nan, ]', [1, None], Mends(values=1, commas=1)),
        (r'"C:\Users"', r"C:\Users", Mends(backslashes=1)),
        (r'"C:\Users {"', r"C:\Users {", Mends(backslashes=1)),
    ],
)  # fmt: skip
def test_what_metadata_becomes(piece, value, mends):
    assert metadata(piece) == (value, mends)


@pytest.mark.parametrize("piece", ['["a {"b": 1 c"]', '["a "b" ] c"]', '"a', "{1: 2}", "oops"])
def test_metadata_that_is_not_whole_is_left_out(piece):
    assert metadata(piece) is None


def test_what_is_mended_adds_up():
    mends, mender = Mends(), ValueMender(10**6)
    for _ in range(2):
        mender.event(b'{"a": "x "y" z", "b": [1,], "c": nan, "d": "\\x"}', mends)
        mender.metadata(b'"{"a": 1}"', mends)
        mender.metadata(b"[nan,]", mends)

    assert mends == Mends(backslashes=2, quotes=4, values=4, commas=4)
