"""The texts of files, read one ahead of the other."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tracekit.analyze.trace.formats import EXPORT_HINT
from tracekit.analyze.trace.source import first_line, read_ahead, read_bytes
from tracekit.errors import TraceError


def error_of(path: Path) -> TraceError:
    with pytest.raises(TraceError) as caught:
        read_bytes(path)
    assert caught.value.where == path
    return caught.value


def test_texts_come_in_turn_and_each_is_given_out_once(tmp_path):
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(b'{"number": %d}' % number)
    texts = list(read_ahead(paths))

    assert [take() for take in texts] == [b'{"number": %d}' % number for number in range(3)]
    assert [take() for take in texts] == [b""] * 3


def test_of_no_files_there_are_no_texts():
    assert list(read_ahead([])) == []


def test_the_next_file_is_read_only_when_the_one_before_is_asked_for(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_bytes(b"[1]")
    texts = read_ahead([first, second])
    second.write_bytes(b"[2]")  # in time

    assert [take() for take in texts] == [b"[1]", b"[2]"]


def test_a_file_that_cannot_be_read_says_so_when_its_text_is_asked_for(tmp_path):
    (tmp_path / "b.json").write_bytes(b"[]")
    missing, present = read_ahead([tmp_path / "a.json", tmp_path / "b.json"])

    assert present() == b"[]"
    with pytest.raises(TraceError, match="cannot be read"):
        missing()


def test_what_is_wrong_with_a_file_and_how_to_correct_it(tmp_path):
    path = tmp_path / "a.json"
    missing = error_of(path)
    assert (missing.what, missing.mend) == ("cannot be read (No such file or directory)", "check the path and its permissions")

    path.write_bytes(gzip.compress(b"[]" * 100)[:-9])
    cut = error_of(path)
    assert cut.what.startswith(f"the gzip data is cut off or damaged within its {path.stat().st_size} bytes (")
    assert cut.mend == "copy the file again, whole"

    for empty in (b"", b" \n\t", b" " * 5000):
        path.write_bytes(empty)
        assert (error_of(path).what, error_of(path).mend) == ("the file is empty", EXPORT_HINT)


def test_an_error_is_told_by_its_first_line_or_its_kind():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(EOFError()) == "EOFError"


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_the_text_begins_after_a_byte_order_mark_and_may_begin_late(tmp_path, before):
    path = tmp_path / "a.json"
    for text in (b"[1]", b" " * 4096 + b"[1]"):
        path.write_bytes(before + text)
        assert read_bytes(path) == text
        path.write_bytes(gzip.compress(before + text))
        assert read_bytes(path) == text
