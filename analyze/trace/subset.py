"""What is left of a trace if only some of its events stay?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tracekit.table import Table

from .arrays import Bools, Int64s
from .trace import Trace, TraceWarning


def subset(trace: Trace, keep_events: Bools, keep_gpu: Bools, warnings: tuple[TraceWarning, ...]) -> Trace:
    """The trace with these rows of `events` and these of `gpu`, which must be the rows of `gpu` whose events are kept.

    Clock and strings stay.
    """
    place = np.cumsum(keep_events) - 1  # of each kept event among them
    gpu = _moved(trace.gpu.take(keep_gpu), place)
    operator = gpu["operator"]
    is_kept = (operator >= 0) & keep_events[operator]
    gpu = Table({**gpu.columns, "operator": np.where(is_kept, place[operator], -1)})
    told = trace.collectives.take(keep_events[trace.collectives["event"].astype(np.int64)])
    return replace(
        trace,
        events=trace.events.take(keep_events),
        gpu=gpu,
        collectives=_moved(told, place),
        waits=_moved(trace.waits.take(keep_events[trace.waits["event"]]), place),
        warnings=warnings,
    )


def _moved(table: Table, place: Int64s) -> Table:
    return Table({**table.columns, "event": place[table["event"].astype(np.int64)]})
