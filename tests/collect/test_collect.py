"""collect from end to end, on the CPU and on a model small enough for it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tracekit.collect.options import ATTENTION_NAMES, WORKLOAD_NAMES, CollectOptions
from tracekit.collect.run import run
from tracekit.collect.variants import VARIANTS, Variant, eager, find_variant
from tracekit.errors import MissingExtraError, TracekitError
from tracekit.manifest import Device, RunManifest, find_manifest, from_json, read_manifest, to_json

try:
    import torch
except ImportError:
    torch = None

CPU = Device("cpu", "a CPU")
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


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What `tracekit collect --all` leaves and prints: once for the module, as it compiles."""
    if torch is None:
        pytest.skip("torch is not installed")
    testing = pytest.importorskip("typer.testing")
    from tracekit.cli import app

    directory = tmp_path_factory.mktemp("all") / "traces"
    words = ["collect", "--all", "--device", "cpu", "--model", "tiny", "--weights", "random", "--prompt-tokens", "5"]
    words += ["--new-tokens", "6", "--profile-tokens", "3", "--repeats", "2", "--warmup", "1", "-o", str(directory)]
    return directory, testing.CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_a_variant_leaves_a_trace_and_its_manifest(name: str, everything: tuple[Path, Any]) -> None:
    directory, result = everything
    assert result.exit_code == 0
    trace = directory / f"tiny-{name}-cpu.pt.trace.json.gz"
    if reason := find_variant(name).unsupported(CPU):
        assert f"note: skipped {name}: {reason}" in result.stderr
        assert not trace.exists()
        return
    assert str(trace) in result.stdout.splitlines()
    manifest = read_manifest(find_manifest(trace))
    assert from_json(to_json(manifest)) == manifest
    assert (manifest.variant, manifest.dtype) == (name, find_variant(name).dtype)
    assert (manifest.device.kind, manifest.tf32.matmul, manifest.tf32.cudnn) == ("cpu", False, False)
    assert (manifest.weights.source, manifest.weights.seed) == ("random", 0)
    assert (manifest.workload.kind, manifest.workload.decoding, manifest.attention) == ("generate", "greedy", "sdpa")
    assert len(manifest.timings.runs) == 2
    assert manifest.timings.total.median_ns > manifest.timings.first_token.median_ns
    assert (manifest.timings.event_token, manifest.timings.peak_memory_bytes) == (None, None)
    assert manifest.profile.trace == trace.name
    assert manifest.profile.inflation > 0
    assert any("GPU" in notice for notice in manifest.notices)

    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    annotations = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert (annotations.count("prefill"), annotations.count("decode")) == (1, 3)
    assert any(event.get("args", {}).get("Input Dims") for event in events)


def test_all_variants_are_compared_with_the_baseline_and_judged(everything: tuple[Path, Any]) -> None:
    directory, result = everything
    manifests = {path.name: read_manifest(path) for path in directory.glob("*.run.json")}
    ran = {manifest.variant for manifest in manifests.values()}
    assert {"baseline", "fp16", "bf16"} <= ran
    assert "graphs" not in ran
    baseline = manifests["tiny-baseline-cpu.run.json"]
    assert (baseline.timings.baseline, baseline.timings.reduction_percent) == (None, None)
    assert baseline.accuracy.relative_error == 0
    for manifest in manifests.values():
        assert {*manifest.timings.interleaved_with, manifest.variant} == ran
        assert manifest.accuracy.relative_error <= manifest.accuracy.bound
        assert manifest.accuracy.tokens == 6
        if manifest is not baseline:
            assert manifest.accuracy.relative_error > 0
            assert manifest.timings.baseline == "tiny-baseline-cpu"
            share = manifest.timings.total.median_ns / baseline.timings.total.median_ns
            assert manifest.timings.reduction_percent == pytest.approx(100 - 100 * share, abs=0.01)
    assert len(result.stdout.splitlines()) == len(ran)
    assert "less time" in result.stderr


