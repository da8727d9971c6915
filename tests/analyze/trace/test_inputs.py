"""Which files are meant, and what happens to those that are no traces."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from synthetic import TraceBuilder

from tracekit.analyze.trace.batch import load_all
from tracekit.analyze.trace.formats import EXPORT_HINT
from tracekit.analyze.trace.inputs import Candidate, Skipped, find
from tracekit.analyze.trace.source import read_ahead
from tracekit.errors import TraceError


@pytest.fixture
def builder() -> TraceBuilder:
    builder = TraceBuilder()
    builder.kernel(0, 10)
    return builder


def found(*paths: Path) -> list[str]:
    return [candidate.path.name for candidate in find(paths)]


def loaded(*paths: Path) -> tuple[list[str], list[str]]:
    """The names of the traces and of the files left out; each file left out was also reported."""
    reported: list[Skipped] = []
    announced: list[str] = []
    candidates = find(paths)
    texts = read_ahead([candidate.path for candidate in candidates])
    traces, skipped = load_all(candidates, texts, reported.append, announced.append)
    assert reported == skipped
    assert announced == [candidate.path.name for candidate in candidates]
    return [trace.name for trace in traces], [Path(one.path).name for one in skipped]


def test_a_directory_stands_for_the_traces_below_it(tmp_path, builder):
    for name in ("b.json", "a.json.gz", "sub/deep/c.pt.trace.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        builder.write(tmp_path / name)
    for name in ("notes.txt", "run.run.json", ".hidden.json", ".cache/d.json", "a.json.bak"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")

    assert found(tmp_path) == ["a.json.gz", "b.json", "c.pt.trace.json"]
    assert loaded(tmp_path) == (["a.json.gz", "b.json", "c.pt.trace.json"], [])


def test_our_own_output_is_no_input(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "bundle.json").write_text("{}")
    (tmp_path / "analysis" / "other.json").write_text("{}")

    assert found(tmp_path) == ["a.json"]
    with pytest.raises(TraceError, match=r"no \.json"):
        find([tmp_path / "analysis"])


def test_a_file_named_twice_is_read_once(tmp_path, builder, monkeypatch):
    builder.write(tmp_path / "a.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    monkeypatch.chdir(tmp_path)

    assert found(Path("a.json"), tmp_path, tmp_path / "." / "a.json", Path("link.json")) == ["a.json"]


def test_named_files_keep_the_order_in_which_they_were_named(tmp_path, builder):
    for name in ("a.json", "b.json"):
        builder.write(tmp_path / name)

    assert found(tmp_path / "b.json", tmp_path / "a.json") == ["b.json", "a.json"]


def test_links_that_lead_in_circles(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        for link in range(3):
            (tmp_path / name / f"up{link}").symlink_to(tmp_path)

    assert found(tmp_path) == ["a.json"]


def test_linked_folders_are_looked_into(tmp_path, builder):
    (tmp_path / "real").mkdir()
    builder.write(tmp_path / "real" / "a.json")
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "link").symlink_to(tmp_path / "real")

    assert found(tmp_path / "asked") == ["a.json"]


def test_run_manifests_beside_named_traces_are_passed_over(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    (tmp_path / "a.run.json").write_text('{"schema_version": 1, "variant": "baseline"}')

    assert found(*sorted(tmp_path.iterdir())) == ["a.json"]
    with pytest.raises(TraceError, match="run manifest"):
        loaded(tmp_path / "a.run.json")


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"nodes": [], "schema": "1"}', b"\x1f\x8bxx"])
def test_one_bad_file_of_a_directory_does_not_cost_the_others(tmp_path, builder, content):
    for name in ("a.json", "c.json"):
        builder.write(tmp_path / name)
    (tmp_path / "b.json").write_bytes(content)

    assert loaded(tmp_path) == (["a.json", "c.json"], ["b.json"])


def test_a_bad_file_that_was_named_is_an_error(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{}")

    with pytest.raises(TraceError, match=r"b\.json"):
        loaded(tmp_path / "a.json", tmp_path / "b.json")


def test_a_directory_of_nothing_but_bad_files_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(TraceError, match=r"a\.json"):
        loaded(tmp_path)

    (tmp_path / "b.json").write_text("")
    with pytest.raises(TraceError, match="none of the 2 files is a profiler trace") as caught:
        loaded(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "dangling.json").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "none", tmp_path / "dangling.json", tmp_path / ("x" * 300)):
        with pytest.raises(TraceError) as caught:
            find([path])
        assert str(path) in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="in this directory"):
        find([tmp_path / "empty"])


def error_of(*paths: Path) -> tuple[str, Path, str]:
    with pytest.raises(TraceError) as caught:
        find(paths)
    return caught.value.what, caught.value.where, caught.value.mend


def test_what_is_wrong_with_a_path_and_how_to_correct_it(tmp_path):
    missing, folder = tmp_path / "none.json", tmp_path / "empty"
    folder.mkdir()

    assert error_of(missing) == (
        "no such file or directory",
        missing,
        "check the path, or make traces with tracekit collect",
    )
    assert error_of(folder) == ("no .json or .json.gz file in this directory", folder, EXPORT_HINT)


def test_what_is_wrong_with_a_folder_and_how_to_correct_it(tmp_path, monkeypatch):
    def denied(self, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", denied)
        assert error_of(tmp_path) == ("cannot be listed (Permission denied)", tmp_path, "check its permissions")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", denied)
        assert error_of(tmp_path) == ("cannot be read (Permission denied)", tmp_path, "check the path and its permissions")


def test_what_is_wrong_with_a_directory_of_bad_files_and_how_to_correct_it(tmp_path):
    (tmp_path / "a.json").write_text("")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(TraceError) as caught:
        loaded(tmp_path)

    first = f"{tmp_path / 'a.json'}: the file is empty"
    assert caught.value.what == f"none of the 2 files is a profiler trace (the first, {first})"
    assert (caught.value.where, caught.value.mend) == (tmp_path, EXPORT_HINT)


def test_of_several_folders_of_bad_files_the_first_is_named(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text("")
    with pytest.raises(TraceError) as caught:
        loaded(tmp_path)

    assert caught.value.where == tmp_path / "one"


def test_files_of_a_directory_need_not_be_traces_but_named_ones_must(tmp_path, builder):
    builder.write(tmp_path / "a.json")

    assert find([tmp_path]) == [Candidate(tmp_path / "a.json", named=False)]
    assert find([tmp_path / "a.json"]) == [Candidate(tmp_path / "a.json", named=True)]


def test_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    def denied(self, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(TraceError, match="Permission denied"):
        find([tmp_path / "a.json"])


def test_a_file_that_may_not_be_read_is_passed_over_in_a_directory(tmp_path, builder, monkeypatch):
    for name in ("a.json", "b.json"):
        builder.write(tmp_path / name)
    read = Path.read_bytes

    def denied(self):
        if self.name == "a.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", denied)

    assert loaded(tmp_path) == (["b.json"], ["a.json"])


def test_a_dangling_link_in_a_directory_is_one_bad_file(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "gone")

    assert loaded(tmp_path) == (["a.json"], ["b.json"])


def test_reasons_are_fit_for_the_document(tmp_path, builder):
    builder.write(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    candidates = find([tmp_path])
    texts = read_ahead([candidate.path for candidate in candidates])
    _, skipped = load_all(candidates, texts, lambda _: None, lambda _: None)

    assert skipped == [Skipped(str(tmp_path / "b.json"), "the JSON is cut off at byte 1")]
    assert json.dumps(skipped[0].reason)
