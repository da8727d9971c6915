"""Layers told by the names of kernels: what a graph launch replays, and what runs between library kernels."""

from __future__ import annotations

import io
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rich.console import Console
from synthetic import TraceBuilder

from tracekit.analyze.activity.gpu import streams
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.terminal import show
from tracekit.analyze.structure.layers import OUTSIDE, REST, Layers, LayerSources
from tracekit.analyze.structure.layers import layers as layers_told
from tracekit.analyze.structure.layers_from_names import tell
from tracekit.analyze.structure.steps import find_steps
from tracekit.analyze.trace.trace import Trace
from tracekit.parts import Part, Parts
from tracekit.taxonomy import Taxonomy

PARTS = Taxonomy.default().parts
BLOCK = ("gpt2_norm_qkv", "gpt2_attention", "gpt2_attention_projection", "gpt2_norm_fc1_gelu", "gpt2_fc2_residual")
HEAD = ("gpt2_norm_lm_head", "gpt2_argmax")
DECODE = ("gpt2_embed_norm_qkv", *BLOCK[1:], *BLOCK, *BLOCK, *HEAD, "void copy<float>(float*)")
GEMM = "nvjet_hsh_64x8_64x16_4x1_v_bz_TNT"


def layers(trace: Trace, parts: Parts) -> Layers:
    return layers_told(trace, parts, find_steps(trace))


def rows(builder: TraceBuilder, parts: Parts = PARTS) -> dict[str, tuple[int, int, int]]:
    """GPU time, kernels and calls by path."""
    table = layers(builder.trace(), parts).table
    return {row["path"]: (row["time_ns"], row["count"], row["calls"]) for row in table.records()}


def sources(builder: TraceBuilder) -> LayerSources:
    return layers(builder.trace(), PARTS).sources


def replay(builder: TraceBuilder, at: int, names: tuple[str, ...], stream: int = 7) -> None:
    """A graph launch at `at` whose kernels take 1, 2, 3, … ns."""
    spans = [(at + 1000 + 100 * number, number + 1) for number in range(len(names))]
    builder.graph(call=(at + 10, 5), kernels=spans, names=names, stream=stream)


def decode(*graphs: tuple[str, ...]) -> TraceBuilder:
    """One annotated decode step a graph."""
    builder = TraceBuilder()
    for step, names in enumerate(graphs):
        builder.annotation(10_000 * step, 100, "decode")
        replay(builder, 10_000 * step, names)
    return builder


# --- A decode step in a graph ------------------------------------------------------------------------------------------


def test_a_replay_reads_like_the_model():
    """Kernels of 1 to 18 ns: three blocks of five, the head's two, and a copy that no name places."""
    found = rows(decode(DECODE))

    assert found == {
        "decode": (171, 18, 1),
        "decode/blocks": (120, 15, 1),
        "decode/blocks/block": (120, 15, 3),
        "decode/blocks/block/attention": (1 + 2 + 3 + 6 + 7 + 8 + 11 + 12 + 13, 9, 3),
        "decode/blocks/block/attention/embedding+norm_1+qkv_projection+kv_cache": (1, 1, 1),
        "decode/blocks/block/attention/norm_1+qkv_projection+kv_cache": (6 + 11, 2, 2),
        "decode/blocks/block/attention/sdpa": (2 + 7 + 12, 3, 3),
        "decode/blocks/block/attention/output_projection+residual_1": (3 + 8 + 13, 3, 3),
        "decode/blocks/block/mlp": (4 + 5 + 9 + 10 + 14 + 15, 6, 3),
        "decode/blocks/block/mlp/norm_2+expansion+activation": (4 + 9 + 14, 3, 3),
        "decode/blocks/block/mlp/projection+residual_2": (5 + 10 + 15, 3, 3),
        "decode/final_norm+lm_head": (16, 1, 1),
        "decode/sampling": (17, 1, 1),
        "decode/(rest)": (18, 1, 0),
    }
    # In the order in which they ran.
    assert [path.rpartition("/")[2] for path in found][1:7] == [
        "blocks",
        "block",
        "attention",
        "embedding+norm_1+qkv_projection+kv_cache",
        "sdpa",
        "output_projection+residual_1",
    ]
    assert sources(decode(DECODE)) == LayerSources(1, 0, 18, 0, 17, 17)


