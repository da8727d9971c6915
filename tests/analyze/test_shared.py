"""Real traces of many devices and years, held against slow and plain reference figures and labels made by hand."""

from __future__ import annotations

import pytest
from shared_data import SHARED, labels, needed, script, traces

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.document import entry
from tracekit.analyze.trace.loader import load
from tracekit.taxonomy import Taxonomy
from tracekit.wording import shapes

TRACES = traces()


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.default()


@pytest.mark.skipif(not TRACES, reason="needs ../shared/traces")
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_figures_equal_the_reference_to_the_nanosecond(path, taxonomy):
    figures, accept = script("reference").figures(str(path)), script("accept")
    analysis = Analysis(load(path), taxonomy)

    assert list(accept.compare(entry(analysis), figures)) == []
    if figures["gpu_events"]:
        streams = Analysis.tables(analysis)["streams"]
        assert sorted(streams["busy_ns"].tolist()) == sorted(figures["streams"].values())


@pytest.mark.skipif(not TRACES, reason="needs ../shared/traces")
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_no_shape_is_shown_with_a_bracket(path, taxonomy):
    recorded = Analysis.tables(Analysis(load(path), taxonomy))["roofline_operators"]["shapes"].tolist()

    assert not [text for text in recorded if text and set("[]") & set(shapes(text))]


def test_t4_trace_is_reported_incomplete(taxonomy):
    analysis = Analysis(load(needed("traces/t4_gpt2_mlp.json")), taxonomy)

    assert not analysis.complete
    assert analysis.launches.kernel_launches == 400
    assert analysis.launches.launches_without_kernel == 87
    assert "87 of 400" in next(w.message for w in analysis.warnings if w.code == "launches_without_kernel")
    assert analysis.findings[0].code == "incomplete_trace"


def test_accelerator_without_kernel_events_has_no_gpu_figures(taxonomy):
    document = entry(Analysis(load(needed("traces/mtia_inference.json.gz")), taxonomy))

    assert document["gpu"] is None
    assert document["kernels"] == []
    assert document["operators"]


def test_kernels_are_classified_as_labelled_by_hand(taxonomy):
    """Graded by the kernels of the real traces that have a label, with their launching operators."""
    known, grade = labels(), script("accept").grade
    score = [0, 0, 0, 0]
    for path in TRACES:
        kernels = Analysis(load(path), taxonomy).kernels.records()
        score = [total + part for total, part in zip(score, grade(kernels, known)[:4], strict=True)]
    names_right, names, time_right, time = score

    assert names > 300, f"few of the labels were met in {SHARED}"
    assert names_right / names >= 0.97
    assert time_right / time >= 0.99
