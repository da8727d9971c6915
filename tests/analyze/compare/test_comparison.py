"""Two traces compared: to itself nothing differs, the other way round everything is mirrored, and all sums are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from repository import ROOT, TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.comparison import NO_OPERATOR, Comparison, compare
from tracekit.analyze.compare.open_side import open_side
from tracekit.analyze.compare.per_step import CommonSteps
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.output.comparison_document import comparison_document
from tracekit.analyze.output.comparison_view import view
from tracekit.analyze.trace.loader import load
from tracekit.errors import TraceError
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
SHIPPED = sorted(TRACES.glob("*.json.gz"))
REAL = [*SHIPPED, *shared_data.traces()]
TABLES = ("families", "operators", "layers", "kernels", "copies")
OTHER = {"vanished": "appeared", "appeared": "vanished", "faster": "slower", "slower": "faster", "same": "same"}


def side(builder: TraceBuilder, name: str = "trace.json") -> Side:
    return analysed(Analysis(builder.trace(name), TAXONOMY))


@cache
def real(path: Path) -> Side:
    return analysed(Analysis(load(path), TAXONOMY))


def mirrored(value: Any, key: str = "") -> Any:
    """What a comparison's document is to be when its traces change places."""
    if isinstance(value, dict):
        swapped = {_other(name): mirrored(one, name) for name, one in value.items()}
        if "paired_by" in swapped:
            swapped["name"] = swapped["a_name"] if swapped["a_name"] is not None else swapped["b_name"]
        return swapped
    if isinstance(value, list):
        return [mirrored(one) for one in value]
    if key.startswith("delta_"):
        return -value
    return OTHER[value] if key == "change" else value


def _other(name: str) -> str:
    pairs = {"a": "b", "b": "a", "fused": "unfused", "unfused": "fused"}
    if name in pairs:
        return pairs[name]
    return {"a_": "b_", "b_": "a_"}.get(name[:2], name[:2]) + name[2:]


def assert_exact(found: Comparison) -> None:
    """The waterfall and every table add up, in ns."""
    whole = found.waterfall
    assert whole.a_ns + sum(part.delta_ns for part in whole.parts) == whole.b_ns
    assert whole.a_ns == found.a.figures[f"{found.section}.span_ns"]
    assert whole.b_ns == found.b.figures[f"{found.section}.span_ns"]
    if found.section == "gpu":
        kernels = found.b.figures["gpu.kernel_time_ns"] - found.a.figures["gpu.kernel_time_ns"]
        assert found.families["delta_time_ns"].sum() == found.kernels["delta_time_ns"].sum() == kernels
        assert found.operators["delta_kernel_time_ns"].sum() == kernels
        assert sum(part.delta_ns for part in found.idle) == found.b.figures["gpu.idle_ns"] - found.a.figures["gpu.idle_ns"]
        runs = found.b.figures["gpu.kernels"] - found.a.figures["gpu.kernels"]
        assert found.kernels["delta_count"].sum() == found.operators["delta_kernels"].sum() == runs


# --- Real traces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_real_trace_does_not_differ_from_itself(path):
    found = compare(real(path), real(path))
    document = comparison_document(found)

    assert found.is_empty
    assert document["empty"]
    assert not any(document[name] for name in (*TABLES, "idle", "fused", "unfused", "conditions"))
    assert {part["delta_ns"] for part in document["waterfall"]["parts"]} == {0}


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_pair_with_another_real_trace_adds_up_and_is_mirrored(path):
    for other in REAL[REAL.index(path) + 1 :]:
        there, back = compare(real(path), real(other)), compare(real(other), real(path))
        assert not there.is_empty
        assert_exact(there)
        document = comparison_document(back)
        assert json.loads(json.dumps(document)) == document
        assert mirrored(comparison_document(there)) == document


