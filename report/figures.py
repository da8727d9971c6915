"""What do the charts show?

Each chart is a Plotly figure, as plain JSON values. Its colours are CSS custom properties (`--gemm`), so that one figure serves
the light and the dark page; dossier.js replaces them by the page's values. Names are escaped for Plotly, which reads tags and
entities in every label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.names import elide, shorten, shorten_path
from tracekit.wording import duration_unit

from .budget import Budget, BudgetPart, budget
from .bundle import TraceBundle
from .legend import CAUSES, FAMILIES, Term, cause
from .nonbreaking import duration, percent, quantity

Figure = dict[str, Any]

_ROW = 42
_LABEL_LIMIT = 46
_PERCENT = {"range": [0, 100], "tickvals": [0, 25, 50, 75, 100], "ticktext": ["0", "25 %", "50 %", "75 %", "100 %"]}


def time_budget(parts: Budget) -> Figure:
    """The span as one bar. Below it, its busy and its idle part are drawn, each stretched to the full width."""
    rows = [("Span", parts.span_ns, [*parts.busy, *parts.idle])]
    if parts.busy_ns:
        rows.append(("Busy", parts.busy_ns, [*parts.busy]))
    if parts.idle_ns:
        rows.append(("Idle", parts.idle_ns, [*parts.idle]))
    rows = [row for row in rows if row[1]]
    data = []
    for part in (*parts.busy, *parts.idle):
        at = [index for index, (_, _, members) in enumerate(rows) if part in members]
        shares = [part.time_ns / rows[index][1] for index in at]
        data.append(
            _bar(
                part,
                x=[share * 100 for share in shares],
                y=[-index for index in at],
                text=[part.term.label] * len(at),
                hover=[
                    _hover(part.term.label, part.time_ns, f"{percent(share)} of {rows[index][0].lower()}")
                    for index, share in zip(at, shares, strict=True)
                ],
            )
        )
    ticks = [f"<b>{name}</b><br>{duration(total)}" for name, total, _ in rows]
    layout = _stacked(len(rows), left=86)
    layout["yaxis"] |= {"ticktext": ticks, "tickvals": [-index for index in range(len(rows))]}
    # A label that does not fit its segment is left out, not drawn sideways or tiny. The table below the chart names it.
    layout["uniformtext"] = {"mode": "hide", "minsize": 11}
    layout["xaxis"] |= _PERCENT
    return {"data": data, "layout": layout}


def spans(traces: Sequence[TraceBundle], labels: Sequence[str], *, absolute: bool) -> Figure:
    """Busy time and idle time by cause, one bar for each trace.

    All bars have one time scale if `absolute`; else they are shares, because the times cannot be compared.
    """
    known = [(label, parts) for label, parts in _budgets(traces, labels) if parts.span_ns]
    scale, unit = duration_unit(max((parts.span_ns for _, parts in known), default=0))
    data = []
    busy = ("busy", "--busy", [float(parts.busy_ns) for _, parts in known])
    for name, token, values in [busy, *_idle_parts(known)]:
        shares = [parts.share(value) for (_, parts), value in zip(known, values, strict=True)]
        data.append(
            {
                **_trace(name, token, pattern=name != "busy"),
                "x": [value / scale for value in values] if absolute else [share * 100 for share in shares],
                "y": [-index for index in range(len(known))],
                "hovertext": [
                    _hover(name, value, f"{percent(share)} of the span") for value, share in zip(values, shares, strict=True)
                ],
            }
        )
    layout = _named([label for label, _ in known])
    layout["xaxis"] |= {"ticksuffix": f" {unit}", "rangemode": "tozero"} if absolute else _PERCENT
    return {"data": data, "layout": _with_legend(layout)}


def families(traces: Sequence[TraceBundle], labels: Sequence[str]) -> Figure:
    """The share of each family in each trace's kernel and copy time."""
    known = [(label, parts) for label, parts in _budgets(traces, labels) if parts.raw_busy_ns]
    data = []
    for key, term in FAMILIES.items():
        found = [(index, part, parts) for index, (_, parts) in enumerate(known) for part in parts.busy if part.term.key == key]
        if not found:
            continue
        shares = [part.raw_ns / parts.raw_busy_ns for _, part, parts in found]
        data.append(
            {
                **_trace(term.label, term.token),
                "x": [share * 100 for share in shares],
                "y": [-index for index, _, _ in found],
                "hovertext": [
                    _hover(term.label, part.raw_ns, percent(share)) for (_, part, _), share in zip(found, shares, strict=True)
                ],
            }
        )
    layout = _named([label for label, _ in known])
    layout["xaxis"] |= _PERCENT
    return {"data": data, "layout": _with_legend(layout)}


