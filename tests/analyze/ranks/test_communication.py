"""How long does a rank communicate, and does it compute meanwhile?"""

from __future__ import annotations

import pytest
import shared_data
from hypothesis import given
from hypothesis import strategies as st
from rank_traces import GEMM, NCCL, Job
from synthetic import TraceBuilder

from tracekit.analyze import Analysis, Taxonomy, load
from tracekit.analyze.ranks.communication import bandwidth, collective_groups, communication, kind_of
from tracekit.analyze.trace.trace import Trace

TAXONOMY = Taxonomy.default()
FAMILIES = {NCCL: "communication", GEMM: "gemm"}
PARTS = ("compute_ns", "communication_ns", "overlap_ns", "exposed_ns", "copies_ns", "busy_ns", "idle_ns", "span_ns")


def figures(trace: Trace, families: dict[str, str] | None = None) -> dict[str, int]:
    found = communication(trace, FAMILIES if families is None else families)
    assert found is not None
    return {part: getattr(found, part) for part in PARTS}


def test_what_overlaps_compute_is_not_exposed() -> None:
    builder = TraceBuilder()
    builder.kernel(0, 100, GEMM, stream=7)
    builder.kernel(60, 100, NCCL, stream=20)  # 40 with the first, 60 alone, 20 of it with a copy
    builder.memcpy(140, 40, stream=8)
    builder.kernel(200, 50, GEMM, stream=7)
    assert figures(builder.trace()) == {
        "compute_ns": 150,
        "communication_ns": 100,
        "overlap_ns": 40,
        "exposed_ns": 60,
        "copies_ns": 20,
        "busy_ns": 230,
        "idle_ns": 20,
        "span_ns": 250,
    }


def test_collectives_that_overlap_each_other_count_once() -> None:
    builder = TraceBuilder()
    builder.kernel(0, 100, NCCL, stream=20)
    builder.kernel(50, 100, NCCL, stream=21)
    found = communication(builder.trace(), FAMILIES)
    assert found is not None
    assert (found.communication_ns, found.kernel_time_ns, found.exposed_ns) == (150, 200, 150)


def test_without_gpu_events_there_is_nothing_to_say() -> None:
    builder = TraceBuilder()
    builder.operator(0, 10)
    assert communication(builder.trace(), {}) is None


SPANS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 60), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30
)


@given(SPANS)
def test_the_parts_add_up_whatever_overlaps(spans: list[tuple[int, int, int, int]]) -> None:
    builder = TraceBuilder()
    covered: dict[str, set[int]] = {"talk": set(), "compute": set(), "copy": set()}
    for start, duration, stream, what in spans:
        moments = set(range(start, start + duration))
        if what == 0:
            builder.kernel(start, duration, NCCL, stream=stream)
            covered["talk"] |= moments
        elif what == 1:
            builder.kernel(start, duration, GEMM, stream=stream)
            covered["compute"] |= moments
        else:
            builder.memcpy(start, duration, stream=stream)
            covered["copy"] |= moments
    found = figures(builder.trace())
    talk, compute, copy = covered["talk"], covered["compute"], covered["copy"]
    assert found["overlap_ns"] == len(talk & compute)
    assert found["exposed_ns"] == len(talk - compute)
    assert found["overlap_ns"] + found["exposed_ns"] == found["communication_ns"] == len(talk)
    assert found["copies_ns"] == len(copy - talk - compute)
    assert found["compute_ns"] + found["exposed_ns"] + found["copies_ns"] == found["busy_ns"]
    assert found["busy_ns"] + found["idle_ns"] == found["span_ns"]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("allreduce", None, "ncclDevKernel_Generic(x)"), "all_reduce"),
        ((None, "_reduce_scatter_base", NCCL), "reduce_scatter"),
        (("_allgather_base", None, NCCL), "all_gather"),
        ((None, "all_to_all", "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t"), "all_to_all"),
        ((None, None, "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t"), "send_recv"),
        ((None, None, "void vllm::cross_device_reduce_1stage<__half, 8>"), "all_reduce"),
        ((None, None, "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)"), "unknown"),
        (("broadcast", None, NCCL), "broadcast"),
    ],
)
def test_the_kind_is_told_by_what_says_it_first(names: tuple[str | None, ...], kind: str) -> None:
    assert kind_of(*names) == kind


