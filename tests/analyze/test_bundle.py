"""The directory that an analysis becomes: as documented, and never half of it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rank_traces import Job
from synthetic import TraceBuilder

from tracekit.analyze import bundle as bundling
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.bundle import write_bundle
from tracekit.analyze.loader import load
from tracekit.analyze.ranks import Run, find_runs
from tracekit.bundle import COLUMNS, DOCUMENT, REAL, RUN_COLUMNS, TEXT
from tracekit.errors import BundleError, TracekitError
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def full() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(10, 500, "aten::addmm")
    builder.launch(call=(20, 5), kernel=(100, 50), name="volta_sgemm_64x64_nn", grid=[4, 1, 1], block=[64, 1, 1])
    builder.launch(call=(300, 5), kernel=(340, 60), name="<script>alert(1)</script>")
    builder.memcpy(800, 20, bytes=4096)
    return builder


def analysed(path: Path, builder: TraceBuilder | None = None) -> Analysis:
    return Analysis(load((builder or full()).write(path)), TAXONOMY)


def content(directory: Path) -> dict[str, bytes]:
    """Every file below the directory, by its relative path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def tables(directory: Path) -> dict[str, pa.Table]:
    (folder,) = [entry["folder"] for entry in json.loads((directory / DOCUMENT).read_text())["traces"]]
    return {path.stem: pq.read_table(path) for path in (directory / folder).iterdir()}


# --- What is in it -----------------------------------------------------------------------------------------------------


def host_only() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 10)
    return builder


def gpu_only() -> TraceBuilder:
    builder = TraceBuilder()
    builder.kernel(0, 10)
    return builder


@pytest.mark.parametrize("builder", [full(), host_only(), gpu_only()], ids=["full", "host only", "GPU only"])
def test_tables_have_their_columns_and_types_rows_or_none(tmp_path, builder):
    written = tables(write_bundle([analysed(tmp_path / "a.json", builder)], [], tmp_path / "out"))

    assert written.keys() == COLUMNS.keys()
    for name, table in written.items():
        assert tuple(table.column_names) == COLUMNS[name]
        for field in table.schema:
            expected = pa.string() if field.name in TEXT else pa.float64() if field.name in REAL else pa.int64()
            assert field.type == expected, (name, field.name)


def ranks(folder: Path) -> tuple[list[Analysis], tuple[Run, ...]]:
    job = Job(ranks=2)
    job.late[0, 1] = 5_000
    analyses = [Analysis(load(path), TAXONOMY) for path in job.write(folder)]
    return analyses, find_runs([one.trace for one in analyses], [one.communication for one in analyses])


def test_a_run_of_ranks_has_a_folder_of_its_own(tmp_path):
    analyses, (run,) = ranks(tmp_path / "job")
    directory = write_bundle(analyses, [], tmp_path / "out", [run])
    (entry,) = json.loads((directory / DOCUMENT).read_text())["runs"]
    assert entry["folder"] == "run-00-job"
    for name, table in (("ranks", run.ranks), ("collectives", run.groups)):
        written = pq.read_table(directory / entry["folder"] / f"{name}.parquet")
        assert tuple(written.column_names) == RUN_COLUMNS[name] == tuple(table.columns)
        assert written.to_pylist() == table.records()
    # And the next one may take its place.
    write_bundle(analyses[:1], [], tmp_path / "out")
    assert not (directory / "run-00-job").exists()


def test_columns_per_step_are_written_where_they_are_asked_for(tmp_path):
    builder = TraceBuilder()
    for step in range(2):
        builder.annotation(1000 * step, 900, f"ProfilerStep#{step}")
        builder.launch(call=(1000 * step + 10, 5), kernel=(1000 * step + 100, 50))
    trace = load(builder.write(tmp_path / "a.json"))
    written = tables(write_bundle([Analysis(trace, TAXONOMY, divided=True)], [], tmp_path / "out"))
    assert written["kernels"]["time_ns_per_step"].to_pylist() == [50.0]
    assert written["kernels"].schema.field("count_per_step").type == pa.float64()
    assert tuple(written["kernels"].column_names)[: len(COLUMNS["kernels"])] == COLUMNS["kernels"]


def test_tables_hold_what_was_analysed(tmp_path):
    analysis = analysed(tmp_path / "a.json")
    written = tables(write_bundle([analysis], [], tmp_path / "out"))

    for name, table in analysis.tables().items():
        assert written[name].to_pylist() == [{column: row[column] for column in COLUMNS[name]} for row in table.records()]
    assert len(written["kernels"]) == 2
    assert len(written["gaps"]) == 2
    assert len(written["copies"]) == len(written["operators"]) == len(written["calls"]) == 1