def stacked_bars(labels: Sequence[str], parts: Sequence[tuple[Term, Sequence[int]]]) -> Figure:
    """Times in ns as one stacked bar for each label. All bars have the same parts."""
    totals = [sum(values) for values in zip(*(values for _, values in parts), strict=True)]
    scale, unit = duration_unit(max(totals, default=0))
    data = [
        {
            **_trace(term.label, term.token, pattern=term.idle),
            "x": [value / scale for value in values],
            "y": [-index for index in range(len(labels))],
            "hovertext": [
                _hover(f"{label}: {term.label}", value, f"{percent(value / total if total else 0.0)} of the span")
                for label, value, total in zip(labels, values, totals, strict=True)
            ],
        }
        for term, values in parts
        if any(values)
    ]
    layout = _named(labels)
    layout["xaxis"] |= {"ticksuffix": f" {unit}", "rangemode": "tozero"}
    return {"data": data, "layout": _with_legend(layout)}


def gap_scatter(trace: TraceBundle) -> Figure:
    """When the GPU is idle, and for how long, with one point for each gap."""
    rows = [row for row in trace.rows("gaps") if row["duration_ns"]]
    scale, unit = duration_unit(max((row["start_ns"] for row in rows), default=0))
    data = []
    for key, term in CAUSES.items():
        mine = [row for row in rows if cause(row["cause"]).key == key]
        if not mine:
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": term.label,
                "x": [row["start_ns"] / scale for row in mine],
                "y": [row["duration_ns"] / 1e3 for row in mine],
                "hovertext": [_gap_hover(row, term.label) for row in mine],
                "hoverinfo": "text",
                "marker": {"color": term.token, "size": 8, "line": {"width": 1, "color": "--hatch"}},
            }
        )
    layout = _base(300)
    layout["margin"] = {"l": 62, "r": 12, "t": 6, "b": 44}
    layout["xaxis"] = _axis() | {
        "title": {"text": "since the trace's first event"},
        "ticksuffix": f" {unit}",
        "showgrid": False,
    }
    layout["yaxis"] = _axis() | {"type": "log", **_log_ticks([row["duration_ns"] for row in rows])}
    return {"data": data, "layout": _with_legend(layout)}


def operators(trace: TraceBundle, limit: int = 12) -> Figure:
    """The operators with the most self time. This is the chart of a trace without GPU work."""
    rows = [row for row in trace.rows("operators", limit) if row["host_self_ns"]]
    return ranked([(shorten(str(row["name"])), row["host_self_ns"]) for row in rows], "--busy")


@dataclass(frozen=True)
class Mark:
    """A layer's share of the GPU time and its share of the host time."""

    path: str
    gpu: float
    host: float


def layers(marks: Sequence[Mark]) -> Figure:
    """Each layer's shares of GPU time and of host time as two marks, with a line between them."""
    rows = [-at for at in range(len(marks))]
    between = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for mark in marks for x in (mark.gpu * 100, mark.host * 100, None)],
        "y": [y for row in rows for y in (row, row, None)],
        "line": {"color": "--line", "width": 3},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    data = [between]
    for name, token, symbol, shares in (
        ("GPU time", "--busy", "circle", [mark.gpu for mark in marks]),
        ("host time", "--host", "diamond", [mark.host for mark in marks]),
    ):
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [share * 100 for share in shares],
                "y": rows,
                "cliponaxis": False,
                "marker": {"color": token, "size": 11, "symbol": symbol, "line": {"color": "--surface", "width": 1}},
                "hoverinfo": "text",
                "hovertext": [
                    f"<b>{plotly_text(elide(mark.path, 80))}</b><br>GPU {percent(mark.gpu)}, host {percent(mark.host)}"
                    for mark in marks
                ],
            }
        )
    layout = _named([shorten_path(mark.path, _LABEL_LIMIT) for mark in marks], row=34)
    layout["xaxis"] |= {"ticksuffix": " %", "rangemode": "tozero"}
    return {"data": data, "layout": _with_legend(layout)}