@pytest.mark.parametrize(
    ("kind", "ranks", "algorithm", "bus"),
    [
        # 8 MB in 1 ms is 8 GB/s; the factors are those of nccl-tests' PERFORMANCE.md.
        ("all_reduce", 4, 8.0, 12.0),
        ("all_gather", 4, 8.0, 6.0),
        ("reduce_scatter", 4, 8.0, 6.0),
        ("all_to_all", 8, 8.0, 7.0),
        ("broadcast", 4, 8.0, 8.0),
        ("reduce", None, 8.0, 8.0),
        ("all_reduce", None, 8.0, None),
        ("unknown", 4, 8.0, None),
    ],
)
def test_bandwidth_is_reckoned_as_nccl_tests_do(kind: str, ranks: int | None, algorithm: float, bus: float | None) -> None:
    assert bandwidth(kind, 8_000_000, ranks, 1_000_000) == (algorithm, bus)


def test_no_bandwidth_without_a_size_or_a_time() -> None:
    assert bandwidth("all_reduce", None, 8, 1_000) == (None, None)
    assert bandwidth("all_reduce", 1_000, 8, 0) == (None, None)


def test_the_kernel_says_what_it_carries() -> None:
    trace = Job(ranks=2, steps=2).traces()[0]
    found = communication(trace, FAMILIES)
    assert found is not None
    row = collective_groups(found.collectives).records()[0]
    assert (row["kind"], row["process_group"], row["group_size"], row["bytes"], row["count"]) == (
        "all_reduce",
        "0",
        2,
        4_000_000,
        2,
    )
    assert row["algorithm_gb_s"] == pytest.approx(4_000_000 / row["min_ns"])
    assert found.collectives["sequence"].tolist() == [100, 101]


def test_else_the_host_call_around_its_launch_says_it() -> None:
    builder = TraceBuilder(distributedInfo={"rank": 0, "world_size": 2})
    told = {
        "Collective name": "_allgather_base",
        "In msg nelems": 10,
        "Out msg nelems": 20,
        "dtype": "Half",
        "Seq": 3,
        "Group size": 2,
    }
    builder.operator(0, 50, "record_param_comms", **told)
    builder.launch(call=(10, 5), kernel=(100, 20), name=NCCL, stream=20)
    found = communication(builder.trace(), FAMILIES)
    assert found is not None
    row = found.collectives.records()[0]
    assert (row["kind"], row["bytes"], row["sequence"], row["group_size"]) == ("all_gather", 40, 3, 2)


def test_ill_typed_details_are_none() -> None:
    builder = TraceBuilder(distributedInfo={"rank": 0, "world_size": 2})
    odd = {"Collective name": "allreduce", "In msg nelems": "many", "dtype": 7, "Group size": [2], "Process Group Name": {}}
    builder.kernel(0, 10, NCCL, **odd)
    found = communication(builder.trace(), FAMILIES)
    assert found is not None
    row = found.collectives.records()[0]
    assert [row[key] for key in ("kind", "bytes", "group_size", "process_group")] == ["all_reduce", None, None, None]


@pytest.mark.parametrize(
    "name", ["v100_ddp_training.json.gz", "a100_recommender_rank0.json.gz", "mi300_resnet_training.json.gz"]
)
def test_real_ranks_add_up(name: str) -> None:
    analysis = Analysis(load(shared_data.needed(f"traces/{name}")), TAXONOMY)
    found, gpu = analysis.communication, analysis.gpu
    assert found is not None
    assert gpu is not None
    assert found.communication_ns > 0
    assert found.overlap_ns + found.exposed_ns == found.communication_ns
    assert (found.span_ns, found.busy_ns, found.idle_ns) == (gpu.span_ns, gpu.busy_ns, gpu.idle_ns)
    assert found.compute_ns + found.exposed_ns + found.copies_ns == gpu.busy_ns
    times = {row["family"]: row["time_ns"] for row in analysis.families.records()}
    assert found.kernel_time_ns == times["communication"] == int(analysis.collectives["time_ns"].sum())