def test_replays_share_rows_and_their_calls_tell_an_average():
    once, thrice = rows(decode(DECODE)), rows(decode(DECODE, DECODE, DECODE))
    assert thrice == {path: tuple(3 * value for value in values) for path, values in once.items()}


def test_replays_may_differ_in_their_number_of_blocks():
    found = rows(decode(DECODE, (DECODE[0], *BLOCK[1:], *HEAD)))

    assert found["decode/blocks"][2] == 2
    assert found["decode/blocks/block"][1:] == (15 + 5, 3 + 1)
    assert found["decode/sampling"] == (17 + 7, 2, 2)


def test_int8_kernels_are_the_same_parts():
    assert rows(decode(tuple(f"{name}_int8" for name in DECODE[:-1]))) == rows(decode(DECODE[:-1]))


def test_halves_of_blocks_are_layers_too():
    halves = ("gpt2_attention_block", "gpt2_mlp_block")
    assert rows(decode(("gpt2_embed_attention_block", halves[1], *halves, *HEAD))) == {
        "decode": (21, 6, 1),
        "decode/blocks": (10, 4, 1),
        "decode/blocks/block": (10, 4, 2),
        "decode/blocks/block/attention": (1 + 3, 2, 2),
        "decode/blocks/block/mlp": (2 + 4, 2, 2),
        "decode/final_norm+lm_head": (5, 1, 1),
        "decode/sampling": (6, 1, 1),
        "decode/(rest)": (0, 0, 0),
    }


def test_a_graph_needs_no_annotation_around_its_launch():
    builder = TraceBuilder()
    replay(builder, 0, DECODE)

    assert rows(builder)["blocks/block"] == (120, 15, 3)
    assert rows(builder)[OUTSIDE] == (18, 1, 0)
    assert sources(builder) == LayerSources(0, 0, 18, 0, 17, 17)


def test_layers_that_names_tell_have_no_host_time():
    table = layers(decode(DECODE).trace(), PARTS).table
    assert {row["path"]: row["host_ns"] for row in table.records() if row["host_ns"]} == {"decode": 100, "decode/(rest)": 100}


def test_kernels_that_wait_for_the_one_before_have_only_what_is_their_own_as_busy():
    """Chained: each of 100 ns begins 10 ns after the one before, and so ends 10 ns after it."""
    builder = TraceBuilder()
    builder.annotation(0, 100, "decode")
    builder.graph(call=(10, 5), kernels=[(1000 + 10 * at, 100) for at in range(len(BLOCK))], names=BLOCK)
    table = layers(builder.trace(), PARTS).table
    busy = {row["name"]: (row["time_ns"], row["busy_ns"]) for row in table.records()}

    assert busy["decode"] == busy["block"] == (500, 140)
    assert busy["attention"] == (300, 120)
    assert busy["mlp"] == (200, 20)
    assert busy["sdpa"] == (100, 10)
    output = io.StringIO()
    show(Analysis(builder.trace(), Taxonomy.default()), Console(file=output, width=120, highlight=False))
    assert "kernels of a stream overlap: busy counts each moment once" in " ".join(output.getvalue().split())


def test_two_graphs_of_one_step_are_told_apart():
    """What lies between the last named kernel of one and the first of the next is in no layer."""
    builder = TraceBuilder()
    builder.annotation(0, 100, "decode")
    replay(builder, 0, (*BLOCK, GEMM))
    replay(builder, 5, (GEMM, *BLOCK, *HEAD))

    found = rows(builder)
    assert found["decode/blocks"] == (15 + 20, 10, 2)
    assert found["decode/(rest)"] == (6 + 1, 2, 0)


def test_streams_of_one_graph_are_told_apart():
    """By start the block of stream 9 lies within that of stream 7, whose own kernels stay in their order."""
    builder = TraceBuilder()
    builder.annotation(0, 100, "decode")
    replay(builder, 0, ("gpt2_attention", GEMM, "gpt2_attention_projection"), stream=7)
    for entry in builder.entries[2:]:
        entry["args"]["correlation"] = 1
    for at, name in enumerate(("gpt2_mlp_block", GEMM)):
        builder.kernel(1050 + 100 * at, 50, name, stream=9, correlation=1)

    found = rows(builder)
    assert found["decode/blocks/block/attention"] == (1 + 2 + 3, 3, 1)
    assert found["decode/blocks/block/mlp"] == (50, 1, 1)
    assert found["decode/(rest)"][:2] == (50, 1)


