"""What to do next: the engine, and the rules about idle time and layers just at their thresholds and just below them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from operator_calls import recorded, t
from repository import ROOT, TRACES
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.findings.advice import findings
from tracekit.analyze.findings.facts import Facts
from tracekit.analyze.findings.finding import Finding
from tracekit.analyze.findings.rules import RULES
from tracekit.analyze.output.document import entry
from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import TraceWarning
from tracekit.devices import Datasheet
from tracekit.table import Table
from tracekit.taxonomy import Taxonomy

SPAN = 1_000_000


def nested(*layers: tuple[str, int, int, int]) -> Table:
    """Layers by path, GPU time, host time and the waiting in it, parents first; those named `(rest)` are no annotations."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*(layer[1:] for layer in layers), strict=True)] or [
        np.zeros(0)
    ] * 3
    return Table(
        {
            "path": np.array([layer[0] for layer in layers], dtype=object),
            "depth": np.array([layer[0].count("/") for layer in layers], dtype=np.int64),
            "calls": np.array([int("(rest)" not in layer[0]) for layer in layers], dtype=np.int64),
            **dict(zip(("time_ns", "host_ns", "wait_ns"), columns, strict=True)),
        }
    )


def idle_for(
    span: int, host_sync: int = 0, host_other: int = 0, dispatch: int = 0, launch_latency: int = 0, device_wait: int = 0
) -> TraceBuilder:
    """Kernels over `span` ns, with a gap of these parts before the second one, and a wait of the device before the third."""
    idle = host_sync + host_other + dispatch + launch_latency
    busy = max(span - idle - device_wait - 20, 0)
    builder = TraceBuilder()
    builder.operator(-30, 20)
    builder.launch(call=(-20, 5), kernel=(0, busy))
    if host_sync:
        builder.call(busy - 5, host_sync + 5, "cudaStreamSynchronize")
    at = busy + host_sync + host_other
    builder.operator(at, dispatch + 6, "aten::mm")
    builder.launch(call=(at + dispatch, min(5, launch_latency)), kernel=(busy + idle, 10))
    builder.launch(call=(at + dispatch, 1), kernel=(busy + idle + 10 + device_wait, 10), call_name="cuLaunchKernel")
    return builder


def seen(*, missing: int = 0, span: int = SPAN, layers: Table | None = None, has_gpu: bool = True, **idle: int) -> Facts:
    """What the rules see of a trace with this idle time; layers and what is missing are as given."""
    facts = Analysis(idle_for(span, **idle).trace(), Taxonomy([])).facts
    told = TraceWarning("launches_without_kernel", f"{missing} of 400 launches have no kernel: why", missing)
    return dataclasses.replace(
        facts,
        gpu=facts.gpu if has_gpu else None,
        layers=nested() if layers is None else layers,
        warnings=(told,) if missing else (),
        timed=None,
    )


def found(**figures: Any) -> tuple[Finding, ...]:
    return findings(seen(**figures)).found


def undecided(**figures: Any) -> dict[str, str]:
    return {one.code: one.because for one in findings(seen(**figures)).undecided}


def test_a_busy_gpu_needs_no_advice():
    assert found() == ()
    assert found(device_wait=900_000) == ()


def test_no_gpu_no_advice_but_the_reason():
    assert found(has_gpu=False) == ()
    because = undecided(has_gpu=False)
    assert {because[code] for code in ("launch_overhead", "host_sync", "host_late", "layer_launch_cost")} == {
        "the trace has no GPU events"
    }
    assert "incomplete_trace" not in because  # it has calls, and each has its kernel


def test_without_calls_nothing_is_known_of_the_host():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    analysis = Analysis(builder.trace(), Taxonomy([]))

    because = {one.code: one.because for one in analysis.undecided}
    assert analysis.findings == ()
    for code in ("incomplete_trace", "launch_overhead", "host_sync", "host_late", "data_loader"):
        assert because[code] == "the trace has no runtime calls: what the host did is not known"


def test_a_rule_that_could_not_look_is_no_rule_that_found_nothing():
    assert undecided()["layer_launch_cost"] == "no annotation or module tells layers"
    assert "layer_launch_cost" not in undecided(layers=mlp((10, 10, 0)))


