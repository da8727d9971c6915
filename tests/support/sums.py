"""Do the figures of an analysis add up? Whatever the trace holds, these sums are exact to the nanosecond."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tracekit.analyze.analysis import Analysis
from tracekit.schema import CAUSES


def assert_adds_up(analysis: Analysis) -> None:
    """Hold each table against the figures that it is a part of. Fails by assertion."""
    tables, gpu = analysis.tables(), analysis.gpu
    for name, table in tables.items():
        for column in table.columns:
            if column.endswith("_ns") and "clock" not in column:
                values = [value for value in table[column].tolist() if value is not None]
                assert column in ("start_ns", "gpu_start_ns", "gpu_end_ns", "latency_ns") or all(
                    value >= 0 for value in values
                ), (name, column)
    if gpu is None:
        assert all(
            len(tables[name]) == 0
            for name in ("kernels", "copies", "devices", "streams", "gaps", "gap_groups", "idle_activity")
        )
        assert analysis.idle.total_ns == 0
        return
    devices, kernels, layers = tables["devices"], tables["kernels"], tables["layers"]
    span = int(devices["span_ns"][0])
    for column in ("span_ns", "busy_ns", "idle_ns", "kernel_time_ns", "kernels"):
        assert int(devices[column].sum()) == getattr(gpu, column), column
    assert gpu.busy_ns + gpu.idle_ns == gpu.span_ns
    assert analysis.idle.total_ns == gpu.idle_ns == int(tables["gap_groups"]["idle_ns"].sum())
    assert int(kernels["time_ns"].sum()) == int(analysis.families["time_ns"].sum()) == gpu.kernel_time_ns
    assert int(kernels["count"].sum()) == int(analysis.families["count"].sum()) == gpu.kernels
    assert int(layers["time_ns"][layers["depth"] == 0].sum()) == (gpu.kernel_time_ns if len(layers) else 0)
    assert int(tables["streams"]["kernels"].sum()) == gpu.kernels
    assert all(0 <= busy <= span for busy in tables["streams"]["busy_ns"].tolist())
    assert sum(tables["steps"]["busy_ns"].tolist()) == (gpu.busy_ns if len(tables["steps"]) else 0)
    assert sum(tables["steps"]["idle_ns"].tolist()) == (gpu.idle_ns if len(tables["steps"]) else 0)
    for name in ("roofline_kernels", "roofline_operators"):
        assert not len(tables[name]) or int(tables[name]["time_ns"].sum()) == gpu.kernel_time_ns, name
    for name, whole in (("gaps", "duration_ns"), ("gap_groups", "idle_ns"), ("steps", "idle_ns")):
        parts = sum((tables[name][f"{cause}_ns"] for cause in CAUSES), start=0 * tables[name][whole])
        assert (parts == tables[name][whole]).all(), name
    assert int(tables["idle_activity"]["idle_ns"].sum()) == gpu.idle_ns
    for finding in analysis.findings:
        assert 0 <= (finding.saving_ns or 0) <= gpu.span_ns, finding.code


def kernels_plainly_read(document: dict[str, Any]) -> tuple[int, int]:
    """How many kernels a document holds, and how many ns they take together, without any care for what is wrong with it."""
    kernels = [
        event
        for event in document["traceEvents"]
        if isinstance(event, dict) and event.get("ph") == "X" and str(event.get("cat")).lower() == "kernel"
    ]
    return len(kernels), sum(int((Decimal(repr(event["dur"])) * 1000).to_integral_value(ROUND_HALF_EVEN)) for event in kernels)
