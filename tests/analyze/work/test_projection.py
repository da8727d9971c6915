"""Does a projection say what it reckons with, and how far is it off where it can be checked?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from repository import TRACES
from shared_data import needed
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.trace.loader import load
from tracekit.analyze.work.decode_model import decode_step
from tracekit.analyze.work.projection import Inputs, Projection, project_decode
from tracekit.devices import Datasheet, Measured, choose_datasheet, datasheets
from tracekit.manifest import RunManifest, read_manifest
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
T4 = choose_datasheet("T4", datasheets())
TARGET = Datasheet(
    name="Target",
    match="Target",
    architecture="none",
    compute_capability="0.0",
    memory_gb_s=200,
    source="its maker",
    tflops={"fp32": 10},
    measured=Measured(memory_gb_s=100, memory_source="a copy", gap_ns=30, launch_ns=500, launch_source="a trace"),
)

FAMILIES = {"gemm": -0.706, "reduction": -0.634, "elementwise": -0.782}
"""The error that docs/projection.md states, by kernel family, of the projection of the one T4 trace onto a T4."""
WHOLE = -0.705


def projected(builder: TraceBuilder, target: Datasheet = TARGET) -> Projection:
    found = Analysis(builder.trace(), TAXONOMY, target=target).projection
    assert found is not None
    return found


def step(builder: TraceBuilder, at: int, name: str = "decode") -> None:
    """A step of a multiplication, 400 ns of 2,000,000 FLOPs and 120,000 bytes, and a copy of 8,000 bytes."""
    builder.annotation(at, 900, name)
    builder.operator(at + 10, 100, "aten::mm", **recorded(t(100, 100), t(100, 100)))
    builder.launch(call=(at + 20, 5), kernel=(at + 200, 400), name="volta_sgemm_128x32_nn")
    builder.operator(at + 210, 100, "aten::copy_", **recorded(t(1000), t(1000), False))
    builder.launch(call=(at + 220, 5), kernel=(at + 700, 50), name="copy_kernel")


def test_by_hand() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    step(builder, 1000)
    found = projected(builder)

    # 120,000 bytes at 100 a ns are 1,200 ns, 2,000,000 FLOPs at 10,000 are 200; the copy's 8,000 bytes 80.
    assert (found.kernel_time_ns, found.known_ns, found.projected_ns, found.known_share) == (900, 900, 2560, 1)
    gemm, copied = found.kernels.records()
    assert (gemm["name"], gemm["count"], gemm["time_ns"], gemm["known_ns"]) == ("volta_sgemm_128x32_nn", 2, 800, 800)
    assert (gemm["projected_ns"], gemm["bound"], gemm["bytes"], gemm["flops"]) == (2400, "memory", 240_000, 4_000_000)
    assert (copied["name"], copied["projected_ns"]) == ("copy_kernel", 160)
    (row,) = found.steps.records()
    assert (row["step"], row["calls"], row["gpu_events"], row["host_launches"], row["time_ns"]) == ("decode", 2, 2, 2, 450)
    # Two kernels and gaps are 1,340 ns, two launches 1,000.
    assert (row["projected_ns"], row["gap_ns"], row["host_ns"], row["step_ns"]) == (1280, 60, 1000, 1340)


def test_a_slow_host_decides() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    slow = replace(TARGET, measured=replace(TARGET.measured, launch_ns=5000))
    assert projected(builder, slow).steps["step_ns"].tolist() == [10_000]


def test_a_slow_processor_binds_on_the_target() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    found = projected(builder, replace(TARGET, tflops={"fp32": 1}))
    assert found.kernels.records()[0]["bound"] == "compute"
    assert found.kernels.records()[0]["projected_ns"] == 2000


def test_inputs_say_where_they_are_from() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    inputs = projected(builder).inputs
    assert (inputs.device, inputs.memory_gb_s, inputs.memory_source) == ("Target", 100, "a copy")
    assert (inputs.gap_ns, inputs.launch_ns, inputs.launch_source) == (30, 500, "a trace")
    assert (inputs.tflops["fp32"], inputs.tflops["fp16"], inputs.tflops_source) == (10, 10, "its maker")
    assert "fp64" not in inputs.tflops

    quoted = projected(builder, replace(TARGET, measured=Measured())).inputs
    assert quoted.memory_gb_s == 200
    assert "not measured" in quoted.memory_source
    # The trace's own: the copy was queued 100 ns before it started, launches are 200 ns apart.
    assert (quoted.gap_ns, quoted.launch_ns) == (100, 200)
    assert "not the target's" in quoted.launch_source


def test_unknown_work_is_left_out_and_said() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    builder.launch(call=(500, 5), kernel=(800, 450), name="unknown")
    found = projected(builder)
    assert (found.kernel_time_ns, found.known_ns, found.projected_ns, found.known_share) == (900, 450, 1280, 0.5)
    row = next(row for row in found.kernels.records() if row["name"] == "unknown")
    assert (row["projected_ns"], row["bound"], row["known_ns"]) == (None, None, 0)
    assert found.steps["step_ns"].tolist() == [None]


def test_steps_are_outermost_annotations_numbered_ones_together() -> None:
    builder = TraceBuilder()
    for number in range(3):
        step(builder, 1000 * number, f"ProfilerStep#{number}")
        builder.annotation(1000 * number + 5, 800, "inner")
    builder.annotation(5000, 10, "## Call CompiledFxGraph abc ##")
    assert [(row["step"], row["calls"]) for row in projected(builder).steps.records()] == [("ProfilerStep", 3)]


def test_a_trace_without_annotations_is_one_step() -> None:
    builder = TraceBuilder()
    builder.operator(10, 100, "aten::copy_", **recorded(t(1000), t(1000), False))
    builder.launch(call=(20, 5), kernel=(200, 50))
    (row,) = projected(builder).steps.records()
    assert (row["step"], row["gpu_events"], row["host_launches"], row["step_ns"]) == ("(trace)", 1, 1, 500)


def test_nothing_is_projected_unless_asked_and_nothing_without_kernels() -> None:
    builder = TraceBuilder()
    step(builder, 0)
    assert Analysis(builder.trace(), TAXONOMY).projection is None
    host = TraceBuilder()
    host.operator(0, 10)
    assert Analysis(host.trace(), TAXONOMY, target=T4).projection is None


# The model of a decode step


def manifest(variant: str) -> RunManifest:
    return read_manifest(TRACES / f"gpt2-{variant}-h100-80gb-hbm3.run.json")


def test_a_decode_step_by_hand() -> None:
    """GPT-2 small: 12 layers of 12·768² weights and 13·768 others, 50,257·768 of the head, two norms' and embeddings' rows."""
    found = decode_step(manifest("fp16"))
    assert found is not None
    matrices = 12 * 12 * 768**2 + 50_257 * 768
    vectors = 12 * 13 * 768 + 2 * 768
    assert found.weight_bytes == 2 * (matrices + vectors + 2 * 768)
    # Of 66 tokens (16 of the prompt, on average 50 new ones) all but the last are read, which is written: two bytes each.
    assert found.context == 66
    assert found.cache_bytes == 2 * 12 * 768 * 2 * 66 == 2_433_024
    assert found.activation_bytes == 2 * (40 * 12 * 768 + 3 * 768 + 2 * 50_257)
    assert found.flops == 2 * matrices + 4 * 12 * 66 * 768
    assert found.peak == "fp16"
    assert found.bytes == found.weight_bytes + found.cache_bytes + found.activation_bytes
    assert 250e6 < found.bytes < 251e6


def test_dtypes_batches_and_quantised_weights() -> None:
    fp32, fp16 = decode_step(manifest("baseline")), decode_step(manifest("fp16"))
    int8 = decode_step(replace(manifest("fp16"), weights=replace(manifest("fp16").weights, dtype="int8")))
    assert fp32 is not None
    assert fp16 is not None
    assert int8 is not None
    assert fp32.bytes == 2 * fp16.bytes
    # A byte a weight and a scale of four for each of 9·768 rows a layer, and of 50,257 in the head.
    assert int8.weight_bytes == fp16.weight_bytes - (12 * 12 * 768**2 + 50_257 * 768) + 4 * (12 * 9 * 768 + 50_257)
    assert decode_step(replace(manifest("fp16"), variant="fused-int8")) == fp16  # a name says nothing
    assert manifest("fused-int8").weights.dtype == "int8"
    workload = manifest("fp16").workload
    many = decode_step(replace(manifest("fp16"), workload=replace(workload, batch=16)))
    assert many is not None
    assert many.flops == 16 * fp16.flops
    assert many.cache_bytes == 16 * fp16.cache_bytes
    assert many.weight_bytes == fp16.weight_bytes + 15 * 2 * 2 * 768


def test_no_step_without_a_cache_or_of_a_dtype_we_do_not_know() -> None:
    run = manifest("fp16")
    assert decode_step(replace(run, workload=replace(run.workload, kind="recompute"))) is None
    assert decode_step(replace(run, workload=replace(run.workload, new_tokens=1))) is None
    assert decode_step(replace(run, dtype="float8")) is None


@given(st.integers(1, 16), st.integers(1, 900), st.integers(2, 100))
def test_a_longer_run_never_needs_less(batch: int, prompt: int, new: int) -> None:
    run = manifest("fp16")
    sizes = [
        decode_step(replace(run, workload=replace(run.workload, batch=batch, prompt_tokens=length, new_tokens=new)))
        for length in (prompt, prompt + 1)
    ]
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[1].bytes > sizes[0].bytes
    assert sizes[1].flops > sizes[0].flops


def test_what_limits_a_decode_step() -> None:
    model = decode_step(manifest("fp16"))
    assert model is not None
    inputs = Inputs("x", 240, "", {"fp16": 65}, "", gap_ns=1000, launch_ns=50_000, launch_source="")
    eager = project_decode(model, 1, gpu_events=165, launches=164, inputs=inputs)
    assert (eager.bound, eager.step_ns) == ("host", 164 * 50_000)
    graph = project_decode(model, 1, gpu_events=165, launches=2, inputs=inputs)
    assert (graph.bound, graph.gap_ns) == ("memory", 165_000)
    assert graph.kernel_ns == round(model.bytes / 240)
    assert graph.step_ns == graph.kernel_ns + graph.gap_ns
    assert graph.tokens_per_second == pytest.approx(1e9 / graph.step_ns)
    many = replace(manifest("fp16"), workload=replace(manifest("fp16").workload, batch=16))
    batch = decode_step(many)
    assert batch is not None
    slow = replace(inputs, tflops={"fp16": 1})
    assert project_decode(batch, 16, gpu_events=165, launches=2, inputs=slow).bound == "compute"


@pytest.mark.parametrize("variant", ["baseline", "fp16", "bf16", "compiled", "fp16-compiled"])
def test_the_model_agrees_with_the_shapes_that_its_trace_recorded(variant: str) -> None:
    """The step's bytes by the model are those of its kernels by their shapes, within two per cent: two roads, one figure."""
    path = TRACES / f"gpt2-{variant}-h100-80gb-hbm3.pt.trace.json.gz"
    found = Analysis(load(path), TAXONOMY, target=T4).projection
    assert found is not None
    assert found.decode is not None
    row = next(row for row in found.steps.records() if row["step"] == "decode")
    assert found.decode.kernel_ns == pytest.approx(row["projected_ns"], rel=0.02)
    assert (found.decode.gpu_events, found.decode.launches) == (row["gpu_events"], row["host_launches"])


