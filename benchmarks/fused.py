"""How fast are our kernels? Attention and prefills beside PyTorch's, decode steps beside memory. Needs a CUDA device.

    python benchmarks/fused.py [--only attention|prefill|decode] [--commit SHA] [--keep]

Device time by CUDA events around replays of CUDA graphs, all contenders in turns; the median of 20 rounds. Attention is
causal, 12 heads 64 wide, FP16, ten calls a graph. Ours reads the packed projection and also fills the KV cache; PyTorch's
backends get contiguous tensors and fill none. "As a T4" is the PTX for compute capability 7.5, which the driver compiles
for this device. A prefill is that of GPT-2 small, random weights, without a cache, one token out. A decode step is one of 100
of that model, each a replay, that go on from a position; its floor is the time that reading its weights and cache would take at
the rate of a device copy, which has its turns too and counts what it reads and what it writes.

`--keep` writes a file for each table, such as benchmarks/results/attention-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tracekit.analyze.work.decode_model import INT8, cache_bytes, weight_bytes
from tracekit.collect.bench import take_turns
from tracekit.collect.gpt2 import PRESETS
from tracekit.collect.variants import Demand, find_variant
from tracekit.collect.weights import build_model, random_state
from tracekit.collect.workload import Step, random_prompt
from tracekit.kernels import compile as compiler
from tracekit.kernels.prefill import FlashAttention

HERE = Path(__file__).resolve().parent
LENGTHS, BATCHES, HEADS, WIDTH = (128, 256, 512, 1024), (1, 4, 16), 12, 768
ROUNDS, CALLS = 20, 10
BACKENDS = {
    "math": SDPBackend.MATH,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
PREFILLS = ((1, 512), (1, 1024))  # batch, tokens
VARIANTS = ("graphs", "fp16-compiled-graphs", "fused")
DECODES = ((1, 16), (1, 500), (1, 900), (8, 16), (16, 16))  # batch, the first step's position
STEPS, COPY_BYTES = 100, 2**30
DECODERS = ("fused", "fused-layers", "fused-int8")
HALF_BYTES = 2

Runnable = Callable[[], object]
Times = dict[str, dict[str, float]]
"""For each contender, what was measured of it; times are in microseconds."""


def captured(run: Runnable) -> Runnable:
    """`CALLS` calls of `run` as one CUDA graph. Returns the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(CALLS):
            run()
    return graph.replay


def microseconds(run: Runnable) -> float:
    """The time of one run on the device, in microseconds."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3


def in_turns(runs: dict[str, Runnable], calls: int) -> Times:
    """Median and standard deviation of each contender, in microseconds per call. Three rounds before are not counted."""
    turns = {name: partial(microseconds, run) for name, run in runs.items()}
    take_turns(turns, 3, lambda done, total: None)
    times = take_turns(turns, ROUNDS, lambda done, total: None)
    return {
        name: {"median_us": round(statistics.median(one) / calls, 3), "std_us": round(statistics.stdev(one) / calls, 3)}
        for name, one in times.items()
    }


def attention(batch: int, tokens: int, ours: dict[str, FlashAttention]) -> Times:
    """The time of each backend that runs on this device, and of our kernels."""
    qkv = torch.randn(batch * tokens, 3 * WIDTH, device="cuda", dtype=torch.float16)
    query, key, value = (one.contiguous() for one in qkv.view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4))
    keys, values, out = torch.empty_like(key), torch.empty_like(value), qkv.new_empty((batch * tokens, WIDTH))
    runs: dict[str, Runnable] = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                runs[name] = captured(lambda: F.scaled_dot_product_attention(query, key, value, is_causal=True))
        except RuntimeError as error:
            print(f"{name} does not run here: {str(error).splitlines()[0]}")
    for name, kernel in ours.items():
        runs[name] = captured(partial(kernel, qkv, keys, values, out))
    return in_turns(runs, CALLS)


def prefill(batch: int, tokens: int, state: dict[str, torch.Tensor]) -> Times:
    """The time of each variant's captured prefill, and how far its logits are from those of the first variant."""
    config = PRESETS["gpt2"]
    prompt, positions = random_prompt(config, batch, tokens, 0).cuda(), torch.arange(tokens, device="cuda")
    with torch.inference_mode():
        steps = {name: find_variant(name).build(build_model(config, state), Demand()) for name in VARIANTS}
        logits = {name: step(prompt, positions).logits.double() for name, step in steps.items()}
        times = in_turns({name: partial(step, prompt, positions) for name, step in steps.items()}, 1)
    first = logits[VARIANTS[0]]
    return {name: {**one, "difference": float((logits[name] - first).norm() / first.norm())} for name, one in times.items()}