# --- Prefill, around a library's GEMMs -----------------------------------------------------------------------------------

SPLIT_K = "void cublasLt::splitKreduce_kernel<32, 16, int>(int)"
PREFILL_BLOCK = (
    *(GEMM, "gpt2_flash_attention", GEMM, "gpt2_bias_residual_norm"),
    *(GEMM, "gpt2_bias_gelu", GEMM, SPLIT_K, "gpt2_bias_residual_norm"),
)
PREFILL = ("gpt2_embed_norm", *PREFILL_BLOCK, *PREFILL_BLOCK, GEMM, "void at::native::reduce_kernel<512>(int)")


def prefill(names: tuple[str, ...]) -> TraceBuilder:
    """Launched one by one."""
    builder = TraceBuilder()
    builder.annotation(0, 500, "prefill")
    for number, name in enumerate(names):
        builder.launch(call=(5 + 5 * number, 3), kernel=(1000 + 100 * number, number + 1), name=name)
    return builder


def test_library_kernels_are_told_by_what_they_feed():
    assert rows(prefill(PREFILL)) == {
        "prefill": (231, 21, 1),
        "prefill/embedding+norm_1": (1, 1, 1),
        "prefill/blocks": (189, 18, 1),
        "prefill/blocks/block": (189, 18, 2),
        "prefill/blocks/block/attention": (2 + 3 + 4 + 11 + 12 + 13, 6, 2),
        "prefill/blocks/block/attention/qkv_projection": (2 + 11, 2, 2),
        "prefill/blocks/block/attention/kv_cache+sdpa": (3 + 12, 2, 2),
        "prefill/blocks/block/attention/output_projection": (4 + 13, 2, 2),
        "prefill/blocks/block/residual_1+norm_2": (5 + 14, 2, 2),
        "prefill/blocks/block/mlp": (6 + 7 + 8 + 9 + 15 + 16 + 17 + 18, 8, 2),
        "prefill/blocks/block/mlp/expansion": (6 + 15, 2, 2),
        "prefill/blocks/block/mlp/activation": (7 + 16, 2, 2),
        "prefill/blocks/block/mlp/projection": (8 + 9 + 17 + 18, 4, 2),
        "prefill/blocks/block/residual_2+norm": (10 + 19, 2, 2),
        "prefill/(rest)": (20 + 21, 2, 0),
    }
    assert sources(prefill(PREFILL)) == LayerSources(1, 0, 0, 0, 19, 0)


def test_the_last_block_of_a_prefill_ends_as_a_decode_step_does():
    """Its queries, keys and values are there for all tokens; from there on only the last token of each prompt goes on."""
    copies = ("void at::native::direct_copy_kernel(int)",) * 4
    found = rows(prefill(("gpt2_embed_norm", *PREFILL_BLOCK, GEMM, *copies, *BLOCK[1:], *HEAD)))
    assert found["prefill/blocks/block"] == (sum(range(2, 20)), 18, 2)
    assert found["prefill/blocks/block/attention/qkv_projection+kv_cache"] == (11 + 12 + 13 + 14 + 15, 5, 1)
    assert found["prefill/blocks/block/attention/sdpa"] == (16, 1, 1)
    assert found["prefill/blocks/block/mlp/projection+residual_2"] == (19, 1, 1)
    assert found["prefill/final_norm+lm_head"] == (20, 1, 1)
    assert found["prefill/(rest)"] == (0, 0, 0)


def test_a_captured_prefill_is_told_alike():
    builder = TraceBuilder()
    builder.annotation(0, 500, "prefill")
    replay(builder, 0, PREFILL)
    assert rows(builder) == rows(prefill(PREFILL))


def test_the_lm_head_is_told_where_a_named_kernel_follows_it():
    found = rows(prefill((*PREFILL[:-1], "gpt2_argmax")))
    assert found["prefill/lm_head"] == (20, 1, 1)
    assert found["prefill/blocks/block"] == (189, 18, 2)


