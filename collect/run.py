"""How is a collection started? The one entry, which imports torch only once it is asked to run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.errors import MissingExtraError, TracekitError

from .options import CollectOptions, Console
from .variants import VARIANTS, Variant, find_variant

if TYPE_CHECKING:
    from tracekit.manifest import Device

__all__ = ["CollectOptions", "Console", "run"]


def run(options: CollectOptions, console: Console) -> list[Path]:
    """Run every variant: time it, profile a window, write `<run>.pt.trace.json.gz` and `<run>.run.json` beside it.

    Returns the traces, in the order of `options.variants`, those that `options.resume` keeps among them. Files of
    variants that were done stay when another one fails or the collection is interrupted; of that one nothing is left.

    Raises MissingExtraError without torch, and TracekitError, one line, for whatever else the user can mend: an unknown
    variant, device, model or weights, a variant that the device or the workload is not for, a context too short, an
    output that cannot be written, memory that runs out, a compiler that is missing, logits that are off.
    """
    options.check()
    variants = VARIANTS if options.all_variants else tuple(find_variant(name) for name in dict.fromkeys(options.variants))
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("collect needs torch", "collect")
    from . import record
    from .collection import collect
    from .session import prepare

    session = prepare(options, console)
    chosen = choose(variants, session.description, options, console)
    traces = {variant.name: record.kept(session, variant) if options.resume else None for variant in chosen}
    if kept := [name for name, trace in traces.items() if trace is not None]:
        console.notice(f"kept, as collected before with these settings: {', '.join(kept)}")
    rest = [variant for variant in chosen if traces[variant.name] is None]
    for variant in rest:
        for doubt in session.doubts(variant):
            console.notice(f"{variant.name}: {doubt}")
    traces.update(zip((variant.name for variant in rest), collect(session, rest) if rest else [], strict=True))
    return [trace for trace in traces.values() if trace is not None]


def choose(variants: tuple[Variant, ...], device: Device, options: CollectOptions, console: Console) -> tuple[Variant, ...]:
    """Those variants that can run: of all, each other one is named with the reason; of some asked for, it is an error."""
    reasons = {
        variant.name: reason
        for variant in variants
        if (reason := variant.unsuitable(options.workload) or variant.unsupported(device))
    }
    for name, reason in reasons.items():
        if not options.all_variants:
            raise TracekitError(reason, where=f"variant {name}", mend="choose another, or --all for those that can run")
        console.notice(f"skipped {name}: {reason}")
    return tuple(variant for variant in variants if variant.name not in reasons)
