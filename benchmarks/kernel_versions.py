"""Does a change of the kernels cost time? Decode steps by two versions of kernels/, in turns. Needs a CUDA device.

    git archive OLD kernels | tar -x -C /tmp
    python benchmarks/kernel_versions.py /tmp/kernels [--before SHA --after SHA --keep]

A step of a model of 12 layers and random weights, as a replay of a CUDA graph; a turn is 100 of them that go on from a
position. Device time by CUDA events, the median of 40 rounds. Each version has two decoders of its own, whose turns alternate:
what they differ by is noise. The ratio is that of the versions' means. Both must choose the same tokens in the end.

`--keep` writes benchmarks/results/kernel_versions-<device>.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import statistics
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tracekit.collect.bench import take_turns

HERE = Path(__file__).resolve().parent
ROUNDS, STEPS, LAYERS, VOCABULARY, LENGTH = 40, 100, 12, 50257, 1024
PERSISTENT = (
    ("hopper", "PersistentDecoder", width, 1, at) for width, at in ((768, 16), (768, 500), (768, 900), (256, 16), (512, 16))
)
BY_LAYERS = (("decode", "Decoder", 768, batch, 16) for batch in (1, 8, 16))


def package_at(directory: Path) -> str:
    """Import the kernels of a directory as a package beside tracekit's. Returns its name."""
    name = "other_kernels"
    spec = importlib.util.spec_from_file_location(name, directory / "__init__.py", submodule_search_locations=[str(directory)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name


def random_model(decode: ModuleType, width: int, batch: int) -> Any:
    """The tensors of a model, the same for every version."""
    generator = torch.Generator("cuda").manual_seed(width + batch)

    def normal(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, device="cuda", generator=generator) * scale + mean).half()

    def linear(outputs: int, inputs: int) -> Any:
        return decode.Linear(normal(outputs, inputs, scale=inputs**-0.5), normal(outputs, scale=0.1))

    def layer() -> Any:
        norms = [(normal(width, scale=0.1, mean=1.0), normal(width, scale=0.1)) for _ in range(2)]
        linears = (linear(3 * width, width), linear(width, width), linear(4 * width, width), linear(width, 4 * width))
        cache = [normal(batch, width // 64, LENGTH, 64) for _ in range(2)]
        return decode.LayerTensors(norms[0], *linears[:2], norms[1], *linears[2:], *cache)

    table = normal(VOCABULARY, width)
    layers = tuple(layer() for _ in range(LAYERS))
    norm = (normal(width, scale=0.1, mean=1.0), normal(width, scale=0.1))
    return decode.ModelTensors((table, normal(LENGTH, width)), layers, norm, decode.Linear(table))


def turn_of(decoder: Callable[[Tensor, Tensor], Tensor], batch: int, at: int) -> tuple[Callable[[], float], Tensor]:
    """A function that runs `STEPS` captured steps from a position, and their tokens.

    The function returns microseconds a step, and leaves the last step's token in the tensor, int64 [batch, 1].
    """
    tokens, position = torch.full((batch, 1), 17, device="cuda"), torch.tensor([at], device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            decoder(tokens, position)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        decoder(tokens, position)

    def run() -> float:
        tokens.fill_(17)
        position.fill_(at)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(STEPS):
            graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3 / STEPS

    return run, tokens


@torch.inference_mode()
def compare(other: str, module: str, name: str, width: int, batch: int, at: int) -> dict[str, Any]:
    """The times of both versions of a decoder. Raises ValueError if they choose different tokens."""
    turns, tokens, decoders = {}, {}, []
    for again in (1, 2):
        for version, package in (("before", other), ("after", "tracekit.kernels")):
            model = random_model(importlib.import_module(f"{package}.decode"), width, batch)
            decoder = getattr(importlib.import_module(f"{package}.{module}"), name)(model)
            decoders.append(decoder)  # a graph does not keep the buffers alive that it uses
            turns[f"{version} {again}"], tokens[f"{version} {again}"] = turn_of(decoder, batch, at)
    take_turns(turns, 3, lambda done, total: None)
    times = take_turns(turns, ROUNDS, lambda done, total: None)
    chosen = {tuple(one.flatten().tolist()) for one in tokens.values()}
    if len(chosen) > 1:
        raise ValueError(f"{module}, width {width}, batch {batch}: the versions choose different tokens, {chosen}")
    medians = {turn: round(statistics.median(one), 2) for turn, one in times.items()}
    before, after = (statistics.mean(medians[f"{version} {again}"] for again in (1, 2)) for version in ("before", "after"))
    return {"medians_us": medians, "ratio": round(after / before, 4)}


def main() -> None:
    """Print a line for each decoder; write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="kernels/ of the version to compare with")
    parser.add_argument("--before", help="the commit of that version")
    parser.add_argument("--after", help="the commit that is measured")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; run it where there is one")
    other, rows = package_at(arguments.directory.resolve()), {}
    for module, name, width, batch, at in (*PERSISTENT, *BY_LAYERS):
        label = f"{name}, width {width}, batch {batch}, position {at}"
        rows[label] = compare(other, module, name, width, batch, at)
        print(f"{label}: {rows[label]}", flush=True)
    if arguments.keep:
        device = torch.cuda.get_device_name()
        kept = {
            "what": " ".join(str(__doc__).split("\n\n")[2].split()),
            "device": device,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commits": {"before": arguments.before, "after": arguments.after},
            "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
            "rows": rows,
        }
        slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        (HERE / "results" / f"kernel_versions-{slug}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
