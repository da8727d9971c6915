"""How close do kernels come to the device's peaks, and what does the model predict for another device?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.names import elide
from tracekit.vocabulary import FLAGS, ROOFS, limited_by, term
from tracekit.wording import MISSING, is_number, shapes, three_digits

from . import figures
from .bundle import TraceBundle
from .legend import family
from .nonbreaking import duration, percent, quantity, size
from .tables import Cell, Column, Row, TableView, count_cell, name_cell, share_cell, time_cell

OPERATORS = 100
KERNELS = 100
PROJECTED = 60
_SHAPES_LIMIT = 48


@dataclass(frozen=True)
class RooflineView:
    """The section on the roofline. `chart` is None if no peaks or no FLOPs are known."""

    headline: str
    chart: dict[str, Any] | None
    caption: str
    operators: TableView
    kernels: TableView


@dataclass(frozen=True)
class ProjectionView:
    """The section on the projection onto another device: the answer, its inputs, and its tables."""

    headline: str
    inputs: tuple[str, ...]
    decode: str
    steps: TableView
    kernels: TableView


def roofline_view(trace: TraceBundle) -> RooflineView | None:
    """The section on the roofline of a trace. None if the trace has no kernels."""
    found = trace.document.get("roofline")
    if not isinstance(found, dict):
        return None
    chart, caption = _chart(trace)
    return RooflineView(_headline(found), chart, caption, _operators(trace), _kernels(trace))


def _headline(found: Mapping[str, Any]) -> str:
    device = found.get("device")
    text = f"The work of {percent(_over(found.get('known_ns'), found.get('kernel_time_ns')))} of the kernel time is known: of "
    text += "kernels that an operator with a formula launched, its shapes recorded. "
    return text + (
        f"Shares are of the datasheet's peaks of {device}."
        if device
        else "The device is not in the table of datasheets, so there are rates but no shares: --device-table takes yours."
    )


def _chart(trace: TraceBundle) -> tuple[dict[str, Any] | None, str]:
    """The chart of kernels by arithmetic intensity and rate under the device's roof, and a caption about what is missing."""
    rows = [row for row in trace.rows("roofline_kernels") if row["flops"] and row["bytes"] and row["tflops"]]
    sheet = trace.device.get("datasheet")
    if not rows or not isinstance(sheet, dict):
        return None, ""
    points = [
        figures.Point(
            name=str(row["name"]),
            term=family(row["family"]),
            intensity=row["intensity"],
            tflops=row["tflops"],
            time_ns=row["known_ns"],
            note=f"{percent(_of_roof(row))} of its roof, bound by {row['bound'] or 'what is not known'}",
        )
        for row in rows
    ]
    peaks = {row["peak"]: peak for row in rows if (peak := _peak(sheet, row["peak"])) is not None}
    shown = _over(sum(row["known_ns"] for row in rows), sum(trace.column("roofline_kernels", "time_ns")))
    caption = (
        f"One point a kernel name, its area its time: {percent(shown)} of the kernel time. Missing are kernels whose work is "
        "not known, and copies, lookups and fusions, whose FLOPs are none or not told. The lines are what the device can do."
    )
    return figures.roofline(points, peaks, sheet["memory_gb_s"]), caption


def _peak(sheet: Mapping[str, Any], peak: str) -> float | None:
    """The peak of a type in the datasheet, in 1e12 operations a second; None if it is not known.

    If the hardware lacks the type, this is the FP32 peak; FP64 has no such replacement.
    """
    tflops = sheet.get("tflops") or {}
    found = tflops.get(peak) or (None if peak == "fp64" else tflops.get("fp32"))
    return found if is_number(found) else None


def _operators(trace: TraceBundle) -> TableView:
    rows = trace.rows("roofline_operators", OPERATORS)
    columns = (Column("Operator", "name", "whose work it is"), Column("Shapes", "name", "of its tensors"))
    cells = [(name_cell(row["operator"] or "no operator"), _shapes(row["shapes"]), *_figures(row)) for row in rows]
    return _view(trace, "roofline_operators", "By operator and shapes", (*columns, *_FIGURES), cells)


def _kernels(trace: TraceBundle) -> TableView:
    rows = trace.rows("roofline_kernels", KERNELS)
    cells = [(name_cell(row["name"]), _family(row), *_figures(row)) for row in rows]
    columns = (Column("Kernel", "name"), Column("Family", "term"), *_FIGURES)
    return _view(trace, "roofline_kernels", "By kernel", columns, cells)


_FIGURES = (
    Column("Share", "bar", "of kernel time"),
    Column("Time", "number"),
    Column("TFLOP/s", "number", "over the time of runs whose FLOPs are known"),
    Column("GB/s", "number", "bytes that must move at least, over the time of runs whose bytes are known"),
    Column("FLOP/B", "number", "arithmetic intensity"),
    Column("Of roof", "bar", "the larger share of the device's peak: of its arithmetic, or of its bandwidth"),
    Column("Bound by", "text", f"what keeps it from being faster. {'; '.join(map(str, ROOFS.values()))}"),
    Column("Peak", "text", "of the datasheet, that the FLOPs are held against"),
    Column("Runs", "number", "of kernels"),
)


def _figures(row: Row) -> tuple[Cell, ...]:
    return (
        share_cell(row["share"]),
        time_cell(row["time_ns"]),
        _rate(row["tflops"]),
        _rate(row["gb_s"]),
        _rate(row["intensity"]),
        share_cell(_of_roof(row)),
        _bound(row),
        Cell(str(row["peak"]).upper() if row["peak"] else MISSING),
        count_cell(row["count"]),
    )