def test_what_torch_compile_fused_in_the_shipped_traces():
    by_name = {path.name.removesuffix("-h100-80gb-hbm3.pt.trace.json.gz"): path for path in SHIPPED}
    found = compare(real(by_name["gpt2-fp16"]), real(by_name["gpt2-fp16-compiled"]))

    fused = {fusion.operator: fusion.kernels for fusion in found.fused}
    assert fused["aten::native_layer_norm"] == 9 * 25  # a prefill and 8 steps of 12 blocks with two norms, and a last one
    assert fused["aten::gelu"] == 9 * 12
    assert "aten::addmm" not in fused  # its bias is in generated kernels, its multiply is not
    assert found.unfused == ()
    assert [condition.name for condition in found.conditions] == ["variant"]
    assert found.steps == CommonSteps("decode", 8, 8)
    assert found.runs is not None
    assert found.runs[1].median.median < found.runs[0].median.median < 10**9


def test_the_example_of_the_readme_is_true():
    lines = (ROOT / "README.md").read_text().splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("    $ tracekit diff ")]
    a, b = (open_side(str(SHIPPED[0].parent) + name.removeprefix("traces"), TAXONOMY) for name in lines[place].split()[3:])

    assert lines[place + 1].strip() == view(compare(a, b)).headline


# --- Traces made up ---------------------------------------------------------------------------------------------------

NAMES = ("volta_sgemm_64x64_nn", "vectorized_elementwise_kernel", "triton_poi_fused_add_0", "copy")
SPANS = st.tuples(st.integers(0, 800), st.integers(0, 200))
EVENTS = st.lists(st.tuples(SPANS, st.sampled_from(NAMES), st.none() | SPANS, st.integers(1, 2)), min_size=1, max_size=6)
STEPS = st.lists(SPANS, max_size=3)


def built(events: list[Any], steps: list[tuple[int, int]]) -> Side:
    builder = TraceBuilder()
    builder.operator(0, 300, "aten::add")
    builder.operator(300, 300, "aten::mm")
    for span in steps:
        builder.annotation(*span, "ProfilerStep#1")
    for span, name, call, stream in events:
        if name == "copy":
            builder.memcpy(*span, stream=stream)
        elif call is None:
            builder.kernel(*span, name, stream=stream)
        else:
            builder.launch(call=call, kernel=span, name=name, stream=stream)
    return side(builder)


@given(EVENTS, STEPS, EVENTS, STEPS)
@examples(80)
def test_any_two_traces(events_a, steps_a, events_b, steps_b):
    a, b = built(events_a, steps_a), built(events_b, steps_b)
    there, back = compare(a, b), compare(b, a)

    assert_exact(there)
    assert mirrored(comparison_document(there)) == comparison_document(back)
    assert compare(a, a).is_empty


def test_kernels_without_an_operator_have_a_row_of_their_own():
    one, two = TraceBuilder(), TraceBuilder()
    for builder, kernels in ((one, 1), (two, 3)):
        builder.operator(0, 50, "aten::add")
        builder.launch(call=(5, 5), kernel=(100, 10))
        for number in range(kernels):
            builder.kernel(200 + 20 * number, 7)
    (row,) = compare(side(one), side(two)).operators.records()

    assert (row["name"], row["a_kernel_time_ns"], row["b_kernel_time_ns"], row["delta_kernels"]) == (NO_OPERATOR, 7, 21, 2)


def test_a_trace_of_the_host_alone_is_compared_by_its_host():
    one, two = TraceBuilder(), TraceBuilder()
    one.operator(0, 100, "aten::mm")
    two.operator(0, 30, "aten::mm")
    two.launch(call=(40, 5), kernel=(60, 10))
    found = compare(side(one), side(two))

    assert found.section == "host"
    assert [(row["name"], row["change"], row["delta_host_self_ns"]) for row in found.operators.records()] == [
        ("aten::mm", "faster", -70)
    ]
    assert_exact(found)


def test_nothing_in_common_is_one_line():
    host, gpu = TraceBuilder(), TraceBuilder()
    host.operator(0, 10)
    gpu.kernel(0, 10)

    with pytest.raises(TraceError, match=r"one\.json: has nothing to compare with two\.json") as caught:
        compare(side(host, "one.json"), side(gpu, "two.json"))
    assert "\n" not in str(caught.value)


