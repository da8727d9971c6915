"""Are the shipped traces what the README says they are?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.manifest import find_manifest, read_manifest

TRACES = sorted((Path(__file__).resolve().parents[1] / "traces").glob("*.pt.trace.json.gz"))
LAYERED = [trace for trace in TRACES if "explicit-layers" in trace.name or "fp16-layers" in trace.name]
CAPTURED = [trace for trace in TRACES if "graphs" in trace.name or "fused" in trace.name]


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.default()


def test_they_are_small_and_of_every_variant() -> None:
    assert sum(path.stat().st_size for path in TRACES[0].parent.iterdir()) <= 8_000_000
    variants = {read_manifest(found).variant for trace in TRACES if (found := find_manifest(trace))}
    eager = {"baseline", "fp16", "bf16", "compiled", "fp16-compiled"}
    assert variants == eager | {"graphs", "fp16-compiled-graphs", "fused", "fused-layers", "fused-int8"}


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


def test_graphs_launch_once_a_token_and_once_for_the_prompt(taxonomy: Taxonomy) -> None:
    for path in TRACES:
        launches = Analysis(load(path), taxonomy).launches.graph_launches
        assert launches == (9 if path in CAPTURED else 0)


def test_a_token_of_the_one_kernel_step_is_one_kernel(taxonomy: Taxonomy) -> None:
    (path,) = (trace for trace in TRACES if trace.name.startswith("gpt2-fused-h100"))
    kernels = Analysis(load(path), taxonomy).kernels
    assert [int(one["count"]) for one in kernels.records() if one["name"] == "gpt2_decode_step"] == [8]


def test_the_fused_variants_are_the_fastest_of_the_collection_they_come_from() -> None:
    times = {}
    for trace in TRACES:
        manifest = read_manifest(found) if (found := find_manifest(trace)) else None
        if manifest is not None and manifest.device.kind == "cuda" and trace not in LAYERED:
            times[manifest.variant] = manifest.timings.total.median_ns
    order = sorted(times, key=times.__getitem__)
    assert order[:5] == ["fused", "fused-int8", "fused-layers", "fp16-compiled-graphs", "graphs"]
    assert times["fp16-compiled-graphs"] > 3 * times["fused"]
