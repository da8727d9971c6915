"""The directory that an analysis becomes: as documented, and never half of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rank_traces import Job
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output import bundle as bundling
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.ranks.distributed_run import DistributedRun, find_runs
from tracekit.analyze.trace.loader import load
from tracekit.errors import BundleError, TracekitError
from tracekit.schema import DOCUMENT, RUN_TABLES, SCHEMA_VERSION, TABLES
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

    assert written.keys() == TABLES.keys()
    for name, table in written.items():
        assert tuple(table.column_names) == TABLES[name].names
        for field in table.schema:
            expected = {"text": pa.string(), "int": pa.int64(), "real": pa.float64()}
            assert field.type == expected[TABLES[name][field.name].type], (name, field.name)


def ranks(folder: Path) -> tuple[list[Analysis], tuple[DistributedRun, ...]]:
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
        assert tuple(written.column_names) == RUN_TABLES[name].names == tuple(table.columns)
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
    assert tuple(written["kernels"].column_names)[: len(TABLES["kernels"].names)] == TABLES["kernels"].names


def test_tables_hold_what_was_analysed(tmp_path):
    analysis = analysed(tmp_path / "a.json")
    written = tables(write_bundle([analysis], [], tmp_path / "out"))

    for name, table in analysis.tables().items():
        assert written[name].to_pylist() == [{column: row[column] for column in TABLES[name].names} for row in table.records()]
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


def refused(tmp_path: Path, match: str) -> None:
    """Writing to `out` is refused with this reason, and nothing below it changes."""
    before = everything(tmp_path / "out")
    with pytest.raises(BundleError, match=match) as refusal:
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    assert everything(tmp_path / "out") == before
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def everything(directory: Path) -> dict[str, bytes | str | None]:
    """All that is below the directory: a file's content, where a link leads to, None for a folder."""
    return {
        str(path.relative_to(directory)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize(
    "strangers",
    [
        ["2024-06-wedding/1.jpg", "2025-01-trip/2.jpg"],
        ["00-trace/"],
        ["run-00-home/notes.txt"],
        ["thesis.tex"],
        [".hidden"],
        ["00-old/kernels.parquet"],
    ],
)
@pytest.mark.parametrize("beside_a_bundle", [False, True])
def test_what_is_not_ours_is_not_destroyed(tmp_path, strangers, beside_a_bundle):
    if beside_a_bundle:
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    for name in strangers:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("precious")
    refused(tmp_path, "which would be lost")


@pytest.mark.parametrize("stranger", ["notes.txt", "plots/1.png", "kernels.parquet.bak"])
def test_what_somebody_put_into_our_folders_is_not_destroyed(tmp_path, stranger):
    path = write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out") / "00-a" / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    refused(tmp_path, f"holds '00-a/{stranger.split('/')[0]}'")


def with_document(directory: Path, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / DOCUMENT).write_text(text)
    (directory / "00-a").mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid JSON"),
        ('{"schema_version": 1, "traces": [{"folder": "00-a"', "not valid JSON"),
        ("[]", "no schema_version"),
        ('{"schema_version": 2, "traces": [{"folder": "00-a"}]}', "unknown schema version 2"),
        ('{"schema_version": 1, "traces": "00-a"}', "no list of traces"),
        ('{"schema_version": 1, "traces": [{"folder": "00-a"}], "runs": [7]}', "no list of runs"),
        ('{"schema_version": 1, "traces": [{"folder": 7}]}', "no usable folder"),
    ],
)
def test_a_document_that_cannot_be_read_protects_what_is_beside_it(tmp_path, text, why):
    with_document(tmp_path / "out", text)
    refused(tmp_path, why)


@pytest.mark.parametrize("elsewhere", ["../x", "{absolute}", "..", ".", "00-a/../../x", ""])
@pytest.mark.parametrize("kind", ["traces", "runs"])
def test_a_document_that_lists_what_lies_elsewhere_is_not_followed(tmp_path, elsewhere, kind):
    precious = tmp_path / "x"
    precious.mkdir()
    (precious / "kernels.parquet").write_text("precious")
    folder = elsewhere.format(absolute=precious)
    listed = {"traces": [{"folder": "00-a"}], "runs": []}
    listed[kind] = [{"folder": folder}]
    with_document(tmp_path / "out", json.dumps({"schema_version": SCHEMA_VERSION, **listed}))
    refused(tmp_path, "no usable folder")
    assert (precious / "kernels.parquet").read_text() == "precious"


@pytest.mark.parametrize("name", ["00-a", DOCUMENT])
def test_a_link_inside_is_not_ours(tmp_path, name):
    out = write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    refused(tmp_path, "which would be lost")
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("older", ["nothing", "empty", "bundle"])
def test_a_link_to_the_directory_stays_and_what_it_leads_to_is_replaced(tmp_path, older):
    real = tmp_path / "disk" / "real"
    real.parent.mkdir()
    if older == "empty":
        real.mkdir()
    if older == "bundle":
        write_bundle([analysed(tmp_path / "older.json")], [], real)
    (tmp_path / "out").symlink_to(real)
    write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert sorted(path.name for path in real.iterdir()) == ["00-a", DOCUMENT]
    assert [path.name for path in real.parent.iterdir()] == ["real"]


def test_a_link_to_strangers_is_refused(tmp_path):
    (tmp_path / "real" / "2024-06-wedding").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real")
    refused(tmp_path, "2024-06-wedding")


def test_what_comes_while_we_write_is_not_destroyed(tmp_path, monkeypatch):
    analysis = analysed(tmp_path / "a.json")
    out = write_bundle([analysis], [], tmp_path / "out")
    write = bundling.pq.write_table

    def slowly(*arguments: object) -> None:
        (out / "thesis.tex").write_text("precious")
        write(*arguments)

    monkeypatch.setattr(bundling.pq, "write_table", slowly)
    with pytest.raises(BundleError, match=r"thesis\.tex"):
        write_bundle([analysis], [], out)
    assert (out / "thesis.tex").read_text() == "precious"


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "out").write_text("precious")

    with pytest.raises(BundleError, match="is a file"):
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TracekitError, match="cannot be written"):
        write_bundle([analysed(tmp_path / "a.json")], [], tmp_path / "file" / "out")


def full_disk(*_: object, **__: object) -> NoReturn:
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


@pytest.mark.parametrize("failure", [OSError(errno.EBUSY, "Device or resource busy"), KeyboardInterrupt()])
def test_a_failure_while_replacing_brings_the_older_bundle_back(tmp_path, monkeypatch, failure):
    analysis = analysed(tmp_path / "a.json")
    before = content(write_bundle([analysis], [], tmp_path / "out"))
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises((TracekitError, KeyboardInterrupt)):
        write_bundle([analysis], [], tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "out"]


def test_what_cannot_be_brought_back_is_kept_beside(tmp_path, monkeypatch):
    analysis = analysed(tmp_path / "a.json")
    before = content(write_bundle([analysis], [], tmp_path / "out"))
    rename = Path.rename

    def fail_once_it_is_gone(self: Path, target: Path) -> Path:
        return rename(self, target) if self.name == "out" else full_disk()

    monkeypatch.setattr(Path, "rename", fail_once_it_is_gone)
    with pytest.raises(TracekitError, match="cannot be written"):
        write_bundle([analysis], [], tmp_path / "out")
    (kept,) = tmp_path.glob(".out.*/old")
    assert content(kept) == before
