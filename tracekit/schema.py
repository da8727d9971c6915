"""What is in an analysis, table by table and column by column?

This is the contract between `analyze`, `report` and everybody else. Four things are derived from it: the types of the Parquet
files, the tables without rows, the columns that have a twin per step, and the tables of docs/bundle.md (`python -m
tracekit.schema docs/bundle.md` writes them anew).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
PER_STEP = "_per_step"
"""The end of the name of a column per step. The values of such a column are doubles."""

CAUSES = ("host_sync", "dispatch", "host_other", "launch_latency", "device_wait", "unattributed")
"""The causes of idle time of the GPU. A table with causes has a column in ns for each of them."""

WAITING = ("host_sync", "device_wait")
"""The causes in which somebody waits: the host for the device, or a stream for another one."""

Type = Literal["text", "int", "real"]


@dataclass(frozen=True)
class Column:
    """A column: its type (text, int64 or double), its unit (empty if there is none), and what it means.

    `adds_up` says that the values are sums over the time analysed: twice as many of the same steps give twice the value. Least,
    median and largest values, shares, rates, sizes of one thing and moments do not add up. Only a `nullable` column may hold
    null, and its `meaning` says when it does.
    """

    name: str
    type: Type
    unit: str
    adds_up: bool
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class TableSchema:
    """A table: what one of its rows is, the order of the rows, and the columns.

    A writer may add columns, but may never leave one out.
    """

    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(column.name for column in self.columns)

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of the columns of sums. Each of them can have a twin per step."""
        return tuple(column.name for column in self.columns if column.adds_up)

    def __getitem__(self, name: str) -> Column:
        """The column of that name. Raises KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def _text(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, "text", "", False, meaning, nullable)


def _int(name: str, meaning: str, unit: str = "", nullable: bool = False) -> Column:
    return Column(name, "int", unit, False, meaning, nullable)


def _ns(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, "int", "ns", False, meaning, nullable)


def _real(name: str, meaning: str, unit: str = "", nullable: bool = False) -> Column:
    return Column(name, "real", unit, False, meaning, nullable)


def _sum(column: Column) -> Column:
    return replace(column, adds_up=True)


_CAUSE_MEANINGS = {
    "host_sync": "idle while the launching thread waited in a blocking call",
    "dispatch": "idle while the launching thread was inside an operator",
    "host_other": "idle while the launching thread was in neither",
    "launch_latency": "idle from the launching call to the start of what it launched",
    "device_wait": "idle although the next event was launched already",
    "unattributed": "idle before an event whose launch was not recorded",
}
_WAIT_MEANINGS = {
    "stream_wait": "of `device_wait_ns`: the stream waited for an event of another stream",
    "copy_wait": "of `device_wait_ns`: the event before on the stream was a copy or fill",
    "device_dispatch": "of `device_wait_ns`: the device took its own time",
    "profiler": "of the idle time: the profiler was at work",
}
_WAITS = tuple(_ns(f"{part}_ns", meaning) for part, meaning in _WAIT_MEANINGS.items())
_WAITS_FOR = _text("waits_for", "what the host, or the stream, waited for; null where nothing tells it", nullable=True)
_CAUSES = tuple(_ns(f"{cause}_ns", meaning) for cause, meaning in _CAUSE_MEANINGS.items())
_CAUSE_SUMS = tuple(map(_sum, _CAUSES))

_SHARE = _real("share", "share of all kernel time")
_COUNT = _sum(_int("count", "how often it ran"))
_TIME = _sum(_ns("time_ns", "all of them together"))
_BYTES_MOVED = _sum(_int("bytes", "bytes that must move at least; null where not known", "bytes", nullable=True))
_FLOPS = _sum(_int("flops", "floating-point operations; null where not known", "FLOP", nullable=True))
_KNOWN = _sum(_ns("known_ns", "of `time_ns`: runs whose work is known; FLOPs, bytes and rates are theirs"))

_ROOFLINE = (
    _COUNT,
    _TIME,
    _SHARE,
    _KNOWN,
    _FLOPS,
    _BYTES_MOVED,
    _text("peak", "the peak of the datasheet that the FLOPs are held against; null where they are not known", nullable=True),
    _real("tflops", "arithmetic reached; null where not known", "TFLOP/s", nullable=True),
    _real("gb_s", "traffic reached; null where not known", "GB/s", nullable=True),
    _real("intensity", "FLOPs a byte; null where not known", "FLOP/byte", nullable=True),
    _real("compute_share", "share of the peak reached; null without a datasheet", nullable=True),
    _real("memory_share", "share of the memory's bandwidth reached; null without a datasheet", nullable=True),
    _text("bound", "`compute`, `memory` or `latency`: what limits it; null where not known", nullable=True),
    _text("flag", "`from_cache` or `above_peak`: why the shares are above 1; else null", nullable=True),
)
_COLLECTIVE = (
    _text("kind", "`all_reduce`, `all_gather`, … or `unknown`"),
    _text("process_group", "the process group's name; null where not recorded", nullable=True),
    _int("group_size", "ranks of the group; null where not recorded", nullable=True),
    _int("bytes", "size of one; null where not recorded", "bytes", nullable=True),
)

TABLES: Mapping[str, TableSchema] = {
    "kernels": TableSchema(
        "a kernel name, by time",
        (
            _text("name", "the kernel's name as recorded"),
            _text("family", "what kind of work it is: see [classification.md](classification.md)"),
            _text("kind", "the kind within the family"),
            _text("rule", "the rule that decided"),
            _real("confidence", "how sure the rule is, from 0 to 1"),
            _text("operator", "the launching operator with most of its time; null where none launched it", nullable=True),
            _COUNT,
            _TIME,
            _SHARE,
            _sum(_ns("busy_ns", "of `time_ns`: where kernels of one stream overlap, the moment counts for the first of them")),
            _ns("min_ns", "the shortest run"),
            _ns("median_ns", "the (lower) median run"),
            _ns("max_ns", "the longest run"),
            _text("grid", 'of the longest run, `"64, 1, 1"`; null where not recorded', nullable=True),
            _text("block", "of the longest run; null where not recorded", nullable=True),
            _int("registers", "of a thread in the longest run; null where not recorded", nullable=True),
            _int("shared_memory_bytes", "of a block in the longest run; null where not recorded", "bytes", nullable=True),
            _real("occupancy_percent", "estimated, of the longest run; null where not recorded", "%", nullable=True),
        ),
    ),
    "kernel_origins": TableSchema(
        "a kernel name from one operator, with inputs of one shape, in one layer, by time",
        (
            _text("name", "the kernel's name as recorded"),
            _text("family", "what kind of work it is"),
            _text("operator", "the operator that launched it; null where none did, or a graph replayed it", nullable=True),
            _text("operators", "that operator and those around it, outermost first, joined by `/`; null as `operator`", True),
            _text(
                "shapes", 'of the operator\'s inputs, `"[1, 768], [768, 2304]"`; null where none are recorded', nullable=True
            ),
            _text("outer_shapes", "of the inputs of the outermost operator; null where none are recorded", nullable=True),
            _text("layer", "the path of the innermost layer; null where it is in none", nullable=True),
            _COUNT,
            _TIME,
        ),
    ),
    "operators": TableSchema(
        "a host operator (`cpu_op`), by self time",
        (
            _text("name", "the operator's name"),
            _sum(_int("count", "how often it was called")),
            _sum(_ns("host_total_ns", "on the host; inside one of the same name it is not counted again")),
            _sum(_ns("host_self_ns", "on the host, without the operators inside")),
            _sum(_ns("kernel_time_ns", "kernels that it launched itself")),
            _sum(_int("kernels", "how many kernels it launched itself")),
        ),
    ),
    "calls": TableSchema(
        "a runtime or driver call's name, by time",
        (
            _text("name", "the call's name"),
            _sum(_int("count", "how often it was called")),
            _TIME,
            _ns("max_ns", "the longest call"),
        ),
    ),
    "copies": TableSchema(
        "a copy or fill by the copy engines, by time",
        (
            _text("name", "its name: what from and what to"),
            _COUNT,
            _TIME,
            _sum(_int("bytes", "all of them together; null where not recorded", "bytes", nullable=True)),
        ),
    ),
    "devices": TableSchema(
        "a GPU that the process drives; they add up to `gpu`",
        (
            _int("device", "the device's number"),
            _text("name", "the device's name; null where not recorded", nullable=True),
            _ns("span_ns", "from the process's first GPU event to its last one's end, the same for all"),
            _sum(_ns("busy_ns", "when any of its events ran")),
            _ns("idle_ns", "the rest of the span"),
            _sum(_ns("kernel_time_ns", "its kernels together")),
            _sum(_int("kernels", "how many kernels")),
        ),
    ),
    "streams": TableSchema(
        "a GPU stream, by busy time",
        (
            _int("device", "the device's number"),
            _int("stream", "the stream's number"),
            _sum(_int("events", "kernels, copies and fills")),
            _sum(_int("kernels", "kernels alone")),
            _sum(_ns("busy_ns", "when any of them ran")),
            _real("share", "share of the GPU's span"),
        ),
    ),
    "gaps": TableSchema(
        "an idle gap of the GPU, the longest first (the 1,000 longest)",
        (
            _ns("start_ns", "when it begins"),
            _ns("duration_ns", "how long it is"),
            _text("cause", "the cause with the largest part"),
            *_CAUSES,
            *_WAITS,
            _WAITS_FOR,
            _text("before", "the GPU event that ended last"),
            _text("after", "the GPU event that ends the gap"),
            _text("operator", "what launched `after`; null where not known", nullable=True),
            _text("call", "the call that launched `after`; null where not recorded", nullable=True),
            _text("thread", 'the thread of that call, `"pid/tid"`; null where not recorded', nullable=True),
        ),
    ),
    "gap_groups": TableSchema(
        "all gaps before one kernel from one operator and call, by time",
        (
            _text("after", "the GPU event that ends the gaps"),
            _text("operator", "what launched it; null where not known", nullable=True),
            _text("call", "the call that launched it; null where not recorded", nullable=True),
            _text("cause", "the cause with the largest part"),
            _sum(_int("count", "how many gaps")),
            _sum(_ns("idle_ns", "all of them together")),
            *_CAUSE_SUMS,
            *map(_sum, _WAITS),
            replace(
                _WAITS_FOR, meaning="what the host, or the stream, waited for in most of the time; null where nothing tells it"
            ),
        ),
    ),
    "idle_activity": TableSchema(
        "something in which the launching thread was while the GPU was idle, and a cause, by time (see [idle.md](idle.md))",
        (
            _text("path", "what it was in, from the outermost in, joined by `/`; a `/` within a name is written `\\/`"),
            _text("name", "the last of them: the innermost"),
            _text("kind", "`call`, `operator`, `annotation`, `python`, `profiler`, or `none` if it is no event"),
            _text("cause", "the cause of the idle time"),
            _sum(_ns("idle_ns", "idle time that belongs to it; the rows add up to all idle time")),
            _sum(_int("gaps", "how many gaps it is part of")),
            _ns("longest_ns", "its most time in one gap"),
        ),
    ),
    "launches": TableSchema(
        "a launching call's name, the most frequent first",
        (
            _text("name", "the call's name"),
            _sum(_int("count", "how many of its launches have a GPU event")),
            *(
                _ns(f"{rank}_ns", f"{words} from the call's start to the GPU event's")
                for rank, words in (
                    ("p50", "median"),
                    ("p90", "90th percentile"),
                    ("p99", "99th percentile"),
                    ("max", "longest"),
                )
            ),
        ),
    ),
    "layers": TableSchema(
        "an annotation, a module or a part that kernels' names tell, by its place in others, parents first (see"
        " [layers.md](layers.md))",
        (
            _text("path", "the names from the outermost in, joined by `/`; a `/` within a name is written `\\/`"),
            _text("name", "the last of them"),
            _int("depth", "0 outermost"),
            _sum(_ns("time_ns", "kernels launched inside")),
            _SHARE,
            _sum(_int("count", "kernels launched inside")),
            _sum(_int("calls", "how often it was entered")),
            _sum(_ns("host_ns", "on the host, from its beginnings to its ends")),
            _real("host_share", "share of the outermost ones' host time"),
            _sum(_ns("wait_ns", "of `host_ns`: in calls that wait for the device")),
            _sum(_ns("busy_ns", "of `time_ns`: where kernels of one stream overlap, the moment counts for the first of them")),
        ),
    ),
    "graphs": TableSchema(
        "a CUDA graph, by kernel time (see [graphs.md](graphs.md))",
        (
            _int("graph", "its number, by first launch"),
            _sum(_int("launches", "how often it was launched")),
            _int("kernels", "of one launch"),
            _int("copies", "of one launch, fills included"),
            _ns("span_ns", "of one launch, from its first event to its last one's end (median)"),
            _ns("busy_ns", "of one launch (median)"),
            _ns("gap_ns", "of one launch, between its events (median)"),
            _ns("latency_ns", "from the call's start to the first event (median)"),
            _ns("call_ns", "the call itself (median)"),
            _sum(_ns("kernel_time_ns", "of all launches")),
            _SHARE,
            _text("first", "the event that it begins with"),
            _int("graph_id", "the profiler's number of the graph; null where not recorded", nullable=True),
        ),
    ),
    "graph_launches": TableSchema(
        "a graph launch, in the order of the calls",
        (
            _int("graph", "the graph's number"),
            _ns("start_ns", "when its first event starts"),
            _ns("span_ns", "to its last event's end"),
            _ns("busy_ns", "of the span"),
            _ns("gap_ns", "of the span: between its events"),
            _int("gaps", "how many gaps"),
            _int("kernels", "how many kernels"),
            _int("copies", "how many copies and fills"),
            _ns("kernel_time_ns", "its kernels together"),
            _ns("latency_ns", "from the call's start to the first event"),
            _ns("call_ns", "the call itself"),
            _text("first", "the event that it begins with"),
            _int("graph_id", "the profiler's number of the graph; null where not recorded", nullable=True),
        ),
    ),
    "graph_nodes": TableSchema(
        "a node of a CUDA graph over all its replays, by time",
        (
            _int("graph", "the graph's number"),
            _int("node", "its number within the graph, by first start"),
            _int("graph_node_id", "the profiler's number of the node; null where not recorded", nullable=True),
            _text("name", "the kernel's or copy's name as recorded"),
            _sum(_int("count", "how often it was replayed")),
            _sum(_ns("time_ns", "all its replays")),
            _ns("min_ns", "the shortest replay"),
            _ns("median_ns", "the (lower) median replay"),
            _ns("max_ns", "the longest replay"),
        ),
    ),
    "compiled_regions": TableSchema(
        "a compiled graph by the region that calls it, by time",
        (
            _text("region", "the compiled region; null where not recorded", nullable=True),
            _text("fx_graph", "Inductor's key of the graph; null where not recorded", nullable=True),
            _sum(_int("calls", "how often it was called")),
            _sum(_ns("host_ns", "on the host")),
            _sum(_int("kernels", "kernels launched inside")),
            _sum(_ns("time_ns", "of these kernels")),
            _SHARE,
            _sum(_int("generated", "of these kernels: generated ones")),
            _sum(_ns("generated_ns", "of `time_ns`: generated ones")),
        ),
    ),
    "generated_kernels": TableSchema(
        "a kernel that Inductor generated, by time",
        (
            _text("name", "the kernel's name"),
            _text("source", "the operators that its name lists; null where it lists none", nullable=True),
            _text("region", "the compiled region of most of its time; null where not known", nullable=True),
            _text("fx_graph", "the compiled graph of most of its time; null where not known", nullable=True),
            _COUNT,
            _TIME,
            _SHARE,
        ),
    ),
    "roofline_kernels": TableSchema(
        "a kernel name, by time (see [roofline.md](roofline.md))",
        (_text("name", "the kernel's name"), _text("family", "its family"), *_ROOFLINE),
    ),
    "roofline_operators": TableSchema(
        "an operator with inputs of one shape, by the time of its kernels",
        (
            _text("operator", "the operator; null for kernels without one", nullable=True),
            _text("shapes", 'of its tensors, `"[9, 768], [768, 3072]"`; null where not recorded', nullable=True),
            *_ROOFLINE,
        ),
    ),
    "projection_kernels": TableSchema(
        "a kernel name, by projected time; empty without `--project` (see [projection.md](projection.md))",
        (
            _text("name", "the kernel's name"),
            _text("family", "its family"),
            _COUNT,
            _sum(_ns("time_ns", "measured here")),
            _KNOWN,
            _FLOPS,
            _BYTES_MOVED,
            _sum(_ns("projected_ns", "the least on the target; null where its work is not known", nullable=True)),
            _text("bound", "what limits it on the target; null where its work is not known", nullable=True),
        ),
    ),
    "projection_steps": TableSchema(
        "the steps of one name, with averages over its steps; empty without `--project`",
        (
            _text("step", "the steps' name"),
            _sum(_int("calls", "how many steps")),
            _real("gpu_events", "kernels, copies and fills of a step"),
            _real("host_launches", "launching calls of a step"),
            _ns("time_ns", "kernels of a step, measured here"),
            _real("known_share", "share of `time_ns` whose work is known"),
            _ns("projected_ns", "kernels of a step, the least on the target"),
            _ns("gap_ns", "between the GPU events of a step"),
            _ns("host_ns", "launches of a step"),
            _ns("step_ns", "a step on the target; null where too little is known", nullable=True),
        ),
    ),
    "steps": TableSchema(
        "a step, and last `(outside)`: what no step launched (see [phases.md](phases.md))",
        (
            _int("number", "the step's number; null of the last row", nullable=True),
            _text("name", "the step's name"),
            _text("phase", "`prefill`, `decode` or `mixed`; null where nothing tells it", nullable=True),
            _text("state", "`warmup` or `steady`; null where the steps are too few to tell", nullable=True),
            _text("flag", "`outlier`: a steady step unlike the others; else null", nullable=True),
            _ns("start_ns", "when it begins on the host"),
            _ns("host_ns", "on the host, from its beginning to its end"),
            _int("kernels", "how many kernels it launched"),
            _int("copies", "how many copies and fills it launched"),
            _ns("kernel_time_ns", "these kernels together"),
            _ns("gpu_start_ns", "when its first GPU event starts; null without any", nullable=True),
            _ns("gpu_end_ns", "when its last GPU event ends; null without any", nullable=True),
            _ns("device_ns", "its busy and idle time together"),
            _ns("busy_ns", "its part of the GPU's busy time"),
            _ns("idle_ns", "its part of the GPU's idle time"),
            *_CAUSES,
        ),
    ),
    "phases": TableSchema(
        "the steps of one phase and state",
        (
            _text("phase", "`prefill`, `decode`, `mixed` or null", nullable=True),
            _text("state", "`warmup`, `steady` or null", nullable=True),
            _int("steps", "how many steps"),
            _int("outliers", "of these: unlike the others"),
            _int("kernels", "of a step (median)"),
            *(
                _ns(f"{measure}_{rank}_ns", f"the {words} step's time {of}")
                for measure, of in (
                    ("host", "on the host"),
                    ("device", "on the GPU, busy and idle"),
                    ("busy", "of the GPU being busy"),
                    ("idle", "of the GPU being idle"),
                )
                for rank, words in (("median", "median"), ("min", "shortest"), ("max", "longest"))
            ),
        ),
    ),
    "collectives": TableSchema(
        "collectives of one kind, process group and size, by time (see [ranks.md](ranks.md))",
        (
            *_COLLECTIVE,
            _COUNT,
            _sum(_ns("time_ns", "all of them together, waiting for other ranks included")),
            _ns("min_ns", "the shortest"),
            _ns("median_ns", "the (lower) median"),
            _real("algorithm_gb_s", "bytes over the shortest one's time; null where the size is not recorded", "GB/s", True),
            _real("bus_gb_s", "the same on the bus; null where it cannot be told", "GB/s", True),
        ),
    ),
    "critical_path": TableSchema(
        "a part of the critical path, in the order of time; empty without `--critical-path` (see [hta.md](hta.md))",
        (
            _text("kind", "what it is: an operator, a call, a kernel, a delay, …"),
            _text("bound", "`host` or `device`"),
            _text("name", "the event's name; null between events", nullable=True),
            _text("lane", '`"stream 7"` or `"thread 460"`'),
            _ns("start_ns", "when it begins"),
            _ns("duration_ns", "how long it is"),
        ),
    ),
    "critical_path_events": TableSchema(
        "an event on the critical path by name, by time",
        (
            _text("bound", "`host` or `device`"),
            _text("kind", "as in `critical_path`"),
            _text("name", "the event's name; null between events", nullable=True),
            _int("count", "how many parts of the path"),
            _ns("time_ns", "these parts together"),
            _real("share", "share of the path"),
        ),
    ),
    "timeline": TableSchema(
        "an event in a window around one of the worst gaps",
        (
            _int("window", "0 is the worst"),
            _text("lane", '`"GPU 0 stream 7"` or `"thread 460"`'),
            _text("lane_kind", "`gpu`, `call`, `operator` or `annotation`"),
            _int("depth", "of nesting, 0 outermost"),
            _text("name", "the event's name"),
            _text("family", "of a kernel its family; else `memory` or the lane's kind"),
            _ns("start_ns", "when it begins"),
            _ns("duration_ns", "how long it is"),
        ),
    ),
}
"""The tables of a trace in a bundle."""

RUN_TABLES: Mapping[str, TableSchema] = {
    "ranks": TableSchema(
        "a rank",
        (
            _int("rank", "its number"),
            _text("trace", "its trace's name"),
            _text("device_name", "its device; null where not recorded", nullable=True),
            _ns("start_ns", "when its GPU span begins, from the first rank's; null without GPU events", nullable=True),
            _ns("end_ns", "when its GPU span ends; null without GPU events", nullable=True),
            *(
                _ns(name, f"{meaning}; null without GPU events", nullable=True)
                for name, meaning in (
                    ("span_ns", "from its first GPU event to its last one's end"),
                    ("busy_ns", "when any GPU event ran"),
                    ("idle_ns", "the rest of the span"),
                    ("compute_ns", "when a kernel ran that does not communicate"),
                    ("communication_ns", "when a kernel ran that communicates"),
                    ("overlap_ns", "when both ran"),
                    ("exposed_ns", "communication without computing beside it"),
                    ("copies_ns", "when nothing but copies and fills ran"),
                    ("kernel_time_ns", "kernels that communicate, together"),
                )
            ),
            _int("collectives", "how many kernels that communicate it ran"),
            _int("matched", "how many of these were matched with other ranks'"),
            _ns("wait_ns", "in these kernels, until the last rank came"),
            _int("last", "at how many collectives it came last"),
            _ns("clock_offset_ns", "its clock against the others'; null where nothing tells it", nullable=True),
            _ns("clock_spread_ns", "how much that varies; null where nothing tells it", nullable=True),
        ),
    ),
    "collectives": TableSchema(
        "matched collectives of one kind, process group and size, by time",
        (
            *_COLLECTIVE,
            _int("count", "how many collectives"),
            _real("ranks", "how many ranks are here, on average"),
            _ns("time_ns", "the kernels of all ranks"),
            _ns("wait_ns", "of these: until the last rank came"),
            _ns("shortest_ns", "the last ranks' kernels: without waiting"),
            _real("algorithm_gb_s", "bytes over `shortest_ns`; null where the size is not recorded", "GB/s", nullable=True),
            _real("bus_gb_s", "the same on the bus; null where it cannot be told", "GB/s", nullable=True),
        ),
    ),
}
"""The tables of a run of several ranks in a bundle."""

DOCUMENT_TABLES: Mapping[str, TableSchema] = {
    "families": TableSchema(
        "a family of kernels, by time",
        (_text("family", "the family"), _TIME, _SHARE, _COUNT),
    ),
}
"""The tables that only the document has, not the Parquet files."""

BEGIN, END = "<!-- tables: written by python -m tracekit.schema -->", "<!-- end of tables -->"


def markdown() -> Iterator[str]:
    """The lines of docs/bundle.md that describe every table of a bundle."""
    for heading, tables in (
        ("Tables of a trace", TABLES),
        ("Tables of a run of several ranks", RUN_TABLES),
    ):
        yield f"## {heading}"
        for name, table in tables.items():
            yield from ("", f"### `{name}`", "", f"A row is {table.row}.", "")
            yield from ("| column | type | unit | adds up | what it is |", "|---|---|---|---|---|")
            for one in table.columns:
                yield f"| `{one.name}` | {one.type} | {one.unit} | {'yes' if one.adds_up else ''} | {one.meaning} |"
        yield ""


def with_tables(page: str) -> str:
    """A page whose lines between the two marks are written anew. Raises ValueError if the page lacks the marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{chr(10).join(markdown())}\n{END}{after}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        path = Path(argument)
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
