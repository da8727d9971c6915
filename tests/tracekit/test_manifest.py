from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import EXAMPLE

from tracekit import manifest as module
from tracekit.errors import ManifestError
from tracekit.manifest import RunManifest, find_manifest, from_json, manifest_path, read_manifest, to_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**62)
figures = st.floats(0, 1e12, allow_nan=False)
for kind, strategy in ((str, texts), (int, counts), (float, figures)):
    st.register_type_strategy(kind, strategy)
moments = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds") + "+00:00")
manifests = st.builds(
    RunManifest,
    created=moments,
    timings=st.builds(module.Timings, runs=st.lists(st.builds(module.TimedRun), min_size=1).map(tuple)),
    notices=st.lists(texts).map(tuple),
    schema_version=st.just(1),
)


def document() -> dict[str, Any]:
    return json.loads(to_json(EXAMPLE))


@given(manifests)
def test_json_and_back_is_the_same(manifest: RunManifest) -> None:
    assert from_json(to_json(manifest)) == manifest


@given(manifests, st.dictionaries(texts.map("x-".__add__), st.integers() | texts, max_size=3))
def test_keys_from_the_future_are_ignored_everywhere(manifest: RunManifest, extra: dict[str, Any]) -> None:
    text = json.loads(to_json(manifest))
    for part in (text, text["device"], text["timings"], text["timings"]["runs"][0]):
        part.update(extra)
    assert from_json(json.dumps(text)) == manifest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([field.name for field in dataclasses.fields(RunManifest)]), json_values)
def test_any_wrong_value_is_a_manifest_error_or_harmless(key: str, value: object) -> None:
    text = json.dumps({**document(), key: value})
    try:
        manifest = from_json(text, where="x.run.json")
    except ManifestError as error:
        line = str(error)
    else:
        line = "x.run.json: "
        assert from_json(to_json(manifest)) == manifest
    assert line.startswith("x.run.json: ")
    assert "\n" not in line


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_other_bytes_are_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        from_json(data)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(RunManifest)])
def test_a_missing_key_is_named_unless_it_has_a_default(key: str) -> None:
    text = document()
    del text[key]
    if key in ("profile", "notices", "attention", "accuracy"):
        assert from_json(json.dumps(text)).run == EXAMPLE.run
    else:
        with pytest.raises(ManifestError, match=key):
            from_json(json.dumps(text))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("timings", "runs", 0, "total_ns"), "3", r"`timings.runs\[0\].total_ns` must be a whole number, is a text"),
        (("timings", "runs", 0, "total_ns"), True, "must be a whole number, is true or false"),
        (("timings", "runs", 0, "total_ns"), -1, "must not be negative"),
        (("timings", "runs"), {}, "`timings.runs` must be a list, is an object"),
        (("timings", "tokens_per_second"), float("inf"), "must be finite"),
        (("timings", "tokens_per_second"), -1.0, "must be finite and not negative"),
        (("timings", "reduction_percent"), "fast", "`timings.reduction_percent` must be a number, is a text"),
        (("timings", "interleaved_with"), "fp16", "`timings.interleaved_with` must be a list"),
        (("device",), None, "`device` must be an object, is null"),
        (("tf32", "matmul"), 1, "`tf32.matmul` must be true or false"),
        (("created",), "2026-01-02T03:04:05+01:00", "`created` must be a UTC time"),
        (("created",), "yesterday", "`created` must be a UTC time"),
        (("schema_version",), 2, "its schema_version is 2, this tracekit reads 1; upgrade it"),
        (("schema_version",), True, "`schema_version` must be a whole number"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(path: tuple[Any, ...], value: object, message: str) -> None:
    text: Any = document()
    part = text
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(ManifestError, match=message):
        from_json(json.dumps(text), where="gpt2.run.json")


def test_a_manifest_from_before_variants_were_compared_still_reads() -> None:
    text = document()
    for key in ("event_token", "reduction_percent", "baseline", "interleaved_with"):
        del text["timings"][key]
    for part, key in ((text, "attention"), (text, "accuracy"), (text["profile"], "layers"), (text["workload"], "text")):
        del part[key]
    assert from_json(json.dumps(text)) == EXAMPLE


def test_only_a_reduction_may_be_negative() -> None:
    slower = dataclasses.replace(EXAMPLE, timings=dataclasses.replace(EXAMPLE.timings, reduction_percent=-2.5))
    assert from_json(to_json(slower)) == slower


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "gpt2.run.json"
    module.write_manifest(path, EXAMPLE)
    assert read_manifest(path) == EXAMPLE
    assert [entry.name for entry in path.parent.iterdir()] == ["gpt2.run.json"]
    assert path.read_text().startswith('{\n  "schema_version": 1,\n')
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.run.json")


@pytest.mark.parametrize("suffix", [".pt.trace.json.gz", ".pt.trace.json", ".json.gz", ".json", ""])
def test_the_manifest_beside_a_trace(suffix: str, tmp_path: Path) -> None:
    trace = tmp_path / f"foo.v2{suffix}"
    assert find_manifest(trace) is None
    assert manifest_path(trace) == tmp_path / "foo.v2.run.json"
    manifest_path(trace).touch()
    assert find_manifest(trace) == tmp_path / "foo.v2.run.json"
    assert module.is_manifest_path(manifest_path(trace))
    assert not module.is_manifest_path(trace)
