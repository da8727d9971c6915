"""What does `analyze --json` print? The document that docs/json.md describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tracekit import __version__
from tracekit.bundle import SCHEMA_VERSION
from tracekit.devices import find_datasheet

from .analysis import Analysis
from .inputs import Skipped
from .trace import Device


def document(analyses: Iterable[Analysis], skipped: Sequence[Skipped] = ()) -> dict[str, Any]:
    """The whole document, of JSON values only."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tracekit_version": __version__,
        "traces": [entry(analysis) for analysis in analyses],
        "skipped": [asdict(one) for one in skipped],
    }


def entry(analysis: Analysis) -> dict[str, Any]:
    """One trace's part of the document."""
    trace, launches = analysis.trace, analysis.launches
    return {
        "name": trace.name,
        "path": trace.path,
        "rank": trace.rank,
        "events": trace.entries,
        "device": _device(trace.device) if trace.device else None,
        "complete": analysis.complete,
        "warnings": [asdict(warning) for warning in analysis.warnings],
        "gpu": asdict(analysis.gpu) if analysis.gpu else None,
        "families": analysis.families.records(),
        "idle": asdict(analysis.idle),
        "launches": {
            "kernel_launches": launches.kernel_launches,
            "graph_launches": launches.graph_launches,
            "launches_without_kernel": launches.launches_without_kernel,
            "kernels_without_launch": launches.kernels_without_launch,
            "latency_ns": asdict(launches.latency),
        },
        "host": asdict(analysis.host) if analysis.host else None,
        "kernels": analysis.kernels.records(),
        "operators": analysis.operators.records(),
        "layers": analysis.layers.records(),
        "layer_sources": asdict(analysis.layer_sources),
        "without_operator": asdict(analysis.without_operator) if analysis.without_operator else None,
        "graphs": analysis.graphs.records(),
        "compiled_regions": analysis.compiled_regions.records(),
        "generated_kernels": analysis.generated_kernels.records(),
        "findings": [asdict(finding) for finding in analysis.findings],
    }


def _device(device: Device) -> dict[str, Any]:
    """What the trace says of the device, and what its datasheet promises, quoted; null where we know none."""
    sheet = find_datasheet(device.name)
    quoted = (
        {
            "name": sheet.name,
            "architecture": sheet.architecture,
            "memory_gb_s": sheet.memory_gb_s,
            "tflops": dict(sheet.tflops),
            "source": sheet.source,
        }
        if sheet
        else None
    )
    return {**asdict(device), "datasheet": quoted}
