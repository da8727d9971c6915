"""What do all analyses say about one trace?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracekit.devices import Datasheet, datasheets, find_datasheet
from tracekit.errors import ManifestError
from tracekit.schema import DOCUMENT_TABLES, TABLES
from tracekit.table import Table
from tracekit.taxonomy import Taxonomy

from .activity import gaps as gap_tables
from .activity import gpu as gpu_time
from .activity import idle as idle_time
from .activity import kernels as kernel_tables
from .activity import launches as launching
from .activity import operators as host_time
from .activity import timeline as timelines
from .activity.idle_activity import idle_activity
from .activity.kernels_without_operator import WithoutOperator, without_operator
from .activity.profiler import profiler_idle, program_idle
from .findings.advice import Findings, findings
from .findings.facts import Facts
from .findings.finding import CannotTell, Finding
from .ranks import communication as communicating
from .ranks.distributed_run import DistributedRun
from .structure import compiled as compiling
from .structure import graphs as graphing
from .structure import layers as layering
from .structure import phases as phasing
from .structure.completeness import is_complete, warnings
from .structure.graph_nodes import graph_nodes
from .structure.kernel_origins import kernel_origins
from .structure.selection import Selection
from .structure.steps import Steps, find_steps
from .trace.trace import Trace, TraceWarning
from .work import roofline as rooflines
from .work.kernel_work import kernel_work
from .work.step_time import Timed, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracekit.manifest import RunManifest

    from .path.critical_path import CriticalPath, NoCriticalPath, Scope
    from .work.projection import Projection


Result = TypeVar("Result")


class of_all_ranks(cached_property[Result]):  # noqa: N801 (used as a decorator)
    """A cached property that also depends on the other ranks of the run.

    So `of_run` does not copy its value: it is computed again.
    """


@dataclass(frozen=True)
class Analysis:
    """A trace and what the analyses say about it. Each result is computed when it is first asked for.

    The device is looked up in `datasheets`. The trace's kernels are projected onto `target`, if there is one. `selection` tells
    the steps that the trace was restricted to, if it was. `divided` says whether `table` and `tables` have columns per step.
    `ranks` is what is known of all ranks of the trace's run (see `DistributedRun.ranks`), if there are several, and
    `rank_waits` how long this rank's kernels waited for the others (see `DistributedRun.waits`). The critical
    path is looked for within `scope`, if there is one. `step_ns` is how long a step takes without the profiler, if the user
    told it.
    """

    trace: Trace
    taxonomy: Taxonomy
    datasheets: tuple[Datasheet, ...] = field(default_factory=datasheets)
    target: Datasheet | None = None
    selection: Selection | None = None
    divided: bool = False
    scope: Scope | None = None
    ranks: Table | None = None
    step_ns: int | None = None
    rank_waits: Table | None = None

    def of_run(self, ranks: Table, waits: Table | None = None) -> Analysis:
        """The same analysis, with what is known of all ranks of its run, and how long this one waited for others.

        Results that do not depend on the other ranks are kept.
        """
        known = replace(self, ranks=ranks, rank_waits=waits)
        for name, value in self.__dict__.items():
            kind = type(getattr(type(self), name, None))
            if kind is cached_property:
                known.__dict__[name] = value
        return known

    @cached_property
    def gpu(self) -> gpu_time.GpuSummary | None:
        """How busy the GPU was."""
        return gpu_time.gpu(self.trace)

    @cached_property
    def idle(self) -> idle_time.IdleCauses:
        """The GPU's idle time by cause."""
        return idle_time.idle(self.trace)

    @cached_property
    def profiler_idle(self) -> idle_time.IdleCauses:
        """The part of each cause in which the profiler itself was at work."""
        return profiler_idle(self.trace)

    @cached_property
    def launches(self) -> launching.Launches:
        """How many launches there are, and how long they take to reach the GPU."""
        return launching.launches(self.trace)

    @cached_property
    def warnings(self) -> tuple[TraceWarning, ...]:
        """What a reader should know before trusting a figure."""
        return warnings(self.trace, self.launches, self.graph_launches)

    @property
    def complete(self) -> bool:
        """Whether the trace contains all events, as far as we can tell."""
        return is_complete(self.warnings)

    @cached_property
    def kernels(self) -> Table:
        """Kernels by name."""
        return kernel_tables.kernels(self.trace, self.taxonomy)

    @cached_property
    def families(self) -> Table:
        """Kernel time by family."""
        return kernel_tables.families(self.kernels)

    @cached_property
    def datasheet(self) -> Datasheet | None:
        """The datasheet of the device that ran the kernels; None if no entry matches it."""
        return find_datasheet(self.trace.device.name, self.datasheets) if self.trace.device else None

    @cached_property
    def work(self) -> Table:
        """The FLOPs and bytes of each run of a kernel."""
        return kernel_work(self.trace)

    @cached_property
    def roofline(self) -> rooflines.Roofline | None:
        """How close kernels and operators come to what the device can do."""
        return rooflines.roofline(self.trace, self.work, self._family_of, self.datasheet)

    @cached_property
    def projection(self) -> Projection | None:
        """How long the kernels would take on the target; None without one."""
        if self.target is None:
            return None
        from .work.projection import project

        return project(self.trace, self.steps, self.work, self._family_of, self.target, self.manifest)

    @cached_property
    def critical_path(self) -> CriticalPath | NoCriticalPath | None:
        """The chain of events that determined the time, or why there is none. None if it was not asked for."""
        if self.scope is None:
            return None
        from .path.critical_path import critical_path

        return critical_path(self.trace, self._family_of, self.scope)

    @cached_property
    def manifest(self) -> RunManifest | None:
        """The run manifest beside the trace. None if there is none, or none that this version can read."""
        from tracekit.manifest import find_manifest, read_manifest

        found = find_manifest(Path(self.trace.path))
        try:
            return read_manifest(found) if found else None
        except ManifestError:
            return None

    @cached_property
    def timed(self) -> Timed:
        """The program, played again, and the time of a step without the profiler, if that is known."""
        return timed(self.trace, self.steps, self.step_ns, self.manifest)

    @cached_property
    def operators(self) -> Table:
        """Host operators by name."""
        return host_time.operators(self.trace)

    @cached_property
    def host(self) -> host_time.HostSummary | None:
        """The host's span, threads and operators; None without host events."""
        return host_time.host(self.trace)

    @cached_property
    def _layers(self) -> layering.Layers:
        return layering.layers(self.trace, self.taxonomy.parts, self.steps)

    @property
    def layers(self) -> Table:
        """GPU time and host time by layer."""
        return self._layers.table

    @property
    def layer_sources(self) -> layering.LayerSources:
        """What told the layers: how many annotations, modules, labels in graphs and names of kernels."""
        return self._layers.sources

    @cached_property
    def without_operator(self) -> WithoutOperator | None:
        """The kernels that no operator launched."""
        return without_operator(self.trace)

    @cached_property
    def phases(self) -> phasing.Phases:
        """The steps of the trace, or those that were chosen, and how they differ from each other."""
        return phasing.phases(self.trace, self.steps)

    @cached_property
    def steps(self) -> Steps:
        """The steps of the trace, or those that were chosen.

        Everything else uses these steps.
        """
        return self.selection.steps if self.selection else find_steps(self.trace)

    @cached_property
    def communication(self) -> communicating.Communication | None:
        """How long communication runs, and how much of it runs beside computing. None without GPU events."""
        return communicating.communication(self.trace, self._family_of)

    @cached_property
    def collectives(self) -> Table:
        """Collectives by kind, process group and size."""
        found = self.communication
        return communicating.collective_groups(found.collectives) if found else Table.empty(TABLES["collectives"].columns)

    def whole(self, name: str) -> Table:
        """A table of the schema by its name, without columns per step. Raises KeyError if there is no table of that name."""
        return _TABLES[name](self) or Table.empty(SCHEMA[name].columns)

    def table(self, name: str) -> Table:
        """A table of the schema as it is shown. If columns per step were asked for, it has one for each column of sums."""
        whole = self.whole(name)
        if not self.divided:
            return whole
        return phasing.per_step(whole, SCHEMA[name].sums, len(self.phases.steps) - 1)

    def tables(self) -> dict[str, Table]:
        """All tables of a bundle by name, in the form in which they are shown."""
        return {name: self.table(name) for name in TABLES}

    @cached_property
    def graph_launches(self) -> Table:
        """CUDA graphs, launch by launch."""
        return graphing.graph_launches(self.trace)

    @cached_property
    def graphs(self) -> Table:
        """CUDA graphs, each with the medians over its launches."""
        return graphing.graphs(self.graph_launches, self.gpu.kernel_time_ns if self.gpu else 0)

    @cached_property
    def _compiled(self) -> compiling.Compiled:
        return compiling.compiled(self.trace)

    @cached_property
    def compiled_regions(self) -> Table:
        """Compiled graphs by the compiled region that calls them."""
        return compiling.compiled_regions(self.trace, self._compiled)

    @cached_property
    def generated_kernels(self) -> Table:
        """The kernels that Inductor generated, with their source operators."""
        return compiling.generated_kernels(self.trace, self._compiled)

    @cached_property
    def gap_groups(self) -> Table:
        """Idle gaps, grouped by what ends them."""
        return gap_tables.gap_groups(self.trace)

    @of_all_ranks
    def facts(self) -> Facts:
        """All results in the form in which the rules see them."""
        return Facts(
            trace=self.trace,
            gpu=self.gpu,
            idle=program_idle(self.trace),
            launches=self.launches,
            steps=self.steps,
            gap_groups=self.gap_groups,
            layers=self.layers,
            kernels=self.kernels,
            work=self.work,
            roofline=self.roofline,
            sheet=self.datasheet,
            warnings=self.warnings,
            manifest=self.manifest,
            ranks=self.ranks,
            rank_waits=self.rank_waits,
            communication=self.communication,
            timed=self.timed,
        )

    @of_all_ranks
    def _judged(self) -> Findings:
        return findings(self.facts)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What to do, with the largest saving first."""
        return self._judged.found

    @property
    def undecided(self) -> tuple[CannotTell, ...]:
        """The rules that could not decide, each with its reason."""
        return self._judged.undecided

    @cached_property
    def _family_of(self) -> dict[str, str]:
        """The family of each kernel name."""
        return dict(zip(self.kernels["name"].tolist(), self.kernels["family"].tolist(), strict=True))


def among_ranks(analyses: Sequence[Analysis], runs: Sequence[DistributedRun]) -> list[Analysis]:
    """The same analyses. Each one that belongs to a run now knows all ranks of that run."""
    found = list(analyses)
    for run in runs:
        for place, waits in zip(run.traces, run.waits, strict=True):
            found[place] = found[place].of_run(run.ranks, waits)
    return found


def _path_table(analysis: Analysis, name: str) -> Table | None:
    """A table of the critical path. None if the path was not asked for, or if there is none."""
    path = analysis.critical_path
    return getattr(path, name, None)


SCHEMA = {**TABLES, **DOCUMENT_TABLES}
_TABLES: Mapping[str, Callable[[Analysis], Table | None]] = {
    "families": lambda one: one.families,
    "kernels": lambda one: one.kernels,
    "kernel_origins": lambda one: kernel_origins(one.trace, one._family_of, one._layers),
    "operators": lambda one: one.operators,
    "calls": lambda one: host_time.calls(one.trace),
    "copies": lambda one: gpu_time.copies(one.trace),
    "devices": lambda one: gpu_time.devices(one.trace),
    "streams": lambda one: gpu_time.streams(one.trace),
    "gaps": lambda one: gap_tables.longest_gaps(one.trace),
    "gap_groups": lambda one: one.gap_groups,
    "idle_activity": lambda one: idle_activity(one.trace),
    "launches": lambda one: launching.launch_latencies(one.trace),
    "layers": lambda one: one.layers,
    "graphs": lambda one: one.graphs,
    "graph_launches": lambda one: one.graph_launches,
    "graph_nodes": lambda one: graph_nodes(one.trace, one.graph_launches),
    "compiled_regions": lambda one: one.compiled_regions,
    "generated_kernels": lambda one: one.generated_kernels,
    "roofline_kernels": lambda one: one.roofline.kernels if one.roofline else None,
    "roofline_operators": lambda one: one.roofline.operators if one.roofline else None,
    "projection_kernels": lambda one: one.projection.kernels if one.projection else None,
    "projection_steps": lambda one: one.projection.steps if one.projection else None,
    "steps": lambda one: one.phases.steps,
    "phases": lambda one: one.phases.groups,
    "collectives": lambda one: one.collectives,
    "critical_path": lambda one: _path_table(one, "segments"),
    "critical_path_events": lambda one: _path_table(one, "events"),
    "timeline": lambda one: timelines.timeline(one.trace, one._family_of),
}
"""How each table of the schema is computed. The function returns None if the table has no rows for this trace."""
