"""Where do the weights come from?

They come from the hub, from a path or from a seed. This module turns them into the weights of our GPT-2.
"""

from __future__ import annotations

import json
import math
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracekit.errors import MissingExtraError, TracekitError
from tracekit.manifest import Weights

from .gpt2 import GPT2, PRESETS, GPT2Config

State = dict[str, Tensor]

# Each preset's repositories on the hub: the present one, and the name under which older caches store it.
REPOSITORIES: Mapping[str, tuple[str, ...]] = {name: (f"openai-community/{name}", name) for name in PRESETS if name != "tiny"}
PROBE_SECONDS = 5.0

_INIT_STD = 0.02
_LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# The values that these keys have in the config.json of a plain GPT-2. A key may be absent.
_PLAIN = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
}


class UnavailableError(TracekitError):
    """Trained weights are not there, or cannot be fetched now. Broken weights raise another error."""


@dataclass(frozen=True)
class ModelSpec:
    """A model's name and shape, and where its trained weights are: on the hub or in a directory."""

    name: str
    config: GPT2Config
    repositories: tuple[str, ...] = ()
    directory: Path | None = None


@dataclass(frozen=True)
class LoadedWeights:
    """FP32 tensors on the CPU, under the names of `GPT2`'s parameters, and their origin for the manifest."""

    state: State
    origin: Weights


def resolve_model(model: str) -> ModelSpec:
    """The model for the name of a preset, a transformers checkpoint directory, or a config.json.

    Raises TracekitError if it is none of these, or not a plain GPT-2.
    """
    if model in PRESETS:
        return ModelSpec(model, PRESETS[model], REPOSITORIES.get(model, ()))
    path = Path(model)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise TracekitError(
            f"no such model as {model!r}",
            where="--model",
            mend=f"use one of {', '.join(PRESETS)}, or a directory or file with a GPT-2 config.json",
        )
    name = path.resolve().name if path.is_dir() else path.stem
    return ModelSpec(name, _read_config(file), directory=path if path.is_dir() else None)


def load_weights(spec: ModelSpec, weights: str, seed: int) -> LoadedWeights:
    """Weights for a model: `auto`, `pretrained`, `random` or a path.

    `auto` takes trained weights if they can be had at once. If not, it takes random ones from the seed, and their origin gives
    the reason. Raises TracekitError if the weights that were asked for cannot be had, are broken or do not fit the model.
    """
    if weights == "random":
        return _random(spec, seed, reason=None)
    if weights == "pretrained":
        return _pretrained(spec)
    if weights != "auto":
        return _from_path(spec, Path(weights))
    try:
        return _pretrained(spec)
    except (UnavailableError, MissingExtraError) as error:
        return _random(spec, seed, reason=error.what)


def build_model(config: GPT2Config, state: State, attention: str = "sdpa") -> GPT2:
    """A model in evaluation mode that shares the tensors of `state`. `attention` is one of ATTENTION_FORMS."""
    with torch.device("meta"):
        model = GPT2(config, attention)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def random_state(config: GPT2Config, seed: int) -> State:
    """GPT-2's own initialisation. A seed gives the same weights on every device."""
    generator = torch.Generator().manual_seed(seed)
    residual_std = _INIT_STD / math.sqrt(2 * config.layers)
    state: State = {}
    for name, shape in _shapes(config).items():
        if name.endswith(".bias"):
            state[name] = torch.zeros(shape)
        elif "ln_" in name:
            state[name] = torch.ones(shape)
        else:
            std = residual_std if name.endswith("c_proj.weight") else _INIT_STD
            state[name] = torch.empty(shape).normal_(0.0, std, generator=generator)
    return state