def steps_from(step: Step, batch: int, position: int) -> Runnable:
    """A function that runs `STEPS` captured steps in a row, beginning at a position."""
    token, at = torch.full((batch, 1), 17, device="cuda"), torch.tensor([position], device="cuda")

    def run() -> None:
        following = step(token, at)
        for _ in range(STEPS - 1):
            following = step(following.token, following.position)

    return run


def step_bytes(batch: int, position: int, is_int8: bool) -> float:
    """The bytes that a step of GPT-2 at this position must move at least.

    These are the weights, and the keys and values of all tokens up to the present one.
    """
    model = PRESETS["gpt2"]
    weights = weight_bytes(model.layers, model.width, model.vocab_size, batch, HALF_BYTES, is_int8)
    return weights + cache_bytes(model.layers, model.width, batch, HALF_BYTES, position + 1)


@torch.inference_mode()
def decode(batch: int, position: int, state: dict[str, torch.Tensor]) -> Times:
    """The time of a step by each of our decoders, the floor of that time, and the floor as a share of the time."""
    model = build_model(PRESETS["gpt2"], state)
    model.allocate_cache(batch, PRESETS["gpt2"].context)
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copies() -> None:
        for _ in range(STEPS):
            target.copy_(source)

    runs = {name: steps_from(find_variant(name).build(model, Demand()), batch, position) for name in DECODERS}
    times = in_turns({**runs, "copy of 1 GiB": copies}, STEPS)
    bytes_per_us = 2 * COPY_BYTES / times["copy of 1 GiB"]["median_us"]
    for name in DECODERS:
        floor = step_bytes(batch, position + STEPS // 2, find_variant(name).weights == INT8) / bytes_per_us
        times[name] |= {"floor_us": round(floor, 2), "share": round(floor / times[name]["median_us"], 4)}
    return times


def attentions() -> dict[str, Times]:
    """The times of attention, by batch and tokens."""
    device = torch.device("cuda", torch.cuda.current_device())
    ours = {"ours": FlashAttention(device)}
    with mock.patch.dict(os.environ, {compiler.VARIABLE: "compute_75"}):
        ours["ours, as a T4"] = FlashAttention(device)
    return {f"{batch} x {tokens}": attention(batch, tokens, ours) for batch in BATCHES for tokens in LENGTHS}


def prefills() -> dict[str, Times]:
    """The times of prefills, by batch and tokens."""
    state = {name: one.cuda().half() for name, one in random_state(PRESETS["gpt2"], 0).items()}
    return {f"{batch} x {tokens}": prefill(batch, tokens, state) for batch, tokens in PREFILLS}


def decodes() -> dict[str, Times]:
    """The times of decode steps, by batch and position."""
    state = {name: one.cuda().half() for name, one in random_state(PRESETS["gpt2"], 0).items()}
    return {f"{batch} x {position}": decode(batch, position, state) for batch, position in DECODES}


MEASURES = {"attention": attentions, "prefill": prefills, "decode": decodes}


def show(title: str, rows: dict[str, Times]) -> None:
    """Print a table of medians and standard deviations. Where there are floors, it shows their shares as well."""
    names = list(next(iter(rows.values())))
    print(
        f"\n{title}: us by batch x {'position' if title == 'decode' else 'tokens'}\n{'':>10}"
        + "".join(f" {name:>21}" for name in names)
    )
    for label, row in rows.items():
        cells = (cell(row[name]) if name in row else "-" for name in names)
        print(f"{label:>10}" + "".join(f" {one:>21}" for one in cells), flush=True)


def cell(one: dict[str, float]) -> str:
    """The text of one measurement in the table."""
    share = f" ({one['share']:.0%})" if "share" in one else ""
    return f"{one['median_us']:.1f} ± {one['std_us']:.1f}{share}"


def keep(title: str, rows: dict[str, Times], commit: str | None) -> None:
    """Write a table as JSON, with the device and the versions it was measured on."""
    name = torch.cuda.get_device_name()
    kept = {
        "what": " ".join(str(__doc__).split("\n\n")[2].split()),
        "device": name,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "rows": rows,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{title}-{slug}.json").write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Print the tables; write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MEASURES, help="one of the tables")
    parser.add_argument("--commit", help="the commit that is measured")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; run it where there is one")
    for title in [arguments.only] if arguments.only else MEASURES:
        rows = MEASURES[title]()
        show(title, rows)
        if arguments.keep:
            keep(title, rows, arguments.commit)


if __name__ == "__main__":
    main()
