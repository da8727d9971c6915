"""What does `analyze --json` print? The document that docs/json.md describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from tracekit import __version__
from tracekit.devices import Datasheet
from tracekit.schema import SCHEMA_VERSION

from ..analysis import Analysis
from ..findings.finding import Finding
from ..ranks.distributed_run import DistributedRun
from ..structure.phases import Phases
from ..structure.selection import Selection
from ..trace.inputs import Skipped
from ..trace.trace import Device
from ..work.roofline import Roofline

if TYPE_CHECKING:
    from ..path.critical_path import CriticalPath, NoCriticalPath
    from ..work.projection import DecodeProjection, Projection


def document(
    analyses: Iterable[Analysis], skipped: Sequence[Skipped] = (), runs: Sequence[DistributedRun] = ()
) -> dict[str, Any]:
    """The whole document, made of JSON values only."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tracekit_version": __version__,
        "traces": [entry(analysis) for analysis in analyses],
        "runs": [_plain(run, "ranks", "groups", without=("waits",)) for run in runs],
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
        "device": _device(trace.device, analysis.datasheet) if trace.device else None,
        "complete": analysis.complete,
        "warnings": [asdict(warning) for warning in analysis.warnings],
        "gpu": asdict(analysis.gpu) if analysis.gpu else None,
        "devices": analysis.table("devices").records(),
        "families": analysis.table("families").records(),
        "idle": asdict(analysis.idle),
        "idle_profiler_ns": asdict(analysis.profiler_idle),
        "idle_activity": analysis.table("idle_activity").records(),
        "launches": {
            "kernel_launches": launches.kernel_launches,
            "graph_launches": launches.graph_launches,
            "launches_without_kernel": launches.launches_without_kernel,
            "kernels_without_launch": launches.kernels_without_launch,
            "latency_ns": asdict(launches.latency),
        },
        "host": asdict(analysis.host) if analysis.host else None,
        "kernels": analysis.table("kernels").records(),
        "operators": analysis.table("operators").records(),
        "layers": analysis.table("layers").records(),
        "layer_sources": asdict(analysis.layer_sources),
        "without_operator": asdict(analysis.without_operator) if analysis.without_operator else None,
        "graphs": analysis.table("graphs").records(),
        "graph_nodes": analysis.table("graph_nodes").records(),
        "compiled_regions": analysis.table("compiled_regions").records(),
        "generated_kernels": analysis.table("generated_kernels").records(),
        "roofline": _roofline(analysis.roofline) if analysis.roofline else None,
        "projection": _projection(analysis.projection) if analysis.projection else None,
        "steps": _steps(analysis.phases, analysis.selection),
        "communication": _communication(analysis),
        "critical_path": _critical_path(analysis.critical_path) if analysis.critical_path else None,
        "findings": [_finding(finding) for finding in analysis.findings],
        "undecided": [asdict(one) for one in analysis.undecided],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {**_plain(finding), "rows": [dict(row) for row in finding.rows]}


def _device(device: Device, sheet: Datasheet | None) -> dict[str, Any]:
    """What the trace says about the device, with the quoted figures of its datasheet; None if we know no datasheet."""
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


def _steps(phases: Phases, selection: Selection | None) -> dict[str, Any]:
    """The steps, and which of them were chosen for the analysis, if any were."""
    chosen = selection and {key: getattr(selection, key) for key in ("asked", "numbers", "count", "of")}
    return {**_plain(phases, "steps", "groups"), "chosen": chosen}


def _communication(analysis: Analysis) -> dict[str, Any] | None:
    """The times of communication, and the collectives by kind and size; None if nothing communicates."""
    found = analysis.communication
    if found is None or not len(found.collectives):
        return None
    return {**_plain(found), "collectives": analysis.table("collectives").records()}


def _roofline(roofline: Roofline) -> dict[str, Any]:
    return {**_plain(roofline, "kernels", "operators"), "known_share": roofline.known_share}


def _critical_path(path: CriticalPath | NoCriticalPath) -> dict[str, Any]:
    """The sums of the critical path, or the reason why there is none. Its segments are in the bundle."""
    from ..path.critical_path import NoCriticalPath  # a path was looked for, so the module is already loaded

    if isinstance(path, NoCriticalPath):
        return {"reason": path.reason}
    found = _plain(path, "bounds", "events")
    return {"reason": None, **found, "segments": len(path.segments), "notes": [asdict(note) for note in path.notes]}


def _projection(projection: Projection) -> dict[str, Any]:
    return {
        **_plain(projection, "kernels", "steps"),
        "inputs": {**asdict(projection.inputs), "tflops": dict(projection.inputs.tflops)},
        "decode": _decode(projection.decode) if projection.decode else None,
        "known_share": projection.known_share,
    }


def _decode(decode: DecodeProjection) -> dict[str, Any]:
    return {
        **asdict(decode),
        "model": {**asdict(decode.model), "bytes": decode.model.bytes},
        "tokens_per_second": decode.tokens_per_second,
    }


def _plain(record: Any, *tables: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A dataclass's fields as a dict, `without` some; each field in `tables` is a table and becomes a list of rows."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in without}
    return {name: value.records() if name in tables else value for name, value in values.items()}
