"""What is in an analysis bundle? The contract between `analyze` and `report`, in words in docs/bundle.md."""

from __future__ import annotations

from collections.abc import Mapping

SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"

CAUSES = ("host_sync", "dispatch", "host_other", "launch_latency", "device_wait", "unattributed")
"""Why the GPU was idle; in every table with causes there is a column of ns for each."""

_CAUSE_COLUMNS = " ".join(f"{cause}_ns" for cause in CAUSES)
_ROOFLINE_COLUMNS = "count time_ns share known_ns flops bytes peak tflops gb_s intensity compute_share memory_share bound flag"

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "kernels": "name family kind rule confidence operator count time_ns share busy_ns min_ns median_ns max_ns grid block"
        " registers shared_memory_bytes occupancy_percent",
        "operators": "name count host_total_ns host_self_ns kernel_time_ns kernels",
        "calls": "name count time_ns max_ns",
        "copies": "name count time_ns bytes",
        "streams": "device stream events kernels busy_ns share",
        "gaps": f"start_ns duration_ns cause {_CAUSE_COLUMNS} before after operator call thread",
        "gap_groups": f"after operator call cause count idle_ns {_CAUSE_COLUMNS}",
        "launches": "name count p50_ns p90_ns p99_ns max_ns",
        "layers": "path name depth time_ns share count calls host_ns host_share wait_ns busy_ns",
        "graphs": "graph launches kernels copies span_ns busy_ns gap_ns latency_ns call_ns kernel_time_ns share first",
        "graph_launches": "graph start_ns span_ns busy_ns gap_ns gaps kernels copies kernel_time_ns latency_ns call_ns first",
        "compiled_regions": "region fx_graph calls host_ns kernels time_ns share generated generated_ns",
        "generated_kernels": "name source region fx_graph count time_ns share",
        "roofline_kernels": f"name family {_ROOFLINE_COLUMNS}",
        "roofline_operators": f"operator shapes {_ROOFLINE_COLUMNS}",
        "projection_kernels": "name family count time_ns known_ns flops bytes projected_ns bound",
        "projection_steps": "step calls gpu_events host_launches time_ns known_share projected_ns gap_ns host_ns step_ns",
        "critical_path": "kind bound name lane start_ns duration_ns",
        "critical_path_events": "bound kind name count time_ns share",
        "timeline": "window lane lane_kind depth name family start_ns duration_ns",
    }.items()
}
"""The columns of each Parquet table that a reader may rely on; a writer may add more."""

TEXT = frozenset(
    {
        "after",
        "before",
        "block",
        "bound",
        "call",
        "cause",
        "family",
        "first",
        "flag",
        "fx_graph",
        "grid",
        "kind",
        "lane",
        "lane_kind",
        "name",
        "operator",
        "path",
        "peak",
        "region",
        "rule",
        "shapes",
        "source",
        "step",
        "thread",
    }
)
"""The columns that hold text (or null)."""

REAL = frozenset(
    {
        "compute_share",
        "confidence",
        "gb_s",
        "gpu_events",
        "host_launches",
        "host_share",
        "intensity",
        "known_share",
        "memory_share",
        "occupancy_percent",
        "share",
        "tflops",
    }
)
"""The columns of doubles; all others are int64."""
