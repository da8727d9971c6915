"""Can the figures be trusted?"""

from __future__ import annotations

from typing import Any

from tracekit.wording import number, percent, shapes, three_digits

from ...structure.completeness import LOST, holds_unread_work
from ..facts import Facts
from ..finding import Answer, Finding
from .needs import CALLS, DATASHEET, KERNELS, SHAPES, Need, needs

NAMED = 3
"""How many operators a finding about them names."""

PROFILED = Need(
    "no run manifest beside the trace tells how long it took without the profiler",
    lambda e: e.manifest is not None and e.manifest.profile is not None,
)


@needs(CALLS)
def incomplete_trace(facts: Facts) -> Answer:
    """Launches whose kernels were not recorded make every GPU figure too low."""
    found = [warning for warning in facts.warnings if warning.code in LOST]
    if not found or holds_unread_work(facts.trace):  # what is missing may be what is not read
        return None
    return Finding(
        code="incomplete_trace",
        title="The trace lost GPU events",
        severity="high",
        affected_ns=facts.gpu.span_ns if facts.gpu else 0,
        saving_ns=None,
        evidence="; ".join(warning.message.partition(":")[0] for warning in found),
        action="Profile a shorter window (fewer steps, after a warm-up) and call torch.cuda.synchronize() before the profiler "
        "stops; until then read GPU times as lower bounds.",
        reasoning="No saving: what is missing is not known. Launching calls are counted whose correlation no GPU event "
        "carries, and graph launches with fewer kernels than others of the same graph.",
        rows=tuple({"lost": warning.code, "count": warning.count} for warning in found),
    )


@needs(KERNELS, DATASHEET, SHAPES)
def above_peak(facts: Facts) -> Answer:
    """Kernels seem faster than the device can be.

    Then one of three things is wrong: the count of their work, the clock, or the datasheet.
    """
    roofline = facts.roofline
    found = [row for row in roofline.operators.records() if row["flag"] == "above_peak"] if roofline else []
    if roofline is None or not found:
        return None
    named = "; ".join(f"{row['operator']} {shapes(row['shapes'] or '')}: {_peak_reached(row)}" for row in found[:NAMED])
    more = f"; and {number(len(found) - NAMED)} more" if len(found) > NAMED else ""
    return Finding(
        code="above_peak",
        title="Kernels seem faster than the device can be: the model or the clock is wrong",
        severity="low",
        affected_ns=sum(row["known_ns"] for row in found),
        saving_ns=None,
        evidence=named + more,
        action=f"Do not trust the roofline of these rows. Check that the device is {roofline.device} and not another "
        "model of that name, and whether FP32 was computed as TF32 (a kernel's name tells it only sometimes); a table of "
        "your own peaks goes into --device-table.",
        reasoning="No saving: FLOPs and bytes by the recorded shapes, over the kernels' time, exceed the datasheet's peaks.",
        rows=tuple(
            {key: row[key] for key in ("operator", "shapes", "known_ns", "compute_share", "memory_share")} for row in found[:10]
        ),
    )


def _peak_reached(row: dict[str, Any]) -> str:
    """How much of the device's peak or bandwidth the row seems to reach, whichever is higher, as a clause."""
    compute, memory = row["compute_share"] or 0.0, row["memory_share"] or 0.0
    return f"{percent(compute)} of its {row['peak']} peak" if compute > memory else f"{percent(memory)} of its bandwidth"


@needs(PROFILED)
def profiler_inflation(facts: Facts) -> Answer:
    """The profiler slowed the host down so much that shares of this trace's span do not hold for the run itself."""
    run = facts.manifest
    assert run is not None
    assert run.profile is not None
    profile = run.profile
    if profile.inflation < facts.thresholds.inflation:
        return None
    profiled = profile.prefill_ns + profile.decode_ns
    return Finding(
        code="profiler_inflation",
        title=f"Profiling made a step {three_digits(profile.inflation)} times as long",
        severity="low",
        affected_ns=round(profiled * (1 - 1 / profile.inflation)),
        saving_ns=None,
        evidence=f"a profiled step took {three_digits(profile.inflation)} times the median of one without the profiler, as "
        "the run manifest tells; the host's part of idle time is inflated, kernel times are not",
        action="Judge speed by the timings without the profiler, and idle time by its causes rather than its length; for a "
        "trace closer to the run leave out record_shapes, with_stack, profile_memory and layer annotations.",
        reasoning="No saving: nothing of this is lost without the profiler. Affected is the profiled window less what it "
        "would have taken at the pace of the runs that were timed without.",
        rows=({"inflation": profile.inflation, "prefill_ns": profile.prefill_ns, "decode_ns": profile.decode_ns},),
    )
