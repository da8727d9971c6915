"""What do all analyses say about one trace?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tracekit.table import Table
from tracekit.taxonomy import Taxonomy

from . import gaps, gpu, idle, kernels, launches, layers, operators, timeline
from .completeness import is_complete, warnings
from .findings import Finding, findings
from .trace import Trace, TraceWarning


@dataclass(frozen=True)
class Analysis:
    """A trace and what the analyses say about it; each is computed when first asked for."""

    trace: Trace
    taxonomy: Taxonomy

    @cached_property
    def gpu(self) -> gpu.GpuSummary | None:
        """How busy the GPU was."""
        return gpu.gpu(self.trace)

    @cached_property
    def idle(self) -> idle.IdleCauses:
        """Where its idle time went."""
        return idle.idle(self.trace)

    @cached_property
    def launches(self) -> launches.Launches:
        """What launching cost."""
        return launches.launches(self.trace)

    @cached_property
    def warnings(self) -> tuple[TraceWarning, ...]:
        """What to know before trusting a figure."""
        return warnings(self.trace, self.launches)

    @property
    def complete(self) -> bool:
        """Whether nothing that ran is known to be missing."""
        return is_complete(self.warnings)

    @cached_property
    def kernels(self) -> Table:
        """Kernels by name."""
        return kernels.kernels(self.trace, self.taxonomy)

    @cached_property
    def families(self) -> Table:
        """Kernel time by family."""
        return kernels.families(self.kernels)

    @cached_property
    def operators(self) -> Table:
        """Host operators by name."""
        return operators.operators(self.trace)

    @cached_property
    def host(self) -> operators.HostSummary | None:
        """The host's side."""
        return operators.host(self.trace)

    @cached_property
    def layers(self) -> Table:
        """GPU time by annotation and module."""
        return layers.layers(self.trace)

    @cached_property
    def gap_groups(self) -> Table:
        """Idle gaps by what ends them."""
        return gaps.gap_groups(self.trace)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What to do, the largest saving first."""
        return findings(self.gpu, self.idle, self.launches, self.gap_groups, self.warnings)

    def tables(self) -> dict[str, Table]:
        """The bundle's tables by name; their columns are described in docs/bundle.md."""
        family_of = dict(zip(self.kernels["name"].tolist(), self.kernels["family"].tolist(), strict=True))
        return {
            "kernels": self.kernels,
            "operators": self.operators,
            "calls": operators.calls(self.trace),
            "copies": gpu.copies(self.trace),
            "streams": gpu.streams(self.trace),
            "gaps": gaps.longest_gaps(self.trace),
            "gap_groups": self.gap_groups,
            "launches": launches.launch_latencies(self.trace),
            "timeline": timeline.timeline(self.trace, family_of),
        }