# --- Steps, conditions, timings ---------------------------------------------------------------------------------------


def stepped(count: int, duration: int, name: str = "ProfilerStep") -> Side:
    builder = TraceBuilder()
    for step in range(count):
        at = 1000 * step
        builder.annotation(at, 900, f"{name}#{step}" if name == "ProfilerStep" else name)
        builder.launch(call=(at + 10, 5), kernel=(at + 50, duration), name=f"k{duration % 2}")
    return side(builder)


def test_steps_that_both_traces_have():
    assert compare(stepped(2, 10), stepped(3, 10)).steps == CommonSteps("ProfilerStep", 2, 3)
    assert compare(stepped(2, 10, "decode"), stepped(3, 10, "decode")).steps == CommonSteps("decode", 2, 3)
    assert compare(stepped(2, 10, "decode"), stepped(3, 10)).steps is None
    assert compare(stepped(2, 10, "train"), stepped(3, 10, "train")).steps == CommonSteps("train", 2, 3)


def test_of_unequal_steps_a_kernel_is_slower_if_it_is_in_a_step():
    def change(a: Side, b: Side) -> list[str]:
        return compare(a, b).kernels["change"].tolist()

    assert change(stepped(2, 100), stepped(4, 100)) == ["same"]
    assert change(stepped(2, 100), stepped(4, 80)) == ["faster"]
    assert change(stepped(2, 100), stepped(4, 120)) == ["slower"]
    assert change(stepped(2, 100, "x"), stepped(4, 80, "y")) == ["slower"]


MANIFEST = {
    "dtype": "float16",
    "device": {"name": "Tesla T4"},
    "workload": {"batch": 1, "prompt": None},
    "tf32": {"matmul": False},
}


def with_manifest(**changes: Any) -> Side:
    return replace(stepped(1, 10), manifest=MANIFEST | changes)


def conditions(a: Side, b: Side) -> list[tuple[str, str | None, str | None]]:
    return [(found.name, found.a, found.b) for found in compare(a, b).conditions]


def test_conditions_that_differ():
    a = with_manifest()

    assert conditions(a, with_manifest()) == []
    assert conditions(a, with_manifest(dtype="float32")) == [("dtype", "float16", "float32")]
    assert conditions(a, with_manifest(workload={"batch": 8, "prompt": "Hello"})) == [
        ("batch", "1", "8"),
        ("prompt", None, "Hello"),
    ]
    assert conditions(a, with_manifest(device=7, tf32={"matmul": True})) == [
        ("device", "Tesla T4", None),
        ("TF32 in matmul", "false", "true"),
    ]


def test_without_a_manifest_conditions_are_not_known_but_the_device_may_be():
    a, bare = with_manifest(), stepped(1, 10)

    assert compare(a, a).unknown_conditions is None
    assert compare(a, bare).unknown_conditions == "B"
    assert compare(bare, a).unknown_conditions == "A"
    assert compare(bare, bare).unknown_conditions == "A and B"
    assert conditions(replace(bare, device="H100"), a) == [("device", "H100", "Tesla T4")]


@pytest.mark.parametrize(
    "timings", [None, [], {"total": None}, {"total": {"median_ns": "1", "std_ns": 2}}, {"total": {"median_ns": 0, "std_ns": 2}}]
)
def test_timings_that_are_none(timings):
    good = with_manifest(timings={"total": {"median_ns": 10, "std_ns": 1}})
    bad = with_manifest(timings=timings)

    assert compare(good, good).unprofiled is not None
    assert compare(good, bad).unprofiled is None
    assert compare(bad, good).unprofiled is None


def test_timings_of_other_work_are_not_compared():
    timings = {"total": {"median_ns": 10, "std_ns": 1}}
    other = {"batch": 8, "prompt": None}

    assert compare(with_manifest(timings=timings), with_manifest(timings=timings, workload=other)).unprofiled is None
