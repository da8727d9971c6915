"""What was run, where, and how fast? The run manifest (`<run>.run.json`) that lies beside a collected trace."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

from tracekit.errors import ManifestError
from tracekit.files import write_atomic

SCHEMA_VERSION = 1
MANIFEST_SUFFIX = ".run.json"
TRACE_SUFFIX = ".pt.trace.json.gz"
# A number that may be below zero, as no other number of the schema may.
Signed = Annotated[float, "signed"]
_TRACE_SUFFIXES = (TRACE_SUFFIX, ".pt.trace.json", ".json.gz", ".json")


@dataclass(frozen=True)
class Device:
    """What the model ran on. `kind` is `cuda` or `cpu`; what a CPU does not have is None."""

    kind: str
    name: str
    compute_capability: str | None = None
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    driver: str | None = None


@dataclass(frozen=True)
class Host:
    """The machine around the device; `threads` is how many of its `cores` torch used within an operator."""

    cpu: str
    cores: int
    threads: int
    system: str


@dataclass(frozen=True)
class Workload:
    """What was asked of the model.

    `kind` is `generate` (with a KV cache), `recompute` (without) or `prefill` (one forward of the prompt); `decoding` is
    `greedy` or says how tokens were drawn. `prompt` is the text, or None where the prompt was seeded random token ids;
    `text` is then what the model made of it, the batch's first sequence, the prompt left out.
    """

    kind: str
    batch: int
    prompt_tokens: int
    new_tokens: int
    decoding: str = "greedy"
    prompt: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Weights:
    """Where the weights came from: `source` is `pretrained`, `random` (then `seed` is set) or `path`.

    `location` is the hub's repository or the path, `reason` why `auto` fell back to random weights. `dtype` is what a decode
    step reads the weights in where that is another dtype than the run's, `int8`; else None.
    """

    source: str
    location: str | None = None
    seed: int | None = None
    reason: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Model:
    """The shape of the model; `parameters` counts each tied weight once."""

    name: str
    vocab_size: int
    context: int
    layers: int
    heads: int
    width: int
    parameters: int


@dataclass(frozen=True)
class Versions:
    """The software that ran; `commit` is tracekit's own, with `-dirty` where the checkout was changed."""

    tracekit: str
    python: str
    torch: str
    cuda: str | None = None
    cudnn: str | None = None
    transformers: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Tf32:
    """Whether FP32 matrix multiplies (`matmul`) and cuDNN were allowed to round their inputs to TF32."""

    matmul: bool
    cudnn: bool


@dataclass(frozen=True)
class TimedRun:
    """One run without the profiler, host wall clock: until the first new token was there, and until the last."""

    first_token_ns: int
    total_ns: int


@dataclass(frozen=True)
class Statistics:
    """A sample's median, mean, standard deviation (n - 1), 10th and 90th percentile, in nanoseconds."""

    median_ns: int
    mean_ns: int
    std_ns: int
    p10_ns: int
    p90_ns: int


@dataclass(frozen=True)
class Timings:
    """Every timed run, without the profiler, and what they amount to.

    `startup_ns` is the first prefill and decode step of all: compilation in a compiled variant, and loading of kernels.
    `decode_token` is the time of one decode step, a run's mean; all 0 for `prefill`, which has none. `tokens_per_second`
    counts the new tokens of the whole batch over the median run, prefill included; for `prefill` those of the prompt.
    `peak_memory_bytes` is the device allocator's in a run of its own, None on a CPU.

    `event_token` is the time from one token to the next on the GPU, by CUDA events in runs of their own, all tokens but
    the first; None where there is no GPU or no second token. `baseline` names the baseline's run of the same collection
    and `reduction_percent` how much less time than it the median run takes (below 0: more); both None where there is no
    other run to compare with. `interleaved_with` are the other variants whose timed runs took turns with these.
    """

    warmup_runs: int
    startup_ns: int
    runs: tuple[TimedRun, ...]
    total: Statistics
    first_token: Statistics
    decode_token: Statistics
    tokens_per_second: float
    peak_memory_bytes: int | None = None
    event_token: Statistics | None = None
    reduction_percent: Signed | None = None
    baseline: str | None = None
    interleaved_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """How far the variant's logits are from those of `reference`, fed the same tokens on the same device.

    `relative_error` is the norm of the difference over the norm of the reference's logits, over every step of a run;
    `bound` is what the variant's dtype may have. `equal_tokens` of the run's `tokens` are the reference's first choice.
    """

    reference: str
    relative_error: float
    bound: float
    equal_tokens: int
    tokens: int


@dataclass(frozen=True)
class Profile:
    """The profiled window: a prefill and `decode_tokens` decode steps.

    `inflation` is the profiled time of a decode step over the median time of one without the profiler; of the prefill
    where there is no decode step. `layers` says whether user annotations mark the model's layers, which costs host time.
    """

    trace: str
    decode_tokens: int
    prefill_ns: int
    decode_ns: int
    inflation: float
    record_shapes: bool = True
    layers: bool = False


