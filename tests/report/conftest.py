"""What does a bundle look like? Small ones by the contract of docs/bundle.md, written without the analysis."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracekit.report.bundle import Bundle, read_bundle
from tracekit.report.render import render
from tracekit.schema import CAUSES, TABLES

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "<b>bold</b><a href='javascript:alert(1)'>link</a><br>&amp;&lt;i&gt;",
    "{{ 7 * 7 }}{% raw %}%{x} ${alert(1)} --gemm",
    "line\u2028separator\u2029 and \u202eesrever",
    "<!--<script>",
)
ARROW = {"text": pa.string(), "int": pa.int64(), "real": pa.float64()}
SCHEMAS: dict[str, dict[str, pa.DataType]] = {
    name: {column.name: ARROW[column.type] for column in table.columns} for name, table in TABLES.items()
}
_FAMILIES = ("gemm", "attention", "reduction", "elementwise", "indexing", "other")


def kernel_rows(count: int, hostile: bool) -> list[dict[str, Any]]:
    """Kernels whose time falls off by rank; the hostile names first, so that they reach every chart and table."""
    names = [
        f"void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, {at}ul> >(int)"
        for at in range(count)
    ]
    if hostile:
        names[: len(HOSTILE)] = HOSTILE
    rows = []
    for at, name in enumerate(names):
        runs, each = 12 + at, 9_000 // (at + 1) + 1_203
        rows.append(
            {
                "name": name,
                "family": _FAMILIES[at % len(_FAMILIES)],
                "kind": "kind",
                "rule": "rule",
                "confidence": 1.0,
                "operator": HOSTILE[at % len(HOSTILE)] if hostile else "aten::addmm",
                "count": runs,
                "time_ns": runs * each,
                "busy_ns": runs * each,
                "min_ns": each - 100,
                "median_ns": each,
                "max_ns": each + 250,
                "grid": "64, 1, 1",
                "block": "128, 1, 1",
                "registers": 40 if at % 3 else None,
                "shared_memory_bytes": 49_152 if at % 2 else 0,
                "occupancy_percent": 37.5 if at % 3 else None,
            }
        )
    total = sum(row["time_ns"] for row in rows)
    return [row | {"share": row["time_ns"] / total} for row in sorted(rows, key=lambda row: -row["time_ns"])]


def gap_rows(count: int, name: str) -> list[dict[str, Any]]:
    rows = []
    for at in range(count):
        cause, length = CAUSES[at % len(CAUSES)], 400_000 // (at + 1) + 500
        rows.append(
            {
                "start_ns": 1_000_000 + (at * 7919 % count) * 450_000,
                "duration_ns": length,
                "cause": cause,
                **{f"{one}_ns": 0 for one in CAUSES},
                f"{cause}_ns": length,
                "before": name,
                "after": name,
                "operator": name if at % 2 else None,
                "call": "cudaLaunchKernel" if at % 6 < 5 else None,
                "thread": "460/460",
            }
        )
    return rows


def timeline_rows(gaps: list[dict[str, Any]], windows: int, name: str) -> list[dict[str, Any]]:
    rows = []

    def add(window: int, lane: str, kind: str, depth: int, label: str, family: str, start: int, length: int) -> None:
        rows.append(dict(zip(SCHEMAS["timeline"], (window, lane, kind, depth, label, family, start, length), strict=True)))

    for window, gap in enumerate(gaps[:windows]):
        start, end = gap["start_ns"], gap["start_ns"] + gap["duration_ns"]
        add(
            window,
            "thread 460",
            "annotation",
            0,
            "decode_step",
            "annotation",
            start - 300_000,
            gap["duration_ns"] + 600_000,
        )
        add(window, "thread 460", "operator", 0, "aten::linear", "operator", start + 1_000, gap["duration_ns"] + 40_000)
        add(window, "thread 460", "operator", 1, name, "operator", start + 2_000, gap["duration_ns"] // 2)
        add(window, "thread 460", "call", 0, "cudaLaunchKernel", "call", end - 6_000, 4_000)
        for at in range(40):
            add(window, "GPU 0 stream 7", "gpu", 0, name, _FAMILIES[at % 6], start - 5_000 * (at + 1), 4_000)
            add(window, "GPU 0 stream 7", "gpu", 0, "Memcpy HtoD", "memory", end + 5_000 * at, 3_500)
    return rows


SHEET = {"name": "NVIDIA H100 (SXM)", "memory_gb_s": 3350, "tflops": {"fp32": 67, "fp16": 989.5}, "source": "datasheet"}


def roofline_rows(kernels: list[dict[str, Any]], labels: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """The roofline of these kernels: every fourth is of unknown work, one is a copy, one seems too fast; and a projection."""
    by_kernel, by_operator, projected = [], [], []
    for at, kernel in enumerate(kernels):
        time, known = kernel["time_ns"], at % 4 != 3
        flops = (0 if at % 4 == 2 else time * 40) if known else None
        moved = time * 800 if known else None
        figures = {
            **{key: kernel[key] for key in ("count", "time_ns", "share")},
            "known_ns": time if known else 0,
            "flops": flops,
            "bytes": moved,
            "peak": ("fp16" if at % 2 else "fp32") if flops else None,
            "tflops": flops / time / 1e3 if flops is not None else None,
            "gb_s": 800.0 if known else None,
            "intensity": flops / moved if flops is not None else None,
            "compute_share": 0.4 / 67 if known else None,
            "memory_share": (1.3 if at == 4 else 800 / 3350) if known else None,
            "bound": ("memory" if at == 4 else "latency") if known else None,
            "flag": "above_peak" if at == 4 else "from_cache" if at == 5 else None,
        }
        by_kernel.append({"name": kernel["name"], "family": kernel["family"], **figures})
        operator = labels[at % len(labels)]
        by_operator.append(
            {"operator": operator if at else None, "shapes": "[9, 768], [768, 3072]" if at % 2 else operator, **figures}
        )
        projected.append(
            {
                **{key: kernel[key] for key in ("name", "family", "count", "time_ns")},
                "known_ns": figures["known_ns"],
                "flops": flops or 0,
                "bytes": moved or 0,
                "projected_ns": 14 * time if known else None,
                "bound": "memory" if known else None,
            }
        )
    steps = [
        {
            **{
                "step": label,
                "calls": 8,
                "gpu_events": 165.5,
                "host_launches": 164.0,
                "time_ns": 500_000,
                "known_share": share,
            },
            **{"projected_ns": 1_050_000, "gap_ns": 220_000, "host_ns": 8_600_000, "step_ns": total},
        }
        for label, share, total in ((labels[0], 1.0, 8_600_000), ("decode", 0.1, None))
    ]
    return {
        "roofline_kernels": by_kernel,
        "roofline_operators": by_operator,
        "projection_kernels": projected,
        "projection_steps": steps,
    }


def roofline_documents(tables: dict[str, list[dict[str, Any]]], label: str) -> dict[str, Any]:
    """What the document says of the roofline and the projection in these tables."""
    rows = tables["roofline_kernels"]
    total, known = (sum(row[key] for row in rows) for key in ("time_ns", "known_ns"))
    model = {"weight_bytes": 1, "cache_bytes": 2, "activation_bytes": 3, "bytes": 250_700_000, "flops": 4, "peak": "fp16"}
    return {
        "roofline": {
            **{"device": SHEET["name"], "kernel_time_ns": total, "known_ns": known, "known_share": known / total},
            **{"flops": 1, "bytes": 1, "kernels": rows, "operators": tables["roofline_operators"]},
        },
        "projection": {
            **{"source": "NVIDIA H100 80GB HBM3", "kernel_time_ns": total, "known_ns": known, "known_share": known / total},
            "inputs": {
                **{"device": f"NVIDIA T4 {label}", "memory_gb_s": 240, "memory_source": f"a copy {label}"},
                **{"tflops": {"fp32": 8.1}, "tflops_source": f"datasheet {label}", "gap_ns": 1344, "launch_ns": 52_668},
                "launch_source": f"a trace {label}",
            },
            "projected_ns": 14 * known,
            "kernels": tables["projection_kernels"],
            "steps": tables["projection_steps"],
            "decode": {
                **{"model": model, "batch": 1, "gpu_events": 167.1, "launches": 2.0, "kernel_ns": 1_044_678},
                **{"gap_ns": 224_000, "host_ns": 105_336, "step_ns": 1_268_678, "bound": "memory", "tokens_per_second": 788.2},
            },
        },
    }


Nested = dict[str, "tuple[int, int] | Nested"]

GPT2: Nested = {
    "token_embedding": (15, 22),
    "position_embedding": (14, 20),
    "embedding_sum": (12, 12),
    "blocks": {
        "block": {
            "norm_1": (26, 24),
            "attention": {
                "qkv_projection": (60, 30),
                "qkv_reshape": (0, 14),
                "scores": (25, 30),
                "mask": (13, 36),
                "softmax": (16, 18),
                "values": (24, 26),
                "output_projection": (35, 27),
            },
            "residual_1": (12, 12),
            "mlp": {"expansion": (80, 27), "activation": (12, 90), "projection": (85, 26), "(rest)": (0, 3)},
        }
    },
    "lm_head": (700, 30),
    "<b>hook</b>": (1, 1),
}
"""A step of an annotated GPT-2: GPU time and host time of each layer, in microseconds."""


def layer_rows(layers: Nested, outside_ns: int = 0) -> list[dict[str, Any]]:
    """The table of layers that nest like this, with `outside_ns` of kernels in none of them."""
    rows: list[dict[str, Any]] = []

    def add(path: tuple[str, ...], inside: Any) -> tuple[int, int]:
        row: dict[str, Any] = {"path": "/".join(path), "name": path[-1], "depth": len(path) - 1}
        rows.append(row)
        parts = [add((*path, name), part) for name, part in inside.items()] if isinstance(inside, dict) else [inside]
        gpu, host = (sum(part[which] for part in parts) for which in (0, 1))
        calls = 0 if path[-1] == "(rest)" else 12 if "block" in path else 1
        row |= {"time_ns": gpu * 1000, "busy_ns": gpu * 1000, "host_ns": host * 1000, "count": 4, "calls": calls, "wait_ns": 0}
        return gpu, host

    for name, inside in layers.items():
        add((name,), inside)
    if outside_ns:
        figures = dict.fromkeys(("count", "calls", "host_ns", "wait_ns"), 0)
        rows.append(
            {"path": "(outside)", "name": "(outside)", "depth": 0, "time_ns": outside_ns, "busy_ns": outside_ns, **figures}
        )
    gpu, host = (sum(row[key] for row in rows if not row["depth"]) for key in ("time_ns", "host_ns"))
    return [row | {"share": row["time_ns"] / max(gpu, 1), "host_share": row["host_ns"] / max(host, 1)} for row in rows]


def manifest() -> dict[str, Any]:
    """A run manifest of a small random GPT-2."""
    statistics = {"median_ns": 0, "mean_ns": 0, "std_ns": 0, "p10_ns": 0, "p90_ns": 0}
    return {
        "schema_version": 1,
        "run": "gpt2-fp16",
        "created": "2025-01-02T03:04:05Z",
        "command": "tracekit collect --variant fp16",
        "variant": "fp16",
        "dtype": "float16",
        "device": {"kind": "cuda", "name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "driver": "580.1"},
        "host": {"cpu": "Some CPU", "cores": 16, "threads": 8, "system": "Linux 6.1"},
        "workload": {
            "kind": "generate",
            "batch": 1,
            "prompt_tokens": 16,
            "new_tokens": 100,
            "decoding": "greedy",
            "prompt": None,
        },
        "weights": {"source": "random", "seed": 0},
        "model": {
            "name": "gpt2",
            "vocab_size": 50257,
            "context": 1024,
            "layers": 12,
            "heads": 12,
            "width": 768,
            "parameters": 124_439_808,
        },
        "versions": {"tracekit": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "cuda": "13.0", "transformers": "5.0"},
        "tf32": {"matmul": False, "cudnn": True},
        "seed": 0,
        "timings": {
            "warmup_runs": 2,
            "startup_ns": 900_000_000,
            "runs": [{"first_token_ns": 8_000_000, "total_ns": 510_000_000}] * 3,
            "total": statistics | {"median_ns": 510_000_000},
            "first_token": statistics | {"median_ns": 8_000_000},
            "decode_token": statistics | {"median_ns": 5_000_000},
            "tokens_per_second": 196.1,
            "peak_memory_bytes": 310_000_000,
        },
        "profile": {
            "trace": "x",
            "decode_tokens": 8,
            "prefill_ns": 12_000_000,
            "decode_ns": 84_000_000,
            "inflation": 2.1,
        },
        "notices": [],
    }


def trace_parts(
    name: str = "gpt2-fp16.pt.trace.json.gz",
    *,
    gpu: bool = True,
    complete: bool = True,
    hostile: bool = False,
    kernels: int = 40,
    gaps: int = 60,
) -> Parts:
    """The document entry and the tables of one trace, consistent with each other."""
    label = HOSTILE[0] if hostile else "aten::addmm"
    operators = [
        {
            "name": HOSTILE[at % len(HOSTILE)] if hostile else f"aten::op_{at}",
            "count": 10 + at,
            "host_total_ns": 90_000 + at,
            "host_self_ns": 80_000 // (at + 1),
            "kernel_time_ns": 5_000,
            "kernels": 4,
        }
        for at in range(30)
    ]
    tables: dict[str, list[dict[str, Any]]] = {key: [] for key in SCHEMAS}
    tables["operators"] = operators
    document: dict[str, Any] = {
        "name": name,
        "path": name,
        "rank": None,
        "events": 12_345,
        "device": None,
        "complete": complete,
        "warnings": []
        if complete
        else [{"code": "launches_without_kernel", "message": f"87 launches have no kernel {label}", "count": 87}],
        "gpu": None,
        "families": [],
        "idle": {f"{cause}_ns": 0 for cause in CAUSES},
        "launches": {
            "kernel_launches": 0,
            "graph_launches": 0,
            "launches_without_kernel": 0,
            "kernels_without_launch": 0,
            "latency_ns": None,
        },
        "kernels": [],
        "operators": operators,
        "host": {"span_ns": 5_000_000, "threads": 2, "operator_self_ns": 700_000, "operators": 30, "calls": 0},
        "layers": [],
        "roofline": None,
        "projection": None,
        "findings": [],
        "manifest": None,
    }
    if not gpu:
        return document, tables
    tables["kernels"] = kernel_rows(kernels, hostile)
    tables["gaps"] = gap_rows(gaps, label)
    tables["gap_groups"] = [
        {
            "after": label,
            "operator": label,
            "call": "cudaLaunchKernel",
            "cause": "dispatch",
            "count": 7,
            "idle_ns": 90_000,
            **{f"{one}_ns": 0 for one in CAUSES},
            "dispatch_ns": 90_000,
        }
    ]
    tables["calls"] = [{"name": "cudaLaunchKernel", "count": 400, "time_ns": 2_000_000, "max_ns": 90_000}]
    tables["copies"] = [{"name": "Memcpy HtoD (Pageable -> Device)", "count": 3, "time_ns": 60_000, "bytes": 600_000}]
    tables["launches"] = [
        {"name": "cudaLaunchKernel", "count": 400, "p50_ns": 6_000, "p90_ns": 9_000, "p99_ns": 20_000, "max_ns": 90_000}
    ]
    key = HOSTILE[1] if hostile else "fh2kawtlzlzlmpux5vgrmjrhf2fxfxgnimo6qoem3nheyiqlw3o6"
    medians = {"span_ns": 390_000, "busy_ns": 335_000, "gap_ns": 55_000, "latency_ns": 300_000, "call_ns": 208_000}
    first = {"graph": 0, "kernels": 125, "copies": 0, "kernel_time_ns": 335_000, "first": label}
    tables["graphs"] = [first | medians | {"launches": 8, "kernel_time_ns": 2_680_000, "share": 0.86}]
    tables["graph_launches"] = [first | medians | {"start_ns": 500_000 * at, "gaps": 124} for at in range(8)]
    region = {"region": "0/4", "fx_graph": key}
    tables["compiled_regions"] = [
        region
        | {"calls": 8, "host_ns": 90_000_000, "kernels": 1088, "time_ns": 900_000, "share": 0.4}
        | {"generated": 500, "generated_ns": 400_000}
    ]
    tables["generated_kernels"] = [
        {
            "name": f"triton_poi_fused_add_mul_{at} {label}",
            "source": f"add, mul, {label}",
            "count": 9,
            "time_ns": 900,
            "share": 0.1,
        }
        | region
        for at in range(3)
    ]
    tables["timeline"] = timeline_rows(tables["gaps"], 3, label)
    tables["layers"] = layer_rows({"model": {label: {str(at): (40 // (at + 1), 30) for at in range(6)}}}, 7_000)
    tables |= roofline_rows(tables["kernels"], HOSTILE if hostile else ("aten::addmm", "aten::mul"))
    kernel_time = sum(row["time_ns"] for row in tables["kernels"])
    busy = kernel_time + 60_000
    idle = {f"{cause}_ns": sum(row[f"{cause}_ns"] for row in tables["gaps"]) for cause in CAUSES}
    tables["streams"] = [{"device": 0, "stream": 7, "events": 900, "kernels": 897, "busy_ns": busy, "share": 0.5}]
    families = {family: [row for row in tables["kernels"] if row["family"] == family] for family in _FAMILIES}
    document |= {
        "device": {
            "name": "NVIDIA H100 80GB HBM3",
            "compute_capability": "9.0",
            "multiprocessors": 132,
            "memory_bytes": 85_000_000_000,
            "datasheet": SHEET,
        },
        **roofline_documents(tables, label),
        "gpu": {
            "span_ns": busy + sum(idle.values()),
            "busy_ns": busy,
            "idle_ns": sum(idle.values()),
            "kernel_time_ns": kernel_time,
            "kernels": sum(row["count"] for row in tables["kernels"]),
            "unique_kernels": len(tables["kernels"]),
            "memcpys": 3,
            "memsets": 0,
        },
        "families": [
            {
                "family": family,
                "time_ns": time_ns,
                "share": time_ns / kernel_time,
                "count": sum(row["count"] for row in rows),
            }
            for family, rows in families.items()
            if (time_ns := sum(row["time_ns"] for row in rows))
        ],
        "idle": idle,
        "launches": {
            "kernel_launches": 400,
            "graph_launches": 2,
            "launches_without_kernel": 0 if complete else 87,
            "kernels_without_launch": 0,
            "latency_ns": {"p50": 6_000, "p90": 9_000, "p99": 20_000, "max": 90_000},
        },
        "layers": tables["layers"],
        "layer_sources": {"annotations": 8, "modules": 0, "graph_kernels": 0, "labelled_graph_kernels": 0},
        "without_operator": {
            "kernels": 125,
            "time_ns": 86_000,
            "share": 0.86,
            "replayed_ns": 80_000,
            "outside_ns": 6_000,
            "unlaunched_ns": 0,
        },
        "findings": [
            {
                "code": "launch_overhead",
                "title": f"Launches cost more than kernels {label}",
                "severity": "high",
                "affected_ns": 900_000,
                "saving_ns": 700_000,
                "evidence": f"400 launches {label}",
                "action": "Use a CUDA graph.",
                "reasoning": f"All idle time less the gaps {label}",
                "rows": [{"step": label, "busy_ns": 1}],
            },
            {
                "code": "small_kernels",
                "title": "Kernels are small",
                "severity": "low",
                "affected_ns": 90_000,
                "saving_ns": None,
                "evidence": "Median 3 µs",
                "action": "Fuse them.",
            },
        ],
        "undecided": [
            {"code": "fp32_gemm", "because": f"no shapes {label}"},
            {"code": "stragglers", "because": "one rank alone"},
            {"code": "tf32_off", "because": f"no shapes {label}"},
        ],
        "manifest": manifest(),
    }
    return document, tables


def layered_parts(**traits: Any) -> Parts:
    """A trace of an annotated GPT-2."""
    document, tables = trace_parts(**traits)
    tables["layers"] = layer_rows({"prefill": GPT2, "decode": {**GPT2, "sampling": (9, 50)}})
    return document | {"layers": tables["layers"]}, tables


def write_bundle(directory: Path, *parts: Parts) -> Path:
    """Write a bundle by the contract."""
    entries = []
    for at, (document, tables) in enumerate(parts):
        folder = f"{at:02}-trace"
        (directory / folder).mkdir(parents=True)
        for name, rows in tables.items():
            columns = {key: pa.array([row.get(key) for row in rows], kind) for key, kind in SCHEMAS[name].items()}
            pq.write_table(pa.table(columns), directory / folder / f"{name}.parquet")
        entries.append(document | {"folder": folder})
    document = {"schema_version": 1, "tracekit_version": "0.1.0", "traces": entries}
    (directory / "bundle.json").write_text(json.dumps(document))
    return directory


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a bundle of one trace with the given traits and returns its directory."""

    def make(**traits: Any) -> Path:
        return write_bundle(tmp_path / "analysis", trace_parts(**traits))

    return make


