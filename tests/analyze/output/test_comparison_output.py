"""A comparison as a person reads it: at a terminal and in a pull request, whatever the traces' names are."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from properties import examples
from repository import TRACES
from rich.cells import cell_len
from rich.console import Console
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.compare.comparison import compare, compare_repeats
from tracekit.analyze.compare.open_side import open_side
from tracekit.analyze.compare.side import Side, analysed
from tracekit.analyze.output.comparison_markdown import code, markdown
from tracekit.analyze.output.comparison_terminal import show_comparison
from tracekit.analyze.output.comparison_view import View, view
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
HOSTILE = [
    "[red]x[/red]",
    "a|b|c",
    "`code`",
    "**bold** _it_ <b>tag</b> <!-- -->",
    "@someone #1 https://example.org [x](y)",
    "| a | b |\n|---|---|",
    "\\|",
    "</details><script>alert(1)</script>",
    "\x1b[31mred\x07",
    "a\u202eb\u2028c",
]
LONG = "void at::native::(anonymous namespace)::very_long_kernel_name<" + "std::array<char*, 3ul>, " * 20 + ">"


def side(builder: TraceBuilder, name: str = "trace.json", **changes: Any) -> Side:
    return replace(analysed(Analysis(builder.trace(), TAXONOMY)), name=name, **changes)


def run(name: str, kernel_ns: int, steps: int = 2, generated: bool = False) -> TraceBuilder:
    """Steps with an operator and its kernel, by this name, or a generated one in its place."""
    builder = TraceBuilder()
    for step in range(steps):
        at = 10_000_000 * step
        builder.annotation(at, 9_000_000, f"ProfilerStep#{step}")
        builder.annotation(at, 8_000_000, name)
        builder.operator(at, 5_000_000, name if not generated else "CompiledFunction")
        launched = "triton_poi_fused_gelu_0" if generated else f"gelu_{name}"
        builder.launch(call=(at + 100, 5_000), kernel=(at + 2_000_000, kernel_ns), name=launched)
        builder.memcpy(at + 1_000_000, 1_000 + kernel_ns // 1_000, name)
    return builder


def pair(name: str = "layer", manifest: str = "x", **changes: Any) -> tuple[Side, Side]:
    a = side(run(name, 1_000_000), f"a {name}", manifest={"dtype": manifest}, **changes)
    return a, side(run(name, 500_000, generated=True), f"b {name}", manifest={"dtype": f"{manifest}!"}, **changes)


def shown(of: View, width: int = 80, colour: bool = False) -> str:
    output = io.StringIO()
    show_comparison(of, Console(file=output, width=width, highlight=False, force_terminal=colour))
    return output.getvalue()


# --- What is said -----------------------------------------------------------------------------------------------------


def test_the_answer_comes_after_what_limits_it():
    a, b = pair(missing=("some were lost",))
    text = " ".join(shown(view(compare(a, b))).split())

    places = [text.index(words) for words in ("! differs: dtype: x → x!", "! A is incomplete: some were lost", "B takes 4.2 % less GPU span: 12.0 ms → 11.5 ms")]  # fmt: skip
    assert places == sorted(places)
    assert "2 × ProfilerStep in each" in text
    assert "2 → 2 kernels; 2 → 2 kernel launches" in text
    for words in ("busy: elementwise 2.00 ms 1.00 ms −1.00 ms −8.3 %", "span 12.0 ms 11.5 ms −500 µs −4.2 %", "gelu_layer elementwise 2.00 ms – −2.00 ms", "triton_poi_fused_gelu_0 elementwise – 1.00 ms +1.00 ms", "CompiledFunction – 1.00 ms"):  # fmt: skip
        assert words in text, words


def test_a_trace_with_itself_has_no_difference():
    a, _ = pair()
    text = shown(view(compare(a, a)))

    assert "No difference." in text
    assert "change" not in text
    assert "**" not in markdown(view(compare(a, a)))


def test_of_unequal_steps_all_figures_are_of_a_step():
    a, b = side(run("x", 1_000_000, 2)), side(run("x", 1_000_000, 4))
    text = " ".join(shown(view(compare(a, b)), 120).split())

    assert "B takes the same GPU span a ProfilerStep: 10.0 ms → 10.0 ms" in text
    assert "2 × ProfilerStep in A, 4 in B: figures are of one step" in text
    assert "in all 12.0 ms → 32.0 ms" in text
    assert "1 → 1 kernel" in text
    assert "busy: elementwise 1.00 ms 1.00 ms 0 ns 0 %" in text
    assert "gelu_x" not in text  # which is as fast in a step


def test_traces_of_which_one_has_no_gpu_events():
    host = TraceBuilder()
    host.operator(0, 100, "aten::mm")
    a, _ = pair()
    text = " ".join(shown(view(compare(a, side(host)))).split())

    assert "B without GPU events: what the host did is compared" in text
    assert "less host span" in text
    assert "Kernels" not in text


def test_timings_without_the_profiler_stand_beside_the_traces():
    timings = {"timings": {"total": {"median_ns": 400_000_000, "std_ns": 1_000_000}}}
    faster = {"timings": {"total": {"median_ns": 100_000_000, "std_ns": 2_000_000}}}
    a, b = pair()
    text = shown(view(compare(replace(a, manifest=timings), replace(b, manifest=faster))), 200)

    lines = text.splitlines()
    place = lines.index("A run takes 400 → 100 ms without the profiler (75.0 % less time)")
    assert lines[place + 1] == (
        "The difference is beyond the noise: the medians' intervals, 399 to 401 ms and 98.0 to 102 ms, do not overlap; "
        "standard deviations 1.00 and 2.00 ms"
    )
    assert lines[place + 2] == "Under the profiler, B takes 4.2 % less GPU span: 12.0 ms → 11.5 ms"


def test_a_profile_that_says_the_opposite_is_contradicted_at_once():
    def told(ns: int, inflation: float) -> dict[str, Any]:
        step = {"median_ns": ns, "std_ns": 1_000}
        return {"timings": {"decode_token": step, "total": step}, "profile": {"inflation": inflation}}

    a, b = pair()
    a, b = replace(a, manifest=told(4_000_000, 2.0)), replace(b, manifest=told(5_000_000, 1.5))
    found = view(compare(a, b))

    assert found.headline == "A decode step takes 4.00 → 5.00 ms without the profiler (25.0 % slower)"
    assert found.answer[1] == (
        "The profiled GPU span says the opposite: 4.2 % less, 12.0 ms → 11.5 ms. It holds the profiler's own cost "
        "(a step takes 2.00× as long in A, 1.50× in B), so believe the time without it"
    )
    assert view(compare(b, a)).answer[1].startswith("The profiled GPU span says the opposite: 4.3 % more")
    text = markdown(found)
    assert text.index(found.headline) < text.index(found.answer[0]) < text.index(found.answer[1]) < text.index("| part |")
    agreed = view(compare(a, replace(b, manifest=told(3_000_000, 1.5))))
    assert agreed.answer[1] == "Under the profiler, B takes 4.2 % less GPU span: 12.0 ms → 11.5 ms"
    assert view(compare(a, a)).headline == "No difference."
    assert view(compare(a, a)).answer == ()


def test_the_shipped_half_precisions_are_told_apart_by_the_time_without_the_profiler():
    a, b = (open_side(f"{TRACES}:gpt2-{dtype}-h100", TAXONOMY) for dtype in ("fp16", "bf16"))
    found = view(compare(a, b))

    assert found.headline == "A decode step takes 4.61 → 4.92 ms without the profiler (6.7 % slower)"
    assert found.answer[0].startswith("The difference is within the noise: ")
    assert found.answer[1].startswith("The profiled GPU span says the opposite: 18.8 % less, 84.4 ms → 68.6 ms.")


def test_a_kernel_of_another_name_is_one_row():
    def gemm(kernel: str, ns: int) -> Side:
        builder = TraceBuilder()
        builder.operator(0, 50, "aten::mm", **{"Input Dims": [[8, 8], [8, 8]]})
        builder.launch(call=(5, 5), kernel=(100, ns), name=kernel)
        return side(builder)

    arguments = f"({', '.join(['int'] * 30)})"
    half, other = f"void sgemm_kernel<c10::Half, 1>{arguments}", f"void sgemm_kernel<c10::BFloat16, 1>{arguments}"
    found, library = (
        view(compare(gemm(half, 10), gemm(other, 12))),
        view(compare(gemm(half, 10), gemm("volta_sgemm_64x64_nn", 12))),
    )
    assert "sgemm_kernel<…> gemm 10 ns 12 ns +2 ns → BFloat16 for Half" in " ".join(shown(found, 80).split())
    assert ["sgemm_kernel<…> → BFloat16 for Half", "gemm", "10 ns", "12 ns", "+2 ns", "1 → 1"] in [
        row for table in rectangular(markdown(found)) for row in table
    ]
    assert "sgemm_kernel<…> gemm 10 ns 12 ns +2 ns → volta_sgemm_64x64_nn" in " ".join(shown(library, 80).split())
    assert "| `sgemm_kernel<…>` → `volta_sgemm_64x64_nn` |" in markdown(library)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_repeats_are_medians_with_intervals(width):
    a = [side(run("x", 1_000_000 + 10_000 * n), f"a{n}") for n in range(3)]
    b = [side(run("x", 1_015_000 + 40_000 * n), f"b{n}") for n in range(3)]
    found = view(compare_repeats(a, b))
    text = shown(found, width)

    assert found.a.text == "a1"
    assert found.headline == "B takes 0.4 % more GPU span: 12.0 ms → 12.1 ms"
    assert found.answer == ("The difference is within the noise: the medians' intervals, 12.0 ms and 12.0 to 12.1 ms, overlap",)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    if width >= 80:
        assert "kernel time 2.02 [2.00, 2.04] ms 2.11 [2.03, 2.19] ms (+4.5 %)" in " ".join(text.split())
        assert "3 traces of A, 3 traces of B" in text
    rectangular(markdown(found))


# --- A terminal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", ["k", LONG, "核心" * 60, "x/" * 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width, name):
    text = shown(view(compare(*pair(name, manifest=name))), width)

    assert max(cell_len(line) for line in text.splitlines()) <= width
    if width >= 80:
        assert text.count("−1.00 ms") >= 2
        assert " ms…" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_do_nothing_to_a_terminal(name):
    text = shown(view(compare(*pair(name, manifest=name, missing=(name,)))), 200)

    assert not {c for c in text if not c.isprintable()} - {"\n"}
    if name.isprintable():
        for words in (f"a {name}", f"dtype: {name} → {name}!", f"A is incomplete: {name}", f"gelu_{name}"):
            assert words in text


# --- Markdown ---------------------------------------------------------------------------------------------------------


def parsed(text: str) -> tuple[list[list[list[str]]], set[str]]:
    """The tables' rows of cells, as texts, and all kinds of tokens, as a Markdown reader sees them."""
    tables: list[list[list[str]]] = []
    kinds, in_row = set(), False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        kinds.add(token.type)
        in_row = token.type == "tr_open" or (in_row and token.type != "tr_close")
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline":
            kinds |= {child.type for child in token.children or ()}
            if in_row:
                tables[-1][-1].append("".join(child.content for child in token.children or ()))
    return tables, kinds


