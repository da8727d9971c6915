"""Does every way a bundle can be broken end in one line that says what, where and the mend?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from repository import TRACES

from tracekit.analyze import analyze
from tracekit.errors import BundleError, TracekitError
from tracekit.manifest import RunManifest, from_json
from tracekit.report import bundle
from tracekit.report.bundle import read_bundle
from tracekit.report.render import render


def edit(directory: Path, **changes: Any) -> None:
    path = directory / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(directory: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        read_bundle(directory)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.mend
    for word in (str(directory), *words):
        assert word in line


def test_a_good_bundle_is_read(bundle: Callable[..., Path]) -> None:
    read = read_bundle(bundle())
    assert [trace.name for trace in read.traces] == ["gpt2-fp16.pt.trace.json.gz"]
    assert read.traces[0].rows("kernels", 3)[0]["time_ns"] > 0


def test_a_missing_directory(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such directory", "tracekit analyze")


def test_a_directory_that_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path, "not an analysis bundle")


def test_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("{}")
    refused(path, "not an analysis bundle")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"traces": []}', "\ufeff\x00", "[" * 100_000])
def test_a_document_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    refused(tmp_path, "bundle.json")


@pytest.mark.parametrize("version", [0, 2, "1", [1]])
def test_an_unknown_schema_version(bundle: Callable[..., Path], version: object) -> None:
    directory = bundle()
    edit(directory, schema_version=version)
    refused(directory, "schema version", repr(version))


@pytest.mark.parametrize("traces", [None, {}, [1], "x"])
def test_a_document_without_a_list_of_traces(bundle: Callable[..., Path], traces: object) -> None:
    directory = bundle()
    edit(directory, traces=traces)
    refused(directory, "no list of traces")


def test_a_bundle_of_no_trace(bundle: Callable[..., Path]) -> None:
    directory = bundle()
    edit(directory, traces=[])
    refused(directory, "no trace")


@pytest.mark.parametrize("folder", [None, "", "..", "../elsewhere", "/etc", "a/b", 7])
def test_a_folder_cannot_lead_out_of_the_bundle(bundle: Callable[..., Path], folder: object) -> None:
    directory = bundle()
    entry = json.loads((directory / "bundle.json").read_text())["traces"][0]
    edit(directory, traces=[entry | {"folder": folder}])
    refused(directory, "folder")


def test_a_missing_table(bundle: Callable[..., Path]) -> None:
    directory = bundle()
    (directory / "00-trace" / "gaps.parquet").unlink()
    refused(directory, "gaps.parquet", "missing")


@pytest.mark.parametrize("keep", [0, 3, 100])
def test_a_corrupt_table(bundle: Callable[..., Path], keep: int) -> None:
    directory = bundle()
    path = directory / "00-trace" / "kernels.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    refused(directory, "kernels.parquet", "not a readable Parquet table")


def test_a_table_without_a_column(bundle: Callable[..., Path]) -> None:
    directory = bundle()
    path = directory / "00-trace" / "kernels.parquet"
    pq.write_table(pa.table({"name": ["a"]}), path)
    refused(directory, "kernels.parquet", "time_ns")


def test_further_columns_and_keys_are_welcome(bundle: Callable[..., Path], tmp_path: Path) -> None:
    directory = bundle()
    path = directory / "00-trace" / "calls.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("more", pa.array([1] * len(table))), path)
    edit(directory, more={"any": "thing"})
    assert render(directory, tmp_path / "report.html").exists()


def test_a_failed_render_leaves_the_old_page(bundle: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("old")
    directory = bundle()
    (directory / "00-trace" / "gaps.parquet").unlink()
    with pytest.raises(BundleError):
        render(directory, output)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.glob("*.html*")] == ["report.html"]


def test_an_output_that_is_a_directory(bundle: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(TracekitError, match="cannot be written"):
        render(bundle(), tmp_path)


def test_each_manifest_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks for it in many places, and decoding checks every field."""
    written = analyze([TRACES]).write(tmp_path / "out")
    decoded = []

    def counting(text: str) -> RunManifest:
        decoded.append(text)
        return from_json(text)

    monkeypatch.setattr(bundle, "from_json", counting)
    render(written, tmp_path / "report.html")
    assert len(decoded) == len(set(decoded)) == len(list(TRACES.glob("*.run.json")))
