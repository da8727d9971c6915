"""What a person sees: it fits, and a trace's names can do nothing to the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from properties import examples
from rank_traces import Job
from rich.cells import cell_len
from rich.console import Console
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.terminal import show, show_run
from tracekit.analyze.path.critical_path import Scope
from tracekit.analyze.ranks.distributed_run import find_runs
from tracekit.analyze.structure.selection import select
from tracekit.devices import Datasheet, choose_datasheet, datasheets
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
T4 = choose_datasheet("T4", datasheets())


def shown(
    builder: TraceBuilder,
    width: int = 80,
    name: str = "trace.json",
    *,
    colour: bool = False,
    target: Datasheet | None = None,
    scope: Scope | None = None,
) -> str:
    output = io.StringIO()
    console = Console(
        file=output, width=width, highlight=False, force_terminal=colour, color_system="standard" if colour else None
    )
    show(Analysis(builder.trace(name), TAXONOMY, target=target, scope=scope), console)
    return output.getvalue()


def full(name: str = "volta_sgemm_64x64_nn", operator: str = "aten::addmm", device: str = "Tesla T4") -> TraceBuilder:
    """A trace with every part that is shown, under these names."""
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": device}], distributedInfo={"rank": 2})
    builder.kernel(0, 100, "first")
    builder.call(100, 5_000_000, "cudaStreamSynchronize")
    for place in range(12):
        at = 20_000_000 * (place + 1)
        builder.operator(at, 9_000_000, operator, **recorded(t(3072), t(9, 768), t(768, 3072), 1, 1))
        builder.launch(call=(at + 8_000_000, 5_000), kernel=(at + 9_000_000, 1_234_567), name=f"{name}{place or ''}")
    builder.graph(call=(400_000_000, 10), kernels=[(400_000_100, 100)])
    builder.memcpy(500_000_000, 100)
    builder.call(600_000_000, 5, correlation=700)
    return builder


def host_only(operator: str = "aten::addmm") -> TraceBuilder:
    builder = TraceBuilder()
    for place in range(25):
        builder.operator(1000 * place, 500 + place, f"{operator}{place or ''}")
    return builder


LONG = "void at::native::(anonymous namespace)::very_long_kernel_name<" + "std::array<char*, 3ul>, " * 20 + ">"


def test_graphs_compiled_code_and_what_no_operator_launched_are_lines():
    builder = full()
    builder.operator(700_000_000, 100_000, "Torch-Compiled Region: 0/0")
    builder.launch(call=(700_000_010, 5), kernel=(700_001_000, 1_000_000), name="triton_poi_fused_add_0")
    text = " ".join(shown(builder, 200).split())

    assert "No operator for <0.1 % of the kernel time: replayed from CUDA graphs 100 ns, launch not recorded 100 ns" in text
    assert "1 CUDA graph; the longest: 1 launch of 1 kernel, 100 ns each, 0 ns of it gaps (medians)" in text
    assert "compiled code: 1 graph with 6.3 % of the kernel time; 1 generated kernel with 6.3 %" in text
    plain = shown(host_only()) + shown(only_launches())
    assert not [word for word in ("No operator", "CUDA graphs", "compiled code") if word in plain]


def only_launches() -> TraceBuilder:
    builder = TraceBuilder()
    builder.operator(0, 100)
    builder.launch(call=(10, 5), kernel=(200, 10))
    return builder


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", ["k", LONG, "核心" * 60, "é" * 100, "x" * 300])
def test_no_line_is_wider_than_the_terminal(width, name):
    named = full(name)
    named.annotation(0, 10**9, name)
    for builder in (full(name, operator=name), named, host_only(name)):
        text = shown(builder, width, name="n" * 100 + ".json", target=T4)
        assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("name", ["k", LONG, "核心" * 60, "é" * 100, "x" * 300])
def test_no_number_is_cut_for_a_long_name(name):
    text = shown(full(name, operator=name), 80)

    assert not re.search(r"\d[ .]*…", text)
    assert text.count("1.23 ms") == 2 * 10  # time and median of each kernel
    for part in (" count ", " median", " gaps ", " mostly", " host other", " unattributed"):
        assert part in text


def test_what_one_needs_to_see():
    text = shown(full())

    for part in (
        "trace.json",
        "Tesla T4",
        "rank 2",
        "GPU busy",
        "volta_sgemm_64x64_nn",
        "aten::addmm",
        "gemm",
        "dispatch",
        "1 of 13 launches has no kernel",
        "1.23 ms",
    ):
        assert part in text, part
    assert "(the 10 worst of 14)" in text


def test_what_could_not_be_told_is_a_line_a_reason():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    text = shown(builder, width=200)

    assert text.count("cannot tell ") == len({line for line in text.splitlines() if "cannot tell " in line})
    assert "cannot tell incomplete_trace, launch_overhead" in text
    assert "the trace has no runtime calls" in " ".join(text.split())


def test_the_roofline_in_short():
    text = shown(full(), 200)

    assert "Work known for >99.9 % of kernel time; held against the peaks of NVIDIA T4" in text
    (row,) = [line for line in text.splitlines() if "addmm 3072, 9×768, 768×3072" in line]
    # Twelve times 42,467,328 FLOPs and 9,587,712 bytes in 1,234,567 ns: 2.4 % of 320 GB/s.
    assert row.split()[-7:] == ["14.8", "ms", "0.0344", "7.77", "2.4", "%", "latency"]
    assert "Projected" not in text


def test_a_scalar_among_shapes_is_a_word():
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Tesla T4"}])
    for place, tensors in enumerate(((t(9, 768), t()), (t(), t(9, 768)), (t(), t()))):
        builder.operator(10_000 * place, 900, "aten::mul", **recorded(*tensors))
        builder.launch(call=(10_000 * place + 10, 5), kernel=(10_000 * place + 1_000, 1_000), name="vectorized_elementwise")
    text = shown(builder, 200)

    for row in ("mul 9×768, scalar", "mul scalar, 9×768", "mul scalar, scalar"):
        assert row in text


def test_one_of_a_thing_is_singular():
    gpu = TraceBuilder()
    gpu.operator(0, 100)
    gpu.launch(call=(10, 5), kernel=(200, 10))
    gpu.memcpy(300, 10)
    host = TraceBuilder()
    host.operator(0, 100)
    text = " ".join((shown(gpu, 200) + shown(host, 200)).split())

    assert "1 kernel (10 ns), 1 copy, 0 fills" in text
    assert "1 kernel launch, 0 graph launches" in text
    assert "1 operator on 1 thread" in text
    assert ", 1 event " in f", {text}".replace("trace.json ", ", ")
    assert not re.search(r"(?<![\d.,])1 [a-z ]*(?:kernels|copies|fills|launches|threads|operators|events)\b", text)


def test_a_small_share_is_not_none():
    builder = TraceBuilder()
    builder.kernel(0, 1_000_000, "volta_sgemm_64x64_nn")
    builder.kernel(1_000_000, 100, "vectorized_elementwise_kernel")
    text = shown(builder, 120)

    assert "<0.1 %" in text
    assert ">99.9 %" in text
    assert " 0.0 %" not in text


def test_a_projection_says_that_it_is_one():
    text = shown(full(), target=T4)

    assert "Projected onto NVIDIA T4 at 240 GB/s" in text
    assert "Projected, a call" in text
    assert "479 µs" in text  # 12 · 9,587,712 bytes at 240 GB/s, of the whole trace


def test_a_projection_of_nothing_gives_no_figures():
    builder = TraceBuilder()
    builder.kernel(0, 1_000, "volta_sgemm_64x64_nn")
    text = shown(builder, target=T4)

    assert "nothing can be told" in text
    assert "at least" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_critical_path_in_short(width):
    pytest.importorskip("hta")
    builder = TraceBuilder()
    builder.operator(0, 100_000, "aten::mm")
    builder.launch(call=(20_000, 50_000), kernel=(90_000, 1_234_000), name="gemm\x1b[2J")
    builder.call(150_000, 1_300_000, "cudaDeviceSynchronize")
    text = shown(builder, width, scope=Scope())

    assert "Critical path 1.45 ms through the whole trace: 1.4 % of the host" in " ".join(text.split())
    assert re.search(r"kernel +kernel +1.23 ms +85.1 %", text)
    assert "\x1b[2J" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r"\d[ .]*…", text)
    assert "! no critical path: no annotation begins with 'x'" in shown(builder, 80, scope=Scope("x"))


def test_names_of_operators_and_steps_are_plain_text_in_these_tables_too():
    builder = full()
    for step in range(2):
        builder.annotation(step * 10**9 // 2, 10**9 // 2, "[red]step[/red]\x1b[31m")
    builder.operator(900_000_000, 100, "[bold]mm[/bold]", **recorded(t(2, 3), t(3, 4)))
    text = shown(builder, target=T4)
    assert "[red]step[/red]" in text
    assert "\x1b" not in text


def test_a_trace_of_the_host_alone():
    text = shown(host_only())

    assert "GPU busy" not in text
    assert "no GPU events" in text
    assert "aten::addmm24" in text
    assert text.count("aten::addmm") == 10
    assert "(the 10 worst of 25)" in text


def test_a_trace_of_neither():
    builder = TraceBuilder()
    builder.event(0, 10, cat="Trace", name="Iteration")

    assert "neither GPU nor host events" in shown(builder)


HOSTILE = ["[red]x[/red]", "[/]", "[link=https://example.org]x[/link]", "\\[bold]", ":warning:"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_plain_text_and_not_markup(name):
    for builder in (full(name, operator=name, device=name), host_only(name)):
        text = shown(builder)
        assert name in text


def test_device_and_file_are_plain_text_too():
    text = shown(full(device="[red]GPU[/red]"), name="[bold]trace[/bold].json".replace("/", "∕"))

    assert "[red]GPU[/red]" in text
    assert "[bold]trace[∕bold].json" in text


@pytest.mark.parametrize("char", ["\x1b[31m", "\x1b]0;title\x07", "\r", "\n", "\x08", "\x9b31m", "\u202e", "\x00", "\u2028"])
def test_control_characters_never_reach_the_terminal(char):
    name = f"a{char}b"
    for builder in (full(name, operator=name, device=name), host_only(name)):
        text = shown(builder, name=f"t{char}.json" if char != "\x00" else "t.json")
        assert not {c for c in text if not c.isprintable()} - {"\n"}
        assert "a\nb" not in text


@given(st.text(max_size=30), st.text(max_size=30))
@examples(40)
def test_any_names_at_all(name, operator):
    text = shown(full(name, operator=operator, device=operator))

    assert not {c for c in text if not c.isprintable()} - {"\n"}


def shown_run(job: Job, width: int = 80) -> str:
    traces = job.traces()
    runs = find_runs(traces, [Analysis(trace, TAXONOMY).communication for trace in traces])
    output = io.StringIO()
    for run in runs:
        show_run(run, Console(file=output, width=width, highlight=False))
    return output.getvalue()


def test_a_run_of_ranks_fits_and_names_the_straggler():
    job = Job(ranks=20, steps=3, overlap=5_000)
    for step in range(3):
        job.late[step, 17] = 123_456_789
    text = shown_run(job)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "20 ranks of 20 (by distributedInfo): 3 collectives matched" in text
    assert "Straggler: rank 17 comes last at 100 % of 3 collectives" in text
    assert "the 16 that come last most often, of 20" in text
    assert re.search(r"^ *17 .* 3$", re.sub(r" +$", "", text, flags=re.MULTILINE), re.MULTILINE)


def test_one_rank_alone_is_no_table():
    job = Job(ranks=2)
    traces = job.traces()[:1]
    (run,) = find_runs(traces, [Analysis(traces[0], TAXONOMY).communication])
    output = io.StringIO()
    show_run(run, Console(file=output, width=80))
    assert output.getvalue() == ""


def test_communication_and_steps_are_told():
    builder = Job(ranks=2, steps=4, overlap=5_000).builder(0)
    text = shown(builder)
    assert "Communication 6.0 % of the span, 80.0 µs: 20.0 µs while computing, 60.0 µs exposed" in " ".join(text.split())
    assert re.search(r"all +steady +4 ", text)
    assert "told by the profiler's steps" in text


def test_chosen_steps_are_said_at_the_top():
    trace, selection = select(Job(ranks=2, steps=4).builder(0).trace(), "6-7")
    output = io.StringIO()
    show(Analysis(trace, TAXONOMY, selection=selection), Console(file=output, width=80))
    assert "2 of 4 steps (6-7) alone" in output.getvalue()


def test_why_there_are_no_steps_is_told():
    assert "No steps: no annotation repeats" in shown(host_only())
