from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tracekit.collect import weights  # noqa: E402
from tracekit.collect.gpt2 import PRESETS  # noqa: E402
from tracekit.collect.weights import load_weights, random_state, resolve_model, tokenize  # noqa: E402
from tracekit.errors import MissingExtraError, TracekitError  # noqa: E402

SMALL = {"vocab_size": 96, "n_positions": 32, "n_layer": 2, "n_head": 2, "n_embd": 16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as transformers saves it."""
    directory = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(3)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL)).save_pretrained(directory)
    return directory


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _never_answers(*_: object, **__: object) -> None:
    time.sleep(3)
    raise TimeoutError("timed out")


def test_random_weights_depend_on_the_seed_alone() -> None:
    config = PRESETS["tiny"]
    assert same(random_state(config, 5), random_state(config, 5))
    assert not same(random_state(config, 5), random_state(config, 6))
    assert float(random_state(config, 5)["wte.weight"].std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("choice", ["auto", "pretrained", "PATH"])
def test_a_checkpoint_directory_brings_its_config_and_weights(checkpoint: Path, choice: str) -> None:
    spec = resolve_model(str(checkpoint))
    assert (spec.name, spec.config.layers, spec.config.context) == ("small", 2, 32)
    loaded = load_weights(spec, str(checkpoint) if choice == "PATH" else choice, seed=0)
    assert (loaded.origin.source, loaded.origin.location) == ("path", str(checkpoint))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint).state_dict()
    assert torch.equal(loaded.state["h.1.mlp.c_fc.weight"], theirs["transformer.h.1.mlp.c_fc.weight"].t())
    assert torch.equal(loaded.state["h.0.attn.c_proj.weight"], theirs["transformer.h.0.attn.c_proj.weight"].t())


@pytest.mark.parametrize("layout", ["theirs", "base model", "ours", "safetensors", "half"])
def test_state_dict_files_of_every_layout(checkpoint: Path, tmp_path: Path, layout: str) -> None:
    spec = resolve_model(str(checkpoint))
    expected = load_weights(spec, "auto", seed=0).state
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint)
    file = tmp_path / "state.pt"
    if layout == "safetensors":
        file = checkpoint / "model.safetensors"
    elif layout == "ours":
        torch.save(expected, file)
    elif layout == "base model":
        torch.save(theirs.transformer.state_dict(), file)
    elif layout == "half":
        torch.save(theirs.half().state_dict(), file)
        expected = {name: tensor.half().float() for name, tensor in expected.items()}
    else:
        torch.save(theirs.state_dict(), file)
    assert same(load_weights(spec, str(file), seed=0).state, expected)


def test_auto_offline_falls_back_fast_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is a port that nobody listens on; the time holds the import of transformers as well."""
    monkeypatch.setattr(weights, "REPOSITORIES", {"tiny": ("nobody/no-such-gpt2",)})
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(weights, "PROBE_SECONDS", 1.0)
    spec = resolve_model("tiny")
    start = time.perf_counter()
    loaded = load_weights(spec, "auto", seed=7)
    assert time.perf_counter() - start < 20
    assert (loaded.origin.source, loaded.origin.seed) == ("random", 7)
    assert "nobody/no-such-gpt2 cannot be had from the hub" in (loaded.origin.reason or "")
    assert same(loaded.state, random_state(spec.config, 7))
    with pytest.raises(TracekitError, match="use --weights random"):
        load_weights(spec, "pretrained", seed=0)


def test_a_hub_that_never_answers_costs_no_more_than_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(weights.urllib.request, "urlopen", _never_answers)
    start = time.perf_counter()
    assert weights.hub_problem("nobody/x") == "no answer within 0.2 s"
    assert time.perf_counter() - start < 2


def test_the_preset_without_trained_weights_says_so() -> None:
    origin = load_weights(resolve_model("tiny"), "auto", seed=1).origin
    assert (origin.source, origin.reason) == ("random", "there are no trained weights for tiny")


def test_auto_without_transformers_is_random_and_pretrained_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    spec = weights.ModelSpec("gpt2", PRESETS["tiny"], ("gpt2",))
    assert "need transformers" in (load_weights(spec, "auto", seed=0).origin.reason or "")
    with pytest.raises(MissingExtraError, match=r"torch-tracekit\[collect\]"):
        load_weights(spec, "pretrained", seed=0)


def test_a_config_alone_has_random_weights_but_broken_weights_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    for model in (tmp_path, tmp_path / "config.json"):
        assert load_weights(resolve_model(str(model)), "auto", seed=0).origin.source == "random"
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(TracekitError, match="cannot be loaded"):
        load_weights(resolve_model(str(tmp_path)), "auto", seed=0)


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_files_are_never_allowed_to_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"wte.weight": Malicious()}, file)
    raw = tmp_path / "raw.pt"
    raw.write_bytes(pickle.dumps(Malicious(), protocol=2))
    for path in (file, raw):
        with pytest.raises(TracekitError, match="cannot be read as tensors"):
            load_weights(resolve_model("tiny"), str(path), seed=0)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "has no tensor wte.weight"),
        ([1, 2], "holds no state dict"),
        ({"wte.weight": torch.zeros(3, 4)}, r"wte.weight is \[3, 4\], the model wants \[512, 64\]"),
        ({"wte.weight": torch.zeros(2, 2), "lm_head.weight": torch.ones(2, 2)}, "not tied"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, state: object, message: str) -> None:
    file = tmp_path / "weights.pt"
    torch.save(state, file)
    with pytest.raises(TracekitError, match=message) as caught:
        load_weights(resolve_model("tiny"), str(file), seed=0)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embd": None}, "no GPT-2 config"),
        ({"n_head": 3}, "not a multiple"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"n_inner": 7}, "n_inner is 7"),
    ],
)
def test_configs_that_are_no_plain_gpt2(tmp_path: Path, change: dict, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**SMALL, **change}))
    with pytest.raises(TracekitError, match=message):
        resolve_model(str(file))


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TracekitError, match="no such model as 'gpt3'"):
        resolve_model("gpt3")
    with pytest.raises(TracekitError, match="there is no such file"):
        load_weights(resolve_model("tiny"), str(tmp_path / "none.pt"), seed=0)
    with pytest.raises(TracekitError, match="holds no weights"):
        load_weights(resolve_model("tiny"), str(tmp_path), seed=0)


def test_a_prompt_needs_a_tokenizer(checkpoint: Path) -> None:
    with pytest.raises(TracekitError, match="tiny has no tokenizer"):
        tokenize(resolve_model("tiny"), "Hello")
    with pytest.raises(TracekitError, match="leave --prompt out"):
        tokenize(weights.ModelSpec("x", PRESETS["tiny"], ("nobody/no-such-gpt2",)), "Hello")


def test_a_prompt_is_tokenised_with_the_models_own_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    vocabulary = {token: index for index, token in enumerate(["<|endoftext|>", "H", "e", "l", "o", "ll"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nl l\n")
    assert tokenize(resolve_model(str(tmp_path)), "Hello").tolist() == [[1, 2, 5, 4]]
    with pytest.raises(TracekitError, match="holds no token"):
        tokenize(resolve_model(str(tmp_path)), "")
