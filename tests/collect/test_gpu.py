"""collect on a CUDA device: run with `pytest -m gpu`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tracekit.collect.gpt2 import PRESETS, greedy_step  # noqa: E402
from tracekit.collect.options import CollectOptions  # noqa: E402
from tracekit.collect.run import run  # noqa: E402
from tracekit.collect.variants import VARIANTS  # noqa: E402
from tracekit.collect.weights import build_model, random_state  # noqa: E402
from tracekit.collect.workload import generate, random_prompt  # noqa: E402
from tracekit.errors import TracekitError  # noqa: E402
from tracekit.manifest import find_manifest, read_manifest  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_a_trace_shows_the_gpu(name: str, tmp_path: Path, console) -> None:
    (trace,) = run(
        CollectOptions(variants=(name,), device="cuda", model="tiny", weights="random", repeats=2, output=tmp_path),
        console,
    )
    manifest = read_manifest(find_manifest(trace))
    assert manifest.device.kind == "cuda"
    assert manifest.device.compute_capability == "{}.{}".format(*torch.cuda.get_device_capability())
    assert manifest.device.driver
    assert manifest.timings.peak_memory_bytes > 0
    assert (manifest.tf32.matmul, manifest.tf32.cudnn) == (False, False)
    assert not any("CUPTI" in notice for notice in manifest.notices)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)
    annotations = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert (annotations.count("prefill"), annotations.count("decode")) == (1, 8)


def test_the_gpu_generates_what_the_cpu_generates() -> None:
    config = PRESETS["tiny"]
    prompt = random_prompt(config, 2, 16, seed=0)
    tokens = []
    for device in ("cpu", "cuda"):
        model = build_model(config, random_state(config, 0)).to(device)
        model.allocate_cache(2, 76)
        tokens.append(generate(lambda *step, model=model: greedy_step(model, *step), prompt.to(device), 60).tokens)
    assert tokens[0].tolist() == tokens[1].cpu().tolist()


def test_running_out_of_memory_is_one_line(tmp_path: Path, console) -> None:
    with pytest.raises(TracekitError, match="out of memory") as caught:
        run(CollectOptions(device="cuda", weights="random", batch=200_000, output=tmp_path), console)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path, console) -> None:
    with pytest.raises(TracekitError, match="there is no cuda:99"):
        run(CollectOptions(device="cuda:99", model="tiny", output=tmp_path), console)
