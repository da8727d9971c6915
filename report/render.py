"""How does a bundle become one HTML file that works offline and can be mailed?"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tracekit.files import write_atomic
from tracekit.savings import grouped
from tracekit.vocabulary import WITHOUT_OPERATOR
from tracekit.wording import counted, number, ratio

from . import comparison, figures, run, tables
from .budget import Budget, budget, figure
from .bundle import Bundle, TraceBundle, read_bundle
from .critical_path import CriticalPathView, critical_path_view
from .flashattention import flash_attention
from .layers import LayersView, layers_view
from .nonbreaking import duration, percent
from .ranks import run_views
from .roofline import ProjectionView, RooflineView, projection_view, roofline_view
from .steps import CommunicationView, StepsView, communication_view, steps_view
from .timeline import timeline
from .verdict import Verdict, verdict

# Characters that HTML or old JavaScript could read as markup or as the end of a line, inside a JSON script element.
_JSON_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True)
class KeyFigure:
    """One of the large figures under the verdict."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A Plotly figure and its caption. `label` says what it shows for readers who cannot see it."""

    key: str
    figure: dict[str, Any]
    label: str
    caption: str = ""


@dataclass(frozen=True)
class TraceView:
    """All that the page shows of one trace. `key` is unique on the page, so every id contains it."""

    key: str
    label: str
    trace: TraceBundle
    facts: list[run.Fact]
    slowdown: run.Slowdown | None
    device: str
    verdict: Verdict
    warnings: list[dict[str, Any]]
    key_figures: list[KeyFigure]
    budget: Budget | None
    charts: dict[str, Chart]
    tables: dict[str, tables.TableView]
    findings: dict[str, list[tuple[Mapping[str, Any], str]]]
    undecided: list[tuple[str, list[str]]]
    layers: LayersView
    roofline: RooflineView | None
    projection: ProjectionView | None
    steps: StepsView | None
    communication: CommunicationView | None
    critical_path: CriticalPathView | None
    timeline: dict[str, Any] | None


def render(bundle_dir: Path, output: Path) -> Path:
    """Write the dossier of the bundle in `bundle_dir` to `output`, and return `output`.

    Raises BundleError if the bundle cannot be read, TracekitError if `output` cannot be written.
    """
    write_atomic(output, to_html(read_bundle(bundle_dir)).encode("utf-8", errors="replace"))
    return output