def test_the_document_is_the_one_for_machines_with_folder_and_manifest(tmp_path):
    manifest = {"schema_version": 1, "variant": "baseline", "anything": [1, {"more": None}]}
    (tmp_path / "b.run.json").write_text(json.dumps(manifest))
    paths = [tmp_path / "a.json", tmp_path / "b.pt.trace.json.gz"]
    out = write_bundle([analysed(path) for path in paths], [], tmp_path / "out")
    first, second = json.loads((out / DOCUMENT).read_text())["traces"]

    assert (first["folder"], first["manifest"]) == ("00-a", None)
    assert (second["folder"], second["manifest"]) == ("01-b", manifest)
    assert second["gpu"]["kernels"] == 2
    assert (out / "01-b" / "kernels.parquet").is_file()


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\xff"])
def test_a_manifest_that_is_none_is_left_out(tmp_path, text):
    (tmp_path / "a.run.json").write_text(text, encoding="latin-1")
    out = write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")

    assert json.loads((out / DOCUMENT).read_text())["traces"][0]["manifest"] is None


@pytest.mark.parametrize(
    "name", ["../../etc.json", "a b\n<c>.json", ".json", "😀.pt.trace.json.gz", "x" * 200 + ".json", "-rf.json"]
)
def test_folders_are_safe_whatever_the_trace_is_called(tmp_path, name):
    path = tmp_path / name.replace("/", "／")
    out = write_bundle([analysed(path), analysed(path)], [], tmp_path / "out")
    folders = [entry["folder"] for entry in json.loads((out / DOCUMENT).read_text())["traces"]]

    assert len(set(folders)) == 2
    for folder in folders:
        assert folder.isascii()
        assert folder.replace("-", "").replace("_", "").isalnum()
        assert (out / folder).is_dir()


def test_missing_parents_are_made_and_permissions_are_the_usual(tmp_path):
    out = write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "some" / "where")
    (tmp_path / "plain").mkdir()

    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [path.name for path in out.parent.iterdir()] == ["where"]


# --- What it replaces --------------------------------------------------------------------------------------------------


def test_an_older_bundle_is_replaced_whole(tmp_path):
    write_bundle([analysed(tmp_path / "old.json"), analysed(tmp_path / "older.json")], [], tmp_path / "out")
    out = write_bundle([analysed(tmp_path / "new.json")], [], tmp_path / "out")

    assert sorted(path.name for path in out.iterdir()) == ["00-new", DOCUMENT]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.json", "old.json", "older.json", "out"]


def test_an_empty_directory_may_be_used(tmp_path):
    (tmp_path / "out").mkdir()

    assert (write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out") / DOCUMENT).is_file()


@pytest.mark.parametrize(
    "files", [["thesis.tex"], [DOCUMENT, "thesis.tex"], [DOCUMENT, "src/main.js"], [".git/HEAD", DOCUMENT]]
)
def test_what_is_not_ours_is_not_destroyed(tmp_path, files):
    for name in files:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("precious")
    before = content(tmp_path / "out")

    with pytest.raises(BundleError, match="other files"):
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "out").write_text("precious")

    with pytest.raises(BundleError, match="is a file"):
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TracekitError, match="cannot be written"):
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "file" / "out")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failure_while_writing_leaves_the_older_bundle(tmp_path, monkeypatch):
    analysis = analysed(tmp_path / "a.json")
    before = content(write_bundle([analysis], [], tmp_path / "out"))
    monkeypatch.setattr(bundling.pq, "write_table", full_disk)

    with pytest.raises(TracekitError, match="No space left"):
        write_bundle([analysis], [], tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "out"]


def test_any_other_failure_leaves_the_older_bundle(tmp_path, monkeypatch):
    analysis = analysed(tmp_path / "a.json")
    before = content(write_bundle([analysis], [], tmp_path / "out"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundling.pq, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle([analysis], [], tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "out"]


def test_a_failure_while_replacing_brings_the_older_bundle_back(tmp_path, monkeypatch):
    analysis = analysed(tmp_path / "a.json")
    before = content(write_bundle([analysis], [], tmp_path / "out"))
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            full_disk()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(TracekitError, match="cannot be written"):
        write_bundle([analysis], [], tmp_path / "out")
    assert content(tmp_path / "out") == before
