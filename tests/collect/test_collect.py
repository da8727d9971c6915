"""collect from end to end, on the CPU and on a model small enough for it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tracekit.collect.options import CollectOptions
from tracekit.collect.run import run
from tracekit.collect.variants import VARIANTS, Variant, eager, find_variant
from tracekit.errors import MissingExtraError, TracekitError
from tracekit.manifest import RunManifest, find_manifest, from_json, read_manifest, to_json

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


@pytest.fixture
def options(tmp_path: Path) -> CollectOptions:
    return CollectOptions(
        device="cpu",
        model="tiny",
        weights="random",
        prompt_tokens=5,
        new_tokens=6,
        profile_tokens=3,
        repeats=2,
        warmup=1,
        output=tmp_path / "traces",
    )


def one_line(error: pytest.ExceptionInfo[TracekitError]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@needs_torch
@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_a_variant_leaves_a_trace_and_its_manifest(name: str, options: CollectOptions, console) -> None:
    if name == "compiled" and not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    (trace,) = run(dataclasses.replace(options, variants=(name,)), console)
    assert trace == options.output / f"tiny-{name}-cpu.pt.trace.json.gz"
    assert files(options.output) == [trace.name, f"tiny-{name}-cpu.run.json"]

    manifest = read_manifest(find_manifest(trace))
    assert from_json(to_json(manifest)) == manifest
    assert (manifest.variant, manifest.dtype) == (name, find_variant(name).dtype)
    assert (manifest.device.kind, manifest.tf32.matmul, manifest.tf32.cudnn) == ("cpu", False, False)
    assert (manifest.weights.source, manifest.weights.seed) == ("random", 0)
    assert len(manifest.timings.runs) == 2
    assert manifest.timings.total.median_ns > manifest.timings.first_token.median_ns
    assert manifest.profile.trace == trace.name
    assert manifest.profile.inflation > 0
    assert manifest.notices == tuple(console.notices)
    assert console.results == [(trace, manifest)]
    assert any("GPU" in notice for notice in manifest.notices)

    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    annotations = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert (annotations.count("prefill"), annotations.count("decode")) == (1, 3)
    assert any(event.get("args", {}).get("Input Dims") for event in events)


@needs_torch
def test_the_command_in_the_manifest_repeats_the_run(options: CollectOptions, console) -> None:
    (trace,) = run(options, console)
    words = shlex.split(read_manifest(find_manifest(trace)).command)
    assert words[:2] == ["tracekit", "collect"]
    values = dict(zip(words[2::2], words[3::2], strict=True))
    assert values == {
        "--variant": "baseline",
        "--device": "cpu",
        "--model": "tiny",
        "--weights": "random",
        "--batch": "1",
        "--new-tokens": "6",
        "--prompt-tokens": "5",
        "--profile-tokens": "3",
        "--repeats": "2",
        "--warmup": "1",
        "--seed": "0",
        "-o": str(options.output),
    }


@needs_torch
def test_defaults_for_a_cpu_are_few_runs_and_a_notice(tmp_path: Path, console) -> None:
    (trace,) = run(CollectOptions(model="tiny", device="cpu", output=tmp_path), console)
    manifest = read_manifest(find_manifest(trace))
    assert (manifest.workload.prompt_tokens, manifest.workload.new_tokens) == (16, 100)
    assert len(manifest.timings.runs) == 3
    assert manifest.profile.decode_tokens == 8
    assert any("--repeats" in notice for notice in console.notices)


@needs_torch
def test_variants_come_once_each_in_order_and_progress_completes(options: CollectOptions, console) -> None:
    traces = run(dataclasses.replace(options, variants=("fp16", "baseline", "fp16")), console)
    assert [trace.name.split("-")[1] for trace in traces] == ["fp16", "baseline"]
    totals = {label: total for label, _, total in console.steps}
    assert set(totals.items()) <= {(label, done) for label, done, _ in console.steps}
    assert totals["fp16: timed runs"] == 2


@needs_torch
def test_tf32_switches_are_put_back(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        (trace,) = run(options, console)
        assert torch.get_float32_matmul_precision() == "high"
        assert read_manifest(find_manifest(trace)).tf32.matmul is False
    finally:
        torch.set_float32_matmul_precision(precision)


class Interrupting:
    """A console at which the user presses Ctrl-C when one step begins."""

    def __init__(self, label: str, done: int) -> None:
        self.at = (label, done)

    def notice(self, message: str) -> None: ...

    def result(self, trace: Path, manifest: RunManifest) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None:
        if (label, done) == self.at:
            raise KeyboardInterrupt


@needs_torch
@pytest.mark.parametrize("at", [("baseline: timed runs", 1), ("baseline: profile", 0)])
def test_an_interrupt_leaves_nothing_and_spares_an_earlier_run(at, options: CollectOptions, console) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(options, Interrupting(*at))
    assert files(options.output) == []
    (trace,) = run(options, console)
    before = {path: path.read_bytes() for path in options.output.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        run(options, Interrupting(*at))
    assert {path: path.read_bytes() for path in options.output.iterdir()} == before
    with pytest.raises(KeyboardInterrupt):
        run(dataclasses.replace(options, variants=("baseline", "fp16")), Interrupting("fp16: profile", 0))
    assert files(options.output) == [trace.name, "tiny-baseline-cpu.run.json"]


@needs_torch
def test_a_failing_export_leaves_nothing(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekit.collect import profile

    def full(plain: Path, target: Path) -> None:
        target.write_bytes(b"half a trace")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile, "_compress", full)
    with pytest.raises(TracekitError, match="No space left on device") as caught:
        run(options, console)
    one_line(caught)
    assert files(options.output) == []


@needs_torch
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ("fast",)}, "no such variant as 'fast'; use one of baseline, fp16, compiled"),
        ({"variants": ()}, "names no variant"),
        ({"device": "tpu"}, "no such device as 'tpu'"),
        ({"model": "gpt5"}, "no such model as 'gpt5'"),
        ({"new_tokens": 124}, "5 prompt and 124 new tokens exceed 128 of context"),
        ({"new_tokens": 2, "profile_tokens": 123}, "exceed 128 of context"),
        ({"new_tokens": 1}, "--new-tokens: is 1; use 2 or more"),
        ({"batch": 0}, "--batch: is 0"),
        ({"prompt": "Hello"}, "--prompt-tokens: cannot be given along with --prompt"),
        ({"prompt": "Hello", "prompt_tokens": None}, "tiny has no tokenizer"),
        ({"weights": "none.pt"}, "none.pt: there is no such file"),
    ],
)
def test_what_cannot_work_is_one_line(change: dict, message: str, options: CollectOptions, console) -> None:
    with pytest.raises(TracekitError) as caught:
        run(dataclasses.replace(options, **change), console)
    assert message in one_line(caught)
    assert files(options.output) == []


@needs_torch
@pytest.mark.skipif(torch is not None and torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_one_line(options: CollectOptions, console) -> None:
    with pytest.raises(TracekitError, match="use --device cpu") as caught:
        run(dataclasses.replace(options, device="cuda:1"), console)
    one_line(caught)


@needs_torch
def test_an_output_that_cannot_be_written_is_found_before_the_work(options: CollectOptions, console) -> None:
    options.output.write_text("a file")
    with pytest.raises(TracekitError, match="cannot be written"):
        run(options, console)
    assert console.steps == []


def failing(error: Exception) -> Variant:
    def build(model):
        def step(tokens, positions):
            raise error

        return step

    return Variant("failing", "fails", "float32", build)


@needs_torch
def test_running_out_of_memory_and_a_missing_compiler_are_one_line(
    options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    from tracekit.collect import run as module

    cases = [
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to"), "out of memory on cpu; use a smaller --model"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory on cpu"),
        (MemoryError(), "out of memory on cpu"),
        (InvalidCxxCompiler(), "torch.compile failed"),
    ]
    for error, message in cases:
        monkeypatch.setattr(module, "find_variant", lambda _, error=error: failing(error))
        with pytest.raises(TracekitError) as caught:
            run(options, console)
        assert message in one_line(caught)
        assert files(options.output) == []
    assert "install a C++ compiler" in str(caught.value)

    monkeypatch.setattr(module, "find_variant", lambda _: failing(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        run(options, console)


@needs_torch
def test_compiling_without_a_compiler_names_the_mend(tmp_path: Path) -> None:
    """In a process of its own, with its own cache: torch looks for the compiler once."""
    code = f"""