def convert_state(checkpoint: Mapping[str, Tensor], config: GPT2Config, where: object = None) -> State:
    """FP32 tensors under the names of `GPT2`, from tensors with transformers' names and layout, or with ours.

    Raises TracekitError, which names the first tensor that is missing or has another shape, or says that the LM head is not
    tied.
    """
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in checkpoint.items()}
    head = tensors.get("lm_head.weight")
    if head is not None and "wte.weight" in tensors and not torch.equal(head, tensors["wte.weight"]):
        raise TracekitError("its LM head is not tied to the token embedding", where=where, mend="use a plain GPT-2")
    first = tensors.get("h.0.attn.c_attn.weight")
    transposed = first is not None and tuple(first.shape) == (config.width, 3 * config.width)
    state: State = {}
    for name, shape in _shapes(config).items():
        if name not in tensors:
            raise TracekitError(f"has no tensor {name}", where=where, mend="use a GPT-2 checkpoint")
        tensor = tensors[name].t() if transposed and name.endswith(_LINEAR) else tensors[name]
        if tensor.shape != shape:
            raise TracekitError(
                f"{name} is {list(tensor.shape)}, the model wants {list(shape)}",
                where=where,
                mend="choose the --model that these weights belong to",
            )
        state[name] = tensor.to(torch.float32).contiguous()
    return state


def tokenize(spec: ModelSpec, text: str) -> Tensor:
    """The token ids of a text, int64 [1, tokens].

    Raises TracekitError if the tokenizer cannot be had, if the text has no token, or if the model does not know a token.
    """
    ids = _tokenizer(spec)(text)["input_ids"]
    if not ids:
        raise TracekitError("holds no token", where="--prompt", mend="give some text, or leave it out")
    if max(ids) >= spec.config.vocab_size:
        raise TracekitError(
            f"holds token {max(ids)}, {spec.name} knows {spec.config.vocab_size}", where="--prompt", mend="leave it out"
        )
    return torch.tensor([ids])


def detokenize(spec: ModelSpec, tokens: Tensor) -> str:
    """The text of token ids, int64 [tokens]. Raises TracekitError if the tokenizer cannot be had."""
    text: str = _tokenizer(spec).decode(tokens.tolist())
    return text


def _tokenizer(spec: ModelSpec) -> Any:
    if spec.directory is not None:
        return _from_directory(_load_tokenizer, spec.directory)
    if spec.repositories:
        return _from_hub(_load_tokenizer, spec.repositories, "--prompt", "leave --prompt out for random token ids")
    raise TracekitError(f"{spec.name} has no tokenizer", where="--prompt", mend="leave --prompt out for random token ids")


def _shapes(config: GPT2Config) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in GPT2(config).state_dict().items()}


def _read_config(file: Path) -> GPT2Config:
    try:
        document: dict[str, Any] = json.loads(file.read_bytes())
        config = GPT2Config(
            vocab_size=int(document["vocab_size"]),
            context=int(document["n_positions"]),
            layers=int(document["n_layer"]),
            heads=int(document["n_head"]),
            width=int(document["n_embd"]),
        )
    except KeyError as error:
        raise TracekitError(f"has no key {error}", where=file, mend="use the config.json of a GPT-2") from error
    except (OSError, ValueError, TypeError) as error:
        raise TracekitError(f"is no GPT-2 config ({error})", where=file, mend="use the config.json of a GPT-2") from error
    for key, plain in _PLAIN.items():
        if document.get(key, plain[0]) not in plain:
            raise TracekitError(f"{key} is {document[key]!r}", where=file, mend=f"a plain GPT-2 has {plain[0]!r}")
    if document.get("n_inner") not in (None, 4 * config.width):
        raise TracekitError(f"n_inner is {document['n_inner']}", where=file, mend="a plain GPT-2 has 4 * n_embd")
    return config


def _random(spec: ModelSpec, seed: int, reason: str | None) -> LoadedWeights:
    return LoadedWeights(random_state(spec.config, seed), Weights("random", seed=seed, reason=reason))