@pytest.mark.parametrize(
    ("code", "enough", "too_little"),
    [
        ("launch_overhead", {"dispatch": 120_000, "launch_latency": 80_000}, {"dispatch": 120_000, "launch_latency": 79_999}),
        ("host_sync", {"host_sync": 50_000}, {"host_sync": 49_999}),
        ("host_late", {"span": 10 * SPAN, "host_other": 2_000_000}, {"span": 10 * SPAN, "host_other": 1_999_999}),
        ("host_late", {"host_other": 300_000}, {"host_other": 299_999}),  # less is Python between operators
    ],
)
def test_a_cause_from_its_share_of_the_span_on(code, enough, too_little):
    finding = {one.code: one for one in found(**enough)}[code]

    assert finding.affected_ns == pytest.approx(sum(enough.values()) - enough.get("span", 0), abs=10)
    saved = finding.saving_ns / enough.get("span", SPAN)
    assert finding.severity == ("high" if saved >= 0.25 else "medium" if saved >= 0.05 else "low")
    assert code not in {one.code for one in found(**too_little)}


@pytest.mark.parametrize(
    ("cause", "ns", "severity"),
    [
        ("dispatch", 240_000, "medium"),
        ("dispatch", 310_000, "high"),
        ("host_sync", 240_000, "medium"),
        ("host_other", 310_000, "high"),
    ],
)
def test_a_quarter_of_the_span_saved_is_severe(cause, ns, severity):
    code = {"dispatch": "launch_overhead", "host_sync": "host_sync", "host_other": "host_late"}[cause]
    finding = next(one for one in found(**{cause: ns}) if one.code == code)
    assert finding.severity == ("high" if finding.saving_ns >= 250_000 else "medium")
    assert finding.severity == severity


def test_lost_events_come_first_and_promise_nothing():
    first, second, *_ = found(missing=87, host_sync=400_000)

    assert (first.code, first.severity, first.saving_ns) == ("incomplete_trace", "high", None)
    assert first.evidence == "87 of 400 launches have no kernel"
    assert second.code == "host_sync"


def test_the_largest_saving_first_and_always_the_same_order():
    both = {"host_sync": 300_000, "dispatch": 250_000, "host_other": 300_000}
    savings = [finding.saving_ns for finding in found(**both)]

    assert {finding.code for finding in found(**both)} == {"host_late", "host_sync", "launch_overhead"}
    assert savings == sorted(savings, reverse=True)
    assert found(**both) == found(**both)


def test_evidence_names_what_the_thread_was_in():
    (finding,) = [one for one in found(dispatch=300_000) if one.code == "launch_overhead"]
    assert "aten::mm (" in finding.evidence
    assert finding.rows[-1]["name"] in ("aten::mm", "cudaLaunchKernel", "(launch under way)")
    (finding,) = [one for one in found(host_other=300_000) if one.code == "host_late"]
    assert "(nothing recorded) (300 µs, 1 time)" in finding.evidence


def test_a_span_of_nothing():
    assert found(span=0) == ()


# --- Layers ------------------------------------------------------------------------------------------------------------


def mlp(activation: tuple[int, int, int], wait: int = 0) -> Table:
    """An MLP of 1,000 ns on the GPU and 1,000 on the host (and `wait` more), whose activation has these of them."""
    gpu, host, waiting = activation
    return nested(
        ("mlp", 1000, 1000 + wait, wait + waiting),
        ("mlp/activation", gpu, host, waiting),
        ("mlp/projection", 1000 - gpu, 1000 - host, 0),
    )


def test_a_layer_that_costs_the_host_far_more_than_the_device():
    (finding,) = found(dispatch=60_000, layers=mlp((60, 314, 0)))

    assert (finding.code, finding.severity, finding.affected_ns, finding.saving_ns) == ("layer_launch_cost", "low", 314, None)
    assert finding.evidence == "mlp/activation: 31.4 % of the host time around it, 6.0 % of the GPU time"


def test_where_the_gpu_does_not_wait_for_launches_no_layer_is_blamed():
    assert found(layers=mlp((60, 314, 0))) == ()
    assert found(dispatch=60_000, layers=nested(("mlp", 1000, 1000, 0), ("mlp/enumerate(DataLoader)#0", 60, 314, 0))) == ()


