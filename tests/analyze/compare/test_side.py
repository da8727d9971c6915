"""A trace that was analysed just now and the same one read from a bundle are the same side of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shared_data
from repository import TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.comparison import compare
from tracekit.analyze.compare.side import FIGURES, TABLES, Side, analysed, saved
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.output.comparison_view import view
from tracekit.analyze.trace.loader import load
from tracekit.errors import BundleError
from tracekit.saved import read_document
from tracekit.schema import DOCUMENT
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
SHIPPED = sorted(TRACES.glob("*.json.gz"))


def small() -> TraceBuilder:
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Tesla T4"}])
    builder.annotation(0, 900, "decode")
    builder.operator(10, 500, "aten::add")
    builder.launch(call=(20, 5), kernel=(100, 50), name="triton_poi_fused_add_0")
    builder.memcpy(800, 20, bytes=4096)
    builder.call(850, 5, correlation=99)  # of which no kernel came
    return builder


def bundle_of(path: Path) -> tuple[Analysis, Path]:
    analysis = Analysis(load(path), TAXONOMY)
    return analysis, write_bundle([analysis], [], path.parent / "out" / path.name)


def from_bundle(directory: Path) -> Side:
    (entry,) = read_document(directory)["traces"]
    return saved(directory, entry)


def assert_same(one: Side, other: Side) -> None:
    assert (one.name, one.device, one.missing) == (other.name, other.device, other.missing)
    assert one.figures == other.figures
    assert one.manifest == other.manifest
    for name in TABLES:
        assert one.tables[name].records() == other.tables[name].records(), name
        kinds = {column: values.dtype for column, values in one.tables[name].columns.items()}
        assert kinds == {column: values.dtype for column, values in other.tables[name].columns.items()}


@pytest.mark.parametrize("path", [*SHIPPED, *shared_data.traces()], ids=lambda path: path.name)
def test_real_traces_are_the_same_both_ways(tmp_path, path):
    linked = tmp_path / path.name
    linked.symlink_to(path)
    manifest = path.with_name(path.name.removesuffix(".pt.trace.json.gz") + ".run.json")
    if manifest.exists():
        (tmp_path / manifest.name).symlink_to(manifest)
    analysis, directory = bundle_of(linked)

    assert_same(analysed(analysis), from_bundle(directory))
    assert bool(analysed(analysis).manifest) == manifest.exists()


def test_what_is_compared_of_a_trace(tmp_path):
    side = analysed(Analysis(load(small().write(tmp_path / "t.json")), TAXONOMY))

    assert side.device == "Tesla T4"
    assert side.figures["gpu.span_ns"] == 720
    assert side.figures["idle.unattributed_ns"] == 650  # the copy has no launching call
    assert side.figures["launches.kernel_launches"] == 2
    assert side.has("gpu")
    assert side.has("host")
    (missing,) = side.missing
    assert "1 of 2 launches has no kernel" in missing
    assert side.tables["kernels"]["time_ns"].dtype == np.int64


def test_a_trace_without_gpu_events_has_no_figures_of_the_gpu(tmp_path):
    builder = TraceBuilder()
    builder.operator(0, 10)
    side = analysed(Analysis(builder.trace(), TAXONOMY))

    assert not side.has("gpu")
    assert not [name for name in side.figures if name.startswith("gpu.")]
    assert {f"host.{name}" for name in FIGURES["host"]} <= side.figures.keys()


# --- Bundles that somebody made or changed ----------------------------------------------------------------------------


def changed(directory: Path, **changes: object) -> Path:
    document = json.loads((directory / DOCUMENT).read_text())
    document["traces"][0] |= changes
    (directory / DOCUMENT).write_text(json.dumps(document))
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return bundle_of(small().write(tmp_path / "t.json"))[1]


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("gpu", "span_ns", 721, "do not add up"),
        ("gpu", "busy_ns", "70", "`gpu.busy_ns` is not a whole number"),
        ("gpu", "busy_ns", True, "`gpu.busy_ns` is not a whole number"),
        ("gpu", "busy_ns", 7e1, "`gpu.busy_ns` is not a whole number"),
        ("gpu", "kernel_time_ns", 2**80, "`gpu.kernel_time_ns` is not a whole number"),
        ("idle", "dispatch_ns", None, "`idle.dispatch_ns` is not a whole number"),
        ("idle", "host_sync_ns", 1, "do not add up"),
        ("launches", "graph_launches", [], "`launches.graph_launches` is not a whole number"),
    ],
)
def test_figures_that_cannot_be(directory, section, key, value, words):
    entry = json.loads((directory / DOCUMENT).read_text())["traces"][0]
    with pytest.raises(BundleError, match=words):
        from_bundle(changed(directory, **{section: entry[section] | {key: value}}))


@pytest.mark.parametrize("section", ["idle", "launches"])
@pytest.mark.parametrize("value", [None, [], "x"])
def test_a_section_that_is_missing(directory, section, value):
    with pytest.raises(BundleError, match=f"`{section}.*is missing"):
        from_bundle(changed(directory, **{section: value}))


@pytest.mark.parametrize(
    ("column", "values"),
    [("time_ns", pa.array([1.5])), ("time_ns", pa.array([None], pa.int64())), ("name", pa.array([None], pa.string())),
     ("family", pa.array([7]))],
)  # fmt: skip
def test_columns_of_another_type(directory, column, values):
    path = directory / "00-t" / "kernels.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)

    with pytest.raises(BundleError, match=f"the column {column} of kernels"):
        from_bundle(directory)


def test_what_else_a_bundle_may_say_is_taken_as_it_is(directory):
    side = from_bundle(changed(directory, name=7, device=[], manifest="x", warnings={"a": 1}))

    assert (side.name, side.device, side.manifest, side.missing) == ("7", None, {}, ())


def test_a_bundle_of_an_earlier_version_still_opens_and_lacks_what_was_not_recorded(directory):
    entry = json.loads((directory / DOCUMENT).read_text())["traces"][0]
    assert entry["communication"] is None
    assert from_bundle(directory).figures["communication.exposed_ns"] == 0  # nothing communicates, and that is known

    del entry["communication"]
    (directory / DOCUMENT).write_text(json.dumps(json.loads((directory / DOCUMENT).read_text()) | {"traces": [entry]}))
    (directory / "00-t" / "kernel_origins.parquet").unlink()
    side = from_bundle(directory)

    assert "communication.exposed_ns" not in side.figures
    assert not side.knows_origins
    assert len(side.tables["kernel_origins"]) == 0
    text = " ".join(words for words, _ in view(compare(side, side)).cautions)
    assert "A is a bundle of an earlier version: kernels that have other names now are not paired" in text


@pytest.mark.parametrize(
    ("column", "values"), [("time_ns", pa.array([51])), ("count", pa.array([2])), ("name", pa.array(["x"]))]
)
def test_origins_that_are_not_those_of_the_kernels(directory, column, values):
    path = directory / "00-t" / "kernel_origins.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)

    with pytest.raises(BundleError, match="kernels and their origins do not add up"):
        from_bundle(directory)


def test_only_what_is_compared_is_needed(directory):
    """So that a bundle of an earlier version, with fewer tables and columns, still does as a baseline."""
    for path in (directory / "00-t").iterdir():
        if path.stem not in TABLES:
            path.unlink()
            continue
        pq.write_table(pq.read_table(path).select(TABLES[path.stem]), path)

    assert len(from_bundle(directory).tables) == len(TABLES)
