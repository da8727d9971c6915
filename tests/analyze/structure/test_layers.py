"""GPU time and host time by annotation and module."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rich.cells import cell_len
from rich.console import Console
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.terminal import show
from tracekit.analyze.structure.layers import OUTSIDE, REST, LayerSources
from tracekit.analyze.structure.layers import layers as layers_told
from tracekit.analyze.structure.steps import find_steps
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace
from tracekit.schema import TABLES
from tracekit.table import Table
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def layers(trace: Trace) -> Table:
    return layers_told(trace, TAXONOMY.parts, find_steps(trace)).table


def layer_sources(trace: Trace) -> LayerSources:
    return layers_told(trace, TAXONOMY.parts, find_steps(trace)).sources


def gpu(builder: TraceBuilder) -> dict[str, tuple[int, int]]:
    """GPU time and kernels by path."""
    return {row["path"]: (row["time_ns"], row["count"]) for row in layers(builder.trace()).records()}


def host(builder: TraceBuilder) -> dict[str, tuple[int, int]]:
    """Host time and calls by path."""
    return {row["path"]: (row["host_ns"], row["calls"]) for row in layers(builder.trace()).records()}


def test_without_annotations_there_are_no_layers():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))
    table = layers(builder.trace())

    assert len(table) == 0
    assert tuple(table.columns) == TABLES["layers"].names
    assert layer_sources(builder.trace()) == LayerSources(0, 0, 0, 0, 0, 0)


def nested() -> TraceBuilder:
    builder = TraceBuilder()
    builder.annotation(0, 1000, "forward")
    builder.module(10, 500, "Block_0")
    builder.module(20, 100, "Attention_0")
    builder.module(200, 100, "MLP_0")
    builder.launch(call=(30, 5), kernel=(2000, 10))
    builder.launch(call=(210, 5), kernel=(2100, 20))
    builder.launch(call=(400, 5), kernel=(2200, 3))
    builder.launch(call=(700, 5), kernel=(2300, 4))
    builder.launch(call=(1500, 5), kernel=(2400, 63))
    return builder


def test_layers_nest_and_what_is_in_no_child_has_its_row():
    table = layers(nested().trace())

    assert gpu(nested()) == {
        "forward": (37, 4),
        "forward/Block_0": (33, 3),
        "forward/Block_0/Attention_0": (10, 1),
        "forward/Block_0/MLP_0": (20, 1),
        "forward/Block_0/(rest)": (3, 1),
        "forward/(rest)": (4, 1),
        "(outside)": (63, 1),
    }
    assert host(nested()) == {
        "forward": (1000, 1),
        "forward/Block_0": (500, 1),
        "forward/Block_0/Attention_0": (100, 1),
        "forward/Block_0/MLP_0": (100, 1),
        "forward/Block_0/(rest)": (300, 0),
        "forward/(rest)": (500, 0),
        "(outside)": (0, 0),
    }
    assert table["depth"].tolist() == [0, 1, 2, 2, 2, 1, 0]
    assert table["name"].tolist()[:2] == ["forward", "Block_0"]
    assert (table["share"][0], table["host_share"][1]) == (0.37, 0.5)
    assert layer_sources(nested().trace()) == LayerSources(1, 3, 0, 0, 0, 0)


def test_a_layer_seen_again_is_the_same_row():
    builder = TraceBuilder()
    for step in range(3):
        builder.annotation(1000 * step, 500, f"ProfilerStep#{step}")
        builder.module(1000 * step, 500, "Linear_0")
        builder.launch(call=(1000 * step + 20, 5), kernel=(1000 * step + 100, 10))

    assert gpu(builder) == {"ProfilerStep": (30, 3), "ProfilerStep/Linear_0": (30, 3)}
    assert host(builder) == {"ProfilerStep": (1500, 3), "ProfilerStep/Linear_0": (1500, 3)}


def test_twelve_blocks_are_one_in_the_order_of_a_step():
    """A worked example: each block takes 100 ns of the host, 40 of them in attention, and 7 + 5 ns of the GPU."""
    builder = TraceBuilder()
    builder.annotation(0, 1400, "decode")
    builder.annotation(10, 50, "token_embedding")
    builder.annotation(100, 1210, "blocks")
    for at in range(12):
        start = 100 + 100 * at
        builder.annotation(start, 100, "block")
        builder.annotation(start + 10, 40, "attention")
        builder.annotation(start + 60, 20, "mlp")
        builder.launch(call=(start + 20, 5), kernel=(2000 + 20 * at, 7))
        builder.launch(call=(start + 65, 5), kernel=(2010 + 20 * at, 5))

    assert gpu(builder) == {
        "decode": (144, 24),
        "decode/token_embedding": (0, 0),
        "decode/blocks": (144, 24),
        "decode/blocks/block": (144, 24),
        "decode/blocks/block/attention": (84, 12),
        "decode/blocks/block/mlp": (60, 12),
        "decode/blocks/block/(rest)": (0, 0),
        "decode/blocks/(rest)": (0, 0),
        "decode/(rest)": (0, 0),
    }
    assert list(host(builder).items())[2:] == [
        ("decode/blocks", (1210, 1)),
        ("decode/blocks/block", (1200, 12)),
        ("decode/blocks/block/attention", (480, 12)),
        ("decode/blocks/block/mlp", (240, 12)),
        ("decode/blocks/block/(rest)", (480, 0)),
        ("decode/blocks/(rest)", (10, 0)),
        ("decode/(rest)", (140, 0)),
    ]


def test_a_layer_within_one_of_its_own_name_counts_once():
    builder = TraceBuilder()
    builder.annotation(0, 100, "block")
    builder.annotation(10, 80, "block")
    builder.launch(call=(20, 5), kernel=(200, 10))

    assert gpu(builder) == {"block": (10, 1), "block/block": (10, 1), "block/(rest)": (0, 0)}
    assert host(builder) == {"block": (100, 1), "block/block": (80, 1), "block/(rest)": (20, 0)}


def test_an_annotation_that_outlives_its_parent_is_cut_to_it():
    builder = TraceBuilder()
    builder.annotation(0, 100, "step")
    builder.annotation(60, 90, "late")
    builder.launch(call=(120, 5), kernel=(200, 10))

    assert host(builder) == {"step": (100, 1), "step/late": (40, 1), "step/(rest)": (60, 0)}
    assert gpu(builder)["step/late"] == (10, 1)


def test_threads_nest_by_themselves_and_share_rows():
    builder = TraceBuilder()
    builder.annotation(0, 100, "step", thread=1)
    builder.annotation(10, 50, "step", thread=2)
    builder.launch(call=(20, 5), kernel=(200, 10), thread=1)
    builder.launch(call=(20, 5), kernel=(300, 7), thread=2)

    assert gpu(builder) == {"step": (17, 2)}
    assert host(builder) == {"step": (150, 2)}


def test_waiting_for_the_device_is_told_apart():
    builder = TraceBuilder()
    builder.annotation(0, 100, "step")
    builder.annotation(10, 50, "sampling")
    builder.call(20, 30, "cudaStreamSynchronize")
    builder.call(90, 30, "cudaDeviceSynchronize")
    builder.call(20, 80, "cudaStreamSynchronize", thread=9)
    waits = {row["path"]: row["wait_ns"] for row in layers(builder.trace()).records()}

    assert waits == {"step": 40, "step/sampling": 30, "step/(rest)": 10}


def test_other_python_frames_the_compilers_marks_and_copies_are_no_layers():
    builder = TraceBuilder()
    builder.annotation(0, 100, "step")
    builder.annotation(1, 98, "## Call CompiledFxGraph abc ##")
    builder.event(5, 90, cat="python_function", name="train.py(12): step", pid=100, tid=1)
    builder.call(10, 5, "cudaMemcpyAsync", correlation=50)
    builder.memcpy(200, 1000, correlation=50)
    builder.launch(call=(20, 5), kernel=(1500, 10))

    assert gpu(builder) == {"step": (10, 1)}


# --- CUDA graphs -------------------------------------------------------------------------------------------------------


def test_a_graphs_kernels_belong_to_the_layer_of_their_launch():
    builder = TraceBuilder()
    builder.annotation(0, 100, "decode")
    builder.graph(call=(10, 5), kernels=[(200, 10), (300, 10)])

    assert gpu(builder) == {"decode": (20, 2)}
    assert layer_sources(builder.trace()) == LayerSources(1, 0, 2, 0, 0, 0)


def labelled(*labels: str | None, annotated: bool = True, key: str = "str") -> TraceBuilder:
    """A graph whose kernels take 10, 20, … ns and carry these labels."""
    builder = TraceBuilder()
    if annotated:
        builder.annotation(0, 100, "decode")
    else:
        builder.annotation(0, 5, "prefill")
    builder.graph(call=(10, 5), kernels=[(200 + 100 * at, 10 * (at + 1)) for at in range(len(labels))])
    for at, label in enumerate(labels):
        arguments = builder.entries[2 + at]["args"]
        arguments["graph node id"] = 4294967296 + at
        if label is not None:
            arguments[key] = label
    return builder


def on_disk(builder: TraceBuilder, folder: Path) -> dict[str, tuple[int, int]]:
    trace = load(builder.write(folder / "trace.json.gz"))
    return {row["path"]: (row["time_ns"], row["count"]) for row in layers(trace).records()}


@pytest.mark.parametrize("key", ["str", "annotation", "name"])
def test_labels_tell_the_layers_of_a_graphs_kernels(tmp_path, key):
    builder = labelled("blocks/block/mlp", "blocks/block", None, "lm_head", key=key)

    assert on_disk(builder, tmp_path) == {
        "decode": (100, 4),
        "decode/blocks": (30, 2),
        "decode/blocks/block": (30, 2),
        "decode/blocks/block/mlp": (10, 1),
        "decode/blocks/block/(rest)": (20, 1),
        "decode/lm_head": (40, 1),
        "decode/(rest)": (30, 1),
    }
    assert layer_sources(load(tmp_path / "trace.json.gz")) == LayerSources(1, 0, 4, 3, 0, 0)


def test_what_a_label_shares_with_its_launch_is_there_once(tmp_path):
    assert on_disk(labelled("decode/blocks"), tmp_path) == {
        "decode": (10, 1),
        "decode/blocks": (10, 1),
        "decode/(rest)": (0, 0),
    }


def test_labels_need_no_annotated_launch(tmp_path):
    assert on_disk(labelled("decode/blocks", annotated=False), tmp_path) == {
        "prefill": (0, 0),
        "decode": (10, 1),
        "decode/blocks": (10, 1),
    }


def test_labels_survive_odd_entries(tmp_path):
    builder = labelled("mlp", "lm_head")
    builder.entries += [{"ph": "i", "cat": "kernel"}, {"ph": "X", "cat": "kernel", "name": "no time"}, 7]
    trace = load(builder.write(tmp_path / "trace.json"))
    assert trace.gpu["label"].tolist() == ["mlp", "lm_head"]


def test_labels_of_a_bare_list(tmp_path):
    (tmp_path / "trace.json").write_bytes(labelled("mlp").json(bare=True))
    assert load(tmp_path / "trace.json").gpu["label"].tolist() == ["mlp"]


# --- In the terminal ---------------------------------------------------------------------------------------------------


def shown(builder: TraceBuilder, width: int = 80) -> str:
    output = io.StringIO()
    show(Analysis(builder.trace(), TAXONOMY), Console(file=output, width=width, highlight=False))
    return output.getvalue()


def test_the_terminal_shows_both_times_indented():
    text = shown(nested()).partition("Layers")[2]

    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert lines["forward"].split() == ["forward", "37", "ns", "37.0", "%", "1.00", "µs", "100", "%"]
    assert lines["MLP_0"].startswith("     MLP_0 ")
    assert lines["MLP_0"].split()[1:] == ["20", "ns", "20.0", "%", "100", "ns", "10.0", "%"]


def test_the_terminal_keeps_the_largest_within_what_they_lie_in():
    builder = TraceBuilder()
    builder.annotation(0, 10_000, "step")
    builder.annotation(0, 9_000, "blocks")
    for at in range(30):
        builder.annotation(100 * at, 10 + at, f"layer{at}")
    builder.launch(call=(5, 1), kernel=(20_000, 10))
    text = shown(builder).partition("Layers")[2]

    assert "(the 20 largest of 34)" in text
    assert text.index("step") < text.index("blocks") < text.index("layer0") < text.index("layer29")
    assert "layer1 " not in text


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ["k", "x" * 300, "核心" * 60, "[red]x[/red]", "a\x1b[31mb"])
def test_layers_fit_whatever_they_are_called(width, name):
    builder = TraceBuilder()
    for depth in range(12):
        builder.annotation(depth, 1_234_567 - 2 * depth, name)
    builder.launch(call=(500, 5), kernel=(20_000, 1_234_567))
    text = shown(builder, width)

    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    assert "100 %" in text.partition("Layers")[2]


def test_the_terminal_says_that_there_are_no_layers():
    bare, flat, host_only = TraceBuilder(), TraceBuilder(), TraceBuilder()
    for builder in (bare, flat):
        builder.launch(call=(10, 5), kernel=(20, 10))
    flat.annotation(0, 100, "decode")
    host_only.operator(0, 10)

    assert "No layers: the trace has no annotations" in shown(bare)
    assert "No layers within decode: wrap parts of the model" in " ".join(shown(flat).split())
    assert "No layers" in shown(host_only)


def test_a_cpu_trace_shows_host_time_only():
    builder = TraceBuilder()
    builder.operator(0, 1000)
    builder.annotation(0, 1000, "step")
    builder.annotation(0, 500, "mlp")
    text = shown(builder).partition("Layers")[2]

    assert "GPU" not in text
    assert "50.0 %" in text


# --- Properties --------------------------------------------------------------------------------------------------------

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60))
ANNOTATIONS = st.lists(st.tuples(SPAN, st.sampled_from("abc"), st.sampled_from([1, 2])), max_size=14)
LAUNCHES = st.lists(st.tuples(st.integers(0, 130), st.integers(1, 50), st.sampled_from([1, 2, 3])), max_size=10)


@given(ANNOTATIONS, LAUNCHES)
@examples(200)
def test_the_rows_of_a_level_add_up_to_what_they_are_part_of(annotations, launches):
    """For any annotations, crossing ones too: to the nanosecond in both times, so that no part exceeds its whole."""
    builder = TraceBuilder()
    builder.operator(0, 200)
    for (start, duration), name, thread in annotations:
        builder.annotation(start, duration, name, thread=thread)
    for at, (start, duration, thread) in enumerate(launches):
        builder.launch(call=(start, 1), kernel=(1000 + 100 * at, duration), thread=thread)
    trace = builder.trace()
    rows = layers(trace).records()

    total = sum(duration for _, duration, _ in launches)
    if not annotations:
        assert rows == []
        return
    children = defaultdict(list)
    for row in rows:
        assert min(row[key] for key in ("time_ns", "count", "calls", "host_ns", "wait_ns")) >= 0
        assert row["busy_ns"] == row["time_ns"]  # none overlap here
        children[row["path"].rpartition("/")[0]].append(row)
    assert sum(row["time_ns"] for row in children[""]) == total
    assert sum(row["count"] for row in children[""]) == len(launches)
    assert sum(row["host_share"] for row in children[""]) == pytest.approx(1.0 if any(r["host_ns"] for r in rows) else 0.0)
    assert sum(row["calls"] for row in rows) == len(annotations)
    for row in rows:
        if inner := children[row["path"]]:
            for key in ("time_ns", "count", "host_ns"):
                assert sum(part[key] for part in inner) == row[key] or (REST not in [p["name"] for p in inner])
            for key in ("time_ns", "host_ns"):
                assert sum(part[key] for part in inner) == row[key]
    assert len({row["path"] for row in rows}) == len(rows)
    assert [row["path"] for row in rows if row["name"] == OUTSIDE] == ([OUTSIDE] if children[""][-1]["name"] == OUTSIDE else [])


@given(ANNOTATIONS)
@examples(50)
def test_nested_annotations_keep_their_whole_wall_clock(annotations):
    """Where nothing crosses, as record_function guarantees, host time is what a stopwatch shows."""
    builder = TraceBuilder()
    expected = defaultdict(int)
    for level in range(3):
        for at, ((_, duration), name, _) in enumerate(annotations):
            builder.annotation(
                1000 * at + level, 10 + duration - 2 * level if duration > 9 else 10 - 2 * level, f"{name}{level}"
            )
            expected[f"{name}{level}"] += 10 + duration - 2 * level if duration > 9 else 10 - 2 * level
    builder.operator(0, 1)
    found = defaultdict(int)
    for row in layers(builder.trace()).records():
        found[row["name"]] += row["host_ns"] if row["name"] != REST else 0
    assert {name: ns for name, ns in found.items() if ns} == expected


def test_the_same_trace_gives_the_same_table():
    assert json.dumps(layers(nested().trace()).records()) == json.dumps(layers(nested().trace()).records())


@pytest.mark.parametrize("count", [4, 40])
def test_steps_that_overlap_a_little_do_not_nest_in_each_other(count):
    """The optimizer's annotation outlives its step by a moment, and the next step begins before it ends."""
    builder = TraceBuilder()
    for step in range(count):
        at = 1_000 * step
        builder.annotation(at, 1_000, f"ProfilerStep#{step}")
        builder.annotation(at + 800, 250, "Optimizer.step#Adam.step")
        builder.launch(call=(at + 20, 5), kernel=(at + 100, 50))
        builder.launch(call=(at + 820, 5), kernel=(at + 850, 30))
    rows = {row["path"]: row for row in layers(builder.trace()).records()}

    assert max(row["depth"] for row in rows.values()) == 1
    step, optimizer = rows["ProfilerStep"], rows["ProfilerStep/Optimizer.step#Adam.step"]
    assert (step["calls"], step["time_ns"], step["host_ns"]) == (count, 80 * count, 1_000 * count)
    # The last step has no next one, so its optimizer is cut as well: a part never exceeds the whole.
    assert (optimizer["calls"], optimizer["time_ns"], optimizer["host_ns"]) == (count, 30 * count, 200 * count)