@dataclass(frozen=True)
class RunManifest:
    """Everything needed to repeat a run and to judge its numbers.

    `created` is UTC in ISO 8601; `attention` is `sdpa` (fused) or `explicit` (an operator a step).
    """

    run: str
    created: str
    command: str
    variant: str
    dtype: str
    device: Device
    host: Host
    workload: Workload
    weights: Weights
    model: Model
    versions: Versions
    tf32: Tf32
    seed: int
    timings: Timings
    profile: Profile | None = None
    notices: tuple[str, ...] = field(default=())
    attention: str = "sdpa"
    accuracy: Accuracy | None = None
    schema_version: int = SCHEMA_VERSION


def to_json(manifest: RunManifest) -> str:
    """The manifest as an indented JSON document, `schema_version` first, ending in a newline."""
    document = {"schema_version": manifest.schema_version, **dataclasses.asdict(manifest)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str | bytes, where: object = None) -> RunManifest:
    """Read a manifest; keys that this version does not know are ignored.

    Raises ManifestError, which names `where` and the key, if the text is no manifest that this version can read.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not JSON ({error})", where=where, mend="collect the run again") from error
    try:
        _check_version(document)
        manifest: RunManifest = _decode(RunManifest, document, "")
        _check_created(manifest.created)
    except _InvalidError as error:
        raise ManifestError(f"is not a run manifest: {error}", where=where, mend=error.mend) from error
    return manifest


def read_manifest(path: Path) -> RunManifest:
    """Read the manifest in a file. Raises ManifestError if the file cannot be read or holds no manifest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot be read ({error.strerror})", where=path, mend="check the path") from error
    return from_json(data, where=path)


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Write the manifest as a whole or not at all. Raises TracekitError if that fails."""
    write_atomic(path, to_json(manifest).encode())


def is_manifest_path(path: Path) -> bool:
    """Whether a file's name says that it is a run manifest, not a trace."""
    return path.name.endswith(MANIFEST_SUFFIX)


def manifest_path(trace: Path) -> Path:
    """Where the manifest of a trace lies: `foo.pt.trace.json.gz` has `foo.run.json` beside it."""
    suffix = next((suffix for suffix in _TRACE_SUFFIXES if trace.name.endswith(suffix)), "")
    return trace.with_name(trace.name[: len(trace.name) - len(suffix)] + MANIFEST_SUFFIX)


def find_manifest(trace: Path) -> Path | None:
    """The manifest beside a trace, or None where there is none, as with a trace from elsewhere."""
    path = manifest_path(trace)
    return path if path != trace and path.is_file() else None


def raw_manifest(trace: Path) -> dict[str, Any] | None:
    """The manifest beside a trace as it was written, whatever it says; None if there is none or it is no JSON object."""
    try:
        manifest = json.loads(manifest_path(trace).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


class _InvalidError(Exception):
    """What is wrong with a document, and what would mend it."""

    def __init__(self, what: str, mend: str = "collect the run again") -> None:
        super().__init__(what)
        self.mend = mend


def _check_version(document: object) -> None:
    if not isinstance(document, dict):
        raise _InvalidError(f"it holds {_noun(document)} where an object belongs")
    version = document.get("schema_version")
    if type(version) is not int or version < 1:
        raise _InvalidError("`schema_version` must be a whole number from 1 on")
    if version > SCHEMA_VERSION:
        raise _InvalidError(f"its schema_version is {version}, this tracekit reads {SCHEMA_VERSION}", "upgrade it")


def _check_created(created: str) -> None:
    try:
        offset = datetime.fromisoformat(created.replace("Z", "+00:00")).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise _InvalidError(f"`created` must be a UTC time in ISO 8601, is {created[:40]!r}")


_Record = TypeVar("_Record")


def _decode_record(kind: type[_Record], value: object, where: str) -> _Record:
    """Build a dataclass from a JSON object by its own type hints, so that the schema is written down once."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    hints = typing.get_type_hints(kind, include_extras=True)
    parts: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        path = f"{where}.{entry.name}" if where else entry.name
        if entry.name in value:
            parts[entry.name] = _decode(hints[entry.name], value[entry.name], path)
        elif entry.default is dataclasses.MISSING:
            raise _InvalidError(f"`{path}` is missing")
    return kind(**parts)


def _decode(hint: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _decode_record(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) in (types.UnionType, Union):  # every union of the schema is `X | None`
        return None if value is None else _decode(typing.get_args(hint)[0], value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, entry, f"{where}[{index}]") for index, entry in enumerate(value))
    return _decode_scalar(hint, value, where)


def _decode_scalar(hint: Any, value: object, where: str) -> object:
    if hint in _NUMBERS and type(value) in (int, float):
        number = typing.cast("float", value)
        if not math.isfinite(number) or (number < 0 and hint is float):
            raise _InvalidError(f"`{where}` must be {_NUMBERS[hint]}")
        return float(number)
    if type(value) is not hint:  # not isinstance: JSON's true is no number
        raise _wrong(where, _NOUNS[hint], value)
    if hint is int and typing.cast("int", value) < 0:
        raise _InvalidError(f"`{where}` must not be negative")
    return value


_NUMBERS: Mapping[Any, str] = {float: "finite and not negative", Signed: "finite"}
_NOUNS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Signed: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _noun(value: object) -> str:
    return _NOUNS[type(value)]


def _wrong(where: str, wanted: str, value: object) -> _InvalidError:
    return _InvalidError(f"`{where}` must be {wanted}, is {_noun(value)}")
