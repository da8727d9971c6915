"""Which steps does a trace hold?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from repository import TRACES
from step_traces import STEP_KERNELS, Loop, decode_names, generation
from synthetic import TraceBuilder

from tracekit.analyze import load
from tracekit.analyze.structure.period import period
from tracekit.analyze.structure.steps import find_steps, phase_of, steps_of_gpu
from tracekit.analyze.trace.trace import Category, Trace
from tracekit.table import Table

SHIPPED = TRACES


def unmarked(trace: Trace) -> Trace:
    """The trace without its annotations."""
    category = trace.events["category"].copy()
    category[category == Category.ANNOTATION] = Category.OTHER
    return dataclasses.replace(trace, events=Table({**trace.events.columns, "category": category}))


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("prefill", "prefill"),
        ("decode", "decode"),
        ("model_prefill_0", "prefill"),
        ("step[EXTEND bs=1 toks=16]", "prefill"),
        ("step[DECODE bs=4]", "decode"),
        ("execute_context_1(888_788544)_generation_0(0)", "prefill"),
        ("execute_context_0(0)_generation_4(4)", "decode"),
        ("execute_8192_context_9(sq8155)_generation_37(sq37)", "mixed"),
        ("prefill_and_decode", "mixed"),
        ("decoder_layer_3", None),
        ("ProfilerStep#3", None),
        ("forward", None),
        ("nccl:decode", None),
    ],
)
def test_names_tell_phases(name: str, phase: str | None) -> None:
    assert phase_of(name) == phase


def test_prefill_and_decode_are_steps() -> None:
    steps = find_steps(generation(3).builder.trace())
    assert (steps.source, steps.confidence) == ("annotations", 1.0)
    assert steps.table["phase"].tolist() == ["prefill", "decode", "decode", "decode"]
    assert steps.table["number"].tolist() == [0, 1, 2, 3]


def test_profiler_steps_have_their_numbers() -> None:
    loop = Loop()
    for number in (7, 8, 9):
        loop.step(decode_names(), f"ProfilerStep#{number}")
    steps = find_steps(loop.builder.trace())
    assert (steps.source, steps.table["number"].tolist()) == ("profiler_steps", [7, 8, 9])


def test_a_marked_generation_inside_one_profiler_step_wins() -> None:
    loop = generation(3)
    loop.builder.annotation(0, loop.now + 10, "ProfilerStep#1")
    assert find_steps(loop.builder.trace()).source == "annotations"


def test_marks_that_hold_little_do_not() -> None:
    loop = Loop()
    for number in range(4):
        loop.step(decode_names(), f"ProfilerStep#{number}")
    loop.builder.annotation(0, 30, "image decode")  # of a data loader, which launches nothing
    assert find_steps(loop.builder.trace()).source == "profiler_steps"


def test_any_annotation_that_repeats_is_a_step() -> None:
    loop = Loop()
    for number in range(4):
        loop.step(decode_names(), f"train batch {number}")
    loop.builder.annotation(0, loop.now, "training")
    steps = find_steps(loop.builder.trace())
    assert (steps.source, steps.confidence, len(steps.table)) == ("repeated_annotation", 0.9, 4)
    assert "train batch #" in steps.told


def test_of_nested_annotations_the_outer_one_is_the_step() -> None:
    loop = Loop()
    for _ in range(3):
        loop.step(decode_names(), "outer")
        loop.builder.annotation(loop.now - 5_000, 4_000, "inner")
    assert {str(name) for name in find_steps(loop.builder.trace()).table["name"]} == {"outer"}


def test_a_mark_inside_another_of_its_name_is_part_of_it() -> None:
    loop = generation(3)
    loop.builder.annotation(loop.now - 5_000, 4_000, "decode")
    steps = find_steps(loop.builder.trace())
    assert len(steps.table) == 4
    assert (np.diff(steps.table["start_ns"]) > 0).all()


def test_the_marks_of_frameworks_are_no_steps() -> None:
    loop = Loop()
    for _ in range(3):
        loop.step(["a", "b"], "Optimizer.step#Adam.step")
        loop.step(["a", "b"], "## Call CompiledFxGraph abc ##")
        loop.step(["a", "b"], "nccl:all_reduce")
    assert find_steps(loop.builder.trace()).source is None


def test_the_repeating_sequence_of_kernels_tells_them_too() -> None:
    trace = generation(6, marked=False).builder.trace()
    steps = find_steps(trace)
    assert (steps.source, steps.confidence) == ("kernels", 1.0)
    assert steps.table["phase"].tolist() == ["prefill", *["decode"] * 6]
    assert f"{STEP_KERNELS} kernels that repeats 6 times" in steps.told
    # And they hold what the annotations hold.
    assert steps_of_gpu(trace, steps).tolist() == steps_of_gpu(trace, find_steps(generation(6).builder.trace())).tolist()


def test_layers_are_not_taken_for_steps() -> None:
    loop = Loop()
    loop.step(decode_names())
    steps = find_steps(loop.builder.trace())
    assert steps.source is None
    assert len(steps.table) == 0


def test_a_repeating_layer_may_not_be_a_step() -> None:
    loop = Loop()
    for _ in range(6):
        loop.step(["norm", "qkv", "attention", "mlp", "act"])
    steps = find_steps(loop.builder.trace())
    assert (steps.source, steps.confidence) == (None, 0.0)
    assert "layers of one step" in steps.told


def test_what_trains_has_no_layers_that_repeat_alone_and_no_decode() -> None:
    loop = Loop()
    for _ in range(6):
        loop.step(["embed", "qkv", "attention", "mlp", "act"])
    loop.builder.operator(0, 5, "autograd::engine::evaluate_function: AddmmBackward0", thread=9)
    steps = find_steps(loop.builder.trace())
    assert (steps.source, len(steps.table)) == ("kernels", 6)
    assert set(steps.table["phase"].tolist()) == {None}


def test_no_kernels_and_no_marks_cannot_tell() -> None:
    builder = TraceBuilder()
    builder.operator(0, 10)
    steps = find_steps(builder.trace())
    assert (steps.source, len(steps.table)) == (None, 0)
    assert "no kernels" in steps.told


def test_kernels_of_unknown_launches_cannot_tell() -> None:
    builder = TraceBuilder()
    for step in range(6):
        for place, name in enumerate(decode_names()):
            builder.kernel(step * 100_000 + place * 1_000, 500, name)
    steps = find_steps(builder.trace())
    assert steps.source is None
    assert "not recorded" in steps.told


def test_a_graph_a_step_is_a_step() -> None:
    builder = TraceBuilder()
    for step in range(5):
        at = step * 100_000
        kernels = [(at + 5_000 + 1_000 * place, 900) for place in range(STEP_KERNELS)]
        builder.graph(call=(at, 3_000), kernels=kernels, names=decode_names())
    steps = find_steps(builder.trace())
    assert (steps.source, len(steps.table)) == ("kernels", 5)


@given(st.integers(3, 12), st.integers(2, 6), st.integers(0, 40), st.integers(0, 20))
def test_a_period_is_found_behind_any_lead(repeats: int, layers: int, lead: int, tail: int) -> None:
    one = [100, 101, *([1, 2, 3, 4] * layers), 102]
    lead = min(lead, len(one) * repeats // 2)
    tail = min(tail, len(one) - 1)
    names = np.array([*range(200, 200 + lead), *one * repeats, *range(300, 300 + tail)], dtype=np.int64)
    found = period(names, np.zeros(len(names), dtype=np.int64))
    assert found is not None
    assert (found.length, len(found.starts)) == (len(one), repeats)
    assert found.starts[0] == lead
    assert found.nested == (layers >= 3)


def test_a_name_of_every_second_step_does_not_double_them() -> None:
    one = [100, 101, *([1, 2, 3, 4] * 3), 102]
    names = np.array([part for step in range(8) for part in (*one, *([999] if step % 2 else []))], dtype=np.int64)
    found = period(names, np.zeros(len(names), dtype=np.int64))
    assert found is not None
    assert len(found.starts) >= 7


def test_a_loop_over_one_kernel_is_no_period() -> None:
    assert period(np.zeros(100, dtype=np.int64), np.zeros(100, dtype=np.int64)) is None
    assert period(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)) is None


def test_noise_is_no_period() -> None:
    names = np.random.default_rng(7).integers(0, 40, 2_000)
    assert period(names, np.zeros(len(names), dtype=np.int64)) is None


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*h100*.json.gz")), ids=lambda path: path.name[:40])
def test_kernels_tell_what_annotations_tell_of_the_shipped_traces(path: Path) -> None:
    trace = load(path)
    marked, found = find_steps(trace), find_steps(unmarked(trace))
    if path.name.startswith("gpt2-fused-h100"):  # whose steps are one kernel, and a copy
        assert (found.source, len(found.table)) == (None, 0)
        assert "may be the layers of one step" in found.told
        return
    assert found.source == "kernels"
    of_marks, of_kernels = steps_of_gpu(trace, marked), steps_of_gpu(trace, found)
    # In this trace the prompt runs the kernels of a token, and the last token is not told from what the sequence ends with.
    last = len(marked.table) - path.name.startswith("gpt2-graphs-h100")
    assert found.table["phase"].tolist() == marked.table["phase"].tolist()[:last]
    assert (of_marks == of_kernels)[(of_marks >= 0) & (of_marks < last)].mean() > 0.95


@pytest.mark.parametrize(
    ("name", "steps"), [("v100_ddp_training", 5), ("a100_recommender_rank0", 5), ("a100_training_old_format", 6)]
)
def test_kernels_tell_as_many_steps_as_the_profiler(name: str, steps: int) -> None:
    trace = load(shared_data.needed(f"traces/{name}.json.gz"))
    assert find_steps(trace).source == "profiler_steps"
    assert len(find_steps(trace).table) == steps
    assert len(find_steps(unmarked(trace)).table) == steps


@pytest.mark.parametrize("name", ["h100_bert_small", "h100_qwen_chat", "b200_vllm_eager", "mi300_vllm_graph_replay"])
def test_the_layers_of_one_real_step_are_not_steps(name: str) -> None:
    trace = load(shared_data.needed(f"traces/{name}.json.gz"))
    assert find_steps(unmarked(trace)).source is None
