"""Budgets: what a TOML file may say, which metric has which value, and which gates a trace fails, and by how many ns."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from repository import ROOT
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.budgets import Budget, choose_budgets, default_budgets, parse_percent, read_budgets
from tracekit.analyze.compare.gates import Gate, complete, hold
from tracekit.analyze.compare.metrics import METRICS, Metric, value
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.output.gate_report import cautions, document, lines
from tracekit.errors import TracekitError
from tracekit.schema import CAUSES
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
FIVE = Fraction(5, 100)


def side(builder: TraceBuilder, name: str = "trace.json") -> Side:
    return replace(analysed(Analysis(builder.trace(), TAXONOMY)), name=name)


def run(kernel_ns: int = 1000, steps: int = 2, sync_ns: int = 0, name: str = "softmax_kernel", annotate: bool = True) -> Side:
    """Steps of 100 µs: a kernel of so many ns, then another, before which the host waits a while."""
    builder = TraceBuilder()
    for step in range(steps):
        at = 100_000 * step
        if annotate:
            builder.annotation(at, 90_000, f"ProfilerStep#{step}")
            builder.annotation(at, 40_000, "block")
            builder.annotation(at + 10, 4_000, "norm")
        builder.operator(at, 20, "aten::softmax")
        builder.launch(call=(at + 20, 5), kernel=(at + 100, kernel_ns), name=name)
        builder.call(at + 50_000, sync_ns, "cudaStreamSynchronize")
        builder.launch(call=(at + 50_000 + sync_ns, 5), kernel=(at + 60_000, 1000), name="volta_sgemm_64x64_nn")
    return side(builder)


def gate(new: Side, old: Side | None, budget: Budget) -> Gate:
    (found,) = hold([new], None if old is None else [old], [budget])
    return found


def read(tmp_path: Path, text: str) -> tuple[Budget, ...]:
    path = tmp_path / "budgets.toml"
    path.write_text(text)
    return read_budgets(path)


# --- Values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "match", "expected"),
    [
        ("gpu.busy_ns", None, 4000),
        ("gpu.kernels", None, 4),
        ("launches.kernel_launches", None, 4),
        ("families.time_ns", "reduction", 2000),
        ("families.count", "*", 4),
        ("kernels.time_ns", "*softmax*", 2000),
        ("kernels.time_ns", "SOFTMAX*", None),
        ("kernels.time_ns", "softmax", None),
        ("kernels.count", "softmax_kerne?", 2),
        ("kernels.time_ns", "[a-z]*", None),
        ("operators.kernel_time_ns", "aten::softmax", 0),
        ("copies.time_ns", "*", 0),  # a pattern that cannot be mistyped
        ("copies.time_ns", "**", None),
        ("layers.calls", "ProfilerStep", 2),
        ("layers.time_ns", "*", 4000),  # blocks and norms lie in steps, whose time holds theirs
        ("layers.calls", "ProfilerStep/b*", 2),
    ],
)
def test_values(name, match, expected):
    assert value(run(), Metric(name, match)) == expected


def test_an_annotation_with_a_slash_in_its_name_is_no_layer_inside_another():
    builder = TraceBuilder()
    for at, name in ((0, "loss"), (1_000, "loss/backward")):
        builder.annotation(at, 900, name)
        builder.launch(call=(at + 10, 5), kernel=(at + 100, 50))
    both = side(builder)

    assert value(both, Metric("layers.time_ns", "loss")) == 50
    assert value(both, Metric("layers.time_ns", "loss*")) == 100
    assert value(both, Metric("layers.time_ns", "loss\\/backward")) == 50


def test_every_metric_has_a_value():
    builder = TraceBuilder()
    builder.annotation(0, 50)
    builder.operator(0, 50)
    builder.launch(call=(5, 5), kernel=(20, 5))
    builder.memcpy(50, 5)
    timings = {"total": {"median_ns": 9, "std_ns": 1}, "decode_token": {"median_ns": 3, "std_ns": 1}}
    full = replace(side(builder), manifest={"timings": timings})
    tables = ("families.", "kernels.", "operators.", "layers.", "copies.")

    for name in METRICS:
        assert value(full, Metric(name, "*" if name.startswith(tables) else None)) is not None, name
    assert len(METRICS) == len(set(METRICS))


# --- Gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "passed"), [(1000, True), (1049, True), (1050, True), (1051, False), (10, True)])
def test_a_regression_is_exact(new, passed):
    budget = Budget(Metric("kernels.time_ns", "softmax*"), regression=FIVE)
    assert gate(run(new), run(1000), budget).passed is passed


@pytest.mark.parametrize(("allowed", "passed"), [(2000, True), (1999, False)])
def test_a_maximum_is_exact(allowed, passed):
    found = gate(run(), None, Budget(Metric("kernels.time_ns", "softmax*"), maximum=Fraction(allowed)))

    assert found.passed is passed
    assert found.reason == "kernels.time_ns of softmax*: 2.00 µs, at most 2.00 µs"


def test_of_unequal_steps_a_step_is_held_against_a_step():
    budget = Budget(Metric("kernels.time_ns", "softmax*"), regression=FIVE)

    assert gate(run(1000, steps=4), run(1000, steps=2), budget).passed
    assert gate(run(1050, steps=4), run(1000, steps=2), budget).passed
    worse = gate(run(1051, steps=4), run(1000, steps=2), budget)
    assert not worse.passed
    assert worse.reason == "kernels.time_ns of softmax*: 1.00 µs → 1.05 µs a ProfilerStep, +5.1 %, at most +5 %"
    assert not gate(run(1000, steps=4, annotate=False), run(1000, steps=2, annotate=False), budget).passed


def test_large_and_broken_counts_are_shown_whole():
    new = replace(run(steps=3), figures=run().figures | {"gpu.kernels": 1_234_567})

    assert gate(new, None, Budget(Metric("gpu.kernels"), maximum=FIVE)).reason == "gpu.kernels: 1,234,567, at most 0.05"


def test_a_maximum_of_a_step():
    metric = Metric("kernels.time_ns", "softmax*")

    assert gate(run(steps=4), None, Budget(metric, maximum=Fraction(1000), per_step=True)).passed
    assert not gate(run(steps=4), None, Budget(metric, maximum=Fraction(999), per_step=True)).passed
    with pytest.raises(TracekitError, match="no steps"):
        gate(run(annotate=False), None, Budget(metric, maximum=Fraction(1000), per_step=True))


def test_from_nothing_any_growth_is_too_much():
    budget = Budget(Metric("idle.host_sync_ns"), regression=FIVE)

    assert gate(run(), run(), budget).passed
    found = gate(run(sync_ns=1), run(), budget)
    assert not found.passed
    assert found.reason == "idle.host_sync_ns: 0 ns → 2 ns, none before, at most +5 %"


def test_a_share_of_something_larger():
    budget = Budget(Metric("idle.host_sync_ns"), regression=FIVE, of=Metric("gpu.span_ns"))
    span = 160_900

    assert gate(run(sync_ns=span * 5 // 100 // 2), run(), budget).passed
    found = gate(run(sync_ns=span * 5 // 100 // 2 + 1), run(), budget)
    assert not found.passed
    assert "+5.0 % of gpu.span_ns" in found.reason


def test_a_kernel_that_only_one_trace_has_counts_as_nothing_in_the_other():
    budget = Budget(Metric("kernels.time_ns", "softmax*"), regression=FIVE)
    other = run(name="norm_kernel")

    assert not gate(run(), other, budget).passed
    assert gate(other, run(), budget).passed
    assert gate(other, run(), Budget(budget.metric, maximum=Fraction(1))).passed


def test_what_cannot_be_held_against_a_budget_is_one_line():
    host = TraceBuilder()
    host.operator(0, 10)
    bare = side(host, "host.json")
    nowhere = Budget(Metric("kernels.time_ns", "nonsense*"), maximum=Fraction(1))

    for new, old, budget, words in (
        (bare, run(), Budget(Metric("gpu.busy_ns"), regression=FIVE), "host.json: has no GPU events: gpu.busy_ns"),
        (run(), bare, Budget(Metric("gpu.busy_ns"), regression=FIVE), "host.json: has no GPU events: gpu.busy_ns"),
        (bare, None, Budget(Metric("idle.dispatch_ns"), maximum=FIVE), "host.json: has no GPU events: idle.dispatch_ns"),
        (run(), None, Budget(Metric("gpu.busy_ns"), regression=FIVE), "needs an old trace"),
        (run(), None, nowhere, "trace.json: no name in kernels is like 'nonsense*'"),
        (run(), bare, nowhere, "trace.json and host.json: no name in kernels is like 'nonsense*'"),
    ):
        with pytest.raises(TracekitError, match=re.escape(words)) as caught:
            hold([new], None if old is None else [old], [budget])
        assert caught.value.mend


def test_an_incomplete_trace_does_not_pass():
    assert complete([run()]).passed
    found = complete([replace(run(), missing=("3 launches have no kernel",))])
    assert not found.passed
    assert "3 launches have no kernel" in found.reason


# --- The default ones -------------------------------------------------------------------------------------------------


def failed(new: Side, old: Side, idle: bool = False) -> list[str]:
    budgets = choose_budgets(None, None, [old], [new], idle).budgets
    return [found.metric.name for found in hold([new], [old], budgets) if not found.passed]


def test_a_trace_passes_against_itself_and_a_faster_one_does():
    assert failed(run(), run()) == []
    assert failed(run(500), run()) == []


def test_what_got_worse_is_named():
    assert failed(run(2000), run()) == ["gpu.busy_ns", "gpu.kernel_time_ns"]
    # Waiting for the device in place of Python: the span is the same.
    assert failed(run(sync_ns=9_000), run()) == []
    assert failed(run(sync_ns=9_000), run(), idle=True) == ["idle.host_sync_ns"]
    twice = TraceBuilder()
    for place in range(4):
        twice.launch(call=(50_000 * place, 5), kernel=(50_000 * place + 100, 1000))
    once = TraceBuilder()
    for place in range(2):
        once.launch(call=(50_000 * place, 5), kernel=(50_000 * place + 100, 1000))
    assert "launches.kernel_launches" in failed(side(twice), side(once))


def test_a_trace_of_the_host_alone_is_held_against_its_host():
    def host(duration: int) -> Side:
        builder = TraceBuilder()
        builder.operator(0, duration)
        return side(builder)

    assert failed(host(100), host(100)) == []
    assert failed(host(106), host(100)) == ["host.span_ns", "host.operator_self_ns"]


def test_a_trace_that_lost_its_gpu_events_cannot_pass():
    host = TraceBuilder()
    host.operator(0, 10)
    with pytest.raises(TracekitError, match="no GPU events"):
        hold([side(host)], [run()], default_budgets([run()], [side(host)], FIVE).budgets)


def test_which_budgets_apply(tmp_path):
    path = tmp_path / "b.toml"
    path.write_text('[[budget]]\nmetric = "gpu.kernels"\nmax = 9\n')
    own, old = read_budgets(path), [run()]

    def chosen(*arguments, idle=False) -> tuple[Budget, ...]:
        return choose_budgets(*arguments, [run()], idle).budgets

    def defaults(share: Fraction) -> tuple[Budget, ...]:
        return default_budgets(old, [run()], share).budgets

    span = Metric("gpu.span_ns")
    idle = (Budget(span, regression=FIVE, of=span), *(Budget(Metric(f"idle.{cause}_ns"), regression=FIVE, of=span) for cause in CAUSES))  # fmt: skip
    assert chosen(path, None, None) == chosen(path, None, old) == own
    assert chosen(None, None, old) == defaults(FIVE)
    assert chosen(None, "10%", old) == defaults(Fraction(1, 10))
    assert chosen(path, "10%", old) == own + defaults(Fraction(1, 10))
    assert chosen(path, None, old, idle=True) == own + idle
    assert chosen(None, None, old, idle=True) == defaults(FIVE) + idle
    for arguments in ((None, None, None), (path, "5%", None), (None, "5%", None)):
        with pytest.raises(TracekitError, match=r"old trace|nothing to check against"):
            chosen(*arguments)
    with pytest.raises(TracekitError, match=r"--idle: needs an old trace"):
        chosen(path, None, None, idle=True)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_of_budgets(tmp_path):
    text = """
    [[budget]]
    metric = "gpu.busy_ns"
    max = "1.5 ms"
    per = "step"
    max_regression = "2.5%"

    [[budget]]
    metric = "kernels.time_ns"
    match = "*softmax*"
    max_regression = "10 %"
    of = "gpu.span_ns"

    [[budget]]
    metric = "launches.kernel_launches"
    max = 100
    """
    assert read(tmp_path, text) == (
        Budget(Metric("gpu.busy_ns"), Fraction(1_500_000), Fraction(25, 1000), None, True),
        Budget(Metric("kernels.time_ns", "*softmax*"), None, Fraction(1, 10), Metric("gpu.span_ns"), False),
        Budget(Metric("launches.kernel_launches"), Fraction(100)),
    )


@pytest.mark.parametrize(
    ("text", "ns"),
    [("3 ms", 3_000_000), ("0.5us", 500), ("7 µs", 7000), ("12ns", 12), ("1 s", 10**9), ("0 ms", 0), ("0.1 ns", 0.1)],
)
def test_times(tmp_path, text, ns):
    (budget,) = read(tmp_path, f'[[budget]]\nmetric = "gpu.span_ns"\nmax = "{text}"')
    assert budget.maximum == Fraction(str(ns))


BAD = {
    'metric = "gpu.bussy_ns"\nmax = "1 ms"': ("no metric is called 'gpu.bussy_ns'", "gpu.busy_ns"),
    'max = "1 ms"': ("no metric is called ''",),
    'metric = 7\nmax = "1 ms"': ("`metric` is not a text",),
    'metric = "gpu.busy_ns"': ("limits nothing",),
    'metric = "gpu.busy_ns"\nmax = "-1 ms"': ("is not a time", "not below zero"),
    'metric = "gpu.busy_ns"\nmax = "nan ms"': ("is not a time",),
    'metric = "gpu.busy_ns"\nmax = nan': ("is not a time",),
    'metric = "gpu.busy_ns"\nmax = 3': ("is not a time", '"3 ms"'),
    'metric = "gpu.busy_ns"\nmax = "3 hours"': ("is not a time",),
    'metric = "gpu.kernels"\nmax = nan': ("is not a number from 0 on",),
    'metric = "gpu.kernels"\nmax = inf': ("is not a number from 0 on",),
    'metric = "gpu.kernels"\nmax = -1': ("is not a number from 0 on",),
    'metric = "gpu.kernels"\nmax = true': ("is not a number from 0 on",),
    'metric = "gpu.kernels"\nmax = "3 ms"': ("is not a number from 0 on",),
    'metric = "gpu.kernels"\nmax_regression = 5': ("is not a share in per cent", "5%"),
    'metric = "gpu.kernels"\nmax_regression = "-5%"': ("is not a share in per cent",),
    'metric = "gpu.kernels"\nmax_regression = "nan%"': ("is not a share in per cent",),
    'metric = "gpu.kernels"\nmatch = "*"\nmax = 3': ("takes no `match`",),
    'metric = "kernels.time_ns"\nmax = "3 ms"': ("needs a `match`",),
    'metric = "gpu.kernels"\nmaximum = 3': ("unknown key 'maximum'", "max_regression"),
    'metric = "gpu.kernels"\nmax = 3\nper = "trace"': ("`per`",),
    'metric = "gpu.kernels"\nmax_regression = "5%"\nper = "step"': ("`per`",),
    'metric = "gpu.kernels"\nmax = 3\nof = "gpu.span_ns"': ("max_regression",),
    'metric = "gpu.kernels"\nmax_regression = "5%"\nof = "x"': ("no metric is called 'x'",),
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_budget_is_one_line_that_names_it(tmp_path, text):
    with pytest.raises(TracekitError) as caught:
        read(tmp_path, f'[[budget]]\nmetric = "gpu.kernels"\nmax = 1\n[[budget]]\n{text}\n')
    line = str(caught.value)
    for words in ("budgets.toml, budget 2", *BAD[text]):
        assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "has no budget"), ("x = 1", "unknown key 'x'"), ("budget = 1", "has no budget"), ("budget = [1]", "is not a table"),
     ("[[budget]\n", "is not valid TOML"), ("\x00", "is not valid TOML")],
)  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path, text, words):
    with pytest.raises(TracekitError, match=words) as caught:
        read(tmp_path, text)
    assert "budgets.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TracekitError, match="cannot be read"):
        read_budgets(tmp_path / "no.toml")


@pytest.mark.parametrize("text", ["5", "", "%", "5 per cent", "1e3%", "+5%", None, 5, "٣%x"])
def test_what_is_no_share(text):
    with pytest.raises(TracekitError, match="per cent"):
        parse_percent(text, "--max-regression")


def test_the_page_of_the_docs_is_right(tmp_path):
    page = (ROOT / "docs" / "diff.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    rows = re.findall(r"^\| (`\w+\.….*?) \| (.*) \|$", page, re.MULTILINE)
    told = {f"{name}.{figure}" for names, figures in rows for name in re.findall(r"(\w+)\.…", names) for figure in re.findall(r"\w+", figures)}  # fmt: skip

    assert len(read(tmp_path, example)) == 4
    assert told == set(METRICS)


# --- What is said -----------------------------------------------------------------------------------------------------


def test_a_line_a_gate_those_that_failed_first():
    gates = hold([run(2000)], [run()], default_budgets([run()], [run(2000)], FIVE).budgets)
    told = list(lines(gates))

    assert len(told) == len(gates) + 1
    assert told[0] == "FAILED  gpu.busy_ns: 4.00 µs → 6.00 µs, +50.0 %, at most +5 %"
    assert [line.split()[0] for line in told] == ["FAILED"] * 2 + ["passed"] * (len(gates) - 2) + ["2"]
    assert told[-1] == f"2 of {len(gates)} gates failed"


def test_the_document():
    old, new = run(2001), run(1000, steps=3)
    (busy, kernels) = hold(
        [new], [old], [Budget(Metric("gpu.busy_ns"), Fraction(1)), Budget(Metric("gpu.kernels"), regression=FIVE)]
    )
    found = document([replace(new, name="new")], [replace(old, name="old")], (busy, kernels))

    assert (found["new"], found["old"], found["passed"]) == ("new", "old", False)
    assert [{key: one[key] for key in ("metric", "limit", "passed", "old", "new", "allowed")} for one in found["gates"]] == [
        {"metric": "gpu.busy_ns", "limit": "max", "passed": False, "old": None, "new": 6000, "allowed": 1},
        {"metric": "gpu.kernels", "limit": "max_regression", "passed": True, "old": 2, "new": 2, "allowed": 2.1},
    ]


def test_cautions_are_conditions_and_what_the_old_trace_lacks():
    old = replace(run(), device="T4", missing=("some\x1b[1m",))

    assert list(cautions([replace(run(), device="H100")], [old])) == [
        "conditions differ: device: T4 → H100",
        "the old trace is incomplete: some�[1m",
    ]
    assert list(cautions([run()], None)) == []


def test_a_decision_imports_no_presentation():
    imports = re.compile(r"^\s*(?:from|import) .*(?:\boutput\b|\brich\b)", re.MULTILINE)
    for room in ("trace", "activity", "structure", "work", "ranks", "path", "findings", "compare"):
        for module in (ROOT / "analyze" / room).rglob("*.py"):
            assert not imports.search(module.read_text(encoding="utf-8")), module