@pytest.mark.parametrize(
    ("enough", "too_little"),
    [((10, 100, 0), (10, 99, 0)), ((150, 300, 0), (151, 300, 0)), ((0, 100, 0), (500, 999, 0))],
    ids=["a tenth of the host", "twice the share", "no kernel at all"],
)
def test_a_layer_from_both_thresholds_on(enough, too_little):
    assert [finding.code for finding in found(dispatch=60_000, layers=mlp(enough))] == ["layer_launch_cost"]
    assert found(dispatch=60_000, layers=mlp(too_little)) == ()


def test_waiting_for_the_device_is_no_launch_cost():
    assert found(dispatch=60_000, layers=mlp((60, 314, 310))) == ()
    assert found(dispatch=60_000, layers=mlp((60, 314, 0), wait=9_000))[0].affected_ns == 314


def test_the_worst_layers_are_named_and_the_others_counted():
    parts = [(f"attention/{name}", 10, 300 - at, 0) for at, name in enumerate("abcde")]
    (finding,) = found(dispatch=60_000, layers=nested(("attention", 1000, 2000, 0), *parts, ("attention/(rest)", 950, 510, 0)))

    assert [part.split(":")[0] for part in finding.evidence.split("; ")] == [
        "attention/a",
        "attention/b",
        "attention/c",
        "and 2 more",
    ]
    assert finding.affected_ns == sum(300 - at for at in range(5))


def test_neither_steps_nor_what_holds_other_layers_nor_a_rest_is_such_a_layer():
    assert found(dispatch=60_000, layers=nested(("prefill", 10, 900, 0), ("decode", 990, 100, 0))) == ()
    table = nested(
        ("step", 1000, 1000, 0), ("step/blocks", 10, 900, 0), ("step/blocks/block", 10, 890, 0), ("step/(rest)", 0, 100, 0)
    )
    assert found(dispatch=60_000, layers=table) == ()


def test_without_gpu_time_nothing_is_known_of_launches():
    assert found(dispatch=60_000, layers=nested(("step", 0, 1000, 0), ("step/mlp", 0, 900, 0))) == ()


def test_a_finding_that_promises_nothing_stands_behind_those_that_do():
    codes = [finding.code for finding in found(missing=1, host_sync=400_000, dispatch=60_000, layers=mlp((60, 314, 0)))]

    assert codes == ["incomplete_trace", "host_sync", "layer_launch_cost"]


def rates(compute: float | None, memory: float | None, cache_mb: float = 1) -> tuple[Finding, ...]:
    """The findings on one operator that reached these shares of its device's peaks."""
    sheet = Datasheet(
        name="Test GPU",
        match="Test GPU",
        architecture="none",
        compute_capability="0.0",
        memory_gb_s=100,
        source="none",
        cache_mb=cache_mb,
        tflops={} if compute is None else {"fp32": 10},
    )
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Test GPU" if memory is not None else "Another"}])
    # 2e9 FLOPs, 200,000 ns at the peak; 12e6 bytes, 120,000 ns.
    builder.operator(0, 100, "aten::mm", **recorded(t(1000, 1000), t(1000, 1000)))
    slowest = max(200_000 * (compute or 0), 120_000 * (memory or 0))
    time = round(200_000 / compute) if compute else round(120_000 / memory) if memory else round(slowest) or 1000
    builder.launch(call=(10, 5), kernel=(200, time), name="gemm")
    analysis = Analysis(builder.trace(), Taxonomy([]), (sheet,))
    return tuple(finding for finding in analysis.findings if finding.code == "above_peak")


def test_faster_than_the_device_can_be():
    (finding,) = rates(compute=1.25, memory=0.1)
    assert finding.affected_ns == 160_000
    assert finding.saving_ns is None
    assert "125.0 % of its fp32 peak" in finding.evidence
    assert "aten::mm 1000×1000, 1000×1000" in finding.evidence
    assert "Test GPU" in finding.action
    (finding,) = rates(compute=None, memory=1.5)
    assert "150.0 % of its bandwidth" in finding.evidence


def test_at_the_peak_from_the_cache_or_on_an_unknown_device_nothing_is_wrong():
    assert rates(compute=1.0, memory=0.1) == ()
    assert rates(compute=None, memory=1.5, cache_mb=12) == ()
    assert rates(compute=1.25, memory=None) == ()


# --- All of them together --------------------------------------------------------------------------------------------