@dataclass(frozen=True)
class Point:
    """A kernel in the roofline chart: its FLOPs per byte, its rate in 1e12 FLOPs a second, and its time in ns."""

    name: str
    term: Term
    intensity: float
    tflops: float
    time_ns: int
    note: str


def roofline(points: Sequence[Point], peaks: Mapping[str, float], memory_gb_s: float) -> Figure:
    """Kernels by arithmetic intensity and rate, on logarithmic axes, with one roof line for each peak."""
    # Some space on both sides, and the ridge point of every roof inside the chart.
    low = min(point.intensity for point in points) / 2
    high = max(*(point.intensity for point in points), *(1e3 * peak / memory_gb_s for peak in peaks.values())) * 4
    data: list[Figure] = []
    for name, peak in sorted(peaks.items(), key=lambda entry: entry[1]):
        ridge = 1e3 * peak / memory_gb_s
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name.upper()} roof",
                "x": [low, max(low, ridge), high],
                "y": [min(peak, low * memory_gb_s / 1e3), peak, peak],
                "line": {"color": "--quiet", "width": 2, "dash": "solid" if len(data) == 0 else "dot"},
                "hoverinfo": "text",
                "hovertext": f"{name.upper()}: {quantity(peak, 'TFLOP/s')}, memory {quantity(memory_gb_s, 'GB/s')}",
            }
        )
    longest = max(point.time_ns for point in points)
    for term in FAMILIES.values():
        mine = [point for point in points if point.term == term]
        if not mine:
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": term.label,
                "x": [point.intensity for point in mine],
                "y": [point.tflops for point in mine],
                "hoverinfo": "text",
                "hovertext": [
                    f"<b>{plotly_text(elide(shorten(point.name), 70))}</b><br>{quantity(point.tflops, 'TFLOP/s')} at "
                    f"{quantity(point.intensity, 'FLOP/B')}, {duration(point.time_ns)}<br>{plotly_text(point.note)}"
                    for point in mine
                ],
                "marker": {
                    "color": term.token,
                    "size": [6 + 26 * math.sqrt(point.time_ns / longest) for point in mine],
                    "opacity": 0.85,
                    "line": {"color": "--surface", "width": 1},
                },
            }
        )
    layout = _base(380)
    layout["margin"] = {"l": 66, "r": 12, "t": 6, "b": 48}
    layout["xaxis"] = _axis() | {"type": "log", "dtick": 1, "title": {"text": "arithmetic intensity, FLOP/B"}}
    layout["yaxis"] = _axis() | {
        **{"type": "log", "dtick": 1, "exponentformat": "power", "automargin": True},
        **{"tickfont": {"size": 11}, "title": {"text": "TFLOP/s", "standoff": 14}},
    }
    return {"data": data, "layout": _with_legend(layout)}


def _idle_parts(known: Sequence[tuple[str, Budget]]) -> list[tuple[str, str, list[float]]]:
    """Label, colour and times in ns of every cause that any trace has, with one time for each trace."""
    found = []
    for term in CAUSES.values():
        values = [sum(part.time_ns for part in parts.idle if part.term == term) for _, parts in known]
        if any(values):
            found.append((term.label, term.token, values))
    return found


def _budgets(traces: Sequence[TraceBundle], labels: Sequence[str]) -> list[tuple[str, Budget]]:
    """The labels and time budgets of the traces that have GPU work."""
    known = ((label, budget(trace)) for label, trace in zip(labels, traces, strict=True))
    return [(label, parts) for label, parts in known if parts is not None]


def ranked(entries: Sequence[tuple[str, int]], token: str) -> Figure:
    """One bar for each entry, in the order given, with its name above it and its time beside it."""
    data = [
        {
            **_trace("time", token),
            "x": [value for _, value in entries],
            "y": [-index for index in range(len(entries))],
            "text": [duration(value) for _, value in entries],
            "textposition": "outside",
            "cliponaxis": False,
            "hovertext": [_hover(name, value, "") for name, value in entries],
        }
    ]
    layout = _named([name for name, _ in entries])
    # Every bar shows its value, so an axis would only repeat it.
    layout["xaxis"] |= {"visible": False, "rangemode": "tozero"}
    layout["margin"] |= {"r": 70, "b": 4}
    return {"data": data, "layout": layout}