def to_html(bundle: Bundle) -> str:
    """The whole page. The same bundle always gives the same bytes."""
    labels = trace_labels(bundle.traces)
    views = [view(f"t{at}", label, trace) for at, (label, trace) in enumerate(zip(labels, bundle.traces, strict=True))]
    scripts = [_plotly(), _script("dossier.js")]
    page = _environment().get_template("dossier.html.j2")
    return page.render(
        title=labels[0] if len(views) == 1 else f"{len(views)} traces side by side",
        version=bundle.version,
        views=views,
        skipped=bundle.skipped,
        runs=run_views(bundle.runs),
        # The first trace with GPU work tells most, so it is shown unfolded.
        unfolded=next((view.key for view in views if view.budget is not None), views[0].key),
        flashattention=flash_attention(bundle.traces),
        comparison=comparison.compare_traces(bundle.traces, labels) if len(views) > 1 else None,
        style=Markup(_text("dossier.css")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
    )


def view(key: str, label: str, trace: TraceBundle) -> TraceView:
    """Compute everything that the page shows of one trace."""
    parts = budget(trace)
    return TraceView(
        key=key,
        label=label,
        trace=trace,
        facts=run.facts(trace),
        slowdown=run.slowdown(trace),
        device=run.device_name(trace),
        verdict=verdict(trace),
        warnings=trace.documents("warnings"),
        key_figures=_key_figures(trace, parts),
        budget=parts,
        charts={chart.key: chart for chart in _charts(trace, parts)},
        tables={table.key: table for table in _tables(trace, parts) if table.rows},
        findings=grouped(trace.documents("findings"), parts.span_ns // max(len(trace.documents("devices")), 1) if parts else 0),
        undecided=_undecided(trace),
        layers=layers_view(trace),
        roofline=roofline_view(trace),
        projection=projection_view(trace),
        steps=steps_view(trace),
        communication=communication_view(trace),
        critical_path=critical_path_view(trace),
        timeline=timeline(trace),
    )


def trace_labels(traces: Sequence[TraceBundle]) -> list[str]:
    """A short name for each trace, without the usual endings of file names.

    If names are equal, the rank or a number tells them apart.
    """
    names = [re.sub(r"(\.pt)?(\.trace)?\.json(\.gz)?$", "", trace.name) or trace.name for trace in traces]
    seen = Counter(names)
    for at, trace in enumerate(traces):
        if seen[names[at]] > 1:
            rank = trace.document.get("rank")
            names[at] += f" (rank {rank})" if rank is not None else f" ({at + 1})"
    return names


def _key_figures(trace: TraceBundle, parts: Budget | None) -> list[KeyFigure]:
    if parts is None or trace.gpu is None:
        host = trace.document.get("host") or {}
        operators = trace.column("operators", "count")
        return [
            KeyFigure("Host span", duration(host.get("span_ns")), "first to last event"),
            KeyFigure(
                "Operators",
                number(sum(value or 0 for value in operators)),
                f"{number(len(operators))} different",
            ),
            KeyFigure("Threads", number(host.get("threads"))),
        ]
    launches, idle = trace.document.get("launches") or {}, trace.document.get("idle") or {}
    overhead = figure(idle, "dispatch_ns") + figure(idle, "launch_latency_ns")
    copies = figure(trace.gpu, "memcpys") + figure(trace.gpu, "memsets")
    latency = (launches.get("latency_ns") or {}).get("p50")
    return [
        KeyFigure("GPU span", duration(parts.span_ns), "first to last GPU event"),
        KeyFigure("Busy", percent(parts.share(parts.busy_ns)), duration(parts.busy_ns)),
        KeyFigure("Launch overhead", percent(parts.share(overhead)), f"{duration(overhead)} of idle time"),
        KeyFigure("Kernel time", duration(figure(trace.gpu, "kernel_time_ns")), "over all streams"),
        KeyFigure(
            "Kernels",
            number(figure(trace.gpu, "kernels")),
            f"{number(figure(trace.gpu, 'unique_kernels'))} different",
        ),
        KeyFigure("Launch latency", duration(latency), f"median of {_launches(launches)}")
        if latency is not None
        else KeyFigure("Copies and fills", number(copies)),
        *_without_operator(trace),
    ]


def _without_operator(trace: TraceBundle) -> Iterator[KeyFigure]:
    """The share of kernel time that no operator launched, and the main reason for it.

    Yields nothing if every kernel has an operator.
    """
    alone = trace.document.get("without_operator") or {}
    if not figure(alone, "time_ns"):
        return
    most = max(WITHOUT_OPERATOR, key=lambda reason: figure(alone, f"{reason}_ns"))
    yield KeyFigure("No operator", percent(alone.get("share")), f"of kernel time, mostly {WITHOUT_OPERATOR[most]}")


def _undecided(trace: TraceBundle) -> list[tuple[str, list[str]]]:
    """The reasons why rules could not decide, each with the codes of these rules, in the order of the bundle."""
    reasons: dict[str, list[str]] = {}
    for one in trace.documents("undecided"):
        reasons.setdefault(str(one.get("because", "")), []).append(str(one.get("code", "")))
    return list(reasons.items())


def _launches(launches: dict[str, Any]) -> str:
    graphs = figure(launches, "graph_launches")
    text = counted(figure(launches, "kernel_launches"), "launch", "launches")
    return f"{text}, {counted(graphs, 'graph')}" if graphs else text


def _charts(trace: TraceBundle, parts: Budget | None) -> list[Chart]:
    found = []
    if parts is not None and parts.span_ns:
        found.append(
            Chart(
                "budget",
                figures.time_budget(parts),
                "Time budget: the GPU's span, busy by family and idle by cause",
                _overlap(parts),
            )
        )
        if trace.tables["gaps"].num_rows:
            shown, total = trace.tables["gaps"].num_rows, parts.idle_ns
            covered = sum(value or 0 for value in trace.column("gaps", "duration_ns"))
            share = f", {percent(covered / total, 0)} of all idle time" if total else ""
            caption = f"One point a gap: the {number(shown)} longest{share}."
            found.append(
                Chart(
                    "gap-scatter",
                    figures.gap_scatter(trace),
                    "When the GPU is idle: gaps by start and duration",
                    caption,
                )
            )
    elif trace.tables["operators"].num_rows:
        found.append(
            Chart(
                "operators",
                figures.operators(trace),
                "Host operators by self time",
                "Self time: without the operators that an operator calls.",
            )
        )
    return found


def _overlap(parts: Budget) -> str:
    text = "Busy is the union over all streams."
    if not parts.overlaps:
        return f"{text} Idle segments are hatched."
    return (
        f"{text} Kernels and copies add up to {duration(parts.raw_busy_ns)}, more than the "
        f"{duration(parts.busy_ns)} busy, as streams overlap: their parts are scaled down to it. "
        "Idle segments are hatched."
    )


def _tables(trace: TraceBundle, parts: Budget | None) -> list[tables.TableView]:
    host = [tables.operators(trace), tables.calls(trace)]
    if parts is None:
        return host
    return [
        tables.kernels(trace),
        tables.families(trace, parts),
        tables.gap_groups(trace),
        tables.gaps(trace),
        tables.launches(trace),
        tables.graphs(trace),
        tables.graph_nodes(trace),
        tables.compiled_regions(trace),
        tables.generated_kernels(trace),
        *host,
        tables.devices(trace),
        tables.copies(trace),
        tables.streams(trace),
    ]


def breakable(name: str) -> Markup:
    """A name, escaped, that may break into lines between its parts, so that a narrow column never cuts a word."""
    parts = [part for part in re.findall(r"[^_:<(/,]*[_:<(/,]*", name) if part]
    # Without this, a browser would put a line break between the ellipsis of a shortened name and the bracket that closes it.
    closing = Markup('<span class="whole">{}</span>')
    return Markup("<wbr>").join(closing.format(part) if part.endswith("…>") else escape(part) for part in parts)


def json_island(value: object) -> Markup:
    """`value` as JSON in which no string can end or open an HTML element."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_JSON_ESCAPES))


def _finite(value: Any) -> Any:
    """The same value for JSON: NaN and infinities become None, and other floats are shortened to six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy that forbids the network and every script but ours.

    Even if escaping failed somewhere, an injected handler would not run.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    # Plotly needs inline styles and blob images: it writes style attributes and offers its picture as a blob.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        island=json_island,
        duration=duration,
        percent=percent,
        number=number,
        ratio=ratio,
        full=lambda value: f"{value:.9g}",
        breakable=breakable,
        sentence=lambda text: str(text)[:1].upper() + str(text)[1:],
    )
    return environment


@cache
def _plotly() -> str:
    # Imported here because plotly's package is the slowest import of this stage, and only this line needs it.
    from plotly.offline import get_plotlyjs

    return _inlinable(get_plotlyjs())


def _script(name: str) -> str:
    return _inlinable(_text(name))


def _inlinable(script: str) -> str:
    """A script that an HTML parser takes as one piece.

    Its strings hold no tag and no comment, and its line ends are those that the parser makes.
    """
    script = script.replace("\r\n", "\n").replace("\r", "\n").replace("<!--", "<\\!--")
    return re.sub(r"<(/?script)", r"<\\\1", script, flags=re.IGNORECASE)


@cache
def _text(name: str) -> str:
    return (resources.files("tracekit.templates") / name).read_text(encoding="utf-8")
