"""Is one step of a trace the same figure, however many steps the trace has?"""

from __future__ import annotations

from pathlib import Path

import pytest
from step_traces import Loop, decode_names
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.budgets import choose_budgets
from tracekit.analyze.compare.comparison import compare
from tracekit.analyze.compare.gates import hold
from tracekit.analyze.compare.per_step import common_steps, of_a_step, steps_of
from tracekit.analyze.compare.side import Side, analysed, saved
from tracekit.analyze.output.bundle import write_bundle
from tracekit.analyze.trace.loader import load
from tracekit.saved import read_document
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
PERIOD = 100_000
MARKS = {
    "train_step": "train_step",
    "decode_step": "decode",
    "ProfilerStep#{}": "ProfilerStep",
    "iteration {}": "iteration",
    "execute_context_0(0)_generation_{}(8)": "decode",
}
"""How steps are marked, and the kind that they then are of; vLLM's name tells its requests."""


def builder(steps: int, mark: str, slower: int = 0, gpu: bool = True) -> TraceBuilder:
    """Steps of 100 µs in which the GPU is mostly idle, between them above all."""
    built = TraceBuilder()
    for step in range(steps):
        at = PERIOD * step
        built.annotation(at, 30_000, mark.format(step + 1))
        built.operator(at, 10_000 + slower, "aten::mm")
        if gpu:
            built.launch(call=(at + 1_000, 500), kernel=(at + 5_000, 3_000 + slower))
            built.launch(call=(at + 20_000, 500), kernel=(at + 25_000, 1_000), name="other")
    return built


def side(built: TraceBuilder) -> Side:
    return analysed(Analysis(built.trace(), TAXONOMY))


def unmarked(steps: int) -> TraceBuilder:
    loop = Loop()
    for _ in range(steps):
        loop.step(decode_names())
    return loop.builder


def failed(new: Side, old: Side) -> list[str]:
    return [
        gate.reason
        for gate in hold([new], [old], choose_budgets(None, None, [old], [new], old.has("gpu")).budgets)
        if not gate.passed
    ]


@pytest.mark.parametrize(("mark", "kind"), MARKS.items())
@pytest.mark.parametrize(("old", "new"), [(10, 20), (2, 30), (30, 2)])
@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "host only"])
def test_more_or_fewer_of_the_same_steps_pass(mark, kind, old, new, gpu):
    a, b = side(builder(old, mark, gpu=gpu)), side(builder(new, mark, gpu=gpu))
    assert common_steps(a, b) is not None
    assert (common_steps(a, b).kind, steps_of(b)) == (kind, (kind, new))
    assert failed(b, a) == []


@pytest.mark.parametrize("mark", MARKS)
def test_slower_steps_fail_however_many_they_are(mark):
    old = side(builder(10, mark))
    for count in (5, 10, 40):
        assert any("gpu.busy_ns" in reason for reason in failed(side(builder(count, mark, slower=500)), old))


def test_repeating_kernels_are_steps_too():
    a, b = side(unmarked(10)), side(unmarked(20))
    assert steps_of(a) == ("step", 10)
    assert failed(b, a) == []


def test_a_step_is_as_long_as_the_distance_to_the_next():
    for mark in MARKS:
        found = side(builder(7, mark))
        kind = MARKS[mark]
        assert of_a_step(found, "gpu.span_ns", kind) == PERIOD
        assert of_a_step(found, "host.span_ns", kind) == PERIOD
        assert of_a_step(found, "gpu.busy_ns", kind) == 4_000
        assert of_a_step(found, "gpu.idle_ns", kind) == PERIOD - 4_000


def test_the_parts_of_a_step_add_up_to_it():
    for gpu in (True, False):
        found = compare(side(builder(3, "train_step", gpu=gpu)), side(builder(8, "train_step", slower=500, gpu=gpu)))
        for place in (0, 1):
            assert sum(found.part(part)[place] for part in found.waterfall.parts) == found.span[place] == PERIOD


def test_one_step_is_the_whole_trace():
    found = side(builder(1, "train_step forward decode"))
    assert of_a_step(found, "gpu.span_ns", "decode") == found.figures["gpu.span_ns"]


def test_a_bundle_carries_its_steps(tmp_path: Path):
    for mark, kind in MARKS.items():
        analysis = Analysis(load(builder(4, mark).write(tmp_path / "a.json")), TAXONOMY)
        directory = write_bundle([analysis], [], tmp_path / "out")
        (entry,) = read_document(directory)["traces"]
        read = saved(directory, entry)
        assert steps_of(read) == steps_of(analysed(analysis)) == (kind, 4)
        assert of_a_step(read, "gpu.span_ns", kind) == PERIOD
