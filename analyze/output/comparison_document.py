"""What does `diff --json` print? The document that docs/diff.md describes."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from tracekit import __version__

from ..compare.comparison import Comparison
from ..compare.fusions import Fusion
from ..compare.interval import Interval
from ..compare.repeats import Repeated
from ..compare.side import Side
from ..compare.unprofiled import Timing, Unprofiled
from ..compare.waterfall import SpanPart

SCHEMA_VERSION = 1


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The whole document, made of JSON values only.

    All times are in ns and exact, and of the whole trace; those of one step are the fields that end in `_step_ns`.
    """
    whole = comparison.waterfall
    return {
        "schema_version": SCHEMA_VERSION,
        "tracekit_version": __version__,
        "a": _side(comparison.a),
        "b": _side(comparison.b),
        "section": comparison.section,
        "empty": comparison.is_empty,
        "conditions": [asdict(condition) for condition in comparison.conditions],
        "conditions_known": comparison.unknown_conditions is None,
        "unprofiled": _unprofiled(comparison, comparison.unprofiled) if comparison.unprofiled else None,
        "timed": _timed(comparison.runs) if comparison.runs else None,
        "traces": {"a": comparison.traces[0], "b": comparison.traces[1]},
        "repeats": [_repeated(one) for one in comparison.repeats],
        "steps": asdict(comparison.steps) if comparison.steps else None,
        "waterfall": {
            "a_ns": whole.a_ns,
            "b_ns": whole.b_ns,
            "delta_ns": whole.delta_ns,
            **_of_a_step(comparison, comparison.span),
            "parts": [{**_part(part), **_of_a_step(comparison, comparison.part(part))} for part in whole.parts],
        },
        "families": comparison.families.records(),
        "idle": [_part(part) for part in comparison.idle],
        "operators": comparison.operators.records(),
        "layers": comparison.layers.records(),
        "kernels": comparison.kernels.records(),
        "copies": comparison.copies.records(),
        "fused": [_fusion(fusion) for fusion in comparison.fused],
        "unfused": [_fusion(fusion) for fusion in comparison.unfused],
    }


def _of_a_step(comparison: Comparison, values: tuple[Fraction, Fraction]) -> dict[str, float | None]:
    """The values of one step in A and B, in ns, where the traces have different numbers of steps; else None."""
    steps = comparison.steps
    a, b = map(float, values) if steps and steps.a != steps.b else (None, None)
    return {"a_step_ns": a, "b_step_ns": b}


def _unprofiled(comparison: Comparison, told: Unprofiled) -> dict[str, Any]:
    """The times without the profiler in ns, whether they differ by more than the noise, and whether the profile contradicts."""
    return {
        "what": told.what,
        **_ends("a", told.a.median, "_ns"),
        "a_std_ns": number(told.a.std_ns),
        **_ends("b", told.b.median, "_ns"),
        "b_std_ns": number(told.b.std_ns),
        "exceeds_noise": told.exceeds_noise,
        "contradicts_span": comparison.is_contradicted,
    }


def _timed(runs: tuple[Timing, Timing]) -> dict[str, Any]:
    a, b = runs
    return {
        "a_ns": number(a.median.median),
        "a_std_ns": number(a.std_ns),
        "b_ns": number(b.median.median),
        "b_std_ns": number(b.std_ns),
    }


def _repeated(one: Repeated) -> dict[str, Any]:
    ends = {**_ends("a", one.a), **_ends("b", one.b)}
    return {"metric": one.metric.name, "match": one.metric.match, **ends, "exceeds_noise": one.exceeds_noise}


def _ends(letter: str, found: Interval, unit: str = "") -> dict[str, int | float | None]:
    ends = (("", found.median), ("_low", found.low), ("_high", found.high))
    return {f"{letter}{name}{unit}": number(value) for name, value in ends}


def number(value: Fraction | None) -> int | float | None:
    """A figure as a JSON value: an int if it is whole; else a float, as for figures of one step."""
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)


def _side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "device": side.device, "complete": not side.missing, "figures": dict(side.figures)}


def _part(part: SpanPart) -> dict[str, Any]:
    return {**asdict(part), "delta_ns": part.delta_ns}


def _fusion(fusion: Fusion) -> dict[str, Any]:
    return {**asdict(fusion), "into": list(fusion.into)}