@needs_torch
def test_the_command_in_the_manifest_repeats_the_run(options: CollectOptions, console) -> None:
    (trace,) = run(options, console)
    words = shlex.split(read_manifest(find_manifest(trace)).command)
    assert words[:2] == ["tracekit", "collect"]
    assert words[-1] == "--no-tf32"
    values = dict(zip(words[2:-1:2], words[3:-1:2], strict=True))
    assert values == {
        "--variant": "baseline",
        "--device": "cpu",
        "--model": "tiny",
        "--weights": "random",
        "--workload": "generate",
        "--attention": "sdpa",
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
    assert totals["timed runs"] == 4
    assert [manifest.timings.interleaved_with for _, manifest in console.results] == [("baseline",), ("fp16",)]


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
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def result(self, trace: Path, manifest: RunManifest) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None:
        if (label, done) == self.at:
            raise KeyboardInterrupt


@needs_torch
@pytest.mark.parametrize("at", [("baseline: start-up", 0), ("timed runs", 1), ("baseline: profile", 0)])
def test_an_interrupt_leaves_nothing_and_spares_an_earlier_run(at, options: CollectOptions, console) -> None:
    interrupting = Interrupting(*at)
    with pytest.raises(KeyboardInterrupt):
        run(options, interrupting)
    assert files(options.output) == []
    assert interrupting.notices[-1] == "done: none; not done: baseline"
    run(options, console)
    before = {path: path.read_bytes() for path in options.output.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        run(options, Interrupting(*at))
    assert {path: path.read_bytes() for path in options.output.iterdir()} == before


@needs_torch
def test_what_was_interrupted_is_resumed_with_the_rest(options: CollectOptions, console) -> None:
    options = dataclasses.replace(options, variants=("baseline", "fp16", "bf16"))
    interrupting = Interrupting("fp16: profile", 0)
    with pytest.raises(KeyboardInterrupt):
        run(options, interrupting)
    assert files(options.output) == ["tiny-baseline-cpu.pt.trace.json.gz", "tiny-baseline-cpu.run.json"]
    assert interrupting.notices[-1] == "done: baseline; not done: fp16, bf16; --resume goes on with the rest"

    before = {path: path.read_bytes() for path in options.output.iterdir()}
    resuming = dataclasses.replace(options, resume=True)
    traces = run(resuming, console)
    assert [trace.name.split("-")[1] for trace in traces] == ["baseline", "fp16", "bf16"]
    assert [manifest.variant for _, manifest in console.results] == ["fp16", "bf16"]
    assert "kept, as collected before with these settings: baseline" in console.notices
    assert {path: path.read_bytes() for path in before} == before
    assert read_manifest(find_manifest(traces[1])).timings.baseline is None  # it was not timed along with it

    console.results.clear()
    assert run(resuming, console) == traces
    assert console.results == []
    run(dataclasses.replace(resuming, variants=("baseline",), repeats=1), console)
    assert len(console.results) == 1
    traces[0].unlink()
    run(dataclasses.replace(resuming, variants=("baseline",), repeats=1), console)
    assert len(console.results) == 2


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
        ({"variants": ("fast",)}, "no such variant as 'fast'; use one of baseline, fp16, bf16, compiled"),
        ({"variants": ()}, "names no variant"),
        ({"device": "tpu"}, "no such device as 'tpu'"),
        ({"model": "gpt5"}, "no such model as 'gpt5'"),
        ({"new_tokens": 124}, "5 prompt and 124 new tokens exceed 128 of context"),
        ({"new_tokens": 2, "profile_tokens": 123}, "exceed 128 of context"),
        ({"new_tokens": 1}, "--new-tokens: is 1; use 2 or more"),
        ({"workload": "prefill"}, "--new-tokens: is 6, and a prefill yields 1"),
        ({"workload": "train"}, "--workload: no such choice as 'train'; use generate or recompute or prefill"),
        ({"attention": "flash"}, "--attention: no such choice as 'flash'; use sdpa or explicit"),
        ({"temperature": 0.0}, "--temperature: is 0; use more than 0, or leave it out"),
        ({"temperature": float("nan")}, "--temperature: is nan"),
        ({"top_k": 0}, "--top-k: is 0; use 1 or more"),
        ({"variants": ("graphs",)}, "variant graphs: CUDA graphs need a CUDA device"),
        (
            {"variants": ("graphs",), "workload": "recompute", "new_tokens": None},
            "variant graphs: captures steps of fixed shape",
        ),
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
    def build(model, demand):
        def step(tokens, positions):
            raise error

        return step

    return Variant("failing", "fails", "float32", build)


def cases() -> list[tuple[Exception, str]]:
    from torch._inductor.exc import InvalidCxxCompiler

    return [
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to"), "out of memory on cpu; use a smaller --model"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory on cpu"),
        (MemoryError(), "out of memory on cpu"),
        (
            RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors"),
            "if its blocks do not all run within 10 seconds",
        ),
        (InvalidCxxCompiler(), "torch.compile failed"),
    ]


@needs_torch
@pytest.mark.parametrize("case", range(5))
def test_running_out_of_memory_and_a_missing_compiler_are_one_line_and_the_others_go_on(
    case: int, options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekit.collect import run as module

    error, message = cases()[case]
    monkeypatch.setattr(module, "find_variant", lambda name: failing(error) if name == "failing" else find_variant(name))
    with pytest.raises(TracekitError) as caught:
        run(dataclasses.replace(options, variants=("failing",)), console)
    assert message in one_line(caught)
    assert files(options.output) == []
    with pytest.raises(TracekitError) as caught:
        run(dataclasses.replace(options, variants=("failing", "fp16")), console)
    assert message in one_line(caught)
    assert files(options.output) == ["tiny-fp16-cpu.pt.trace.json.gz", "tiny-fp16-cpu.run.json"]
    assert any(notice.endswith("; failing drops out") for notice in console.notices)
    assert console.notices[-1] == "done: fp16; not done: failing; --resume goes on with the rest"


@needs_torch
def test_what_is_our_own_fault_is_no_line(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekit.collect import run as module

    monkeypatch.setattr(module, "find_variant", lambda _: failing(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        run(options, console)


def off_by(share: float) -> Variant:
    """The baseline, its logits too large by a share, or no numbers at all."""

    def build(model, demand):
        step = eager(model, demand)

        def scaled(tokens, positions):
            found = step(tokens, positions)
            return found._replace(logits=found.logits * (1 + share))

        return scaled

    return Variant("off", "is off", "float32", build)


@needs_torch
@pytest.mark.parametrize("share", [2e-4, float("nan")])
def test_a_variant_that_computes_something_else_fails_the_run_and_leaves_nothing(
    share: float, options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekit.collect import run as module

    monkeypatch.setattr(module, "find_variant", lambda name: off_by(share) if name == "off" else find_variant(name))
    with pytest.raises(TracekitError, match=r"^variant off: its logits are (2e-4|nan) off .* 1e-4 is the bound") as caught:
        run(dataclasses.replace(options, variants=("off", "baseline")), console)
    one_line(caught)
    assert files(options.output) == ["tiny-baseline-cpu.pt.trace.json.gz", "tiny-baseline-cpu.run.json"]


@needs_torch
def test_with_and_without_a_cache_the_same_tokens_come(options: CollectOptions) -> None:
    """The reference is built as the variants are: what both lack, only another workload can tell."""
    from tracekit.collect.candidate import SharedWeights
    from tracekit.collect.session import prepare
    from tracekit.collect.variants import BASELINE

    tokens = []
    for workload in ("generate", "recompute"):
        session = prepare(dataclasses.replace(options, workload=workload, seed=3), Interrupting("", 0))
        state = {name: tensor * 5 if tensor.dim() > 1 else tensor for name, tensor in session.weights.state.items()}
        weights = SharedWeights(session.spec.config, state, session.device)
        candidate = weights.build(BASELINE, dataclasses.replace(session.assignment, length=64))
        tokens.append(candidate.run(40).tokens.tolist())
    assert tokens[0] == tokens[1]
    assert len(set(tokens[0][0])) > 3


@needs_torch
def test_a_small_error_is_measured(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekit.collect import run as module

    monkeypatch.setattr(module, "find_variant", lambda _: off_by(5e-5))
    run(dataclasses.replace(options, batch=2), console)
    accuracy = console.results[0][1].accuracy
    assert accuracy.relative_error == pytest.approx(5e-5, rel=0.01)
    assert (accuracy.bound, accuracy.equal_tokens, accuracy.tokens) == (1e-4, 12, 12)


@needs_torch
def test_a_variant_that_feeds_back_another_token_than_it_yields_is_off(options: CollectOptions) -> None:
    """As a captured step would whose token never reached its own input."""
    from tracekit.collect.accuracy import compare
    from tracekit.collect.candidate import Candidate, SharedWeights
    from tracekit.collect.session import prepare
    from tracekit.collect.variants import BASELINE

    session = prepare(options, Interrupting("", 0))
    weights = SharedWeights(session.spec.config, session.weights.state, session.device)
    reference, honest = (weights.build(BASELINE, session.assignment) for _ in range(2))
    assert compare(honest, reference, 6, 1e-4).relative_error == 0
    stale = Candidate(
        BASELINE,
        session.assignment,
        honest.model,
        lambda tokens, positions: honest.step(torch.zeros_like(tokens) if tokens.shape[1] == 1 else tokens, positions),
    )
    assert compare(stale, reference, 6, 1e-4).relative_error > 0.1


@needs_torch
@pytest.mark.parametrize("workload", WORKLOAD_NAMES)
def test_every_workload_and_way_of_drawing_leaves_a_run_of_its_own_name(
    workload: str, options: CollectOptions, console
) -> None:
    changes = {"workload": workload, "attention": "explicit", "layers": True, "batch": 2, "temperature": 0.8, "top_k": 40}
    asked = dataclasses.replace(options, new_tokens=None if workload == "prefill" else 6, **changes)
    (trace,) = run(asked, console)
    kind = "" if workload == "generate" else f"{workload}-"
    assert trace.name == f"tiny-baseline-{kind}explicit-sampled-batch2-layers-cpu.pt.trace.json.gz"
    manifest = read_manifest(find_manifest(trace))
    assert (manifest.workload.kind, manifest.workload.decoding) == (workload, "temperature 0.8, top-k 40")
    assert manifest.workload.new_tokens == (1 if workload == "prefill" else 6)
    assert (manifest.attention, manifest.profile.layers, manifest.workload.text) == ("explicit", True, None)
    assert manifest.profile.decode_tokens == (0 if workload == "prefill" else 3)
    assert manifest.profile.inflation > 0
    assert manifest.accuracy.relative_error < 1e-5
    words = shlex.split(manifest.command)
    assert {"--layers", "--temperature", "--top-k"} <= set(words)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    annotations = {event["name"] for event in events if event.get("cat") == "user_annotation"}
    assert {"prefill", "softmax", "qkv_projection", "lm_head"} <= annotations


@needs_torch
def test_layers_are_refused_softly_where_python_does_not_run_them(options: CollectOptions, console) -> None:
    from tracekit.collect.session import prepare

    session = prepare(dataclasses.replace(options, layers=True), console)
    assert not session.marks_layers(find_variant("compiled"))
    assert "eager variants alone" in session.doubts(find_variant("graphs"))[0]
    assert session.marks_layers(find_variant("fp16"))
    assert session.doubts(find_variant("fp16")) == ()


@needs_torch
def test_tf32_is_what_was_asked_for_and_in_the_name(options: CollectOptions, console) -> None:
    (trace,) = run(dataclasses.replace(options, tf32=True), console)
    manifest = read_manifest(find_manifest(trace))
    assert trace.name.startswith("tiny-baseline-tf32-cpu")
    assert (manifest.tf32.matmul, manifest.accuracy.bound) == (True, 5e-3)
    assert manifest.command.endswith("--tf32")


@needs_torch
def test_a_text_is_gone_on_with(options: CollectOptions, console, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tokens = ["<|endoftext|>", *"Helo!"]
    shape = {"vocab_size": 6, "n_positions": 64, "n_layer": 1, "n_head": 1, "n_embd": 16}
    model = tmp_path / "small"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", **shape}))
    (model / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (model / "merges.txt").write_text("#version: 0.2\n")
    asked = dataclasses.replace(options, model=str(model), prompt="Hello", prompt_tokens=None)
    (trace,) = run(asked, console)
    work = read_manifest(find_manifest(trace)).workload
    assert (work.prompt, work.prompt_tokens) == ("Hello", 5)
    assert work.text
    assert set(work.text) <= set("".join(tokens))


@needs_torch
def test_the_names_of_choices_are_those_of_what_they_choose() -> None:
    from tracekit.collect.gpt2 import ATTENTION_FORMS
    from tracekit.collect.workload import WORKLOADS

    assert tuple(WORKLOADS) == WORKLOAD_NAMES
    assert ATTENTION_FORMS == ATTENTION_NAMES


@needs_torch
def test_without_a_compiler_compiling_names_the_mend(options: CollectOptions, console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TracekitError, match=r"needs a C\+\+ compiler on a CPU.*install g\+\+") as caught:
        run(dataclasses.replace(options, variants=("compiled",)), console)
    one_line(caught)


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