# --- What a person is told ---------------------------------------------------------------------------------------------


def test_the_terminal_shows_the_layers_and_what_told_them():
    output = io.StringIO()
    show(Analysis(decode(DECODE).trace(), Taxonomy.default()), Console(file=output, width=100, highlight=False))
    text = output.getvalue().partition("Layers")[2]

    assert "norm_1+qkv_projection+kv_cache" in text
    assert "names tell the layers of 17 kernels: GPU time only" in text


# --- Near misses ---------------------------------------------------------------------------------------------------------


def test_kernels_that_nobody_named_tell_no_layers():
    builder = decode((GEMM, "flash_fwd_kernel", "gpt2_softmax", "vllm_norm_qkv"))

    assert rows(builder) == {"decode": (10, 4, 1)}
    assert sources(builder) == LayerSources(1, 0, 4, 0, 0, 0)
    assert tell([GEMM, "gpt2_softmax"], PARTS).paths == ((), ())


def test_a_part_in_the_wrong_place_is_none():
    """The first of a prefill's norms follows attention, the second the MLP: after neither it is unknown."""
    assert tell(["gpt2_bias_residual_norm"], PARTS).paths == ((),)
    assert tell(["gpt2_embed_norm", "gpt2_bias_residual_norm"], PARTS).paths[1] == ()


def test_copies_and_other_steps_stay_where_they_were():
    builder = decode(DECODE)
    builder.memcpy(1010, 5, correlation=1)
    builder.annotation(50_000, 100, "decode")
    builder.launch(call=(50_010, 5), kernel=(60_000, 1000), name=GEMM)

    assert rows(builder)["decode/(rest)"] == (18 + 1000, 2, 0)


# --- Annotations and labels go first ---------------------------------------------------------------------------------------


def annotated(name: str, *layers_around: str) -> TraceBuilder:
    """One kernel of that name, launched inside these annotations."""
    builder = TraceBuilder()
    for depth, layer in enumerate(layers_around):
        builder.annotation(depth, 100 - 2 * depth, layer)
    builder.launch(call=(20, 5), kernel=(200, 7), name=name)
    return builder


def paths(builder: TraceBuilder) -> set[str]:
    return {path for path in rows(builder) if not path.endswith(REST)}


def test_a_name_adds_only_what_lies_further_in():
    around = ("decode", "decode/blocks", "decode/blocks/block", "decode/blocks/block/attention")
    inside = {*around, "decode/blocks/block/attention/sdpa"}

    assert paths(annotated("gpt2_attention", "decode", "blocks", "block", "attention")) == inside
    assert paths(annotated("gpt2_attention", "decode", "blocks", "block", "attention", "sdpa")) == inside
    assert paths(annotated("gpt2_attention_block", "decode", "blocks", "block", "attention", "sdpa")) == inside


def test_calls_are_those_of_the_annotations_where_there_are_any():
    found = rows(annotated("gpt2_attention", "decode", "blocks", "block"))
    assert found["decode/blocks/block"] == (7, 1, 1)
    assert found["decode/blocks/block/attention"] == (7, 1, 1)


def test_an_annotation_that_says_otherwise_wins():
    builder = annotated("gpt2_mlp_block", "decode", "blocks", "block", "attention")
    assert paths(builder) == {"decode", "decode/blocks", "decode/blocks/block", "decode/blocks/block/attention"}
    assert sources(builder) == LayerSources(4, 0, 0, 0, 0, 0)


def test_a_label_wins():
    builder = decode(("gpt2_attention", GEMM, "gpt2_attention_projection"))
    for entry, label in zip(builder.entries[2:], ("mine", None, None), strict=True):
        entry["args"] |= {"graph node id": 7} | ({"str": label} if label else {})

    assert paths(builder) == {
        "decode",
        "decode/mine",
        "decode/blocks",
        "decode/blocks/block",
        "decode/blocks/block/attention",
        "decode/blocks/block/attention/output_projection+residual_1",
    }
    # Without the labelled kernel the GEMM has only one named neighbour.
    assert rows(builder)["decode/(rest)"][:2] == (2, 1)
    assert sources(builder) == LayerSources(1, 0, 3, 1, 1, 1)


