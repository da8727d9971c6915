"""What does `diff --json` print? The document that docs/diff.md describes."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from tracekit import __version__

from ..compare.comparison import Comparison
from ..compare.fusions import Fusion
from ..compare.side import Side
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
        "timed": asdict(comparison.unprofiled) if comparison.unprofiled else None,
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


def _side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "device": side.device, "complete": not side.missing, "figures": dict(side.figures)}


def _part(part: SpanPart) -> dict[str, Any]:
    return {**asdict(part), "delta_ns": part.delta_ns}


def _fusion(fusion: Fusion) -> dict[str, Any]:
    return {**asdict(fusion), "into": list(fusion.into)}