def _bound(row: Row) -> Cell:
    if row["flag"]:
        return Cell(str(term(FLAGS, row["flag"])))
    return Cell(term(ROOFS, row["bound"]).label if row["bound"] else MISSING)


def _of_roof(row: Row) -> float | None:
    """The larger of two shares: of the device's arithmetic peak, and of its bandwidth. None if neither is known."""
    return max((share for share in (row["compute_share"], row["memory_share"]) if is_number(share)), default=None)


def projection_view(trace: TraceBundle) -> ProjectionView | None:
    """The section on the projection of a trace. None if no target device was asked for."""
    found = trace.document.get("projection")
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), dict):
        return None
    inputs = found["inputs"]
    told = (
        f"{percent(found.get('known_share'))} of the kernel time, {duration(found.get('known_ns'))} here, takes at least "
        f"{duration(found.get('projected_ns'))} there. Every kernel is given the longer of its bytes over the bandwidth and "
        "its FLOPs over the peak, so real kernels are slower."
        if found.get("known_ns")
        else "nothing can be told. No kernel's work is known, as no shapes are recorded or graphs hide the operators."
    )
    headline = f"Projected onto {inputs.get('device')}, not measured: {told}"
    return ProjectionView(headline, _inputs(inputs), _decode(found.get("decode")), _steps(trace), _projected(trace))


def _inputs(inputs: Mapping[str, Any]) -> tuple[str, ...]:
    gap, launch = inputs.get("gap_ns"), inputs.get("launch_ns")
    return (
        f"Bandwidth {quantity(inputs.get('memory_gb_s') or 0, 'GB/s')}: {inputs.get('memory_source')}.",
        f"Peaks: {inputs.get('tflops_source')}.",
        f"Launches: {duration(gap)} between queued kernels, {duration(launch)} of the host a launch: "
        f"{inputs.get('launch_source')}.",
    )


def _decode(decode: object) -> str:
    """A sentence about a decode step, projected from the model's shape alone; empty without such a projection."""
    if not isinstance(decode, dict) or not isinstance(decode.get("model"), dict):
        return ""
    return (
        f"By the model's shape alone, projected: a decode step moves {size(decode['model'].get('bytes'))}, which takes "
        f"{duration(decode.get('kernel_ns'))}, and the gaps between its kernels {duration(decode.get('gap_ns'))}; the host "
        f"takes {duration(decode.get('host_ns'))}. That is {duration(decode.get('step_ns'))} a step, "
        f"{quantity(decode.get('tokens_per_second') or 0, 'tokens/s')}, limited by {limited_by(decode.get('bound'))}."
    )


def _steps(trace: TraceBundle) -> TableView:
    columns = (
        Column("Step", "layer", "the steps of one kind, on average"),
        Column("Kernels here", "number", "measured"),
        Column("Known", "bar", "share of that time whose work is known"),
        Column("Kernels there", "number", "projected: their least time, where enough is known"),
        Column("Gaps", "number", "projected: between its kernels"),
        Column("Host", "number", "projected: of its launches"),
        Column("Step there", "number", "projected: the longer of device and host, where enough is known"),
    )
    rows = trace.rows("projection_steps", OPERATORS)
    cells = [
        (
            name_cell(row["step"]),
            time_cell(row["time_ns"]),
            share_cell(row["known_share"]),
            time_cell(row["projected_ns"] if row["step_ns"] is not None else None),
            *(time_cell(row[key]) for key in ("gap_ns", "host_ns", "step_ns")),
        )
        for row in rows
    ]
    return _view(trace, "projection_steps", "Steps, projected", columns, cells)


def _projected(trace: TraceBundle) -> TableView:
    columns = (
        Column("Kernel", "name"),
        Column("Family", "term"),
        Column("Here", "number", "measured: of the runs whose work is known"),
        Column("There", "number", "projected: the least time of the same"),
        Column("Bytes", "number", "that must move at least"),
        Column("Bound by", "text", "on the target"),
        Column("Runs", "number"),
    )
    cells = [
        (
            name_cell(row["name"]),
            _family(row),
            time_cell(row["known_ns"]),
            time_cell(row["projected_ns"]),
            Cell(size(row["bytes"]), float(row["bytes"] or 0)),
            Cell(str(row["bound"] or "not known")),
            count_cell(row["count"]),
        )
        for row in trace.rows("projection_kernels", PROJECTED)
    ]
    return _view(trace, "projection_kernels", "Kernels, projected", columns, cells)


def _view(trace: TraceBundle, key: str, title: str, columns: Sequence[Column], cells: Sequence[tuple[Cell, ...]]) -> TableView:
    return TableView(key, title, tuple(columns), tuple(cells), trace.tables[key].num_rows, f"{key}.parquet")


def _family(row: Row) -> Cell:
    term = family(row["family"])
    return Cell(term.label, term=term)


def _shapes(recorded: str | None) -> Cell:
    if not recorded:
        return Cell(MISSING)
    text = shapes(recorded)
    cut = elide(text, _SHAPES_LIMIT)
    return Cell(cut, full=text if cut != text else None)


def _rate(value: float | None) -> Cell:
    return Cell(three_digits(value), float(value)) if is_number(value) else Cell(MISSING)


def _over(value: float | None, by: float | None) -> float | None:
    return value / by if is_number(value) and is_number(by) and by else None
