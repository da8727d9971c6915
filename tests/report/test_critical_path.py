"""Does the page tell what the time depended on?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from tracekit.report.bundle import Bundle
from tracekit.report.critical_path import critical_path_view
from tracekit.report.render import to_html

Load = Callable[..., Bundle]
Make = Callable[..., Any]

PATH = {
    "reason": None,
    "window": "decode (instance 3 of 8)",
    "length_ns": 1_000_000,
    "bounds": [
        {"bound": "host", "kind": "operator", "count": 7, "time_ns": 500_000, "share": 0.5},
        {"bound": "kernel", "kind": "kernel", "count": 2, "time_ns": 300_000, "share": 0.3},
        {"bound": "host", "kind": "outside", "count": 3, "time_ns": 200_000, "share": 0.2},
    ],
    "notes": [{"code": "cut", "message": "3 host events are cut", "count": 3}],
}


def with_path(parts: Make, path: Any, name: str = "aten::mm") -> Any:
    document, tables = parts()
    row = {"bound": "host", "kind": "operator", "name": name, "count": 7, "time_ns": 500_000, "share": 0.5}
    return document | {"critical_path": path}, tables | {"critical_path_events": [row]}


def test_the_headline_sums_by_bound_and_the_chart_and_table_hold_the_times(load: Load, parts: Make) -> None:
    view = critical_path_view(load(with_path(parts, PATH)).traces[0])
    assert view is not None
    assert "Through decode (instance 3 of 8) it takes 1.00" in view.headline
    assert "host 70.0" in view.headline
    assert view.headline.index("host 70.0") < view.headline.index("kernel 30.0")
    assert view.chart is not None
    assert list(view.chart["data"][0]["x"]) == [500_000, 300_000, 200_000]
    go.Figure(json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(view.chart))))
    assert view.events is not None
    assert [cell.text for cell in view.events.rows[0]][:2] == ["aten::mm", "operator"]
    assert view.chart["layout"]["annotations"][0]["text"] == "operator: in host operators"
    assert view.notes == ("3 host events are cut",)


def test_a_reason_stands_alone(load: Load, parts: Make) -> None:
    page = to_html(load(with_path(parts, {"reason": "HTA fails <b>here</b>"})))
    assert "No critical path: HTA fails &lt;b&gt;here&lt;/b&gt;." in page
    assert "critical-path-chart" not in page


@pytest.mark.parametrize("value", [None, [], "x"])
def test_none_is_none(load: Load, parts: Make, value: Any) -> None:
    bundle = load(with_path(parts, value))
    assert critical_path_view(bundle.traces[0]) is None
    assert "What did the time depend on?" not in to_html(bundle)


def test_hostile_names_are_text(load: Load, parts: Make, hostile: tuple[str, ...]) -> None:
    for name in hostile:
        page = to_html(load(with_path(parts, PATH | {"window": name}, name)))
        section = page[page.index('id="t0-critical-path-section"') : page.index('id="t0-layers-section"')]
        for tag in ("script>alert", "<img", "<svg", "<b>"):
            assert tag not in section.replace('<script type="application/json"', "")
