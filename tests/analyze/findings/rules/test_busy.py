"""Where the GPU is never idle: what its kernels reach, and how their blocks fill the device."""

from __future__ import annotations

from typing import Any

import pytest
from operator_calls import recorded, t
from rule_traces import K, analysed, asked, queued, reason, told
from synthetic import TraceBuilder

from tracekit.analyze.findings.advice import findings
from tracekit.analyze.findings.rules.busy import below_roof, near_roof
from tracekit.analyze.findings.rules.waves import partial_waves

US = 1_000
HALF = {"dtype": "c10::Half"}


def product(duration: int, *shape: int, name: str = "nvjet_hsh_128x256") -> K:
    """A product of [m, k] by [k, n] in FP16: 2mkn FLOPs at 200 TFLOP/s."""
    m, k, n = shape or (1024, 1024, 1024)  # 2.1e9 FLOPs: 10,737 ns; 6.3e6 bytes: 6,291 ns
    return K(name, duration, "aten::mm", (t(m, k, **HALF), t(k, n, **HALF)))


# --- Below the roof -----------------------------------------------------------------------------------------------------------


def test_products_far_below_what_others_of_their_family_reach():
    finding = told(below_roof, queued(*[product(20 * US)] * 5, *[product(100 * US, name="slow_gemm")] * 5))

    assert finding.affected_ns == 500 * US
    # The best reaches 53.7 % of the roof: 20 µs, and 5 µs to fill and empty the device.
    assert finding.saving_ns == pytest.approx(5 * 75 * US, rel=0.01)
    assert finding.rows[0]["kernel"] == "slow_gemm"
    assert "slow_gemm of aten::mm 1024×1024, 1024×1024 (5 times, 500 µs, 10.7 %)" in finding.evidence
    assert finding.snippet == "model = torch.compile(model, mode='max-autotune')"


def test_where_nothing_shows_what_is_attainable_nothing_is_promised():
    finding = told(below_roof, queued(*[product(100 * US)] * 5))
    assert (finding.saving_ns, finding.severity) == (None, "low")
    assert "No estimate" in finding.reasoning


@pytest.mark.parametrize(
    ("shape", "because", "snippet"),
    [
        ((1024, 1024, 1027), "1027 is no multiple of 8", "1027 becomes 1088"),
        ((2048, 64, 2048), "only 64 products are added up", "max-autotune"),
        ((64, 8192, 64), "64 by 64 outputs", "max-autotune"),
    ],
)
def test_shapes_that_say_why(shape, because, snippet):
    finding = told(below_roof, queued(*[product(100 * US, *shape)] * 5))
    assert because in finding.evidence
    assert snippet in finding.snippet
    assert finding.saving_ns  # the shape says why, so half of the roof is assumed


def test_kernels_whose_inputs_are_scattered():
    dense = K("vectorized_elementwise_kernel", 30 * US, "aten::gelu", (t(2048, 2048, **HALF),))  # 16.8e6 bytes: 16,777 ns
    strided = t(2048, 2048, strides=(1, 4096), **HALF)
    finding = told(below_roof, queued(*[dense] * 5, *[K("elementwise_kernel", 200 * US, "aten::gelu", (strided,))] * 3))
    assert "do not lie densely" in finding.evidence
    assert ".contiguous()" in finding.snippet


@pytest.mark.parametrize(
    "builder",
    [
        queued(*[product(20 * US)] * 5, *[product(30 * US, name="slow_gemm")] * 5),
        queued(*[product(9 * US, 64, 64, 64)] * 5),
        queued(*[product(20 * US)] * 95, product(100 * US, name="slow_gemm")),
    ],
    ids=["a little below", "too short to fill the device", "hardly any time"],
)
def test_kernels_that_are_left_as_they_are(builder):
    assert asked(below_roof, builder) is None


def test_a_gpu_that_waits_for_the_host_has_other_problems():
    builder = queued(*[product(100 * US)] * 5)
    builder.launch(call=(900 * US, US), kernel=(910 * US, US))
    assert asked(below_roof, builder) is None
    assert asked(near_roof, builder) is None
    assert asked(partial_waves, builder) is None


def test_what_the_roof_needs():
    assert "shapes" in reason(below_roof, queued(K("sgemm", 10_000, "aten::mm")))
    assert "datasheet" in reason(below_roof, queued(product(20 * US), name="Another GPU"))
    assert "most kernels" in reason(below_roof, queued(product(20 * US), K("sgemm", 30 * US, "aten::mm")))
    builder = TraceBuilder()
    builder.memcpy(0, 10)
    assert reason(below_roof, builder) == "the trace has no kernels"


