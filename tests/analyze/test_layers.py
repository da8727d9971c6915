"""GPU time by annotation and module."""

from __future__ import annotations

from synthetic import TraceBuilder

from tracekit.analyze.layers import layers


def by_path(builder: TraceBuilder) -> dict[str, tuple[int, int]]:
    return {row["path"]: (row["time_ns"], row["count"]) for row in layers(builder.trace()).records()}


def test_without_annotations_there_are_no_layers():
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))

    assert by_path(builder) == {}


def test_layers_nest_and_parents_hold_their_children():
    builder = TraceBuilder()
    builder.annotation(0, 1000, "forward")
    builder.module(10, 500, "Block_0")
    builder.module(20, 100, "Attention_0")
    builder.module(200, 100, "MLP_0")
    builder.launch(call=(30, 5), kernel=(2000, 10))
    builder.launch(call=(210, 5), kernel=(2100, 20))
    builder.launch(call=(400, 5), kernel=(2200, 3))
    builder.launch(call=(700, 5), kernel=(2300, 4))
    builder.launch(call=(1500, 5), kernel=(2400, 63))  # outside
    table = layers(builder.trace())

    assert by_path(builder) == {
        "forward": (37, 4),
        "forward/Block_0": (33, 3),
        "forward/Block_0/Attention_0": (10, 1),
        "forward/Block_0/MLP_0": (20, 1),
    }
    assert table["path"].tolist() == sorted(table["path"].tolist())
    assert table["share"].tolist()[0] == 0.37


def test_a_layer_seen_again_is_the_same_row():
    builder = TraceBuilder()
    for step in range(3):
        builder.annotation(1000 * step, 500, f"ProfilerStep#{step}")
        builder.module(1000 * step + 10, 400, "Linear_0")
        builder.launch(call=(1000 * step + 20, 5), kernel=(1000 * step + 100, 10))

    assert by_path(builder) == {"ProfilerStep": (30, 3), "ProfilerStep/Linear_0": (30, 3)}


def test_other_python_frames_and_copies_are_no_layers():
    builder = TraceBuilder()
    builder.annotation(0, 100, "step")
    builder.event(5, 90, cat="python_function", name="train.py(12): step", pid=100, tid=1)
    builder.call(10, 5, "cudaMemcpyAsync", correlation=50)
    builder.memcpy(200, 1000, correlation=50)
    builder.launch(call=(20, 5), kernel=(1500, 10))

    assert by_path(builder) == {"step": (10, 1)}


def test_a_graphs_kernels_belong_to_the_layer_of_their_launch():
    builder = TraceBuilder()
    builder.annotation(0, 100, "decode")
    builder.graph(call=(10, 5), kernels=[(200, 10), (300, 10)])

    assert by_path(builder) == {"decode": (20, 2)}
