"""What a user means by a path, and the one line that names the choices where he might mean several."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.open_side import open_side
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.trace.loader import load
from tracekit.errors import BundleError, TraceError, TracekitError
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def trace(path: Path, duration: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    builder = TraceBuilder()
    builder.kernel(0, duration)
    return builder.write(path)


def bundle(directory: Path, *paths: Path) -> Path:
    return write_bundle([Analysis(load(path), TAXONOMY) for path in paths], [], directory)


def span(argument: object) -> int:
    return open_side(str(argument), TAXONOMY).figures["gpu.span_ns"]


def test_a_file_a_directory_with_one_and_a_bundle_with_one(tmp_path):
    path = trace(tmp_path / "one" / "a.json", 11)
    (tmp_path / "one" / "a.run.json").write_text("{}")

    assert span(path) == 11
    assert span(tmp_path / "one") == 11
    assert span(bundle(tmp_path / "bundle", path)) == 11


def test_a_name_chooses_of_several(tmp_path):
    paths = [trace(tmp_path / "many" / f"{name}.pt.trace.json.gz", ns) for name, ns in (("fp16", 1), ("fp16_graphs", 2))]
    out = bundle(tmp_path / "out", *paths)

    for where in (tmp_path / "many", out):
        assert span(f"{where}:fp16.pt.trace.json.gz") == 1
        assert span(f"{where}:fp16") == 1
        assert span(f"{where}:fp16_g") == 2
        for argument in (where, f"{where}:", f"{where}:fp", f"{where}:x"):
            with pytest.raises(TracekitError, match=r"2 traces: fp16\.pt\.trace\.json\.gz, fp16_graphs\.pt") as caught:
                span(argument)
            assert f"choose one, as in {where}:fp16" in str(caught.value)
    assert span(f"{out}:00-fp16") == 1


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    out = bundle(tmp_path / "out", trace(tmp_path / "x" / "t.json", 1), trace(tmp_path / "y" / "t.json", 2))

    with pytest.raises(BundleError, match=r"2 traces: 00-t, 01-t"):
        span(f"{out}:t.json")
    assert span(f"{out}:01-t") == 2
    with pytest.raises(TraceError, match=r"x/t\.json"):
        span(f"{tmp_path}:t.json")
    assert span(f"{tmp_path}:y/t.json") == 2


def test_a_colon_may_be_part_of_a_path(tmp_path):
    trace(tmp_path / "a:b" / "c:d.json", 3)
    trace(tmp_path / "a:b" / "e.json", 4)

    assert span(tmp_path / "a:b" / "c:d.json") == 3
    assert span(f"{tmp_path}/a:b:c:d.json") == 3


def test_of_many_choices_some_are_listed(tmp_path):
    for number in range(12):
        trace(tmp_path / f"{number:02d}.json")

    with pytest.raises(TraceError, match=r"12 traces: 00\.json, .*07\.json and 4 more"):
        span(tmp_path)


def test_what_is_not_there_and_what_is_no_trace(tmp_path):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "notes.json").write_text("{}")

    for argument, words in (
        ("no.json", "no such file"),
        ("no:such", "no such file"),
        ("hollow", "no .json"),
        ("bad", "traceEvents"),
    ):
        with pytest.raises(TraceError, match=words):
            span(tmp_path / argument)
