"""Does the GPU wait for the allocator, a compiler, the garbage collector or a graph's launch, and is that said and nothing else?"""

from __future__ import annotations

import pytest
from rule_traces import analysed, asked, reason, told
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.findings.rules.launching import graph_launch_cost, launch_overhead
from tracekit.analyze.findings.rules.stalls import allocation_stalls, compilation, garbage_collection, pinned_allocation
from tracekit.analyze.trace.loader import load
from tracekit.taxonomy import Taxonomy

US = 1_000


def loop(name: str, taken: int, kind: str = "call", steps: int = 4, only: int | None = None) -> TraceBuilder:
    """Steps of 1,000 µs: a kernel of 800 µs, then something for `taken` µs while the GPU waits, in all steps or in one."""
    builder = TraceBuilder()
    for step in range(steps):
        at = 1_000 * US * step
        builder.annotation(at - 20 * US, 980 * US, f"ProfilerStep#{step}")
        builder.operator(at - 15 * US, 14 * US, "aten::mm")
        builder.launch(call=(at - 10 * US, 5 * US), kernel=(at, 800 * US))
        if only in (None, step):
            builder.operator(at + 795 * US, (taken + 10) * US, "aten::resize_")
            if kind == "call":
                builder.call(at + 800 * US, taken * US, name)
            else:
                builder.event(at + 800 * US, taken * US, cat="python_function", name=name, pid=100, tid=1, args={})
        builder.operator(at + 960 * US, 10 * US, "aten::add")
    return builder


STALLS = [
    (allocation_stalls, "cudaMalloc", "call", "expandable_segments"),
    (allocation_stalls, "cudaFree", "call", "short or fragmented"),
    (allocation_stalls, "hipMalloc", "call", "keep shapes equal"),
    (allocation_stalls, "cuMemMap", "call", "expandable_segments"),
    (pinned_allocation, "cudaHostAlloc", "call", "pin_memory=True"),
    (compilation, "torch/_inductor/codecache.py(20): load", "python", "compiled again and again"),
    (compilation, "cuModuleLoadData", "call", "again and again"),
    (garbage_collection, "Python GC", "python", "gc.freeze"),
]


@pytest.mark.parametrize(("rule", "name", "kind", "words"), STALLS)
def test_each_is_named_with_its_time_and_what_helps(rule, name, kind, words):
    finding = told(rule, loop(name, 100, kind))
    assert finding.affected_ns == 3 * 100 * US  # after the last kernel the span is over
    assert finding.saving_ns == pytest.approx(300 * US, abs=3 * US)
    assert "in aten::resize_ (300 µs, 3 times)" in finding.evidence
    assert words in finding.action
    assert finding.rows[0]["steps"] == 3


@pytest.mark.parametrize(("rule", "name", "kind", "_"), STALLS)
def test_a_little_of_it_is_no_finding(rule, name, kind, _):
    assert asked(rule, loop(name, 40, kind)) is None


@pytest.mark.parametrize("name", ["cudaMallocHost", "cudaFreeHost", "cudaMemsetAsync", "cudaGetDevice"])
def test_other_calls_are_no_allocations_of_the_device(name):
    assert asked(allocation_stalls, loop(name, 100)) is None


def test_what_is_compiled_once_is_told_to_be_so():
    finding = told(compilation, loop("torch/_inductor/compile_fx.py(1): compile_fx", 150, "python", steps=2, only=0))
    assert (finding.title, finding.severity) == ("Code is compiled in the first steps", "low")
    assert "in 1 of 2 steps" in finding.evidence
    assert "warm up" in finding.action


def test_memory_that_is_emptied_in_the_loop():
    builder = loop("cudaFree", 100)
    for entry in list(builder.entries):
        if entry["name"] == "aten::resize_":
            entry |= {"cat": "python_function", "name": "torch/cuda/memory.py(212): empty_cache"}
    assert "empty_cache() out of the loop" in told(allocation_stalls, builder).action


def test_none_of_these_is_called_the_cost_of_launching():
    for _, name, kind, _ in STALLS:
        codes = {finding.code for finding in analysed(loop(name, 150, kind)).findings}
        assert not {"launch_overhead", "host_late", "host_sync"} & codes, name


def graphs(call: int) -> TraceBuilder:
    """Replays of a graph whose launch takes so many µs while the GPU waits."""
    builder = TraceBuilder()
    for step in range(5):
        at = 1_000 * US * step
        builder.operator(at - 30 * US, 10 * US, "aten::copy_")
        builder.graph(call=(at, call * US), kernels=[(at + (call + 10 + 50 * k) * US, 49 * US) for k in range(8)])
    return builder


def test_a_graphs_launch_is_no_reason_for_a_graph():
    finding = told(graph_launch_cost, graphs(400))
    assert finding.affected_ns == 4 * 400 * US
    assert "8 kernels each" in finding.evidence
    assert "graph already" in finding.action
    assert asked(launch_overhead, graphs(400)) is None
    assert asked(graph_launch_cost, graphs(20)) is None


def test_what_these_rules_cannot_tell():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    for rule in (allocation_stalls, pinned_allocation, compilation, garbage_collection, graph_launch_cost):
        assert "no runtime calls" in reason(rule, builder)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cudamalloc_retry", "allocation_stalls"),
        ("graph_launch_bubble", "graph_launch_cost"),
        ("decode_python_bubble", "host_late"),
    ],
)
def test_simulated_programs_are_told_what_they_suffer_from(name, code):
    assert Analysis(load(needed(f"cases/{name}.json.gz")), Taxonomy.default()).findings[0].code == code


def test_a_real_program_that_empties_the_cache_in_its_loop():
    first = Analysis(load(needed("h200/allocator_empty_cache.json.gz")), Taxonomy.default()).findings[0]
    assert first.code == "allocation_stalls"
    assert "empty_cache()" in first.action


def test_a_collection_that_the_program_asks_for_is_taken_out_of_the_loop():
    asked_for = told(garbage_collection, loop("<built-in function collect>", 100, "python"))
    assert asked_for.action.startswith("The program calls gc.collect() in the loop")
    assert told(garbage_collection, loop("Python GC", 100, "python")).action.startswith("gc.disable() after gc.freeze()")


def test_launching_a_triton_kernel_is_no_compiling():
    name = "triton/runtime/driver.py(12): __call__"
    assert asked(compilation, loop(name, 100, "python")) is None
    assert told(compilation, loop("triton/backends/nvidia/compiler.py(300): make_cubin", 100, "python"))
