"""How is a collection started?

This module is the only entry. It imports torch only when it is asked to run.
"""

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
    """Run every variant: time it, profile a window, and write `<run>.pt.trace.json.gz` with `<run>.run.json` beside it.

    Returns the traces in the order of `options.variants`, including those that `options.resume` keeps. If a variant fails or
    the collection is interrupted, the files of the finished variants stay, and nothing is left of the unfinished one.

    Raises MissingExtraError without torch. Raises TracekitError, one line, for everything else that the user can correct: an
    unknown variant, device, model or weights; a variant that does not suit the device or the workload; a context that is too
    short; an output that cannot be written; lack of memory; a missing compiler; wrong logits.
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
    """The variants that can run.

    If all variants were asked for, each of the others is named with the reason. If some were asked for by name, one that cannot
    run raises TracekitError.
    """
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