QUIET = {"heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "code_inline", "hardbreak", "softbreak"}  # fmt: skip
QUIET |= {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close", "strong_open", "strong_close", "html_block"}  # fmt: skip
QUIET |= {f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")}


def rectangular(text: str) -> list[list[list[str]]]:
    tables, kinds = parsed(text)
    assert kinds <= QUIET, kinds - QUIET
    for table in tables:
        assert len({len(row) for row in table}) == 1
    return tables


def test_markdown_is_tables_that_a_reader_reads():
    tables = rectangular(markdown(view(compare(*pair()))))

    assert tables[0][0] == ["part", "A", "B", "change", "of A"]
    assert ["busy: elementwise", "2.00 ms", "1.00 ms", "−1.00 ms", "−8.3 %"] in tables[0]
    assert ["gelu_layer", "elementwise", "2.00 ms", "–", "−2.00 ms", "2 → 0"] in tables[1]
    assert [table[0][0] for table in tables] == ["part", "kernel", "operator", "layer", "copy or fill"][: len(tables)]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_no_markup_in_markdown(name):
    text = markdown(view(compare(*pair(name, manifest=name, missing=(name,)))))
    tables = rectangular(text)

    assert "<script>alert(1)</script>" not in [line for line in text.splitlines() if "`" not in line]
    kernels = [row[0] for table in tables for row in table]
    if name.isprintable() and "`" not in name and "\\" not in name:
        assert any(name in kernel for kernel in kernels)


@given(st.text(max_size=30))
@examples(60)
def test_any_name_at_all(name):
    of = view(compare(*pair(name, manifest=name, missing=(name,))))

    rectangular(markdown(of))
    assert not {c for c in shown(of) if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize(("text", "span"), [("a", "`a`"), ("a|b", "`a\\|b`"), ("`\\\n", "`���`"), ("", "–"), (" ", "–")])
def test_a_span_of_code(text, span):
    assert code(text) == span