from pathlib import Path
from tracekit.collect.run import CollectOptions, run
from tracekit.errors import TracekitError
class Console:
    def notice(self, message): ...
    def progress(self, label, done, total): ...
    def result(self, trace, manifest): ...
try:
    run(CollectOptions(variants=("compiled",), model="tiny", device="cpu", weights="random",
        output=Path({str(tmp_path / "out")!r})), Console())
except TracekitError as error:
    print(error)
"""
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "torch.compile failed" in done.stdout
    assert "install a C++ compiler" in done.stdout


def test_without_torch_the_extra_is_named(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"collect needs torch; pip install 'torch-tracekit\[collect\]'"):
        run(options, console)


def test_importing_collect_and_listing_variants_never_imports_torch() -> None:
    code = (
        "import sys, tracekit.collect, tracekit.manifest\n"
        "from tracekit.collect.run import CollectOptions, run\n"
        "from tracekit.collect.variants import VARIANTS\n"
        "assert VARIANTS[0].name == 'baseline' and CollectOptions().variants == ('baseline',)\n"
        "assert not {'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_variant_explains_itself() -> None:
    assert all(find_variant(variant.name) is variant and variant.summary for variant in VARIANTS)
    assert find_variant("baseline").build is eager
    assert not find_variant("baseline").tf32