# --- Rules of one's own ----------------------------------------------------------------------------------------------------


def test_parts_of_ones_own():
    own = Parts(
        [
            Part("mix in", ("decoder", "mixer", "in"), "mix_in", begins=("decoder",)),
            Part("mix out", ("decoder", "mixer", "out"), "mix_out"),
            Part("ffn", ("decoder", "ffn"), "ffn", input=("decoder", "ffn", "up")),
        ]
    )
    names = ["mix_in", GEMM, "mix_out", GEMM, "ffn", GEMM, "mix_in", "mix_out"]
    told = tell(names, own)

    assert told.paths == (
        ("decoder", "mixer", "in"),
        ("decoder", "mixer"),
        ("decoder", "mixer", "out"),
        ("decoder", "ffn", "up"),
        ("decoder", "ffn"),
        (),  # between two of them, in neither
        ("decoder", "mixer", "in"),
        ("decoder", "mixer", "out"),
    )
    assert dict(told.calls) == {
        ("decoder",): 2,
        ("decoder", "mixer"): 2,
        ("decoder", "mixer", "in"): 2,
        ("decoder", "mixer", "out"): 2,
        ("decoder", "ffn"): 1,
        ("decoder", "ffn", "up"): 1,
    }


# --- Properties --------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from((*DECODE[:6], *HEAD, *PREFILL_BLOCK[1:7], GEMM, SPLIT_K)), max_size=14)
ANNOTATED = st.sampled_from(((), ("decode",), ("decode", "blocks"), ("decode", "blocks", "block", "mlp")))


@given(st.lists(st.tuples(NAMES, st.booleans(), ANNOTATED, st.booleans()), max_size=5))
@examples(200)
def test_the_rows_of_a_level_still_add_up(steps):
    """Whatever runs in whatever order, in graphs or not, annotated, labelled or not: no time is lost or counted twice."""
    builder, total = TraceBuilder(), 0
    builder.operator(0, 1)
    for step, (names, in_graph, around, has_label) in enumerate(steps):
        at = 10_000 * step
        for depth, layer in enumerate(around):
            builder.annotation(at + depth, 500 - 2 * depth, layer)
        if in_graph:
            replay(builder, at, tuple(names))
        else:
            for number, name in enumerate(names):
                builder.launch(call=(at + 10 + 5 * number, 3), kernel=(at + 1000 + 100 * number, number + 1), name=name)
        if has_label and names:
            builder.entries[-1]["args"] |= {"graph node id": 1, "str": "blocks/block"}
        total += sum(range(1, len(names) + 1))
    if steps:
        builder.kernel(1005, 3000, "overlapping")
        total += 3000
    found = layers(builder.trace(), PARTS)
    records = found.table.records()

    children = defaultdict(list)
    for row in records:
        children[row["path"].rpartition("/")[0]].append(row)
        assert min(row[key] for key in ("time_ns", "count", "calls", "host_ns", "wait_ns")) >= 0
    assert len({row["path"] for row in records}) == len(records)
    if records:
        assert sum(row["time_ns"] for row in children[""]) == total
        assert sum(row["busy_ns"] for row in children[""]) == streams(builder.trace())["busy_ns"].sum()
    for row in records:
        if inner := children[row["path"]]:
            for key in ("time_ns", "busy_ns", "count", "host_ns"):
                assert sum(part[key] for part in inner) == row[key]
    assert found.sources.named_graph_kernels <= found.sources.named_kernels
    assert found.sources.named_kernels + found.sources.labelled_graph_kernels <= len(builder.trace().kernels)


@given(NAMES)
@examples(200)
def test_what_is_told_of_a_sequence_holds_of_two_in_a_row(names):
    """Paths depend on what lies around them alone: a step's own are the same in two steps as in one."""
    one = tell(["gpt2_embed_norm", *names, "gpt2_argmax"], PARTS)
    two = tell(["gpt2_embed_norm", *names, "gpt2_argmax"] * 2, PARTS)

    assert two.paths == one.paths * 2
    assert dict(two.calls) == {path: 2 * count for path, count in dict(one.calls).items()}
