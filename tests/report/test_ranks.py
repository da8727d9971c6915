"""Does the page tell which rank the others wait for, and how the steps differ?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rank_traces import Job

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.ranks.distributed_run import find_runs
from tracekit.errors import BundleError
from tracekit.report.bundle import Bundle, read_bundle
from tracekit.report.ranks import run_views
from tracekit.report.render import to_html
from tracekit.report.steps import communication_view, steps_view
from tracekit.schema import DOCUMENT

TAXONOMY = Taxonomy.default()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Job], Path]:
    """A function that analyses a job and returns the directory of its bundle."""

    def make(job: Job) -> Path:
        analyses = [Analysis(load(path), TAXONOMY) for path in job.write(tmp_path / "job")]
        runs = find_runs([one.trace for one in analyses], [one.communication for one in analyses])
        return write_bundle(analyses, [], tmp_path / "out", runs)

    return make


@pytest.fixture
def bundle(write: Callable[[Job], Path]) -> Bundle:
    job = Job(ranks=3, steps=4, overlap=5_000)
    for step in range(4):
        job.late[step, 2] = 40_000
    return read_bundle(write(job))


def test_the_straggler_is_the_headline(bundle: Bundle) -> None:
    (view,) = run_views(bundle.runs)
    text = view.headline.replace("\u00a0", " ")
    assert "4 collectives were matched across ranks, by sequence numbers of each process group." in text
    assert "Rank 2 is a straggler: it comes last at 100 % of 4 of them." in text
    assert "wait 320 µs inside collectives" in text  # two ranks, four times 40 µs


def test_the_parts_of_a_bar_are_the_span_of_its_rank(bundle: Bundle) -> None:
    (view,) = run_views(bundle.runs)
    assert view.chart is not None
    spans = [row["span_ns"] for row in bundle.runs[0].rows("ranks")]
    sums = [sum(values) for values in zip(*(trace["x"] for trace in view.chart["data"]), strict=True)]
    scale = spans[0] / sums[0]
    assert [round(value * scale) for value in sums] == spans
    assert scale in (1e3, 1e6)


def test_the_table_has_a_row_a_rank(bundle: Bundle) -> None:
    (view,) = run_views(bundle.runs)
    rows = bundle.runs[0].rows("ranks")
    wait = [column.label for column in view.ranks.columns].index("Wait")
    assert [row[wait].sort for row in view.ranks.rows] == [row["wait_ns"] for row in rows]
    assert view.collectives.rows[0][0].text == "all_reduce"


def test_the_page_holds_all_of_it(bundle: Bundle) -> None:
    page = to_html(bundle)
    for part in ("Which rank do the others wait for?", "How do the steps differ?", "Does communication hide behind compute?"):
        assert part in page


def test_one_rank_alone_has_no_section(write: Callable[[Job], Path]) -> None:
    job = Job(ranks=1)
    assert read_bundle(write(job)).runs == ()


def test_hostile_names_stay_text(write: Callable[[Job], Path], hostile: tuple[str, ...]) -> None:
    directory = write(Job(ranks=2))
    path = directory / DOCUMENT
    document = json.loads(path.read_text())
    document["runs"][0] |= {"name": hostile[1], "notes": list(hostile), "matched_by": hostile[0]}
    path.write_text(json.dumps(document))
    page = to_html(read_bundle(directory))
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("folder", ["../out", "", None, ".."])
def test_a_runs_folder_must_not_lead_out(write: Callable[[Job], Path], folder: Any) -> None:
    directory = write(Job(ranks=2))
    document = json.loads((directory / DOCUMENT).read_text())
    document["runs"][0]["folder"] = folder
    (directory / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(BundleError, match="no usable folder"):
        read_bundle(directory)


def test_steps_are_told_with_what_tells_them(bundle: Bundle) -> None:
    view = steps_view(bundle.traces[0])
    assert view is not None
    assert view.headline == "Steps are told by the profiler's steps (ProfilerStep#n)."
    assert [row[0].text for row in view.steps.rows] == ["5", "6", "7", "8", "–"]
    document = {**bundle.traces[0].document}
    document["steps"] = document["steps"] | {
        "confidence": 0.8,
        "chosen": {"asked": "5-6", "numbers": "5-6", "count": 2, "of": 9},
    }
    view = steps_view(type(bundle.traces[0])(document, bundle.traces[0].tables))
    assert view is not None
    assert "confidence of 80\u00a0%" in view.headline
    assert "2 of 9 steps (5-6) alone" in view.headline


def test_communication_is_told_of_each_rank(bundle: Bundle) -> None:
    view = communication_view(bundle.traces[0])
    assert view is not None
    assert "exposed" in view.headline
    assert view.collectives.rows[0][3].text == "4.00\u00a0MB"
