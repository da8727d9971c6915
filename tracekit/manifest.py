"""What was run, where, and how fast?

The answer is the run manifest (`<run>.run.json`), a file beside a collected trace.
"""

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
# A number that may be negative. All other numbers of the schema may not.
Signed = Annotated[float, "signed"]
_TRACE_SUFFIXES = (TRACE_SUFFIX, ".pt.trace.json", ".json.gz", ".json")


@dataclass(frozen=True)
class Device:
    """The device that the model ran on. `kind` is `cuda` or `cpu`. Fields that a CPU does not have are None."""

    kind: str
    name: str
    compute_capability: str | None = None
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    driver: str | None = None


@dataclass(frozen=True)
class Host:
    """The machine that holds the device. `threads` is how many of its `cores` torch used within an operator."""

    cpu: str
    cores: int
    threads: int
    system: str


@dataclass(frozen=True)
class Workload:
    """What the model was asked to do.

    `kind` is `generate` (with a KV cache), `recompute` (without one) or `prefill` (one forward pass of the prompt). `decoding`
    is `greedy`, or says how tokens were drawn. `prompt` is the text, or None if the prompt was random token ids from a seed. If
    there is a text, `text` is what the model wrote for the first sequence of the batch, without the prompt.
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
    """Where the weights came from. `source` is `pretrained`, `random` (then `seed` is set) or `path`.

    `location` is the repository on the hub, or the path. `reason` says why `auto` fell back to random weights. `dtype` is the
    type in which a decode step reads the weights, such as `int8`, if that differs from the run's dtype; else None.
    """

    source: str
    location: str | None = None
    seed: int | None = None
    reason: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Model:
    """The shape of the model. `parameters` counts each tied weight once."""

    name: str
    vocab_size: int
    context: int
    layers: int
    heads: int
    width: int
    parameters: int


@dataclass(frozen=True)
class Versions:
    """The versions of the software. `commit` is tracekit's own, with `-dirty` if the checkout had changes."""

    tracekit: str
    python: str
    torch: str
    cuda: str | None = None
    cudnn: str | None = None
    transformers: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Tf32:
    """Whether FP32 matrix products (`matmul`) and cuDNN were allowed to round their inputs to TF32."""

    matmul: bool
    cudnn: bool


@dataclass(frozen=True)
class TimedRun:
    """One run without the profiler, in wall-clock time of the host.

    `first_token_ns` is the time until the first new token was ready; `total_ns` is the time until the last one was.
    """

    first_token_ns: int
    total_ns: int


@dataclass(frozen=True)
class Statistics:
    """Median, mean, standard deviation (n - 1), 10th and 90th percentile of a sample, in ns."""

    median_ns: int
    mean_ns: int
    std_ns: int
    p10_ns: int
    p90_ns: int


@dataclass(frozen=True)
class Timings:
    """Every timed run without the profiler, and the statistics of these runs.

    `startup_ns` is the time of the very first prefill and decode step. It includes loading of kernels, and compilation in a
    compiled variant. `decode_token` is the time of one decode step, as the mean of each run; all its values are 0 for
    `prefill`, which has no decode step. `tokens_per_second` is the new tokens of the whole batch over the time of the median
    run, prefill included; for `prefill` it counts the tokens of the prompt. `peak_memory_bytes` is what the device's allocator
    reports for a separate run; None on a CPU.

    `event_token` is the time from one token to the next on the GPU, measured with CUDA events in separate runs, for all tokens
    but the first. It is None if there is no GPU or no second token. `baseline` names the baseline's run of the same collection.
    `reduction_percent` is how much less time the median run takes than that run does; below 0 it takes more. Both are None if
    there is no other run to compare with. `interleaved_with` lists the other variants whose timed runs took turns with these.
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
    """How far the variant's logits are from those of `reference` for the same tokens on the same device.

    `relative_error` is the norm of the difference over the norm of the reference's logits, over all steps of a run. `bound` is
    the largest error that the variant's dtype may have. `equal_tokens` says for how many of the run's `tokens` the reference's
    first choice is the same token.
    """

    reference: str
    relative_error: float
    bound: float
    equal_tokens: int
    tokens: int


@dataclass(frozen=True)
class Profile:
    """The profiled window: a prefill and `decode_tokens` decode steps.

    `inflation` is the profiled time of a decode step over the median time of a decode step without the profiler. If there is no
    decode step, it is that of the prefill. `layers` says whether user annotations mark the model's layers, which costs host
    time.
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
    """Everything needed to repeat a run and to judge its figures.

    `created` is a UTC time in ISO 8601. `attention` is `sdpa` (fused) or `explicit` (one operator for each step of attention).
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
    """The manifest as an indented JSON document. `schema_version` comes first; the text ends with a newline."""
    document = {"schema_version": manifest.schema_version, **dataclasses.asdict(manifest)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str | bytes, where: object = None) -> RunManifest:
    """Read a manifest. Keys that this version does not know are ignored.

    Raises ManifestError, which names `where` and the key, if this version cannot read the text as a manifest.
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
    """Read the manifest in a file. Raises ManifestError if the file cannot be read or does not hold a manifest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot be read ({error.strerror})", where=path, mend="check the path") from error
    return from_json(data, where=path)


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Write the manifest completely or not at all. Raises TracekitError if that fails."""
    write_atomic(path, to_json(manifest).encode())


def is_manifest_path(path: Path) -> bool:
    """Whether a file is a run manifest and not a trace, judging by its name."""
    return path.name.endswith(MANIFEST_SUFFIX)


def manifest_path(trace: Path) -> Path:
    """The path of the manifest that belongs to a trace: `foo.run.json` for `foo.pt.trace.json.gz`."""
    suffix = next((suffix for suffix in _TRACE_SUFFIXES if trace.name.endswith(suffix)), "")
    return trace.with_name(trace.name[: len(trace.name) - len(suffix)] + MANIFEST_SUFFIX)


def find_manifest(trace: Path) -> Path | None:
    """The manifest beside a trace. None if there is none, as for a trace that tracekit did not collect."""
    path = manifest_path(trace)
    return path if path != trace and path.is_file() else None


def raw_manifest(trace: Path) -> dict[str, Any] | None:
    """The manifest beside a trace, as it was written and without any check.

    None if there is none, or if it is not a JSON object.
    """
    try:
        manifest = json.loads(manifest_path(trace).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


class _InvalidError(Exception):
    """What is wrong with a document, and how to correct it."""

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
    """Build a dataclass from a JSON object. The type hints of the dataclass are the schema, so it is written only once."""
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