def test_graphs_are_projected_by_the_model() -> None:
    path = TRACES / "gpt2-graphs-h100-80gb-hbm3.pt.trace.json.gz"
    found = Analysis(load(path), TAXONOMY, target=T4).projection
    assert found is not None
    assert found.decode is not None
    assert found.known_share < 0.2
    assert next(row for row in found.steps.records() if row["step"] == "decode")["step_ns"] is None
    assert found.decode.launches == 1  # the graph
    assert found.decode.bound == "memory"


# Against the one real T4 trace


def test_the_error_on_a_real_t4_is_the_one_stated() -> None:
    """Measured on a Tesla T4: every kernel is slower than its roof, by as much as docs/projection.md says."""
    found = Analysis(load(needed("traces/t4_gpt2_mlp.json")), TAXONOMY, target=T4).projection
    assert found is not None
    assert found.known_share == 1
    assert found.projected_ns / found.kernel_time_ns - 1 == pytest.approx(WHOLE, abs=0.0005)
    times: dict[str, list[int]] = {}
    for row in found.kernels.records():
        of = times.setdefault(row["family"], [0, 0])
        of[0] += row["projected_ns"]
        of[1] += row["time_ns"]
    errors = {family: projected / measured - 1 for family, (projected, measured) in times.items()}
    assert errors == {family: pytest.approx(error, abs=0.0005) for family, error in FAMILIES.items()}


