"""The document for machines: complete, of JSON values only, whatever the trace holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from properties import examples
from synthetic import EVENT_ARGS, EVENT_FIELDS, TraceBuilder, load_bytes

from tracekit import __version__
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.document import document
from tracekit.analyze.trace.inputs import Skipped
from tracekit.devices import choose_datasheet, datasheets
from tracekit.errors import TraceError
from tracekit.schema import CAUSES
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()


def full() -> TraceBuilder:
    """A bit of everything."""
    builder = TraceBuilder(
        deviceProperties=[{"id": 0, "name": "Tesla T4", "computeMajor": 7, "computeMinor": 5, "numSms": 40}],
        distributedInfo={"rank": 2},
    )
    builder.annotation(0, 1000, "ProfilerStep#3")
    builder.operator(10, 500, "aten::addmm", **recorded(t(3072), t(9, 768), t(768, 3072), 1, 1))
    builder.launch(call=(20, 5), kernel=(100, 50), name="volta_sgemm_64x64_nn", grid=[4, 1, 1], block=[64, 1, 1])
    builder.call(60, 200, "cudaStreamSynchronize")
    builder.launch(call=(300, 5), kernel=(340, 60), name="void at::native::vectorized_elementwise_kernel<4>()")
    builder.graph(call=(500, 5), kernels=[(600, 10), (700, 10)])
    builder.memcpy(800, 20, bytes=4096)
    builder.call(900, 5, correlation=555)
    return builder


def compiled() -> TraceBuilder:
    """The same, with compiled code."""
    builder = full()
    builder.operator(910, 60, "Torch-Compiled Region: 0/0")
    builder.annotation(915, 50, "## Call CompiledFxGraph fabc ##")
    builder.launch(call=(920, 5), kernel=(1000, 10), name="triton_poi_fused_add_mul_0")
    return builder


def parsed(*builders: TraceBuilder, skipped=()) -> dict[str, Any]:
    """The document as a reader gets it."""
    whole = document([Analysis(builder.trace(), TAXONOMY) for builder in builders], skipped)
    return json.loads(json.dumps(whole, allow_nan=False))


ROOFLINE: dict[str, Any] = {
    **dict.fromkeys(("count", "time_ns", "known_ns"), int),
    "share": float,
    **dict.fromkeys(("flops", "bytes"), (int, type(None))),
    **dict.fromkeys(("tflops", "gb_s", "intensity", "compute_share", "memory_share"), (float, type(None))),
    **dict.fromkeys(("peak", "bound", "flag"), (str, type(None))),
}
CONTRACT: dict[str, Any] = {
    "name": str,
    "rank": int,
    "events": int,
    "device": {"name": str, "compute_capability": str},
    "complete": bool,
    "warnings": [{"code": str, "message": str, "count": int}],
    "gpu": dict.fromkeys(
        ("span_ns", "busy_ns", "idle_ns", "kernel_time_ns", "kernels", "unique_kernels", "memcpys", "memsets"), int
    ),
    "families": [{"family": str, "time_ns": int, "share": float, "count": int}],
    "idle": {f"{cause}_ns": int for cause in CAUSES},
    "launches": {
        "kernel_launches": int,
        "graph_launches": int,
        "launches_without_kernel": int,
        "kernels_without_launch": int,
        "latency_ns": dict.fromkeys(("p50", "p90", "p99", "max"), int),
    },
    "kernels": [{"name": str, "family": str, "kind": str, "count": int, "time_ns": int, "share": float, "busy_ns": int}],
    "layers": [
        {
            **{"path": str, "time_ns": int, "share": float, "count": int},
            **{"name": str, "depth": int, "calls": int, "host_ns": int, "host_share": float, "wait_ns": int, "busy_ns": int},
        }
    ],
    "layer_sources": dict.fromkeys(
        ("annotations", "modules", "graph_kernels", "labelled_graph_kernels", "named_kernels", "named_graph_kernels"), int
    ),
    "findings": [
        {
            "code": str,
            "title": str,
            "severity": str,
            "affected_ns": int,
            "saving_ns": (int, type(None)),
            "evidence": str,
            "action": str,
            "reasoning": str,
            "rows": list,
        }
    ],
    "undecided": [{"code": str, "because": str}],
    "without_operator": {
        **dict.fromkeys(("kernels", "time_ns", "replayed_ns", "outside_ns", "unlaunched_ns"), int),
        "share": float,
    },
    "graphs": [
        {
            **dict.fromkeys(("graph", "launches", "kernels", "copies", "span_ns", "busy_ns", "gap_ns"), int),
            **dict.fromkeys(("latency_ns", "call_ns", "kernel_time_ns"), int),
            "share": float,
            "first": str,
        }
    ],
    "compiled_regions": [
        {
            **dict.fromkeys(("region", "fx_graph"), str),
            **dict.fromkeys(("calls", "host_ns", "kernels", "time_ns", "generated", "generated_ns"), int),
            "share": float,
        }
    ],
    "generated_kernels": [
        {
            **dict.fromkeys(("name", "source", "region", "fx_graph"), str),
            **dict.fromkeys(("count", "time_ns"), int),
            "share": float,
        }
    ],
    # Beyond the contract of others, but in our documentation.
    "roofline": {
        **{"device": str, "known_share": float},
        **dict.fromkeys(("kernel_time_ns", "known_ns", "flops", "bytes"), int),
        "kernels": [{"name": str, "family": str, **ROOFLINE}],
        "operators": [{"operator": (str, type(None)), "shapes": (str, type(None)), **ROOFLINE}],
    },
    "projection": type(None),
    "steps": {
        **{"source": str, "confidence": float, "told": str, "chosen": type(None)},
        "steps": [
            {
                **dict.fromkeys(("number", "gpu_start_ns", "gpu_end_ns"), (int, type(None))),
                **dict.fromkeys(("phase", "state", "flag"), (str, type(None))),
                "name": str,
                **dict.fromkeys(("start_ns", "host_ns", "kernels", "copies", "kernel_time_ns"), int),
                **dict.fromkeys(("device_ns", "busy_ns", "idle_ns", *(f"{cause}_ns" for cause in CAUSES)), int),
            }
        ],
        "groups": [
            {
                **dict.fromkeys(("phase", "state"), (str, type(None))),
                **dict.fromkeys(("steps", "outliers", "kernels"), int),
                **{
                    f"{part}_{rank}_ns": int for part in ("host", "device", "busy", "idle") for rank in ("median", "min", "max")
                },
            }
        ],
    },
    "communication": type(None),
    "critical_path": type(None),
    "path": str,
    "host": dict.fromkeys(("span_ns", "threads", "operator_self_ns", "operators", "calls"), int),
    "operators": [
        {"name": str, "count": int, "host_total_ns": int, "host_self_ns": int, "kernel_time_ns": int, "kernels": int}
    ],
}


def check(part: Any, contract: Any, where: str) -> None:
    if isinstance(contract, dict):
        assert contract.keys() <= part.keys(), where
        for key, inner in contract.items():
            check(part[key], inner, f"{where}.{key}")
    elif isinstance(contract, list):
        assert part, where
        for one in part:
            check(one, contract[0], f"{where}[]")
    else:
        kinds = contract if isinstance(contract, tuple) else (contract,)
        assert type(part) in kinds, where  # not isinstance: a bool is an int


def test_every_key_of_the_contract_with_its_type():
    whole = parsed(compiled())

    assert whole["schema_version"] == 1
    assert whole["tracekit_version"] == __version__
    check(whole["traces"][0], CONTRACT, "trace")


def test_a_projection_where_it_is_asked_for():
    target = choose_datasheet("T4", datasheets())
    whole = document([Analysis(full().trace(), TAXONOMY, target=target)])
    projection = json.loads(json.dumps(whole, allow_nan=False))["traces"][0]["projection"]

    check(
        projection,
        {
            **{"source": str, "known_share": float, "decode": type(None)},
            **dict.fromkeys(("kernel_time_ns", "known_ns", "projected_ns"), int),
            "inputs": {
                **dict.fromkeys(("device", "memory_source", "tflops_source", "launch_source"), str),
                **dict.fromkeys(("memory_gb_s", "gap_ns", "launch_ns"), int),
                "tflops": {"fp32": float},
            },
            "kernels": [
                {
                    **{"name": str, "family": str, "bound": (str, type(None)), "projected_ns": (int, type(None))},
                    **dict.fromkeys(("count", "time_ns", "known_ns", "flops", "bytes"), int),
                }
            ],
            "steps": [
                {
                    **{"step": str, "calls": int, "step_ns": (int, type(None))},
                    **dict.fromkeys(("gpu_events", "host_launches", "known_share"), float),
                    **dict.fromkeys(("time_ns", "projected_ns", "gap_ns", "host_ns"), int),
                }
            ],
        },
        "projection",
    )
    assert projection["inputs"]["device"] == "NVIDIA T4"
    assert projection["projected_ns"] == round(9_587_712 / 240)


def test_figures_are_those_of_the_trace():
    trace = parsed(full())["traces"][0]

    assert (trace["rank"], trace["events"], trace["complete"]) == (2, 12, False)
    assert trace["gpu"] == {
        "span_ns": 720,
        "busy_ns": 150,
        "idle_ns": 570,
        "kernel_time_ns": 130,
        "kernels": 4,
        "unique_kernels": 4,
        "memcpys": 1,
        "memsets": 0,
    }
    assert sum(trace["idle"].values()) == 570
    assert sum(family["time_ns"] for family in trace["families"]) == 130
    assert trace["launches"]["kernel_launches"] == 3
    assert trace["launches"]["launches_without_kernel"] == 1
    assert trace["device"]["name"] == "Tesla T4"
    assert [layer["path"] for layer in trace["layers"]] == ["ProfilerStep"]


def test_a_trace_of_the_host_alone():
    builder = TraceBuilder()
    builder.operator(0, 10)
    trace = parsed(builder)["traces"][0]

    assert trace["gpu"] is None
    assert trace["device"] is None
    assert trace["rank"] is None
    assert trace["kernels"] == trace["families"] == trace["layers"] == []
    assert set(trace["idle"].values()) == {0}
    assert set(trace["launches"]["latency_ns"].values()) == {None}


def test_a_trace_of_the_gpu_alone():
    builder = TraceBuilder()
    builder.kernel(0, 10)
    trace = parsed(builder)["traces"][0]

    assert trace["host"] is None
    assert trace["gpu"]["kernels"] == 1


def test_several_traces_and_what_was_skipped():
    whole = parsed(full(), full(), skipped=[Skipped("x.json", "broken")])

    assert len(whole["traces"]) == 2
    assert whole["skipped"] == [{"path": "x.json", "reason": "broken"}]


def test_the_same_trace_makes_the_same_document():
    first, second = parsed(full()), parsed(full())
    for whole in (first, second):
        whole["traces"][0].pop("path")

    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a\x00\x1b[0m", "\u202e", "", "x" * 100_000, "[red]x[/red]", "<<<<((("]
)
def test_any_name_is_text(name):
    builder = TraceBuilder()
    builder.operator(0, 100, name)
    builder.annotation(0, 100, name)
    builder.launch(call=(10, 5), kernel=(200, 10), name=name)
    trace = parsed(builder)["traces"][0]

    assert trace["kernels"][0]["name"] == trace["operators"][0]["name"] == name


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers(-5, 2**70), max_size=3)
    | st.lists(st.lists(st.integers(-5, 2**70), max_size=3), max_size=3)
    | st.lists(st.sampled_from(["float", "c10::Half", "Scalar", "TensorList", "", "768"]), max_size=6)
)


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(EVENT_FIELDS + EVENT_ARGS + EVENT_ARGS), VALUES), min_size=1, max_size=5
    )
)
@examples(150)
def test_whatever_loads_can_be_analysed(changes):
    builder = full()
    for change in changes:
        builder.set(*change)
    try:
        trace = load_bytes(builder.json())
    except TraceError:
        return
    analysis = Analysis(trace, TAXONOMY, target=choose_datasheet("T4", datasheets()))
    whole = json.loads(json.dumps(document([analysis]), allow_nan=False))["traces"][0]

    analysis.tables()
    if whole["gpu"]:
        assert whole["gpu"]["busy_ns"] + whole["gpu"]["idle_ns"] == whole["gpu"]["span_ns"]
        assert sum(whole["idle"].values()) == whole["gpu"]["idle_ns"]
        assert min(whole["idle"].values()) >= 0
        assert sum(family["time_ns"] for family in whole["families"]) == whole["gpu"]["kernel_time_ns"]


def test_ranks_are_a_run_and_each_tells_its_communication():
    from rank_traces import Job

    from tracekit.analyze.ranks.distributed_run import find_runs

    job = Job(ranks=2, overlap=9_000)
    job.late[0, 1] = 5_000
    analyses = [Analysis(trace, TAXONOMY) for trace in job.traces()]
    runs = find_runs([one.trace for one in analyses], [one.communication for one in analyses])
    whole = json.loads(json.dumps(document(analyses, (), runs), allow_nan=False))
    times = ("span_ns", "busy_ns", "idle_ns", "compute_ns", "communication_ns", "overlap_ns", "exposed_ns", "copies_ns")
    message = {"kind": str, "process_group": str, "group_size": int, "bytes": int, "count": int}
    contract = {
        **dict.fromkeys(("name", "grouped_by", "backend", "matched_by"), str),
        **dict.fromkeys(("world_size", "collectives", "unmatched", "decided", "straggler"), int),
        "straggler_share": float,
        "clocks_agree": bool,
        "ranks": [
            {
                **{"rank": int, "trace": str, "device_name": type(None)},
                **dict.fromkeys((*times, "kernel_time_ns", "start_ns", "end_ns"), int),
                **dict.fromkeys(("collectives", "matched", "wait_ns", "last", "clock_offset_ns", "clock_spread_ns"), int),
            }
        ],
        "groups": [
            {
                **message,
                **dict.fromkeys(("time_ns", "wait_ns", "shortest_ns"), int),
                **dict.fromkeys(("ranks", "algorithm_gb_s", "bus_gb_s"), float),
            }
        ],
    }
    check(whole["runs"], [contract], "runs")
    assert whole["runs"][0]["straggler"] == 1
    of_rank = {
        **dict.fromkeys((*times, "kernel_time_ns"), int),
        "collectives": [
            {
                **message,
                **dict.fromkeys(("time_ns", "min_ns", "median_ns"), int),
                **dict.fromkeys(("algorithm_gb_s", "bus_gb_s"), float),
            }
        ],
    }
    for trace in whole["traces"]:
        check(trace["communication"], of_rank, "communication")


def test_without_ranks_there_are_no_runs():
    assert parsed(full())["runs"] == []