@pytest.fixture(scope="session")
def dossiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rendered pages that the browser tests share: an honest trace, a hostile one, a layered one, one without a GPU, several."""
    home = tmp_path_factory.mktemp("dossiers")
    kinds = {
        "plain": [trace_parts()],
        "hostile": [
            trace_parts(name=HOSTILE[1], hostile=True, complete=False),
            trace_parts(name=HOSTILE[0], hostile=True),
        ],
        "cpu": [trace_parts(gpu=False)],
        "layered": [layered_parts()],
        "several": [
            trace_parts(),
            trace_parts(name="baseline.json", kernels=20, gaps=200),
            trace_parts(name="cpu.json", gpu=False),
        ],
    }
    return {kind: render(write_bundle(home / kind, *parts), home / f"{kind}.html") for kind, parts in kinds.items()}


@pytest.fixture
def parts() -> Callable[..., Parts]:
    """`trace_parts`: the document entry and the tables of one trace."""
    return trace_parts


@pytest.fixture
def layered() -> Callable[..., Parts]:
    """`layered_parts`: the same of a trace of an annotated GPT-2."""
    return layered_parts


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a bundle of the given parts and returns its directory."""
    return lambda *traces: write_bundle(Path(tempfile.mkdtemp(dir=tmp_path)), *traces)


@pytest.fixture
def load(write: Callable[..., Path]) -> Callable[..., Bundle]:
    """A function that writes a bundle of the given parts and reads it back."""
    return lambda *traces: read_bundle(write(*traces))


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """Names that try to be markup, script, template, format or line end."""
    return HOSTILE
