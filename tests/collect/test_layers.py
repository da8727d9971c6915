from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.profiler import ProfilerActivity, profile, record_function  # noqa: E402

from tracekit.collect.gpt2 import ATTENTION_FORMS, GPT2, PRESETS  # noqa: E402
from tracekit.collect.layers import LAYERS, Layer, annotated  # noqa: E402
from tracekit.collect.options import Sampling  # noqa: E402
from tracekit.collect.variants import Demand, eager  # noqa: E402
from tracekit.collect.weights import random_state  # noqa: E402
from tracekit.collect.workload import generate, random_prompt, recompute  # noqa: E402

TINY = PRESETS["tiny"]
FORMS = {"sdpa": {"sdpa"}, "explicit": {"scores", "mask", "softmax", "values"}}
EVERYWHERE = {"qkv_projection", "qkv_reshape", "output_reshape", "output_projection"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are no work to share: threads would only wait for each other, for long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def prompt():
    return random_prompt(TINY, 2, 6, seed=0)


def make(attention: str, cache: bool = True) -> GPT2:
    model = GPT2(TINY, attention)
    model.load_state_dict(random_state(TINY, 0))
    model.eval().requires_grad_(False)
    if cache:
        model.allocate_cache(2, 40)
    return model


def expected_paths(attention: str, cache: bool) -> set[str]:
    """The contract with the analysis, written out apart from LAYERS."""
    block = "blocks/block"
    attending = EVERYWHERE | FORMS[attention] | ({"kv_cache"} if cache else set())
    return {
        *(
            "token_embedding",
            "position_embedding",
            "embedding_sum",
            "causal_mask",
            "blocks",
            "final_norm",
            "lm_head",
            "sampling",
        ),
        block,
        *(f"{block}/{name}" for name in ("norm_1", "attention", "residual_1", "norm_2", "mlp", "residual_2")),
        *(f"{block}/attention/{name}" for name in attending),
        *(f"{block}/mlp/{name}" for name in ("expansion", "activation", "projection")),
    }


class Recorder:
    """Keeps the path of every annotation that opens."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.paths: Counter[str] = Counter()

    @contextmanager
    def __call__(self, name: str):
        self.open.append(name)
        self.paths["/".join(self.open)] += 1
        yield
        assert self.open.pop() == name


def paths(layers: tuple[Layer, ...], prefix: str = "") -> set[str]:
    found = set()
    for layer in layers:
        found |= {prefix + layer.name} | paths(layer.parts, f"{prefix}{layer.name}/")
    return found


def instance_attributes(model: GPT2) -> list[set[str]]:
    return [set(vars(module)) for module in model.modules()]


def test_the_table_is_the_contract() -> None:
    assert paths(LAYERS) == expected_paths("sdpa", True) | expected_paths("explicit", True)


@pytest.mark.parametrize("attention", ATTENTION_FORMS)
@pytest.mark.parametrize("cache", [True, False])
def test_every_piece_opens_once_a_step_and_nothing_changes(attention: str, cache: bool, prompt) -> None:
    model = make(attention, cache)
    run = generate if cache else recompute
    step = eager(model, Demand())
    plain = run(step, prompt, 5).tokens
    recorder = Recorder()
    with annotated(model, recorder):
        assert torch.equal(run(step, prompt, 5).tokens, plain)
    assert recorder.open == []
    assert set(recorder.paths) == expected_paths(attention, cache)
    for path, count in recorder.paths.items():
        assert count == 5 * (TINY.layers if path.startswith("blocks/") else 1), path


def test_a_sampling_step_and_logits_alone_are_annotated_too(prompt) -> None:
    model = make("sdpa")
    recorder = Recorder()
    with annotated(model, recorder), torch.inference_mode():
        eager(model, Demand(Sampling(0.8, 5)))(prompt, torch.arange(6))
        model(prompt, torch.arange(6))
    assert (recorder.paths["sampling"], recorder.paths["lm_head"]) == (1, 2)


@pytest.mark.parametrize("attention", ATTENTION_FORMS)
def test_a_trace_holds_the_tree(attention: str, prompt, tmp_path: Path) -> None:
    model = make(attention)
    step = eager(model, Demand())
    with annotated(model, record_function), profile(activities=[ProfilerActivity.CPU]) as profiler:
        generate(step, prompt, 3, record_function)
    file = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(file))
    events = [event for event in json.loads(file.read_text())["traceEvents"] if event.get("ph") == "X"]
    found: Counter[str] = Counter()
    covered: list[tuple[float, str]] = []
    marks = [event for event in events if event["cat"] == "user_annotation" and not event["name"].startswith("Profiler")]
    for event in sorted(marks, key=lambda event: (event["ts"], -event["dur"])):
        while covered and covered[-1][0] <= event["ts"]:
            covered.pop()
        end = event["ts"] + event["dur"]
        assert not covered or end <= covered[-1][0] + 1e-3  # inside its parent, to the trace's rounding
        covered.append((end, event["name"]))
        found["/".join(name for _, name in covered)] += 1
    for phase, steps in (("prefill", 1), ("decode", 2)):
        inside = {path.removeprefix(f"{phase}/"): n for path, n in found.items() if path.startswith(f"{phase}/")}
        assert set(inside) == expected_paths(attention, True)
        assert inside["blocks/block/mlp/activation"] == steps * TINY.layers
    # The operators lie where the names say.
    spans = {name: [(e["ts"], e["ts"] + e["dur"]) for e in marks if e["name"] == name] for name in {m["name"] for m in marks}}
    for operator, name in (("aten::gelu", "activation"), ("aten::layer_norm", "final_norm"), ("aten::argmax", "sampling")):
        starts = [event["ts"] for event in events if event["name"] == operator]
        assert any(low <= start <= high for start in starts for low, high in spans[name]), operator


@pytest.mark.parametrize("fails", ["annotation", "body"])
def test_the_methods_come_back_whatever_happens(fails: str, prompt) -> None:
    model = make("explicit")
    before = instance_attributes(model)

    def annotate(name: str):
        if fails == "annotation" and name == "softmax":
            raise RuntimeError("inside")
        return nullcontext()

    def use() -> None:
        with annotated(model, annotate):
            assert instance_attributes(model) != before
            with torch.inference_mode():
                eager(model, Demand())(prompt, torch.arange(6))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        use()
    assert instance_attributes(model) == before
    recorder = Recorder()
    with annotated(model, recorder):
        pass
    generate(eager(model, Demand()), prompt, 2)
    assert not recorder.paths


def test_contexts_nest_and_leave_other_models_alone(prompt) -> None:
    model, other = make("sdpa"), make("sdpa")
    before = instance_attributes(model)
    outer, inner = Recorder(), Recorder()
    with annotated(model, outer):
        with annotated(model, inner):
            generate(eager(model, Demand()), prompt, 1)
        generate(eager(model, Demand()), prompt, 1)
        generate(eager(other, Demand()), prompt, 1)
    assert (outer.paths["blocks/block/mlp"], inner.paths["blocks/block/mlp"]) == (2 * TINY.layers, TINY.layers)
    assert instance_attributes(model) == before


def test_a_step_compiles_after_it_was_annotated(prompt) -> None:
    model = make("explicit")
    step = eager(model, Demand())
    with annotated(model, Recorder()):
        expected = generate(step, prompt, 3).tokens
    try:
        compiled = torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
        assert torch.equal(generate(compiled, prompt, 3).tokens, expected)
    finally:
        torch.compiler.reset()
