from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rank_traces import Job
from repository import ROOT
from synthetic import TraceBuilder

HEAVY = ("jinja2", "msgspec", "numpy", "pandas", "plotly", "pyarrow", "torch", "transformers")


def tracekit(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in `cwd`."""
    command = [str(Path(sys.executable).with_name("tracekit")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "COLUMNS": "80", **environment})


def modules_after(arguments: list[str], cwd: Path) -> set[str]:
    """Which of the heavy modules a command has imported when it ends."""
    code = f"""
import sys
from tracekit.cli import main
sys.argv = ["tracekit", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
print("\\nMODULES", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("MODULES", 1)[1].split())


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The contract of bad input: exit code 2, nothing on standard output, one line on standard error with these parts."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a trace in traces/, as after `tracekit collect`."""
    (tmp_path / "traces").mkdir()
    example().write(tmp_path / "traces" / "one.json.gz")
    return tmp_path


def example() -> TraceBuilder:
    builder = TraceBuilder()
    for step in range(3):
        at = step * 50_000
        builder.operator(at, 20_000, "aten::mm")
        builder.call(at + 5_000, 3_000, "cudaLaunchKernel", correlation=step + 1)
        builder.kernel(at + 12_000, 9_000, "volta_sgemm_128x64_tn", correlation=step + 1)
    return builder


def test_help_is_light(tmp_path: Path) -> None:
    assert modules_after(["--help"], tmp_path) == set()
    done = tracekit("--help", cwd=tmp_path)
    for command in ("collect", "analyze", "report", "diff", "check"):
        assert command in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", ["collect", "analyze", "report", "diff", "check"])
def test_every_command_has_examples(command: str, tmp_path: Path) -> None:
    done = tracekit(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"tracekit {command}" in done.stdout.split("Examples")[1]


def test_version(tmp_path: Path) -> None:
    from tracekit import __version__

    assert tracekit("--version", cwd=tmp_path).stdout == f"tracekit {__version__}\n"


def test_analyze_and_report_never_import_torch(work: Path) -> None:
    assert not modules_after(["analyze", "traces/"], work) & {"torch", "transformers"}
    assert not modules_after(["report"], work) & {"torch", "transformers"}


def test_json_needs_no_dataframe_library(work: Path) -> None:
    assert modules_after(["analyze", "--json"], work) == {"msgspec", "numpy"}


def test_the_three_commands_of_the_readme_work_without_arguments(work: Path) -> None:
    analyzed = tracekit("analyze", cwd=work)
    assert analyzed.returncode == 0
    assert "Kernel time by family" in analyzed.stdout
    assert (work / "analysis" / "bundle.json").is_file()
    reported = tracekit("report", cwd=work)
    assert reported.returncode == 0
    assert reported.stdout.strip() == "report.html"
    assert (work / "report.html").read_text().lower().startswith("<!doctype html>")


def test_json_is_one_document_and_writes_nothing(work: Path) -> None:
    before = sorted(work.rglob("*"))
    done = tracekit("analyze", "traces/", "--json", cwd=work)
    assert done.returncode == 0
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["traces"][0]["gpu"]["kernel_time_ns"] == 27_000
    assert sorted(work.rglob("*")) == before


def test_json_with_output_writes_the_bundle_too(work: Path) -> None:
    done = tracekit("analyze", "--json", "-o", "out", cwd=work)
    assert json.loads(done.stdout)["traces"]
    assert (work / "out" / "bundle.json").is_file()


def test_one_bad_file_of_a_directory_is_reported_and_the_others_analysed(work: Path) -> None:
    (work / "traces" / "bad.json").write_text('{"nodes": [], "schema": "1.1"}')
    done = tracekit("analyze", "--json", cwd=work)
    assert done.returncode == 0
    assert [trace["name"] for trace in json.loads(done.stdout)["traces"]] == ["one.json.gz"]
    assert len(done.stderr.splitlines()) == 1
    assert "bad.json" in done.stderr
    assert "execution trace" in done.stderr


def test_nobodys_folders_are_replaced_by_a_bundle(work: Path) -> None:
    for folder in ("2024-06-wedding", "2025-01-trip"):
        (work / "photos" / folder).mkdir(parents=True)
        (work / "photos" / folder / "1.jpg").write_text("precious")
    done = tracekit("analyze", "-o", "photos", cwd=work)
    assert_one_line(done, "photos", "2024-06-wedding", "would be lost", "-o")
    assert sorted(path.name for path in (work / "photos").iterdir()) == ["2024-06-wedding", "2025-01-trip"]
    assert sorted(path.name for path in work.iterdir()) == ["photos", "traces"]


BAD_FILES = {
    "empty.json": (b"", "empty"),
    "notes.json": (b'{"hello": 1}', "traceEvents"),
    "execution.json": (b'{"schema": "1.1", "nodes": []}', "execution trace"),
    "memory.json": (b"[[1, 2], [3, 4]]", "memory timeline"),
    "cut.json": (b'{"traceEvents": [{"ph": "X", "ts": 1', "cut off at byte 36"),
    "cut.json.gz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip"),
    "text.json": (b"hello", "byte 0"),
    "hollow.json": (b'{"traceEvents": []}', "no events"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    assert_one_line(tracekit("analyze", name, cwd=tmp_path), name, reason, ";")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_paths_and_arguments_are_one_line(work: Path) -> None:
    (work / "hollow").mkdir()
    assert_one_line(tracekit("analyze", "nowhere.json", cwd=work), "nowhere.json", "no such file")
    assert_one_line(tracekit("analyze", "hollow", cwd=work), "hollow", "no .json")
    assert_one_line(tracekit("analyze", "--nonsense", cwd=work), "--nonsense")
    assert_one_line(tracekit("nonsense", cwd=work), "nonsense")
    assert_one_line(tracekit("report", "nowhere", cwd=work), "nowhere")
    assert_one_line(tracekit("analyze", "-o", "traces/one.json.gz/out", cwd=work), "traces/one.json.gz/out")
    assert_one_line(tracekit("analyze", "-o", "traces", cwd=work), "traces", "lost")
    assert_one_line(tracekit("analyze", "--rules", "nowhere.toml", cwd=work), "nowhere.toml")
    assert_one_line(tracekit("analyze", "--device-table", "nowhere.toml", cwd=work), "nowhere.toml")
    assert_one_line(tracekit("analyze", "--project", "Z80", cwd=work), "Z80", "--device-table")
    tracekit("analyze", cwd=work)
    assert_one_line(tracekit("report", "-o", "traces/one.json.gz/r.html", cwd=work), "r.html")
    assert_one_line(tracekit("collect", "--variant", "nonsense", cwd=work), "nonsense", "baseline")


def test_a_users_rules_come_first(work: Path) -> None:
    (work / "mine.toml").write_text(
        '[[rule]]\nid = "mine"\npattern = "sgemm"\nfamily = "other"\nkind = "mine"\nexample = "volta_sgemm_128x64_tn"\n'
    )
    done = tracekit("analyze", "--json", "--rules", "mine.toml", cwd=work)
    assert done.returncode == 0, done.stderr
    kernel = json.loads(done.stdout)["traces"][0]["kernels"][0]
    assert (kernel["family"], kernel["kind"], kernel["rule"]) == ("other", "mine", "mine")


def test_a_users_devices_come_first(work: Path) -> None:
    builder = example()
    builder.metadata["deviceProperties"] = [{"id": 0, "name": "My GPU"}]
    builder.write(work / "traces" / "one.json.gz")
    (work / "mine.toml").write_text(
        "[[device]]\nname = 'Mine'\nmatch = 'My GPU'\narchitecture = 'mine'\ncompute_capability = '9.9'\n"
        "memory_gb_s = 1000\ntflops = { fp32 = 50 }\nsource = 'me'\n"
    )
    document = json.loads(tracekit("analyze", "--json", "--device-table", "mine.toml", cwd=work).stdout)["traces"][0]
    assert document["roofline"]["device"] == "Mine"
    assert document["device"]["datasheet"]["source"] == "me"
    assert document["projection"] is None
    assert json.loads(tracekit("analyze", "--json", cwd=work).stdout)["traces"][0]["roofline"]["device"] is None
    projected = tracekit("analyze", "--json", "--device-table", "mine.toml", "--project", "mine", cwd=work)
    assert json.loads(projected.stdout)["traces"][0]["projection"]["inputs"]["device"] == "Mine"


def test_some_steps_alone_are_analysed(work: Path) -> None:
    Job(ranks=2).builder(0).write(work / "traces" / "one.json.gz")
    whole = json.loads(tracekit("analyze", "--json", cwd=work).stdout)["traces"][0]
    assert whole["steps"]["chosen"] is None
    done = tracekit("analyze", "--json", "--steps", "last:1", "--per-step", cwd=work)
    chosen = json.loads(done.stdout)["traces"][0]
    assert chosen["steps"]["chosen"]["count"] == 1
    assert chosen["gpu"]["kernels"] < whole["gpu"]["kernels"]
    assert chosen["kernels"][0]["time_ns_per_step"] == chosen["kernels"][0]["time_ns"]
    assert_one_line(
        tracekit("analyze", "--steps", "99-120", cwd=work), "--steps 99-120", "there is no step 99-120", "one.json.gz"
    )
    assert_one_line(tracekit("analyze", "--steps", "sometimes", cwd=work), "sometimes names no steps", "steady")


def test_a_directory_of_ranks_is_one_run(tmp_path: Path) -> None:
    job = Job(ranks=2)
    job.late[0, 1] = 5_000
    job.write(tmp_path / "job")
    done = tracekit("analyze", "job", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 ranks of 2 (by distributedInfo): 3 collectives matched" in done.stdout
    assert "Straggler: rank 1" in done.stdout
    assert tracekit("report", "out", "-o", "ranks.html", cwd=tmp_path).returncode == 0
    assert "Which rank do the others wait for?" in (tmp_path / "ranks.html").read_text(encoding="utf-8")


def test_the_rule_on_stragglers_sees_all_ranks_of_a_run(tmp_path: Path) -> None:
    job = Job(ranks=3)
    for step in range(job.steps):
        job.late[step, 1] = 60_000
    job.write(tmp_path / "job")
    alone, together = (
        json.loads(tracekit("analyze", path, "--json", cwd=tmp_path).stdout)["traces"]
        for path in (str(sorted((tmp_path / "job").iterdir())[0]), "job")
    )
    assert "stragglers" in [one["code"] for one in alone[0]["undecided"]]
    for trace in together:
        (found,) = [one for one in trace["findings"] if one["code"] == "stragglers"]
        assert found["title"] == "Rank 1 computes longer than the others"
        assert found["saving_ns"] == 3 * 60_000
        assert "stragglers" not in [one["code"] for one in trace["undecided"]]


def test_a_projection_stands_in_the_dossier(work: Path) -> None:
    assert tracekit("analyze", "--project", "T4", cwd=work).returncode == 0
    tracekit("report", cwd=work)
    page = (work / "report.html").read_text()
    assert "Projected onto NVIDIA T4, not measured" in page
    tracekit("analyze", cwd=work)
    tracekit("report", cwd=work)
    assert "Projected onto" not in (work / "report.html").read_text()


@pytest.fixture
def two(work: Path) -> Path:
    """A second trace beside traces/one.json.gz, which takes 3,000 ns longer, and a bundle of both."""
    builder = example()
    builder.kernel(121_000, 3_000, "volta_sgemm_128x64_tn")
    builder.write(work / "traces" / "two.json.gz")
    assert tracekit("analyze", cwd=work).returncode == 0
    return work


def test_diff_prints_tables_markdown_or_a_document(two: Path) -> None:
    paths = ("traces/one.json.gz", "traces/two.json.gz")
    shown = tracekit("diff", *paths, cwd=two)
    assert shown.returncode == 0, shown.stderr
    assert "more GPU span" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert "| part | A | B |" in tracekit("diff", *paths, "--markdown", cwd=two).stdout
    document = json.loads(tracekit("diff", *paths, "--json", cwd=two).stdout)
    assert document["waterfall"]["delta_ns"] == 3_000
    bundled = tracekit("diff", "analysis:one", "traces:two", "--json", cwd=two)
    assert json.loads(bundled.stdout) == document
    assert json.loads(tracekit("diff", "analysis:one", paths[0], "--json", cwd=two).stdout)["empty"]


def test_check_exits_1_with_its_reasons_when_a_gate_fails(two: Path) -> None:
    incomplete = ("--allow-incomplete",)  # the longer one has a kernel that nothing launched
    failed = tracekit("check", "analysis:two", "--against", "traces:one", *incomplete, cwd=two)
    assert failed.returncode == 1
    assert "FAILED  gpu.busy_ns: 27.0 µs → 30.0 µs, +11.1 %, at most +5 %" in failed.stdout.splitlines()
    assert (
        tracekit("check", "analysis:two", "--against", "traces:one", "--max-regression", "12%", *incomplete, cwd=two).returncode
        == 0
    )
    assert tracekit("check", "traces:one", "--against", "analysis:two", cwd=two).returncode == 0
    lost = tracekit("check", "analysis:two", "--against", "traces:one", "--max-regression", "12%", "--json", cwd=two)
    assert lost.returncode == 1
    assert [one["metric"] for one in json.loads(lost.stdout)["gates"] if not one["passed"]] == ["complete"]


def test_repeats_are_compared_by_their_medians(two: Path) -> None:
    assert_one_line(tracekit("diff", "traces", "traces", cwd=two), "2 traces", "traces:one.json.gz", "--repeat")
    assert_one_line(tracekit("check", "traces", "--against", "traces", cwd=two), "--repeat")
    shown = tracekit("diff", "traces:one", "traces", "--repeat", cwd=two)
    assert shown.returncode == 0, shown.stderr
    assert "Medians [intervals]" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    document = json.loads(tracekit("diff", "traces:one", "analysis", "--repeat", "--json", cwd=two).stdout)
    assert document["traces"] == {"a": 1, "b": 2}
    # The median of 27 and 30 µs is more than 5 % above 27 µs, but one of the two is not.
    checked = tracekit("check", "traces", "--against", "analysis:one", "--repeat", "--allow-incomplete", "--json", cwd=two)
    assert checked.returncode == 0, checked.stderr
    (busy,) = [gate for gate in json.loads(checked.stdout)["gates"] if gate["metric"] == "gpu.busy_ns"]
    assert (busy["old"], busy["new"], busy["new_low"], busy["new_high"]) == (27_000, 28_500, 27_000, 30_000)
    assert busy["reason"].endswith("but within the noise")


def test_idle_time_is_checked_only_if_asked(two: Path) -> None:
    def metrics(*options: str) -> set[str]:
        checked = tracekit("check", "traces:one", "--against", "traces:one", "--json", *options, cwd=two)
        return {gate["metric"] for gate in json.loads(checked.stdout)["gates"]}

    assert not {"gpu.span_ns", "idle.dispatch_ns"} & metrics()
    assert {"gpu.span_ns", "idle.dispatch_ns", "gpu.busy_ns"} <= metrics("--idle")
    assert_one_line(tracekit("check", "traces:one", "--idle", cwd=two), "--idle", "--against")


def test_check_by_budgets_alone(two: Path) -> None:
    (two / "budgets.toml").write_text('[[budget]]\nmetric = "families.time_ns"\nmatch = "gemm"\nmax = "27 us"\n')
    assert tracekit("check", "traces:one", "--budget", "budgets.toml", cwd=two).returncode == 0
    (two / "budgets.toml").write_text('[[budget]]\nmetric = "families.time_ns"\nmatch = "gemm"\nmax = "26.999 us"\n')
    assert tracekit("check", "traces:one", "--budget", "budgets.toml", cwd=two).returncode == 1


def test_bad_input_of_diff_and_check_is_one_line(two: Path) -> None:
    one = "traces/one.json.gz"
    assert_one_line(tracekit("diff", one, cwd=two), "B")
    assert_one_line(tracekit("diff", one, "nowhere.json", cwd=two), "nowhere.json", "no such file")
    assert_one_line(tracekit("diff", one, "analysis", cwd=two), "2 traces", "one.json.gz, two.json.gz", "analysis:one.json.gz")
    assert_one_line(tracekit("diff", one, one, "--json", "--markdown", cwd=two), "--markdown")
    assert_one_line(tracekit("check", one, cwd=two), "--against")
    assert_one_line(tracekit("check", one, "--against", one, "--max-regression", "nan", cwd=two), "--max-regression", "5%")
    assert_one_line(tracekit("check", one, "--budget", "no.toml", cwd=two), "no.toml", "cannot be read")
    (two / "budgets.toml").write_text('[[budget]]\nmetric = "gpu.buzzy_ns"\nmax = "1 ms"\n')
    assert_one_line(tracekit("check", one, "--budget", "budgets.toml", cwd=two), "budget 1", "gpu.busy_ns")


def test_diff_and_check_never_import_torch_or_a_dataframe_library(two: Path) -> None:
    one = "traces/one.json.gz"
    assert modules_after(["diff", one, one], two) == {"msgspec", "numpy"}
    assert modules_after(["check", one, "--against", one], two) == {"msgspec", "numpy"}


def test_a_closed_pipe_is_no_error(work: Path) -> None:
    command = f"{Path(sys.executable).with_name('tracekit')} analyze --json | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=work)
    assert done.stderr == ""


def test_completion_for_the_shell(tmp_path: Path) -> None:
    done = tracekit(cwd=tmp_path, _TRACEKIT_COMPLETE="source_bash")
    assert "complete -o" in done.stdout


def test_a_missing_extra_names_the_pip_command(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['tracekit', 'collect']; from tracekit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert_one_line(done, "pip install 'torch-tracekit[collect]'")


def test_a_critical_path_stands_in_the_document_the_terminal_and_the_dossier(work: Path) -> None:
    pytest.importorskip("hta")
    done = tracekit("analyze", "--critical-path", "--json", cwd=work)
    assert done.returncode == 0
    for trace in json.loads(done.stdout)["traces"]:
        path = trace["critical_path"]
        assert path["length_ns"] == sum(row["time_ns"] for row in path["bounds"]) > 0
    shown = tracekit("analyze", "--critical-path-in", "nothing:1", cwd=work)
    assert shown.returncode == 0
    assert "no critical path: no annotation begins with 'nothing'" in shown.stdout
    assert tracekit("analyze", "--critical-path", cwd=work).stdout.count("Critical path by what bounds it") >= 1
    tracekit("report", cwd=work)
    assert "What did the time depend on?" in (work / "report.html").read_text()


def test_without_hta_its_option_names_the_pip_command(work: Path) -> None:
    code = (
        "import sys; sys.modules['hta'] = None; sys.argv = ['tracekit', 'analyze', '--critical-path'];"
        "from tracekit.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=work)
    assert_one_line(done, "pip install 'torch-tracekit[hta]'")


def test_the_list_of_variants(tmp_path: Path) -> None:
    done = tracekit("collect", "--list", cwd=tmp_path)
    for variant in ("baseline", "fp16", "compiled"):
        assert variant in done.stdout


def test_no_page_tells_to_install_somebody_elses_package() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *(path for room in ("analyze", "collect", "kernels", "report", "tracekit") for path in (ROOT / room).rglob("*.py")),
        *(page for page in ROOT.glob("templates/*") if page.is_file()),  # beside Python's cache, which may lie there
    ]
    assert not [page for page in pages if "pip install tracekit" in page.read_text()]


def test_ctrl_c_exits_130_and_says_so(work: Path) -> None:
    code = """
import sys
from tracekit.analyze.trace import batch
def interrupted(*arguments):
    raise KeyboardInterrupt
batch.load_all = interrupted
sys.argv = ["tracekit", "analyze"]
from tracekit.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work)
    assert done.returncode == 130
    assert done.stderr.strip().splitlines()[-1] == "tracekit: interrupted"
    assert not (work / "analysis").exists()