def healthy() -> TraceBuilder:
    """What no rule has anything to say about: half precision, fused attention, everything queued in time."""
    half = {"dtype": "c10::Half"}
    builder = TraceBuilder(
        deviceProperties=[
            {"id": 0, "name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0, "numSms": 132},
        ]
    )
    builder.annotation(0, 990, "step")
    kernels = [
        # 1.4e11 FLOPs take 139,000 ns at 989 TFLOP/s.
        ("nvjet_hsh_128x256", "aten::mm", recorded(t(4096, 4096, **half), t(4096, 4096, **half)), 200_000),
        ("flash_fwd_kernel", "aten::_flash_attention_forward", {}, 50_000),
        ("vectorized_elementwise_kernel", "aten::gelu", recorded(t(4096, 4096, **half)), 30_000),
        ("nvjet_hsh_128x256", "aten::mm", recorded(t(4096, 4096, **half), t(4096, 4096, **half)), 200_000),
        ("vectorized_layer_norm_kernel", "aten::native_layer_norm", {}, 25_000),
    ]
    begin = 1_000
    for place, (name, operator, inputs, duration) in enumerate(kernels):
        builder.operator(100 * place, 90, operator, **inputs)
        grid = {"grid": [132, 1, 1], "block": [384, 1, 1]}
        builder.launch(call=(100 * place + 10, 20), kernel=(begin, duration), name=name, **grid)
        begin += duration
    return builder


def test_a_healthy_trace_is_told_so_and_nothing_else():
    analysis = Analysis(healthy().trace(), Taxonomy.default())

    assert [(finding.code, finding.saving_ns) for finding in analysis.findings] == [("near_roof", None)]
    assert [one.code for one in analysis.undecided] == ["profiler_inflation"]


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.json.gz")), ids=lambda path: path.name.split(".")[0])
def test_the_same_trace_gives_the_same_bytes(path):
    def told() -> str:
        return json.dumps({key: entry(Analysis(load(path), Taxonomy.default()))[key] for key in ("findings", "undecided")})

    assert told() == told()


def test_every_rule_answers_with_its_own_code_and_every_finding_says_how_it_reckons():
    codes = [rule.__name__ for rule in RULES]
    page = (ROOT / "docs" / "findings.md").read_text()

    assert len(set(codes)) == len(codes)
    assert [code for code in codes if f"| `{code}` |" not in page] == []
    for path in TRACES.glob("*.json.gz"):
        analysis = Analysis(load(path), Taxonomy.default())
        for finding in analysis.findings:
            assert finding.code in codes
            assert finding.reasoning
            assert finding.rows
            assert finding.saving_ns is None or 0 <= finding.saving_ns <= analysis.gpu.span_ns
        assert {one.code for one in analysis.undecided} <= set(codes) - {finding.code for finding in analysis.findings}


def test_the_shipped_traces_say_what_they_are_known_for():
    def codes(variant: str) -> set[str]:
        path = ROOT / "traces" / f"gpt2-{variant}-h100-80gb-hbm3.pt.trace.json.gz"
        return {finding.code for finding in Analysis(load(path), Taxonomy.default()).findings}

    assert codes("baseline") >= {"launch_overhead", "fp32_gemm", "memory_bound_gemv", "profiler_inflation"}
    assert "split_k" in codes("fp16")
    assert "fp32_gemm" not in codes("fp16")
    assert "unfused_attention" in codes("baseline-explicit-layers")
    assert "unfused_attention" not in codes("baseline")


def test_the_page_shows_how_to_write_a_rule():
    code = (ROOT / "docs" / "findings.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    rule = names["many_sorts"]
    builder = TraceBuilder()
    builder.kernel(0, 900, "void at::native::(anonymous namespace)::bitonicSortKVInPlace<int>")
    builder.kernel(900, 8_100, "sgemm")

    finding = rule(Analysis(builder.trace(), Taxonomy.default()).facts)
    assert (finding.code, finding.affected_ns, finding.saving_ns) == ("many_sorts", 900, 900)


def test_what_counts_for_severity_is_the_window_that_all_devices_share():
    def severity(devices: int) -> str:
        builder = TraceBuilder()
        for number in range(20):
            builder.operator(100_000 * number, 60_000, "aten::mm")
            for device in range(devices):
                at = 100_000 * number + 60_000 + 1_000 * device
                builder.launch(call=(at, 500), kernel=(at + 1_000, 20_000), device=device)
        found = Analysis(builder.trace(), Taxonomy([])).findings
        return next(one.severity for one in found if one.code == "launch_overhead")

    assert severity(1) == severity(4) == "high"
