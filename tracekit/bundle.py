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
        "steps": "number name phase state flag start_ns host_ns kernels copies kernel_time_ns gpu_start_ns gpu_end_ns device_ns"
        f" busy_ns idle_ns {_CAUSE_COLUMNS}",
        "phases": "phase state steps outliers kernels host_median_ns host_min_ns host_max_ns device_median_ns device_min_ns"
        " device_max_ns busy_median_ns busy_min_ns busy_max_ns idle_median_ns idle_min_ns idle_max_ns",
        "collectives": "kind process_group group_size bytes count time_ns min_ns median_ns algorithm_gb_s bus_gb_s",
        "critical_path": "kind bound name lane start_ns duration_ns",
        "critical_path_events": "bound kind name count time_ns share",
        "timeline": "window lane lane_kind depth name family start_ns duration_ns",
    }.items()
}
"""The columns of each Parquet table that a reader may rely on; a writer may add more."""

RUN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "ranks": "rank trace device_name start_ns end_ns span_ns busy_ns idle_ns compute_ns communication_ns overlap_ns"
        " exposed_ns copies_ns kernel_time_ns collectives matched wait_ns last clock_offset_ns clock_spread_ns",
        "collectives": "kind process_group group_size bytes count ranks time_ns wait_ns shortest_ns algorithm_gb_s bus_gb_s",
    }.items()
}
"""The same of the tables of a run of several ranks."""

TEXT = frozenset(
    {
        "after",
        "before",
        "block",
        "bound",
        "call",
        "cause",
        "device_name",
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
        "phase",
        "process_group",
        "region",
        "rule",
        "shapes",
        "source",
        "state",
        "step",
        "thread",
        "trace",
    }
)
"""The columns that hold text (or null)."""

REAL = frozenset(
    {
        "algorithm_gb_s",
        "bus_gb_s",
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
        "ranks",
        "share",
        "tflops",
    }
)
"""The columns of doubles; all others are int64."""
