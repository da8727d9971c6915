"""What must not change a figure: other numbers for the same ids, another order in the file, another clock, other processes.

And what must: an event of a complete trace that is moved to where it cannot have been.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from repository import ROOT
from step_traces import Periodic
from synthetic import Ns

from tracekit.analyze import analyze
from tracekit.analyze.analysis import Analysis
from tracekit.analyze.output.document import entry
from tracekit.analyze.trace.plausible import SKEW_NS
from tracekit.taxonomy import Taxonomy

NAMES = ("gpt2-fused-h100-80gb-hbm3", "gpt2-graphs-h100-80gb-hbm3", "gpt2-fp16-compiled-h100-80gb-hbm3")
"""Real traces of launches one by one, of graphs, and of both."""

Document = dict[str, Any]


def real(name: str) -> Document:
    document: Document = json.loads(gzip.decompress((ROOT / f"traces/{name}.pt.trace.json.gz").read_bytes()))
    return document


def timed(document: Document) -> list[Document]:
    return [event for event in document["traceEvents"] if event.get("ph") == "X"]


def figures(document: Document, directory: Path) -> list[Document]:
    """What `analyze --json` prints for each trace of the file, without its path and name."""
    path = directory / "trace.json"
    path.write_text(json.dumps(document))
    return [{**one, "path": None, "name": None} for one in analyze([path]).document()["traces"]]


def other_ids(document: Document, chance: random.Random) -> None:
    """Give every id another number, the same one wherever it stands."""
    for key in ("correlation", "External id"):
        holders = [event["args"] for event in timed(document) if event.get("args", {}).get(key)]
        known = sorted({holder[key] for holder in holders})
        new = dict(zip(known, chance.sample(range(1, 10 * len(known) + 1), len(known)), strict=True))
        for holder in holders:
            holder[key] = new[holder[key]]


def other_order(document: Document, chance: random.Random) -> None:
    chance.shuffle(document["traceEvents"])


def other_clock(document: Document, chance: random.Random) -> None:
    document["baseTimeNanoseconds"] = document.get("baseTimeNanoseconds", 0) + chance.randrange(10**12)


def other_processes(document: Document, chance: random.Random) -> None:
    """Give the host's processes and threads other numbers. A GPU's process is its device."""
    number = chance.randrange(10**6, 10**7)
    for event in timed(document):
        if event.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset", "cuda_sync", "overhead"):
            event["pid"], event["tid"] = str(event["pid"]) + str(number), str(event["tid"]) + str(number)


@pytest.mark.parametrize("change", [other_ids, other_order, other_clock, other_processes])
@pytest.mark.parametrize("name", NAMES)
def test_no_figure_changes(name: str, change: Callable[[Document, random.Random], None], tmp_path: Path) -> None:
    before, document = figures(real(name), tmp_path), real(name)
    change(document, random.Random(name))
    assert document != real(name)
    found = figures(document, tmp_path)
    assert not list(differences("", before, found))


def differences(place: str, one: Any, other: Any) -> Iterator[str]:
    """Where two documents differ. Sums of floats may differ in their last digits, because their order does."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(f"{place}.{key}", one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(f"{place}[{at}]", left, right)
    elif isinstance(one, float) and isinstance(other, float):
        if one != pytest.approx(other, rel=1e-12):
            yield place
    elif one != other:
        yield f"{place}: {one} and {other}"


def test_ranks_that_use_the_same_ids_in_one_file_are_as_they_are_alone(tmp_path: Path) -> None:
    names = NAMES[:2]
    alone = [figures(real(name), tmp_path)[0] for name in names]
    merged: Document = {"deviceProperties": real(names[0])["deviceProperties"], "traceEvents": []}
    for rank, name in enumerate(names):
        for event in timed(real(name)):
            merged["traceEvents"].append({**event, "pid": f"[TP{rank:02}] {event['pid']}"})
    random.Random(0).shuffle(merged["traceEvents"])
    found = figures(merged, tmp_path)

    same = ("gpu", "families", "idle", "launches", "kernels", "operators", "layers", "graphs", "devices")
    assert [[one[key] for key in same] for one in found] == [[one[key] for key in same] for one in alone]
    assert [one["rank"] for one in found] == [0, 1]


@given(st.data())
@examples(60)
def test_a_kernel_moved_to_before_its_call_makes_the_trace_incomplete(data: st.DataObject) -> None:
    builder = Periodic(6).builder
    kernels = [event for event in builder.entries if event["cat"] == "kernel" and "lead" not in event["name"]]
    moved = data.draw(st.sampled_from(kernels))
    call = next(
        one
        for one in builder.entries
        if one["cat"] == "cuda_runtime" and one["args"].get("correlation") == moved["args"]["correlation"]
    )
    first = next(one for one in kernels if one["args"]["correlation"] == moved["args"]["correlation"]) is moved
    moved["ts"] = Ns(call["ts"] - SKEW_NS - data.draw(st.integers(1, 10**12)))
    analysis = Analysis(builder.trace(), Taxonomy([]))
    assert not analysis.complete or not first


@given(st.lists(st.integers(-900, 900), min_size=8, max_size=8))
@examples(60)
def test_clocks_that_jitter_by_less_than_a_microsecond_keep_every_sum(jitter: list[int]) -> None:
    builder = Periodic(6).builder
    for number, event in enumerate(builder.entries):
        if event["cat"] == "kernel":
            event["ts"] = Ns(event["ts"] + jitter[number % 8])
    found = entry(Analysis(builder.trace(), Taxonomy([])))
    assert found["gpu"]["busy_ns"] + found["gpu"]["idle_ns"] == found["gpu"]["span_ns"]
    assert sum(found["idle"].values()) == found["gpu"]["idle_ns"]
    assert found["gpu"]["kernel_time_ns"] == sum(event["dur"] for event in builder.entries if event["cat"] == "kernel")
