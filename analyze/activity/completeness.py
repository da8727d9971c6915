"""Does the trace hold everything that happened?"""

from __future__ import annotations

from tracekit.wording import counted, form, number

from ..trace.trace import Trace, TraceWarning
from .launches import Launches

# Warnings which mean that the figures lack something that ran, or hold it wrongly.
MISSING = frozenset(
    {
        "launches_without_kernel",
        "kernels_without_launch",
        "events_without_time",
        "events_without_duration",
        "negative_durations",
        "ill_typed_events",
    }
)


def warnings(trace: Trace, launches: Launches) -> tuple[TraceWarning, ...]:
    """The warnings that a reader of any figure of this trace must know. The loader's own warnings come first."""
    found = list(trace.warnings)
    if missing := launches.launches_without_kernel:
        found.append(
            TraceWarning(
                "launches_without_kernel",
                f"{number(missing)} of {counted(launches.kernel_launches, 'launch', 'launches')} "
                f"{form(missing, 'has', 'have')} no kernel: the profiler dropped or did not wait for GPU events, so GPU times "
                "are too low; profile a shorter window and call torch.cuda.synchronize() before it ends",
                missing,
            )
        )
    if missing := launches.kernels_without_launch:
        found.append(
            TraceWarning(
                "kernels_without_launch",
                f"{counted(missing, 'kernel has', 'kernels have')} no launching call: {form(missing, 'it was', 'they were')} "
                "launched before the window began, or launches were dropped; idle time before "
                f"{form(missing, 'it', 'them')} is unattributed",
                missing,
            )
        )
    if not len(trace.gpu):
        found.append(TraceWarning("no_gpu_events", "the trace has no GPU events: it shows the host only", 0))
    return tuple(found)


def is_complete(warnings: tuple[TraceWarning, ...]) -> bool:
    """Whether the figures hold everything that ran, as far as these warnings tell."""
    return not any(warning.code in MISSING for warning in warnings)