def test_the_page_states_these_errors() -> None:
    page = (TRACES.parent / "docs" / "projection.md").read_text()
    for error in (*FAMILIES.values(), WHOLE):
        assert f"−{abs(100 * error):.1f} %" in page


def page_rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of docs/projection.md."""
    page = (TRACES.parent / "docs" / "projection.md").read_text()
    lines = page.partition(f"## {heading}\n")[2].splitlines()
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("|")) :]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table[2 : table.index("") if "" in table else None]
    ]


@pytest.mark.parametrize("row", page_rows("GPT-2 on a T4, projected"), ids=lambda row: row[0].strip("`"))
def test_the_pages_table_of_variants_is_what_the_code_says(row: list[str]) -> None:
    variant = row[0].strip("`")
    traced = "fused-layers" if variant == "fused" else variant  # what `fused` runs before Hopper, so on a T4
    path = TRACES / f"gpt2-{traced}-h100-80gb-hbm3.pt.trace.json.gz"
    projection = Analysis(load(path), TAXONOMY, target=T4).projection
    assert projection is not None
    assert projection.decode is not None
    found = projection.decode
    assert row[1:] == [
        f"{found.gpu_events:.0f}",
        f"{found.launches:.0f}",
        f"{found.model.bytes / 1e6:.0f}",
        *(f"{ns / 1e6:.2f}" for ns in (found.kernel_ns, found.gap_ns, found.host_ns, found.step_ns)),
        f"{found.tokens_per_second:,.0f}",
        found.bound,
    ]


def test_the_pages_check_on_the_h100_is_what_the_code_says() -> None:
    h100 = choose_datasheet("NVIDIA H100 (SXM)", datasheets())
    text = (TRACES.parent / "docs" / "projection.md").read_text()
    for variant in ("graphs", "fp16-compiled-graphs", "fused", "fused-layers", "fused-int8"):
        path = TRACES / f"gpt2-{variant}-h100-80gb-hbm3.pt.trace.json.gz"
        found = Analysis(load(path), TAXONOMY, target=h100).projection
        assert found is not None
        assert found.decode is not None
        measured = manifest(variant).timings.decode_token.median_ns
        error = f"{100 * (found.decode.step_ns / measured - 1):+.0f}".replace("-", "−")
        parts = (found.decode.kernel_ns, found.decode.gap_ns, found.decode.host_ns, found.decode.step_ns)
        cells = " | ".join(f"{ns / 1e6:.3f}" for ns in (measured, *parts))
        assert f"| `{variant}` | {cells} | {error} % |" in text