def _pretrained(spec: ModelSpec) -> LoadedWeights:
    if spec.directory is not None:
        return _from_path(spec, spec.directory)
    if not spec.repositories:
        raise UnavailableError(f"there are no trained weights for {spec.name}", where="--weights", mend="use random")
    model = _from_hub(_load_model, spec.repositories, "--weights", "use --weights random or a path")
    location = model.config.name_or_path
    return LoadedWeights(convert_state(model.state_dict(), spec.config, location), Weights("pretrained", location))


def _from_path(spec: ModelSpec, path: Path) -> LoadedWeights:
    if path.is_dir() and any((path / name).is_file() for name in _WEIGHT_FILES):
        checkpoint = _from_directory(_load_model, path).state_dict()
    elif path.is_dir():
        raise UnavailableError(
            f"{path} holds no weights", where="--weights", mend=f"it should hold {' or '.join(_WEIGHT_FILES[::2])}"
        )
    else:
        checkpoint = _read_tensors(path)
    return LoadedWeights(convert_state(checkpoint, spec.config, path), Weights("path", str(path)))


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file. Reading it can never run code from the file."""
    if not path.is_file():
        raise TracekitError("there is no such file", where=path, mend="use auto, pretrained, random or a path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise MissingExtraError(f"{path}: reading it needs safetensors", "collect") from error
    except Exception as error:  # depending on the bytes, unpicklers and safetensors raise any kind of error
        raise TracekitError(
            f"cannot be read as tensors ({first_line(error)})", where=path, mend="use a state dict file"
        ) from error
    if not isinstance(document, dict) or not all(isinstance(value, Tensor) for value in document.values()):
        raise TracekitError("holds no state dict", where=path, mend="save model.state_dict()")
    return document


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("trained weights and tokenizers need transformers", "collect") from error
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def _load_model(source: str | Path, **options: bool) -> Any:
    return _transformers().GPT2LMHeadModel.from_pretrained(source, **options)


def _load_tokenizer(source: str | Path, **options: bool) -> Any:
    tokenizer = _transformers().GPT2TokenizerFast.from_pretrained(source, **options)
    if len(tokenizer) < 2:  # transformers 5 returns such a tokenizer if its files are missing
        raise OSError("it has no vocabulary")
    return tokenizer


def _from_hub(load: Callable[..., Any], sources: tuple[str, ...], where: str, mend: str) -> Any:
    """Load from the first source that is on this machine; else load the first source from the hub, if the hub answers soon.

    transformers tries for minutes before it reports that it is offline. A probe with a time limit finds out first.
    """
    _transformers()  # raises here, so that a missing library is not taken for a missing file
    for source in sources:
        with suppress(Exception):  # each release of transformers raises another class for "not on this machine"
            return load(source, local_files_only=True)
    problem = hub_problem(sources[0])
    if problem is None:
        try:
            return load(sources[0])
        except Exception as error:  # as above, and any error of the network
            problem = first_line(error)
    raise UnavailableError(f"{sources[0]} cannot be had from the hub ({problem})", where=where, mend=mend)


def _from_directory(load: Callable[..., Any], directory: Path) -> Any:
    _transformers()  # as in _from_hub
    try:
        return load(directory, local_files_only=True)
    except Exception as error:  # each release of transformers raises another class for what it cannot read
        raise TracekitError(
            f"cannot be loaded ({first_line(error)})", where=directory, mend="use what save_pretrained wrote"
        ) from error


def hub_problem(repository: str) -> str | None:
    """Why the hub cannot be asked for a repository; None if it can. The answer comes within `PROBE_SECONDS`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    problems = [f"no answer within {PROBE_SECONDS:g} s"]

    def probe() -> None:
        try:
            request = urllib.request.Request(f"{endpoint}/{repository}/resolve/main/config.json", method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            problems.clear()
        except urllib.error.URLError as error:
            problems[0] = str(error.reason)
        except (OSError, ValueError) as error:
            problems[0] = first_line(error)

    # It runs in a thread, because no timeout limits the resolution of a host name.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return problems[0] if problems else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to a length that fits our messages. The error's class if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
