"""Do rates, shares and bounds follow from the work, and is nothing counted twice?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from properties import examples
from repository import TRACES
from shared_data import needed, traces
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.analyze.work.roofline import LATENCY_SHARE, Roofline
from tracekit.devices import Datasheet
from tracekit.taxonomy import Taxonomy

SHIPPED = sorted(TRACES.glob("*.trace.json.gz"))
TAXONOMY = Taxonomy.default()
# 100 GB/s is 100 bytes a ns; 10 TFLOP/s are 10,000 FLOPs a ns. The roofs meet at 100 FLOPs a byte.
SHEET = Datasheet(
    name="Test GPU",
    match="Test GPU",
    architecture="none",
    compute_capability="0.0",
    memory_gb_s=100,
    source="none",
    cache_mb=1,
    tflops={"fp32": 10, "fp16": 40},
)
PROPERTIES = {"deviceProperties": [{"id": 0, "name": "Test GPU"}]}


def analysed(builder: TraceBuilder, *sheets: Datasheet) -> Roofline:
    found = Analysis(builder.trace(), TAXONOMY, sheets or (SHEET,)).roofline
    assert found is not None
    return found


def one(name: str, kernel_ns: int, *arguments: Any, kernel: str = "kernel") -> dict[str, Any]:
    """The row of one operator with one kernel."""
    builder = TraceBuilder(**PROPERTIES)
    builder.operator(0, 100, name, **recorded(*arguments))
    builder.launch(call=(10, 5), kernel=(200, kernel_ns), name=kernel)
    (row,) = analysed(builder).operators.records()
    return row


def test_rates_and_shares_by_hand() -> None:
    # 2·100³ = 2,000,000 FLOPs and 3·100²·4 = 120,000 bytes in 400 ns.
    row = one("aten::mm", 400, t(100, 100), t(100, 100))
    assert (row["operator"], row["shapes"], row["count"], row["time_ns"], row["known_ns"]) == (
        "aten::mm",
        "[100, 100], [100, 100]",
        1,
        400,
        400,
    )
    assert (row["flops"], row["bytes"], row["peak"]) == (2_000_000, 120_000, "fp32")
    assert row["tflops"] == pytest.approx(5)  # 2e6 / 400e-9 / 1e12
    assert row["gb_s"] == pytest.approx(300)
    assert row["intensity"] == pytest.approx(2_000_000 / 120_000)
    assert row["compute_share"] == pytest.approx(0.5)
    assert row["memory_share"] == pytest.approx(3)  # 300 of 100 GB/s: from the cache of 1 MiB


@pytest.mark.parametrize(
    ("kernel_ns", "shape", "bound", "flag"),
    [
        (400, (1000, 1000), "compute", "above_peak"),  # 2e9 FLOPs need 200,000 ns
        (200_000, (1000, 1000), "compute", None),  # exactly the peak
        (800_000, (1000, 1000), "compute", None),  # a quarter of it
        (800_001, (1000, 1000), "latency", None),
        (1_200, (100, 100), "memory", None),  # 120,000 bytes need 1,200 ns
        (1_199, (100, 100), "memory", "from_cache"),
        (4_801, (100, 100), "latency", None),
    ],
)
def test_bounds(kernel_ns: int, shape: tuple[int, int], bound: str, flag: str | None) -> None:
    row = one("aten::mm", kernel_ns, t(*shape), t(*shape))
    assert (row["bound"], row["flag"]) == (bound, flag)


def test_faster_than_the_memory_by_more_than_the_cache_holds_is_wrong() -> None:
    # Two times 600,000 bytes, more than 1 MiB, in half the time they take.
    row = one("aten::copy_", 6_000, t(150_000), t(150_000), False)
    assert row["memory_share"] == pytest.approx(2)
    assert row["flag"] == "above_peak"
    assert one("aten::copy_", 4_000, t(100_000), t(100_000), False)["flag"] == "from_cache"


def test_types_have_their_own_peaks() -> None:
    half = [t(1000, 1000, dtype="c10::Half")] * 2
    assert one("aten::mm", 50_000, *half)["compute_share"] == pytest.approx(1)  # 40 TFLOP/s
    # What the hardware lacks it computes in FP32.
    brain = [t(1000, 1000, dtype="c10::BFloat16")] * 2
    assert one("aten::mm", 200_000, *brain)["compute_share"] == pytest.approx(1)
    # Of FP64 nothing is known, so neither is what binds; were the memory the limit, that would be.
    double = [t(1000, 1000, dtype="double")] * 2
    row = one("aten::mm", 2_000_000, *double)
    assert (row["peak"], row["compute_share"], row["bound"]) == ("fp64", None, None)
    assert row["tflops"] == pytest.approx(1)
    assert one("aten::mm", 250_000, *double)["bound"] == "memory"  # 24e6 bytes need 240,000 ns


def test_a_fusion_of_unknown_flops_is_held_against_the_memory_alone() -> None:
    row = one("triton_poi_fused_add_0", 100, t(1000), t(1000), 1000)
    assert (row["flops"], row["tflops"], row["intensity"], row["compute_share"], row["peak"]) == (None,) * 5
    assert (row["bytes"], row["memory_share"], row["bound"]) == (8000, pytest.approx(0.8), "memory")
    assert one("triton_poi_fused_add_0", 1000, t(1000), t(1000), 1000)["bound"] == "latency"


def test_an_unknown_device_has_rates_and_no_shares() -> None:
    builder = TraceBuilder(deviceProperties=[{"id": 0, "name": "Another GPU"}])
    builder.operator(0, 100, "aten::mm", **recorded(t(100, 100), t(100, 100)))
    builder.launch(call=(10, 5), kernel=(200, 400))
    found = analysed(builder)
    (row,) = found.kernels.records()
    assert found.device is None
    assert row["tflops"] == pytest.approx(5)
    assert [row[key] for key in ("compute_share", "memory_share", "bound", "flag")] == [None] * 4


def test_unknown_work_is_shown_with_its_time_and_nothing_else() -> None:
    builder = TraceBuilder(**PROPERTIES)
    builder.operator(0, 100, "aten::sort", **recorded(t(100), -1, False))
    builder.launch(call=(10, 5), kernel=(200, 300), name="sort")
    builder.graph(call=(300, 5), kernels=[(600, 50), (700, 50)])
    builder.kernel(900, 100, name="lost")
    found = analysed(builder)

    assert (found.kernel_time_ns, found.known_ns) == (500, 0)
    assert found.known_share == 0
    figures = ("flops", "bytes", "peak", "tflops", "gb_s", "intensity", "compute_share", "memory_share", "bound", "flag")
    for row in (*found.kernels.records(), *found.operators.records()):
        assert [row[key] for key in figures] == [None] * len(figures)
        assert row["known_ns"] == 0
    assert [(row["operator"], row["shapes"], row["time_ns"]) for row in found.operators.records()] == [
        ("aten::sort", "[100]", 300),
        (None, None, 200),
    ]


def test_a_kernel_known_in_some_runs_has_the_figures_of_those() -> None:
    builder = TraceBuilder(**PROPERTIES)
    builder.operator(0, 100, "aten::mm", **recorded(t(100, 100), t(100, 100)))
    builder.launch(call=(10, 5), kernel=(200, 400), name="gemm")
    builder.kernel(900, 5000, name="gemm")
    (row,) = analysed(builder).kernels.records()
    assert (row["count"], row["time_ns"], row["known_ns"]) == (2, 5400, 400)
    assert row["tflops"] == pytest.approx(5)


def test_a_trace_without_kernels_has_no_roofline() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::mm", **recorded(t(100, 100), t(100, 100)))
    assert Analysis(builder.trace(), TAXONOMY).roofline is None


def test_a_zero_length_kernel_has_no_rate() -> None:
    row = one("aten::mm", 0, t(100, 100), t(100, 100))
    assert (row["flops"], row["bytes"]) == (2_000_000, 120_000)
    assert [row[key] for key in ("tflops", "gb_s", "compute_share", "memory_share", "bound", "flag")] == [None] * 6


def check(found: Roofline) -> None:
    """What holds of every trace."""
    assert 0 <= found.known_ns <= found.kernel_time_ns
    for table in (found.kernels, found.operators):
        assert int(table["time_ns"].sum()) == found.kernel_time_ns
        assert int(table["known_ns"].sum()) == found.known_ns
        assert sum(value or 0 for value in table["flops"]) == found.flops
        assert sum(value or 0 for value in table["bytes"]) == found.bytes
        for row in table.records():
            assert (row["bytes"] is None) == (row["gb_s"] is None) or row["known_ns"] == 0
            shares = [share for share in (row["compute_share"], row["memory_share"]) if share is not None]
            assert all(share >= 0 for share in shares)
            if row["bound"] == "latency":
                assert max(shares) < LATENCY_SHARE
            elif row["bound"] is not None:
                assert max(shares) >= LATENCY_SHARE
            assert (row["flag"] is not None) == any(share > 1 for share in shares)


@pytest.mark.parametrize("path", [*SHIPPED, *traces()], ids=lambda path: path.name.split(".")[0])
def test_both_tables_add_up_to_the_whole_on_every_trace(path: Path) -> None:
    found = Analysis(load(path), TAXONOMY).roofline
    if found is None:
        assert "cpu" in path.name or "mtia" in path.name
        return
    check(found)
    # Nothing that was measured is faster than its device, and nothing needed the cache to be so fast.
    assert [row for row in found.operators.records() if row["flag"]] == []
    assert [row for row in found.kernels.records() if row["flag"]] == []


def test_the_work_of_a_decode_step_is_known_where_shapes_were_recorded() -> None:
    for path in SHIPPED:
        found = Analysis(load(path), TAXONOMY).roofline
        if found is None:
            continue
        if "graphs" in path.name or "fused" in path.name:
            assert found.known_share < 0.2
        else:
            assert found.known_share > 0.99


def test_the_t4s_matrix_multiplies_by_hand() -> None:
    """FC1: 42,467,328 FLOPs and 9,587,712 bytes, 78 times; FC2 has the same FLOPs and a smaller bias, in two kernels."""
    found = Analysis(load(needed("traces/t4_gpt2_mlp.json")), TAXONOMY).roofline
    assert found is not None
    assert found.device == "NVIDIA T4"
    rows = {row["shapes"]: row for row in found.operators.records()}
    up, down = rows["[3072], [9, 768], [768, 3072]"], rows["[768], [9, 3072], [3072, 768]"]
    assert (up["count"], up["flops"], up["bytes"]) == (78, 78 * 42_467_328, 78 * 9_587_712)
    calls = down["flops"] // 42_467_328
    assert (down["flops"], down["bytes"]) == (calls * 42_467_328, calls * 4 * (768 + 9 * 3072 + 768 * 3072 + 9 * 768))
    assert up["gb_s"] == pytest.approx(up["bytes"] / up["time_ns"])
    assert up["compute_share"] == pytest.approx(up["flops"] / up["time_ns"] / 8_100)


@st.composite
def nested(draw: st.DrawFn) -> TraceBuilder:
    """Operators within operators, some of known work, and kernels launched anywhere."""
    builder = TraceBuilder(**PROPERTIES)
    kernel_at = 10**6
    for number in range(draw(st.integers(1, 4))):
        start = 10_000 * number
        for depth in range(draw(st.integers(0, 4))):
            rows = draw(st.integers(1, 5))
            name, inputs = draw(
                st.sampled_from(
                    [
                        ("aten::mm", recorded(t(rows, 3), t(3, 4))),
                        ("aten::add", recorded(t(rows, 3), t(rows, 3), 1)),
                        ("aten::sort", recorded(t(rows), -1, False)),
                        ("aten::mm", {}),
                        ("triton_poi_fused_add_0", recorded(t(rows), rows)),
                    ]
                )
            )
            builder.operator(start + 100 * depth, 9_000 - 200 * depth, name, **inputs)
        for launch in range(draw(st.integers(0, 4))):
            time = draw(st.integers(0, 10_000))
            at = start + draw(st.integers(0, 9_000)) + launch
            builder.launch(call=(at, 1), kernel=(kernel_at, time), name=draw(st.sampled_from(["a", "b"])))
            kernel_at += time + 1
    builder.kernel(kernel_at, 5, name="a")
    return builder


@given(nested())
@examples(60)
def test_both_tables_add_up_whatever_nests_in_what(builder: TraceBuilder) -> None:
    check(analysed(builder))