# --- Healthy ------------------------------------------------------------------------------------------------------------------


def test_a_gpu_near_its_roof_is_healthy():
    finding = told(near_roof, queued(*[product(15 * US)] * 10))
    assert finding.saving_ns is None
    assert "reach 71.6 % of their roof" in finding.evidence


def test_it_is_not_healthy_if_much_is_unknown_or_far_below():
    assert asked(near_roof, queued(*[product(15 * US)] * 5, K("custom", 100 * US))) is None
    assert asked(near_roof, queued(*[product(30 * US)] * 10)) is None
    assert asked(near_roof, queued(product(15 * US), name="Another GPU")) is None


def test_it_is_not_called_healthy_beside_something_that_saves_much():
    def codes(*kernels: K) -> set[str]:
        return {one.code for one in findings(analysed(queued(*kernels)).facts).found}

    assert "near_roof" in codes(*[product(15 * US)] * 10)
    add = K("vectorized_elementwise_kernel", 8 * US, "aten::add", (t(2000, 1000, **HALF), t(2000, 1000, **HALF), 1))
    assert "near_roof" not in codes(*[product(15 * US), add, add] * 10)


# --- Waves --------------------------------------------------------------------------------------------------------------------

SMS: dict[str, Any] = {
    "numSms": 132,
    "maxThreadsPerMultiprocessor": 2048,
    "regsPerMultiprocessor": 65536,
    "sharedMemPerMultiprocessor": 233472,
}


def launched(
    blocks: int,
    *,
    duration: int = 100 * US,
    threads: int = 256,
    registers: int = 168,
    shared: int = 0,
    sms: bool = True,
    shapes: bool = False,
) -> TraceBuilder:
    """Products of so many blocks; with 168 registers in each of 256 threads, a multiprocessor holds one of them."""
    device = {"id": 0, "name": "Test GPU", "computeMajor": 9, "computeMinor": 0, **(SMS if sms else {})}
    builder = TraceBuilder(deviceProperties=[device])
    inputs = recorded(t(1024, 1024, **HALF), t(1024, 1024, **HALF)) if shapes else {}
    for place in range(10):
        builder.operator(100 * place, 90, "aten::mm", **inputs)
        args = {"grid": [blocks, 1, 1], "block": [threads, 1, 1], "registers per thread": registers, "shared memory": shared}
        builder.launch(
            call=(100 * place + 10, 20), kernel=(1_000 + duration * place, duration), name="ampere_h16816gemm_128x128", **args
        )
    return builder


def test_one_block_more_than_the_device_holds_takes_a_wave_of_its_own():
    finding = told(partial_waves, launched(133))

    assert finding.affected_ns == 1_000 * US
    assert finding.saving_ns == pytest.approx(1_000 * US * (1 - 133 / 264), rel=1e-3)
    assert "133 blocks on 132 multiprocessors, is 1.01 waves" in finding.evidence
    assert finding.rows[0]["blocks"] == 133


def test_fewer_blocks_than_multiprocessors():
    assert told(partial_waves, launched(33, shapes=True)).saving_ns == 750 * US
    assert asked(partial_waves, launched(127, shapes=True)) is None
    assert asked(partial_waves, launched(33)) is None  # memory may bind it, and then so few are enough


@pytest.mark.parametrize(
    ("blocks", "limits"),
    [(132, {}), (264, {}), (133, {"registers": 64}), (133, {"duration": 9 * US}), (132 * 4 + 1, {})],
    ids=["one wave", "two waves", "all at once", "short", "many waves"],
)
def test_blocks_that_fill_the_device(blocks, limits):
    assert asked(partial_waves, launched(blocks, **limits)) is None


def test_shared_memory_and_threads_limit_what_a_multiprocessor_holds():
    assert told(partial_waves, launched(133, registers=32, shared=200_000))
    assert told(partial_waves, launched(265, registers=16, threads=1024))
    assert asked(partial_waves, launched(265, registers=16, threads=512)) is None


def test_a_product_near_its_roof_loses_nothing():
    assert asked(partial_waves, launched(133, duration=15 * US, shapes=True)) is None
    assert told(partial_waves, launched(133, duration=15 * US))


def test_what_waves_need():
    assert "grids" in reason(partial_waves, queued(*[product(100 * US)] * 5))
    assert "multiprocessors" in reason(partial_waves, launched(133, sms=False))
