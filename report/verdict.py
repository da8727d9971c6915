"""What is the answer, in one or two plain sentences?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.names import shorten
from tracekit.wording import counted, form, number, three_digits

from .budget import Budget, BudgetPart, budget, figure
from .bundle import TraceBundle
from .nonbreaking import duration, percent, rough_percent

# From this share of busy time on, the kernels decide. To name the largest cause of so little idle time would mislead.
_SATURATED = 0.95


@dataclass(frozen=True)
class Verdict:
    """The answer is `text`. `caution` says why the figures cannot be fully trusted; it is empty if they can."""

    caution: str
    text: str

    def __str__(self) -> str:
        return f"{self.caution} {self.text}".strip()


def verdict(trace: TraceBundle) -> Verdict:
    """The verdict on one trace, from its figures alone."""
    parts = budget(trace)
    return Verdict(_caution(trace), _host_only(trace) if parts is None else _gpu(trace, parts))


def compare(traces: Sequence[TraceBundle], labels: Sequence[str], *, comparable: bool) -> str:
    """Say which trace ran shortest, if their times are `comparable`, and which one kept its GPU busiest."""
    known = ((label, budget(trace)) for label, trace in zip(labels, traces, strict=True))
    spans = [(label, parts) for label, parts in known if parts is not None and parts.span_ns]
    if len(spans) < 2:
        return f"{counted(len(traces), 'trace')}, {number(len(spans))} of them with GPU work."
    return f"{_spans(spans) if comparable else ''} {_busiest(spans)}".strip()


def _spans(spans: Sequence[tuple[str, Budget]]) -> str:
    by_span = sorted(spans, key=lambda entry: entry[1].span_ns)
    (short, shortest), (long, longest) = by_span[0], by_span[-1]
    return (
        f"GPU spans run from {duration(shortest.span_ns)} ({short}) to {duration(longest.span_ns)} ({long}), "
        f"a factor of {three_digits(longest.span_ns / shortest.span_ns)}."
    )


def _busiest(spans: Sequence[tuple[str, Budget]]) -> str:
    by_share = sorted(((parts.share(parts.busy_ns), label) for label, parts in spans), key=lambda entry: entry[0])
    (least, idlest), (most, busiest) = by_share[0], by_share[-1]
    if least == most:
        return f"All keep their GPU equally busy ({rough_percent(most)})."
    return f"{busiest} keeps its GPU busiest ({rough_percent(most)} of its span), {idlest} least ({rough_percent(least)})."


def _caution(trace: TraceBundle) -> str:
    if trace.document.get("complete", True):
        return ""
    told = {str(warning.get("code")): figure(warning, "count") for warning in trace.documents("warnings")}
    launches = trace.document.get("launches") or {}
    made = figure(launches, "kernel_launches") + figure(launches, "graph_launches")
    lost = told.get("launches_without_kernel", 0) + told.get("graph_launches_without_kernels", 0)
    if lost:
        lacking = f"{number(lost)} of {_launches(made)}" if made >= lost else _launches(lost)
        effect = "every GPU figure below is a lower bound" if trace.gpu else "what the GPU did is not known"
        return f"This trace is incomplete: {lacking} {form(lost, 'has', 'have')} no GPU event, so {effect}."
    if orphans := told.get("kernels_without_launch"):
        effect = "the causes of idle time are partly unknown"
        lacking = f"{counted(orphans, 'kernel')} {form(orphans, 'has', 'have')}"
        return f"This trace is incomplete: {lacking} no launching call, so {effect}."
    return "This trace is incomplete: read the warnings below before any figure."


def _launches(count: int) -> str:
    return counted(count, "launch", "launches")


def _gpu(trace: TraceBundle, parts: Budget) -> str:
    busy = parts.share(parts.busy_ns)
    opening = f"The GPU is busy {rough_percent(busy)} of its {duration(parts.span_ns)} span"
    largest = max(parts.idle, key=lambda part: part.time_ns, default=None)
    if not parts.idle_ns or largest is None:
        opening += "."
    elif busy >= _SATURATED:
        opening += ": what its kernels cost decides, not how they are launched."
    else:
        part, cause = rough_percent(largest.time_ns / parts.idle_ns), largest.term
        opening += f"; {part} of the idle time is {cause.label} ({cause.meaning})."
    return f"{opening} {_kernels(trace, parts)}".strip()


def _kernels(trace: TraceBundle, parts: Budget) -> str:
    families = sorted((part for part in parts.busy if part.term.key != "memory"), key=lambda part: -part.raw_ns)
    total = sum(part.raw_ns for part in families)
    copies = parts.raw_busy_ns - total
    if not total:
        return "No kernel ran: all of it is copies and fills." if copies else ""
    text = _leading(families, total)
    if copies > total:
        text += f" Copies and fills take more time than all kernels ({duration(copies)} against {duration(total)})."
    return text


def _leading(families: Sequence[BudgetPart], total: int) -> str:
    first = families[0]
    share = first.raw_ns / total
    if len(families) == 1:
        return f"All kernel time is {first.term.label}."
    if share > 0.5:
        return f"Most kernel time is {first.term.label} ({rough_percent(share)})."
    second = families[1]
    return (
        f"The largest share of kernel time is {first.term.label} ({rough_percent(share)}), "
        f"then {second.term.label} ({rough_percent(second.raw_ns / total)})."
    )


def _host_only(trace: TraceBundle) -> str:
    operators = trace.rows("operators")
    total = sum(int(row["host_self_ns"] or 0) for row in operators)
    if not total:
        return "Neither GPU work nor host operators were recorded: there is nothing to analyse."
    first = max(operators, key=lambda row: int(row["host_self_ns"] or 0))
    count = sum(int(row["count"] or 0) for row in operators)
    return (
        "No GPU work was recorded, so this is about the host alone. "
        f"{counted(count, 'operator')} {form(count, 'takes', 'take')} {duration(total)} of their own, "
        f"the largest part in {shorten(str(first['name']))} ({percent(int(first['host_self_ns']) / total, 0)})."
    )
