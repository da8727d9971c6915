"""Does the page tell how close kernels come to the peaks, what is not known, and what is projected?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from tracekit.report import figures
from tracekit.report.bundle import Bundle, TraceBundle
from tracekit.report.legend import family
from tracekit.report.render import to_html
from tracekit.report.roofline import projection_view, roofline_view

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
Load = Callable[..., Bundle]
Make = Callable[..., Parts]


@pytest.fixture
def trace(load: Load, parts: Make) -> TraceBundle:
    return load(parts()).traces[0]


def test_the_headline_says_what_is_not_known(load: Load, parts: Make) -> None:
    document, tables = parts()
    document["roofline"] |= {"kernel_time_ns": 1000, "known_ns": 700}
    view = roofline_view(load((document, tables)).traces[0])
    assert view is not None
    text = view.headline.replace("\u00a0", " ")
    assert "The work of 70.0 % of the kernel time is known" in text
    assert "peaks of NVIDIA H100 (SXM)" in text

    document["roofline"] |= {"device": None}
    document["device"]["datasheet"] = None
    view = roofline_view(load((document, tables)).traces[0])
    assert view is not None
    assert "--device-table" in view.headline
    assert view.chart is None


def test_tables_hold_what_the_bundle_does_and_nothing_for_the_unknown(trace: TraceBundle) -> None:
    view = roofline_view(trace)
    assert view is not None
    rows = trace.rows("roofline_operators")
    assert view.operators.total == len(rows)
    labels = [column.label for column in view.operators.columns]
    for cells, row in zip(view.operators.rows, rows, strict=True):
        shown = dict(zip(labels, cells, strict=True))
        assert shown["Operator"].text == (row["operator"] or "no operator")
        known = row["bytes"] is not None
        assert (shown["GB/s"].text == "–") == (not known)
        assert (shown["Of roof"].text == "–") == (not known)
        assert shown["Time"].sort == row["time_ns"]
        if known:
            assert shown["Of roof"].sort == max(row["compute_share"], row["memory_share"])
        if row["flag"] == "above_peak":
            assert shown["Bound by"].text == "above peak: the model or the clock is wrong"
        elif row["flag"] == "from_cache":
            assert shown["Bound by"].text == "from cache: faster than the memory"
        else:
            assert shown["Bound by"].text == (row["bound"] or "–")
    assert "9×768, 768×3072" in [cells[1].text for cells in view.operators.rows]


def test_the_figure_is_plotlys_and_below_the_roof(trace: TraceBundle) -> None:
    view = roofline_view(trace)
    assert view is not None
    assert view.chart is not None
    # Colours are names that the page resolves; any colour will do here.
    go.Figure(json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(view.chart))))
    lines = {line["name"]: line for line in view.chart["data"] if line["mode"] == "lines"}
    assert lines.keys() == {"FP32 roof", "FP16 roof"}
    for name, peak in (("FP32 roof", 67), ("FP16 roof", 989.5)):
        x, y = lines[name]["x"], lines[name]["y"]
        assert x[1] == pytest.approx(1e3 * peak / 3350)  # the ridge
        assert y == [pytest.approx(x[0] * 3350 / 1e3), peak, peak]
    points = [point for point in view.chart["data"] if point["mode"] == "markers"]
    rows = [row for row in trace.rows("roofline_kernels") if row["flops"]]
    assert sum(len(point["x"]) for point in points) == len(rows)
    assert all(6 < size <= 32 for point in points for size in point["marker"]["size"])


def test_a_points_area_is_its_time() -> None:
    term = family("gemm")
    points = [figures.Point(f"k{time}", term, 1.0, 0.5, time, "") for time in (100, 400)]
    small, large = figures.roofline(points, {"fp32": 10}, 100)["data"][-1]["marker"]["size"]
    assert (small - 6) * 2 == pytest.approx(large - 6)


def test_without_flops_there_is_no_figure(load: Load, parts: Make) -> None:
    document, tables = parts()
    for row in tables["roofline_kernels"]:
        row |= dict.fromkeys(("flops", "tflops", "intensity", "peak"))
    view = roofline_view(load((document, tables)).traces[0])
    assert view is not None
    assert view.chart is None


def test_a_projection_of_nothing_gives_no_figures(load: Load, parts: Make) -> None:
    document, tables = parts()
    document["projection"] |= {"known_ns": 0, "projected_ns": 0, "known_share": 0.0}
    view = projection_view(load((document, tables)).traces[0])
    assert view is not None
    assert "nothing can be told" in view.headline
    assert "at least" not in view.headline


def test_a_projection_says_that_it_is_one_and_by_which_inputs(trace: TraceBundle) -> None:
    view = projection_view(trace)
    assert view is not None
    text = " ".join((view.headline, view.decode, *view.inputs)).replace("\u00a0", " ")
    for part in (
        "Projected onto NVIDIA T4",
        "not measured",
        "real kernels are slower",
        "240 GB/s",
        "a copy",
        "1.34 µs",
        "52.7 µs",
    ):
        assert part in text, part
    assert "251 MB" in view.decode.replace("\u00a0", " ")
    assert "788\u00a0tokens/s" in view.decode
    first, second = view.steps.rows
    assert [cell.text.replace("\u00a0", " ") for cell in first[1:]] == [
        "500 µs",
        "100 %",
        "1.05 ms",
        "220 µs",
        "8.60 ms",
        "8.60 ms",
    ]
    # Too little is known of the second step.
    assert (second[3].text, second[-1].text) == ("–", "–")
    unknown = [row for row in view.kernels.rows if row[5].text == "not known"]
    assert unknown
    assert all(row[3].text == "–" for row in unknown)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"inputs": None}, {"inputs": []}])
def test_none_is_none(load: Load, parts: Make, value: Any) -> None:
    document, tables = parts()
    trace = load((document | {"projection": value}, tables)).traces[0]
    assert projection_view(trace) is None
    assert roofline_view(load((document | {"roofline": None}, tables)).traces[0]) is None


def test_the_sections_stand_on_the_page_and_hostile_names_are_text(load: Load, parts: Make, hostile: tuple[str, ...]) -> None:
    page = to_html(load(parts(hostile=True)))
    assert 'id="t0-roofline-section"' in page
    assert 'id="t0-projection-section"' in page
    section = page[page.index('id="t0-roofline-section"') : page.index('id="t0-layers-section"')]
    for tag in ("script>alert", "<img", "<svg", "<b>"):
        assert tag not in section.replace('<script type="application/json"', "")
    islands = re.findall(r'<script type="application/json" id="t0-roofline-chart-data">(.*?)</script>', page)
    assert len(islands) == 1
    assert "<" not in islands[0]
    labels = "".join(text for trace in json.loads(islands[0])["data"] for text in trace.get("hovertext", []))
    assert "<script" not in labels
    assert "&lt;script" in labels
    assert "<h3>How close" not in to_html(load(parts(gpu=False)))
