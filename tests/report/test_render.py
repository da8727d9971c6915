"""Is the page whole, safe, and the same every time?"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from tracekit.report import figures, tables
from tracekit.report.budget import budget
from tracekit.report.bundle import Bundle
from tracekit.report.layers import layers_view
from tracekit.report.render import json_island, render, to_html, trace_labels
from tracekit.report.timeline import timeline

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
Load = Callable[..., Bundle]
VOID = {"meta", "link", "wbr", "br", "img", "input"}


class Page(HTMLParser):
    """The elements of a page, its scripts, its islands and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.islands: dict[str, Any] = {}
        self.text: list[str] = []
        self.open: list[str] = []
        self.current: dict[str, str | None] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.current = dict(attrs)
        self.tags.append((tag, self.current))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside != "script":
            self.text.append(data)
        elif self.current.get("type") == "application/json":
            self.islands[str(self.current["id"])] = json.loads(data)
        else:
            self.scripts.append(data)


def test_the_same_bundle_gives_the_same_bytes(bundle: Callable[..., Path], tmp_path: Path) -> None:
    directory = bundle(hostile=True)
    first = render(directory, tmp_path / "one.html").read_bytes()
    code = "import sys; from pathlib import Path; from tracekit.report.render import render; render(Path(sys.argv[1]), Path(sys.argv[2]))"
    subprocess.run(
        [sys.executable, "-c", code, str(directory), str(tmp_path / "two.html")],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    assert (tmp_path / "two.html").read_bytes() == first


def test_torch_and_pandas_stay_out(bundle: Callable[..., Path], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tracekit.report.render import render\n"
        "render(Path(sys.argv[1]), Path(sys.argv[2])); print({'torch', 'pandas'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(bundle()), str(tmp_path / "x.html")], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == "set()"


def test_plotly_is_inlined_once_and_the_page_is_small(dossiers: dict[str, Path]) -> None:
    for kind, path in dossiers.items():
        html = path.read_text()
        assert html.count("plotly.js v") == 1, kind
        assert path.stat().st_size < 5_600_000, kind


def test_every_script_is_named_by_the_policy_and_nothing_is_fetched(dossiers: dict[str, Path]) -> None:
    for path in dossiers.values():
        page = Page(path.read_text())
        policy = next(
            attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        assert policy.startswith("default-src 'none'")
        assert "unsafe-eval" not in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert len(page.scripts) == 2
        for script in page.scripts:
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
        for tag, attributes in page.tags:
            assert tag not in ("iframe", "object", "embed", "base", "form", "svg", "img")
            assert not any(name.startswith("on") for name in attributes)
            assert (attributes.get("src"), attributes.get("srcset")) == (None, None)
            assert re.match(r"#|data:,$", attributes.get("href") or "#")


def test_hostile_names_are_text(dossiers: dict[str, Path], hostile: tuple[str, ...]) -> None:
    page = Page(dossiers["hostile"].read_text())
    text = "".join(page.text)
    for name in hostile:
        # Plotly labels hold the same names; they are in the islands, escaped twice.
        assert name in text
    assert not [tag for tag, _ in page.tags if tag in ("b", "i", "img", "svg")]


def test_findings_say_how_they_reckon_and_what_could_not_be_told(dossiers: dict[str, Path]) -> None:
    text = re.sub(r"\s+", " ", "".join(Page(dossiers["plain"].read_text()).text))
    assert "All idle time less the gaps aten::addmm" in text
    assert "Cannot tell fp32_gemm, tf32_off: no shapes aten::addmm." in text
    assert "Cannot tell stragglers: one rank alone." in text
    hostile = Page(dossiers["hostile"].read_text())
    assert "All idle time less the gaps" in "".join(hostile.text)


def test_hostile_names_are_escaped_for_plotly(dossiers: dict[str, Path]) -> None:
    page = Page(dossiers["hostile"].read_text())
    labels = []

    def collect(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for name, entry in value.items():
                collect(entry, name)
        elif isinstance(value, list):
            for entry in value:
                collect(entry, key)
        elif isinstance(value, str) and key in ("text", "hovertext", "ticktext", "name"):
            labels.append(value)

    for key, island in page.islands.items():
        if "timeline" not in key:
            collect(island)
    assert any("&lt;script&gt;" in label for label in labels)
    assert {tag for label in labels for tag in re.findall(r"<[^>]*>", label)} <= {"<b>", "</b>", "<br>"}


@pytest.mark.parametrize(
    "value", ["</script>", "<!--", "a\u2028b\u2029", "&amp;", "\ud800", {"<": [1.5, float("nan"), None, True]}]
)
def test_an_island_never_ends_its_element(value: Any) -> None:
    text = str(json_island(value))
    assert not re.search(r"[<>&\u2028\u2029]", text)
    back = json.loads(text)
    assert back == ({"<": [1.5, None, None, True]} if isinstance(value, dict) else value)


def test_every_figure_is_one_that_plotly_knows(load: Load, parts: Callable[..., Parts]) -> None:
    bundle = load(parts(hostile=True), parts(gaps=200), parts(gpu=False))
    trace, host = bundle.traces[0], bundle.traces[2]
    found = budget(trace)
    assert found is not None
    labels = ["a", "b", "c"]
    for figure in (
        figures.time_budget(found),
        figures.spans(bundle.traces, labels, absolute=True),
        figures.spans(bundle.traces, labels, absolute=False),
        figures.families(bundle.traces, labels),
        figures.gap_scatter(trace),
        figures.operators(host),
        layers_view(trace).chart,
    ):
        assert figure is not None
        assert figure["data"]
        # Colours are names that the page resolves; any colour will do here.
        go.Figure(json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(figure))))


def test_every_colour_is_in_the_style_sheet(dossiers: dict[str, Path]) -> None:
    for path in dossiers.values():
        html = path.read_text()
        style = html.partition("<style>")[2].partition("</style>")[0]
        islands = "".join(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.DOTALL))
        tokens = set(re.findall(r'"(--[a-z][a-z-]*)"', islands)) | set(
            re.findall(r"var\((--[a-z-]+)\)", html.partition("<body>")[2])
        )
        assert tokens
        for token in tokens:
            assert style.count(f"{token}:") == 2, f"{token} needs a light and a dark value"


def test_what_no_operator_launched_is_a_headline(load: Load, parts: Callable[..., Parts]) -> None:
    document, tables = parts()
    text = " ".join("".join(Page(to_html(load((document, tables)))).text).split())
    assert "No operator86.0 %of kernel time, mostly replayed from CUDA graphs" in text
    for nothing in (None, document["without_operator"] | {"time_ns": 0, "share": 0.0}):
        assert "<dt>No operator</dt>" not in to_html(load((document | {"without_operator": nothing}, tables)))


def test_graphs_and_compiled_code_have_a_section_where_there_are_any(load: Load, parts: Callable[..., Parts]) -> None:
    document, tables = parts()
    text = "".join(Page(to_html(load((document, tables)))).text)
    assert "What do graphs and compiled code hide?" in text
    assert "triton_poi_fused_add_mul_0" in text
    assert "add, mul, aten::addmm" in text
    nothing: dict[str, list[dict[str, Any]]] = {key: [] for key in ("graphs", "compiled_regions", "generated_kernels")}
    assert "compiled code hide" not in to_html(load((document, tables | nothing)))


def test_several_devices_have_a_table_and_one_has_none(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    row = {"span_ns": 4_000_000, "busy_ns": 1_000_000, "idle_ns": 3_000_000, "kernel_time_ns": 900_000, "kernels": 12}
    devices = [{"device": at, "name": f"GPU of slot {at}", **row} for at in range(2)]
    one, two = (to_html(load((document, rows | {"devices": devices[:count]}))) for count in (1, 2))
    assert "How busy is each device?" not in one
    assert "How busy is each device?" in two
    assert "GPU of slot 1" in two
    assert "25.0" in two.split("How busy is each device?")[1].split("</section>")[0]


def test_what_a_gap_waited_for_is_shown_where_it_is_known(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    assert "Waits for" not in to_html(load((document, rows)))
    known = [row | {"waits_for": "stream 20", "stream_wait_ns": 5_000} for row in rows["gap_groups"]]
    assert "stream 20" not in to_html(load((document, rows | {"gap_groups": known})))  # dispatch is the main cause
    waiting = [row | {"cause": "device_wait"} for row in known]
    page = to_html(load((document, rows | {"gap_groups": waiting})))
    assert page.count("stream 20") == 1
    assert "Stream wait" in page


def test_long_tables_are_cut_and_say_so(load: Load, parts: Callable[..., Parts]) -> None:
    trace = load(parts(kernels=450)).traces[0]
    view = tables.kernels(trace)
    assert (len(view.rows), view.total) == (tables.LIMITS["kernels"], 450)
    assert "The first 200 rows; all 450 are in kernels.parquet" in to_html(load(parts(kernels=450)))


def test_columns_that_nothing_fills_are_left_out(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    bare = [row | {"registers": None, "occupancy_percent": None, "operator": None} for row in rows["kernels"]]
    labels = [column.label for column in tables.kernels(load((document, rows | {"kernels": bare})).traces[0]).columns]
    assert not {"Regs", "Occ.", "Launched by"} & set(labels)
    assert {"Kernel", "Family", "Share", "Time", "Count"} <= set(labels)


def test_an_empty_trace_is_a_page_all_the_same(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts(gpu=False)
    page = Page(to_html(load((document, rows | {"operators": []}))))
    assert "nothing to analyse" in "".join(page.text)
    assert "table" not in [tag for tag, _ in page.tags]


def test_a_sparse_document_is_a_page_all_the_same(load: Load, parts: Callable[..., Parts]) -> None:
    _, rows = parts()
    assert Page(to_html(load(({"gpu": {}}, rows)))).tags
    nothing = {key: [dict.fromkeys(row) for row in entries] for key, entries in rows.items() if key != "timeline"}
    assert Page(to_html(load(({"name": None, "gpu": {"span_ns": 5}}, nothing | {"timeline": []})))).tags


def test_a_family_from_the_future_is_other(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    later = [row | {"family": "x; background: url(//evil)"} for row in rows["kernels"]]
    html = to_html(load((document, rows | {"kernels": later})))
    assert "//evil" not in html


def test_the_manifest_is_told(load: Load, parts: Callable[..., Parts]) -> None:
    text = "".join(Page(to_html(load(parts()))).text).replace("\u00a0", " ")
    for words in (
        "fp16",
        "float16",
        "random, seed 0",
        "196 tokens/s",
        "5.00 ms without the profiler and 10.5 ms with it",
        "torch 2.13.0",
        "NVIDIA H100 80GB HBM3",
    ):
        assert words in text


def test_an_unreadable_manifest_is_said_to_be_one(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    text = "".join(Page(to_html(load((document | {"manifest": {"schema_version": 99}}, rows)))).text)
    assert "not one that this version can read" in text


def test_files_that_were_skipped_are_named(write: Callable[..., Path], parts: Callable[..., Parts], tmp_path: Path) -> None:
    directory = write(parts())
    document = json.loads((directory / "bundle.json").read_text())
    document["skipped"] = [{"path": "traces/<b>.json", "reason": "is empty"}]
    (directory / "bundle.json").write_text(json.dumps(document))
    text = "".join(Page(render(directory, tmp_path / "x.html").read_text()).text)
    assert "1 file was not analysed" in text
    assert "traces/<b>.json is empty" in text


def test_labels_are_told_apart(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts(name="t.pt.trace.json.gz")
    bundle = load((document | {"rank": 0}, rows), (document | {"rank": 1}, rows), (document, rows), parts(name="u.json"))
    assert trace_labels(bundle.traces) == ["t (rank 0)", "t (rank 1)", "t (3)", "u"]


def test_each_window_highlights_its_own_gap(load: Load, parts: Callable[..., Parts]) -> None:
    trace = load(parts()).traces[0]
    data = timeline(trace)
    assert data is not None
    gaps = trace.rows("gaps", 3)
    for window, gap in zip(data["windows"], gaps, strict=True):
        assert window["gap"][0] + window["at"] == gap["start_ns"]
        assert window["gap"][1] - window["gap"][0] == gap["duration_ns"]
        assert [lane["label"] for lane in window["lanes"]] == [
            "thread 460 · annotations",
            "thread 460 · operators",
            "thread 460 · runtime calls",
            "GPU 0 stream 7",
        ]
        assert len({len(column) for column in window["events"].values()}) == 1


def test_overlap_is_scaled_and_said(load: Load, parts: Callable[..., Parts]) -> None:
    document, rows = parts()
    shorter = document["gpu"] | {"busy_ns": 1_000_000, "span_ns": 1_000_000 + document["gpu"]["idle_ns"]}
    assert "as streams overlap" in to_html(load((document | {"gpu": shorter}, rows)))
    assert "as streams overlap" not in to_html(load((document, rows)))
