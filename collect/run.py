"""How is a collection started? The one entry, which imports torch only once it is asked to run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tracekit.errors import MissingExtraError

from .options import CollectOptions, Console
from .variants import find_variant

__all__ = ["CollectOptions", "Console", "run"]


def run(options: CollectOptions, console: Console) -> list[Path]:
    """Run every variant: time it, profile a window, write `<run>.pt.trace.json.gz` and `<run>.run.json` beside it.

    Returns the traces, in the order of `options.variants`. Those of variants that were done stay when a later one
    fails or is interrupted; of that one nothing is left.

    Raises MissingExtraError without torch, and TracekitError, one line, for whatever else the user can mend: an unknown
    variant, device, model or weights, a context too short, an output that cannot be written, memory that runs out, a
    compiler that is missing.
    """
    options.check()
    variants = tuple(find_variant(name) for name in dict.fromkeys(options.variants))
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("collect needs torch", "collect")
    from .session import Session

    session = Session.prepare(options, console)
    return [session.collect(variant) for variant in variants]
