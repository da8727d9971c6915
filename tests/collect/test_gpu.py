"""collect on a CUDA device: run with `pytest -m gpu`."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tracekit.collect.bench import event_latencies  # noqa: E402
from tracekit.collect.gpt2 import PRESETS  # noqa: E402
from tracekit.collect.graphs import CapturedStep  # noqa: E402
from tracekit.collect.options import CollectOptions, Sampling  # noqa: E402
from tracekit.collect.run import run  # noqa: E402
from tracekit.collect.variants import VARIANTS, Demand, eager, find_variant  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import generate, random_prompt  # noqa: E402
from tracekit.errors import TracekitError  # noqa: E402
from tracekit.manifest import RunManifest, find_manifest, read_manifest  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TINY = CollectOptions(device="cuda", model="tiny", weights="random", new_tokens=40, repeats=4, warmup=1)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, RunManifest]]:
    """What `--all` leaves: once for the module, as it compiles."""

    class Quiet:
        def notice(self, message: str) -> None: ...
        def progress(self, label: str, done: int, total: int) -> None: ...
        def result(self, trace: Path, manifest: RunManifest) -> None: ...

    traces = run(dataclasses.replace(TINY, all_variants=True, output=tmp_path_factory.mktemp("all")), Quiet())
    manifests = {trace: read_manifest(find_manifest(trace)) for trace in traces}
    return {manifest.variant: (trace, manifest) for trace, manifest in manifests.items()}


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_every_variant_is_measured_judged_and_its_trace_shows_the_gpu(name: str, everything) -> None:
    if name not in everything:
        pytest.skip(f"{name} does not run on {torch.cuda.get_device_name()}")
    trace, manifest = everything[name]
    assert manifest.device.kind == "cuda"
    assert manifest.device.compute_capability == "{}.{}".format(*torch.cuda.get_device_capability())
    assert manifest.device.driver
    assert (manifest.tf32.matmul, manifest.tf32.cudnn) == (False, False)
    assert not any("CUPTI" in notice for notice in manifest.notices)
    assert manifest.accuracy.relative_error <= manifest.accuracy.bound
    assert manifest.accuracy.equal_tokens >= 0.8 * manifest.accuracy.tokens
    assert {*manifest.timings.interleaved_with, name} == set(everything)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    annotations = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert (annotations.count("prefill"), annotations.count("decode")) == (1, 8)
    assert sum(event.get("cat") == "kernel" for event in events) > 100
    launches = sum("GraphLaunch" in event["name"] for event in events if event.get("cat", "").startswith("cuda_"))
    assert launches == (9 if find_variant(name).captures else 0)


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_events_and_memory_are_told_for_each(name: str, everything) -> None:
    if name not in everything:
        pytest.skip(f"{name} does not run on {torch.cuda.get_device_name()}")
    _, manifest = everything[name]
    timings = manifest.timings
    # The device's clock and the host's tell the same story, the one token by token, the other for a run.
    assert 0.3 < timings.event_token.median_ns / timings.decode_token.median_ns < 1.7
    weights = 4 if manifest.dtype == "float32" else 2
    assert timings.peak_memory_bytes > manifest.model.parameters * weights
    assert timings.peak_memory_bytes < manifest.model.parameters * weights + 2**28


def model(dtype: str = "float16", batch: int = 2, length: int = 96):
    config = PRESETS["tiny"]
    made = build_model(config, random_state(config, 0)).to("cuda", getattr(torch, dtype))
    made.allocate_cache(batch, length)
    return made


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("prompt_tokens", [1, 16])
def test_a_replayed_step_yields_what_the_eager_step_yields(dtype: str, prompt_tokens: int) -> None:
    prompt = random_prompt(PRESETS["tiny"], 2, prompt_tokens, seed=0).cuda()
    plain, captured = eager(model(dtype), Demand()), CapturedStep(eager(model(dtype), Demand()))
    errors = []

    def both(tokens, positions):
        expected_token, position, expected = plain(tokens, positions)
        found = captured(tokens, positions)
        token, _, logits = found
        errors.append((torch.linalg.vector_norm(logits - expected) / torch.linalg.vector_norm(expected)).item())
        assert token.tolist() == expected_token.tolist()
        assert found.position.tolist() == position.tolist()
        return found

    for _ in range(2):  # the second run replays from the start of the cache again
        generate(both, prompt, 60)
    assert max(errors) < 2e-3

    free = [generate(one, prompt, 60).tokens.tolist() for one in (plain, captured)]
    cloned = generate(lambda tokens, positions: captured(tokens.clone(), positions.clone()), prompt, 60).tokens.tolist()
    assert free[0] == free[1] == cloned


def test_a_captured_step_serves_one_batch() -> None:
    captured = CapturedStep(eager(model(), Demand()))
    generate(captured, random_prompt(PRESETS["tiny"], 2, 4, seed=0).cuda(), 4)
    with pytest.raises(ValueError, match="captured for a batch of 2, not 1"), torch.inference_mode():
        captured(torch.zeros(1, 1, dtype=torch.int64, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda"))


def test_a_captured_step_draws_anew_at_each_token_and_the_same_for_a_seed() -> None:
    captured = CapturedStep(eager(model(), Demand(Sampling(5.0))))
    prompt = random_prompt(PRESETS["tiny"], 2, 4, seed=0).cuda()

    def drawn(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return generate(captured, prompt, 60).tokens.tolist()

    drawn(0)  # captures
    first = drawn(1)
    assert drawn(1) == first
    assert drawn(2) != first
    assert len(set(first[0])) > 30


def test_a_graph_with_its_biases_apart_computes_the_same() -> None:
    prompt = random_prompt(PRESETS["tiny"], 1, 16, seed=0).cuda()
    steps = [find_variant(name).build(model(batch=1), Demand()) for name in ("fp16", "fp16-compiled-graphs")]
    errors = []

    def both(tokens, positions):
        first = steps[0](tokens, positions)
        expected, logits = first.logits, steps[1](tokens, positions).logits
        errors.append((torch.linalg.vector_norm(logits - expected) / torch.linalg.vector_norm(expected)).item())
        return first

    generate(both, prompt, 20)
    torch.compiler.reset()
    assert max(errors) < 5e-3


def test_events_tell_each_token_after_the_first() -> None:
    step = eager(model(), Demand())
    prompt = random_prompt(PRESETS["tiny"], 2, 4, seed=0).cuda()
    latencies = event_latencies(lambda mark: generate(step, prompt, 30, mark=mark), 30)
    assert len(latencies) == 29
    assert all(1e3 < latency < 1e9 for latency in latencies)


@pytest.mark.parametrize(
    ("workload", "names"),
    [("recompute", ("baseline", "fp16-compiled")), ("prefill", ("baseline", "graphs", "fp16-compiled-graphs", "fused"))],
)
def test_the_other_workloads_run_compiled_and_captured_too(
    workload: str, names: tuple[str, ...], tmp_path: Path, console
) -> None:
    options = dataclasses.replace(TINY, workload=workload, new_tokens=None, repeats=1, output=tmp_path)
    traces = run(dataclasses.replace(options, variants=names, profile_tokens=2), console)
    assert all(trace.name.startswith(f"tiny-{name}-{workload}-") for trace, name in zip(traces, names, strict=True))
    for _, manifest in console.results:
        assert (manifest.timings.event_token is None) == (workload == "prefill")
        assert manifest.accuracy.relative_error <= manifest.accuracy.bound


def test_layers_and_explicit_attention_are_in_the_trace(tmp_path: Path, console) -> None:
    (trace,) = run(dataclasses.replace(TINY, attention="explicit", layers=True, output=tmp_path), console)
    assert "-explicit-layers-" in trace.name
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert {"softmax", "mask", "lm_head"} <= {event["name"] for event in events if event.get("cat") == "user_annotation"}


def test_the_gpu_generates_what_the_cpu_generates() -> None:
    config = PRESETS["tiny"]
    prompt = random_prompt(config, 2, 16, seed=0)
    tokens = []
    for device in ("cpu", "cuda"):
        made = build_model(config, random_state(config, 0)).to(device)
        made.allocate_cache(2, 76)
        tokens.append(generate(eager(made, Demand()), prompt.to(device), 60).tokens)
    assert tokens[0].tolist() == tokens[1].cpu().tolist()


def test_running_out_of_memory_is_one_line(tmp_path: Path, console) -> None:
    with pytest.raises(TracekitError, match="out of memory") as caught:
        run(CollectOptions(device="cuda", weights="random", batch=200_000, output=tmp_path), console)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path, console) -> None:
    with pytest.raises(TracekitError, match="there is no cuda:99"):
        run(CollectOptions(device="cuda:99", model="tiny", output=tmp_path), console)
