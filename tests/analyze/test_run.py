"""Does `analyze` called from Python give what the command gives?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import TraceBuilder

from tracekit.analyze import analyze
from tracekit.errors import BundleError, TraceError


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    example().write(tmp_path / "traces" / "one.json.gz")
    (tmp_path / "traces" / "bad.json").write_text('{"nodes": []}')
    return tmp_path


def example() -> TraceBuilder:
    builder = TraceBuilder()
    for step in range(4):
        builder.annotation(1_000 * step, 900, f"ProfilerStep#{step}")
        builder.launch(call=(1_000 * step + 10, 5), kernel=(1_000 * step + 100, 50))
    return builder


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--steps", "1-2", "--per-step"], {"steps": "1-2", "per_step": True}),
        (["--project", "T4"], {"project": "T4"}),
    ],
)
def test_the_document_is_that_of_the_command(work, monkeypatch, arguments, options):
    command = [str(Path(sys.executable).with_name("tracekit")), "analyze", "traces", "--json", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=work, check=True).stdout
    monkeypatch.chdir(work)
    assert json.loads(json.dumps(analyze(["traces"], **options).document())) == json.loads(printed)


def test_files_that_are_no_traces_are_told_and_nothing_is_written(work):
    told = []
    found = analyze([work / "traces"], on_skip=told.append)
    assert [one.trace.name for one in found.analyses] == ["one.json.gz"]
    assert tuple(told) == found.skipped
    assert [Path(one.path).name for one in told] == ["bad.json"]
    assert [path.name for path in work.iterdir()] == ["traces"]


def test_a_bundle_is_written_where_it_is_asked_for(work):
    analyze([str(work / "traces" / "one.json.gz")], output=str(work / "out"))
    assert (work / "out" / "bundle.json").is_file()


def test_what_stands_in_the_way_is_told_before_a_trace_is_read(work, monkeypatch):
    (work / "out").mkdir()
    (work / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(BundleError, match="thesis"):
        analyze([work / "nowhere.json"], output=work / "out")
    with pytest.raises(TraceError, match="no such file"):
        analyze([work / "nowhere.json"])
