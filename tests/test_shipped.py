"""Are the shipped traces what the README says they are?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.manifest import find_manifest, read_manifest

TRACES = sorted((Path(__file__).resolve().parents[1] / "traces").glob("*.pt.trace.json.gz"))
LAYERED = [trace for trace in TRACES if "layers" in trace.name]


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.default()


def test_they_are_small_and_of_every_variant() -> None:
    assert sum(path.stat().st_size for path in TRACES[0].parent.iterdir()) <= 8_000_000
    variants = {read_manifest(found).variant for trace in TRACES if (found := find_manifest(trace))}
    assert variants == {"baseline", "fp16", "bf16", "compiled", "fp16-compiled", "graphs", "fp16-compiled-graphs"}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_each_is_complete_and_where_its_manifest_says(path: Path, taxonomy: Taxonomy) -> None:
    found = find_manifest(path)
    assert found is not None
    manifest, analysis = read_manifest(found), Analysis(load(path), taxonomy)
    assert manifest.profile is not None
    assert manifest.profile.trace == path.name
    assert analysis.complete
    if manifest.device.kind == "cuda":
        assert analysis.trace.device is not None
        assert analysis.trace.device.name == manifest.device.name
        assert analysis.kernels["confidence"].min() > 0.3
        assert analysis.gpu is not None
        assert analysis.idle.total_ns + analysis.gpu.busy_ns == analysis.gpu.span_ns
    else:
        assert analysis.gpu is None


@pytest.mark.parametrize("path", LAYERED, ids=lambda path: path.name)
@pytest.mark.parametrize("level", ["decode", "decode/blocks", "decode/blocks/block/attention", "decode/blocks/block/mlp"])
def test_layers_cover_each_level(path: Path, level: str, taxonomy: Taxonomy) -> None:
    rows = {row["path"]: row["time_ns"] for row in Analysis(load(path), taxonomy).layers.records()}
    inside = {name: ns for name, ns in rows.items() if name.rpartition("/")[0] == level}
    assert sum(inside.values()) == rows[level] > 0
    assert inside.get(f"{level}/(rest)", 0) <= 0.01 * rows[level]


def test_graphs_launch_once_a_token(taxonomy: Taxonomy) -> None:
    for path in TRACES:
        launches = Analysis(load(path), taxonomy).launches.graph_launches
        assert launches == (8 if "graphs" in path.name else 0)
