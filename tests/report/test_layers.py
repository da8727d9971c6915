"""Do the layers read as they were measured, and what others measured as quoted?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracekit.quoted import quoted
from tracekit.report.bundle import Bundle
from tracekit.report.layers import MAX_ROWS, layers_view
from tracekit.report.nonbreaking import NBSP
from tracekit.report.render import to_html
from tracekit.report.tables import TableView

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
Load = Callable[..., Bundle]
Make = Callable[..., Parts]


def shown(table: TableView) -> list[list[str]]:
    return [[cell.text.replace(NBSP, " ") for cell in row] for row in table.rows]


def labels(table: TableView) -> list[str]:
    return [column.label for column in table.columns]


def test_a_gpt2_is_told_in_levels_with_the_quoted_shares_beside(load: Load, layered: Make) -> None:
    view = layers_view(load(layered()).traces[0])

    decode, prefill = view.steps  # by host time
    assert (decode.name, prefill.name) == ("decode", "prefill")
    assert [level.title for level in decode.levels] == ["Model", "Block", "Attention", "MLP"]
    mlp = decode.levels[3]
    assert labels(mlp) == ["Layer", "GPU", "Host", "Quoted, T4", "GPU time", "Host time"]
    assert shown(mlp) == [
        ["expansion", "45.2 %", "18.5 %", "29.2 %", "80.0 µs", "27.0 µs"],
        ["activation", "6.8 %", "61.6 %", "31.4 %", "12.0 µs", "90.0 µs"],
        ["projection", "48.0 %", "17.8 %", "29.9 %", "85.0 µs", "26.0 µs"],
        ["(rest)", "0 %", "2.1 %", "", "0 ns", "3.00 µs"],
    ]
    assert "12 blocks as one" in decode.about
    assert any("Tesla T4, as its authors report" in note for note in view.notes)


def test_every_quoted_layer_has_its_row_in_the_whole_model(load: Load, layered: Make) -> None:
    """The rows that our small example lacks aside, nothing quoted is lost and nothing is quoted twice."""
    (first, _) = layers_view(load(layered()).traces[0]).steps
    found = [row[3] for level in first.levels for row in shown(level) if row[3]]
    lacking = {"final_norm", "norm_2", "residual_2", "output_reshape"}
    expected = [f"{layer.percent:.1f} %" for layer in quoted().layers if layer.layer not in lacking]
    assert sorted(found) == sorted(expected)


def test_other_annotations_are_a_tree(load: Load, parts: Make) -> None:
    view = layers_view(load(parts()).traces[0])

    assert view.steps == ()
    assert not any("Quoted" in note for note in view.notes)
    assert view.tree is not None
    assert [(row.depth, row.parent) for row in view.tree.rows] == [(0, True), (1, True), *[(2, False)] * 6, (0, False)]
    assert view.tree.rows[-1].cells[0].text == "(outside)"
    assert "Waiting" not in [column.label for column in view.tree.columns]


def test_of_too_many_layers_the_largest_stay_within_what_they_lie_in(load: Load, parts: Make) -> None:
    document, tables = parts()
    first, *_ = tables["layers"]
    inner = [
        first | {"path": f"model/{at}", "name": str(at), "depth": 1, "time_ns": at, "share": at / 1e6, "host_share": 0.0}
        for at in range(500)
    ]
    tree = layers_view(load((document, tables | {"layers": [first, *inner]})).traces[0]).tree

    assert tree is not None
    assert (len(tree.rows), tree.total) == (MAX_ROWS, 501)
    assert [tree.rows[at].cells[0].text for at in (0, 1, -1)] == ["model", "201", "499"]


def test_without_layers_the_page_says_how_to_get_them(load: Load, parts: Make) -> None:
    document, tables = parts()
    flat = [row for row in tables["layers"] if row["depth"] == 0]
    nothing = to_html(load((document, tables | {"layers": []})))
    assert "The trace has no annotations and no module events. Wrap parts of the model" in nothing
    assert "Nothing is annotated within model. Wrap" in to_html(load((document, tables | {"layers": flat})))


def test_a_cpu_has_host_time_only(load: Load, layered: Make) -> None:
    document, tables = layered(gpu=False)
    rows = [row | {"time_ns": 0, "share": 0.0, "count": 0} for row in tables["layers"]]
    view = layers_view(load((document, tables | {"layers": rows})).traces[0])

    assert labels(view.steps[0].levels[0]) == ["Layer", "Host", "Quoted, T4", "Host time"]
    assert view.chart is None
    assert view.tree is not None
    assert "GPU" not in [column.label for column in view.tree.columns]
    assert any("host time only" in note for note in view.notes)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ["20 kernels were replayed from CUDA graphs, and neither"]),
        ({"labelled_graph_kernels": 20}, ["20 kernels were replayed from CUDA graphs; labels tell"]),
        ({"named_kernels": 21, "named_graph_kernels": 20}, ["The layers of 21 kernels are told by the kernels' names"]),
        (
            {"named_kernels": 12, "named_graph_kernels": 12, "labelled_graph_kernels": 3},
            ["layers of 12 kernels", "5 kernels were replayed from CUDA graphs, and neither"],
        ),
    ],
)
def test_kernels_from_graphs_say_what_told_their_layer(
    load: Load, layered: Make, told: dict[str, int], words: list[str]
) -> None:
    document, tables = layered()
    sources = {"annotations": 1, "modules": 0, "graph_kernels": 20, "labelled_graph_kernels": 0} | told
    notes = layers_view(load((document | {"layer_sources": sources}, tables)).traces[0]).notes
    said = [note for note in notes if "replayed" in note or "kernels' names" in note]
    assert len(said) == len(words)
    assert all(word in note for word, note in zip(words, said, strict=True))


def test_what_is_a_layers_own_is_shown_where_kernels_overlap(load: Load, layered: Make) -> None:
    document, tables = layered()
    rows = [row | {"busy_ns": row["time_ns"] // 2} if row["name"] in ("decode", "blocks") else row for row in tables["layers"]]
    plain = layers_view(load((document, tables)).traces[0])
    overlapping = layers_view(load((document, tables | {"layers": rows})).traces[0])

    assert plain.tree is not None
    assert overlapping.tree is not None
    assert "Own" not in [column.label for column in plain.tree.columns]
    at = [column.label for column in overlapping.tree.columns].index("Own")
    assert {row.cells[0].text for row in overlapping.tree.rows if row.cells[at].text} == {"decode", "blocks"}


def test_another_model_is_not_passed_off_as_the_quoted_one(load: Load, layered: Make) -> None:
    document, tables = layered()
    tiny = document["manifest"] | {"model": document["manifest"]["model"] | {"name": "tiny"}}
    notes = layers_view(load((document | {"manifest": tiny}, tables)).traces[0]).notes
    assert any("This model is tiny, the quoted one gpt2" in note for note in notes)


def test_layers_nested_beyond_all_reason_are_a_page_all_the_same(load: Load, parts: Make) -> None:
    document, tables = parts()
    first = tables["layers"][0]
    deep = [first | {"path": f"{depth}", "name": f"<i>{depth}", "depth": depth} for depth in range(3000)]
    assert "<i>" not in to_html(load((document, tables | {"layers": deep})))
