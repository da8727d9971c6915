"""Budgets: what a TOML file may say, which metric has which value, and which gates a trace fails, and by how many ns."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from repository import ROOT, TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.budgets import Budget, choose_budgets, default_budgets, parse_percent, read_budgets
from tracekit.analyze.compare.gates import Gate, complete, hold
from tracekit.analyze.compare.metrics import METRICS, Metric, value
from tracekit.analyze.compare.open_side import open_side
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


# --- Noise ------------------------------------------------------------------------------------------------------------

SOFTMAX = Metric("kernels.time_ns", "softmax*")


def repeats(*kernel_ns: int) -> list[Side]:
    return [run(ns) for ns in kernel_ns]


@pytest.mark.parametrize(
    ("old", "new", "passed", "noise"),
    [
        ((1000, 1010, 1020), (1000, 1010, 1020), True, False),
        ((1000, 1010, 1020), (1021, 1060, 1100), True, False),  # beyond the noise, and within what is allowed
        ((1000, 1010, 1020), (1020, 1070, 1100), True, True),  # more than is allowed, but the intervals touch
        ((1000, 1010, 1020), (1021, 1070, 1100), False, False),
        ((1000, 1010, 1400), (1300, 1310, 1320), True, True),
        ((1000,), (1070, 1080, 990), True, True),
        ((1000,), (1070,), False, False),  # nothing is known of the noise of a single trace
        ((1000, 1010, 1020), (500, 510, 520), True, False),
    ],
)
def test_a_regression_fails_if_the_noise_does_not_explain_it(old, new, passed, noise):
    (found,) = hold(repeats(*new), repeats(*old), [Budget(SOFTMAX, regression=FIVE)])

    assert found.passed is passed
    assert found.reason.endswith("but within the noise") is noise


@pytest.mark.parametrize(("allowed", "passed", "noise"), [(2200, True, False), (2100, True, True), (2000, True, True), (1999, False, False)])  # fmt: skip
def test_a_maximum_fails_if_the_whole_interval_is_above_it(allowed, passed, noise):
    (found,) = hold(repeats(1000, 1060, 1100), None, [Budget(SOFTMAX, maximum=Fraction(allowed))])

    assert found.passed is passed
    assert found.reason.endswith("but within the noise") is noise
    assert found.reason.startswith("kernels.time_ns of softmax*: 2.12 [2.00, 2.20] µs, at most")


def test_repeats_of_unequal_steps_are_compared_by_the_step():
    old, new = [run(1000, steps=2), run(1010, steps=3)], [run(1070, steps=4), run(1080, steps=2)]
    (found,) = hold(new, old, [Budget(SOFTMAX, regression=FIVE)])

    assert (found.old.low, found.old.high, found.new.low, found.new.high) == (1000, 1010, 1070, 1080)
    assert not found.passed


def test_the_document_has_the_ends_of_the_intervals():
    old, new = repeats(1000, 1010, 1020), repeats(1100, 1110, 1130)
    (told,) = document(new, old, hold(new, old, [Budget(SOFTMAX, regression=FIVE)]))["gates"]

    assert [told[key] for key in ("old", "old_low", "old_high", "new", "new_low", "new_high")] == [
        2020,
        2000,
        2040,
        2220,
        2200,
        2260,
    ]


# --- The time without the profiler --------------------------------------------------------------------------------------


def timed(kernel_ns: int, *steps_ns: int, **workload: object) -> Side:
    """A trace whose manifest tells runs with decode steps of so many ns each."""
    runs = [{"first_token_ns": 0, "total_ns": 10 * ns} for ns in steps_ns]
    middle = sorted(steps_ns)[len(steps_ns) // 2]
    told = {"runs": runs, "decode_token": {"median_ns": middle, "std_ns": 1}, "total": {"median_ns": 10 * middle, "std_ns": 1}}
    return replace(run(kernel_ns), manifest={"workload": {"new_tokens": 11, **workload}, "timings": told})


def checked(new: Side, old: Side) -> list[tuple[str, bool]]:
    budgets = choose_budgets(None, None, [old], [new]).budgets
    return [(found.metric.name, found.passed) for found in hold([new], [old], budgets)]


def test_the_time_without_the_profiler_is_the_gate_where_both_know_it():
    old = timed(1000, 100, 101, 102)

    assert checked(timed(9000, 100, 101, 102), old) == [("unprofiled.step_ns", True)]
    assert checked(timed(1000, 110, 111, 112), old) == [("unprofiled.step_ns", False)]
    assert checked(timed(1000, 102, 111, 112), old) == [("unprofiled.step_ns", True)]


def test_without_it_on_one_side_the_profiles_are_checked_and_that_is_said():
    old, bare = timed(1000, 100), run(9000)
    by_profile = ["gpu.busy_ns", "gpu.kernel_time_ns", "launches.kernel_launches", "copies.count", "copies.time_ns", "communication.exposed_ns"]  # fmt: skip

    assert [name for name, _ in checked(bare, old)] == by_profile
    assert choose_budgets(None, None, [old], [bare]).notes == (
        "times without the profiler are not compared, because trace.json has none: the profiles are",
    )
    other = timed(1000, 100, batch=2)
    assert [name for name, _ in checked(other, old)] == by_profile
    assert choose_budgets(None, None, [old], [other]).notes == (
        "times without the profiler are not compared, because the workloads differ: the profiles are",
    )
    assert choose_budgets(None, None, [bare], [bare]).notes == ()


def test_a_budget_may_name_it(tmp_path):
    (budget,) = read(tmp_path, '[[budget]]\nmetric = "unprofiled.step_ns"\nmax = "105 ns"\nmax_regression = "2%"')
    limit, growth = hold([timed(1000, 106, 107)], [timed(1000, 100, 101)], [budget])

    assert (limit.passed, growth.passed) == (False, False)
    assert growth.reason == "unprofiled.step_ns: 101 [100, 101] ns → 107 [106, 107] ns, +5.9 %, at most +2 %"
    with pytest.raises(TracekitError, match="has no time without the profiler"):
        hold([run()], None, [budget])
    with pytest.raises(TracekitError, match="is of no profiled step"):
        read(tmp_path, '[[budget]]\nmetric = "unprofiled.run_ns"\nmax = "1 ms"\nper = "step"')


def test_the_faster_of_the_shipped_half_precisions_passes_and_the_slower_one_may_be_noise():
    half, brain, graphs = (open_side(f"{TRACES}:gpt2-{name}-h100", TAXONOMY) for name in ("fp16", "bf16", "graphs"))

    assert checked(half, brain) == checked(brain, half) == checked(graphs, half) == [("unprofiled.step_ns", True)]
    assert checked(half, graphs) == [("unprofiled.step_ns", False)]


# --- Communication and copies -------------------------------------------------------------------------------------------


def communicating(exposed_ns: int, copy_ns: int = 100) -> Side:
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(100, 10_000), name="volta_sgemm_64x64_nn")
    builder.launch(call=(10, 5), kernel=(9_000, 1_100 + exposed_ns), name="ncclDevKernel_AllReduce_Sum_f32_RING_LL", stream=20)
    builder.memcpy(40_000, copy_ns)
    return side(builder)


def test_exposed_communication_may_grow_by_a_share_of_the_busy_time():
    old = communicating(1_000)
    assert old.figures["communication.exposed_ns"] == 1_000
    assert old.figures["gpu.busy_ns"] == 11_100

    assert failed(communicating(1_555), old) == []
    assert "communication.exposed_ns" in failed(communicating(1_556), old)


def test_the_time_of_copies_may_grow_by_a_share_of_the_busy_time():
    assert failed(communicating(1_000, 655), communicating(1_000)) == []
    assert "copies.time_ns" in failed(communicating(1_000, 656), communicating(1_000))


def test_what_an_old_bundle_did_not_record_is_left_out_and_never_zero():
    new = communicating(9_000)
    old = replace(new, name="old", figures={name: value for name, value in new.figures.items() if "exposed" not in name})
    chosen = choose_budgets(None, None, [old], [new])

    assert "communication.exposed_ns" not in [budget.metric.name for budget in chosen.budgets]
    assert chosen.notes == ("communication.exposed_ns is not checked: old did not record it; analyse its trace again",)
    assert list(cautions([new], [old], chosen.notes)) == list(chosen.notes)
    with pytest.raises(TracekitError, match=r"old: did not record communication\.exposed_ns"):
        hold([new], [old], [Budget(Metric("communication.exposed_ns"), regression=FIVE)])


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
    idle = (Budget(span, regression=FIVE), *(Budget(Metric(f"idle.{cause}_ns"), regression=FIVE, of=span) for cause in CAUSES))  # fmt: skip
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