def _bar(part: BudgetPart, x: list[float], y: list[int], text: list[str], hover: list[str]) -> Figure:
    return {
        **_trace(part.term.label, part.term.token, pattern=part.term.key in CAUSES),
        "width": 0.78,
        "x": x,
        "y": y,
        "text": text,
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "inside",
        "textfont": {"color": part.term.ink, "size": 12},
        "hovertext": hover,
    }


def _trace(name: str, token: str, *, pattern: bool = False) -> Figure:
    marker: Figure = {"color": token, "line": {"color": "--surface", "width": 1}}
    if pattern:
        # Hatching means that nothing ran here. It tells idle from busy without colour.
        marker["pattern"] = {"shape": "/", "fillmode": "overlay", "fgcolor": "--hatch", "size": 6, "solidity": 0.18}
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "hoverinfo": "text",
        "textposition": "none",
        "width": 0.5,
        "marker": marker,
    }


def _named(labels: Sequence[str], row: int = _ROW) -> Figure:
    """The layout of bars with their names above them. So a margin never cuts a name, however narrow the page is."""
    layout = _stacked(len(labels), left=4, row=row)
    layout["yaxis"] |= {"showticklabels": False}
    layout["annotations"] = [
        {
            "text": plotly_text(elide(label, _LABEL_LIMIT)),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": -index + 0.26,
            "yref": "y",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 12, "color": "--ink"},
        }
        for index, label in enumerate(labels)
    ]
    return layout


def _stacked(rows: int, left: int, row: int = _ROW) -> Figure:
    layout = _base(max(1, rows) * row + 44)
    layout["barmode"] = "stack"
    layout["margin"] = {"l": left, "r": 28, "t": 6, "b": 34}
    layout["xaxis"] = _axis()
    layout["yaxis"] = {
        "range": [-rows + 0.5, 0.75],
        "zeroline": False,
        "showgrid": False,
        "fixedrange": True,
        "ticks": "",
        "color": "--ink",
        "type": "linear",
    }
    return layout


def _base(height: int) -> Figure:
    return {
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--ink", "size": 12},
        "hoverlabel": {"bgcolor": "--raised", "bordercolor": "--line", "font": {"color": "--ink"}, "align": "left"},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
    }


def _axis() -> Figure:
    return {
        "gridcolor": "--line",
        "linecolor": "--line",
        "color": "--quiet",
        "zeroline": False,
        "fixedrange": True,
        "type": "linear",
    }


def _with_legend(layout: Figure) -> Figure:
    """The same layout with a line for the legend above it. The figure gets higher, so the bars keep their space."""
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1,
        "yanchor": "bottom",
        "traceorder": "normal",
        "font": {"size": 12, "color": "--ink"},
        "itemclick": False,
        "itemdoubleclick": False,
    }
    margin = layout["margin"] | {"t": 40}
    return layout | {"showlegend": True, "legend": legend, "height": layout["height"] + 34, "margin": margin}


def _log_ticks(durations: Sequence[int]) -> Figure:
    """Ticks at powers of ten with their units, such as `1 µs`, `10 µs`, `1 ms`.

    Plotly would show numbers without a unit on a logarithmic axis.
    """
    if not durations:
        return {}
    low, high = math.floor(math.log10(min(durations))), math.ceil(math.log10(max(durations)))
    decades = range(low, max(high, low + 1) + 1)
    texts = [duration(10**power).replace(".00", "").replace("10.0", "10") for power in decades]
    # The axis is in microseconds, because Plotly chooses ranges best for values near 1.
    return {
        "tickvals": [10.0 ** (power - 3) for power in decades],
        "ticktext": texts,
        "range": [low - 3 - 0.15, decades[-1] - 3 + 0.15],
    }


def _gap_hover(row: dict[str, Any], label: str) -> str:
    until = plotly_text(elide(shorten(str(row["after"])), 60))
    operator = f"<br>launched by {plotly_text(elide(shorten(str(row['operator'])), 60))}" if row["operator"] else ""
    return f"<b>{duration(row['duration_ns'])}</b> idle, {label}<br>until {until}{operator}"


def _hover(label: str, time_ns: float, share: str) -> str:
    tail = f", {share}" if share else ""
    return f"<b>{plotly_text(label)}</b><br>{duration(time_ns)}{tail}"


def plotly_text(text: str) -> str:
    """`text`, escaped so that Plotly shows it unchanged. Plotly reads tags and entities in every label."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
