"""What may a trace cost at most, and how much more than another one?

The limits are called budgets. They are the default ones, or those of a TOML file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tracekit.errors import TracekitError
from tracekit.schema import CAUSES

from .metrics import ALL, UNPROFILED, Metric, checked_metric, value
from .side import EXPOSED, Side
from .unprofiled import STEP_METRIC, same_workload

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNITS: Mapping[str, int] = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
NUMBER = r"(?P<number>\d+(?:\.\d+)?)"
TIME = re.compile(rf"{NUMBER}\s*(?P<unit>{'|'.join(UNITS)})")
PERCENT = re.compile(rf"{NUMBER}\s*%")
KEYS = ("metric", "match", "max", "max_regression", "of", "per")
REGRESSION = "5%"
BUSY, SPAN = Metric("gpu.busy_ns"), Metric("gpu.span_ns")
STEP = Metric(STEP_METRIC)
WATCHED: Mapping[str, tuple[tuple[Metric, Metric | None], ...]] = {
    "gpu": (
        (BUSY, None),
        (Metric("gpu.kernel_time_ns"), None),
        (Metric("launches.kernel_launches"), None),
        (Metric("copies.count", ALL), None),
        (Metric("copies.time_ns", ALL), BUSY),
        (Metric(EXPOSED), BUSY),
    ),
    "host": ((Metric("host.span_ns"), None), (Metric("host.operator_self_ns"), None), (Metric("host.operators"), None)),
}
"""What the default budgets watch where no time without the profiler is known, with and without GPU events.

The profiler changes these figures least. Each metric stands with what its growth is a share of; None is the metric itself.
Times that may be next to nothing are held against the busy time: twice of next to nothing is no regression.
"""
IDLE: tuple[tuple[Metric, Metric | None], ...] = ((SPAN, None), *((Metric(f"idle.{cause}_ns"), SPAN) for cause in CAUSES))
"""What is watched only if somebody asks: under the profiler, a host that is slower by chance makes more idle time."""


@dataclass(frozen=True)
class Budget:
    """The limits of one metric: `maximum` for its value, `regression` for its growth over the old trace.

    `maximum` is in ns if the metric is a time. It applies to the whole trace, or to one step if `per_step` is set. `regression`
    is a share of the old value of the metric `of`, or of the metric's own old value if `of` is None.
    """

    metric: Metric
    maximum: Fraction | None = None
    regression: Fraction | None = None
    of: Metric | None = None
    per_step: bool = False


@dataclass(frozen=True)
class Chosen:
    """The budgets that a check uses, and notes on what it leaves out, a line each."""

    budgets: tuple[Budget, ...]
    notes: tuple[str, ...] = ()


def choose_budgets(
    path: Path | None, regression: str | None, old: Sequence[Side] | None, new: Sequence[Side], idle: bool = False
) -> Chosen:
    """The budgets that a check uses: those of the file, if there is one, and perhaps the default ones.

    The default budgets apply if no file is given, or if a regression is. With `idle` the span and the causes of idle time have
    budgets too. These need an old trace. Raises TracekitError if they apply and there is none, or if the file or the regression
    cannot be read.
    """
    budgets = read_budgets(path) if path is not None else ()
    defaults = path is None or regression is not None
    if not defaults and not idle:
        return Chosen(budgets)
    if old is None:
        asked = "--max-regression" if regression else "--idle" if idle else None
        what = "needs an old trace" if asked else "there is nothing to check against"
        raise TracekitError(what, where=asked, mend="give --against OLD, or --budget FILE alone")
    share = parse_percent(REGRESSION if regression is None else regression, "--max-regression")
    chosen = default_budgets(old, new, share) if defaults else Chosen(())
    more = tuple(Budget(metric, regression=share, of=of) for metric, of in IDLE) if idle else ()
    return Chosen(budgets + chosen.budgets + more, chosen.notes)


def default_budgets(old: Sequence[Side], new: Sequence[Side], regression: Fraction) -> Chosen:
    """The default budgets: no watched metric may grow by more than the share `regression`.

    If all traces know their time without the profiler for the same workload, that alone is watched: it is what a user waits
    for. Else it is what the profiler changes least. What a bundle of an earlier version did not record is left out.
    """
    both = (*old, *new)
    timed = [value(side, STEP) is not None for side in both]
    if all(timed) and same_workload(both):
        return Chosen((Budget(STEP, regression=regression),))
    notes = []
    if any(timed):
        why = "the workloads differ" if all(timed) else f"{both[timed.index(False)].name} has none"
        notes.append(f"times without the profiler are not compared, because {why}: the profiles are")
    budgets = []
    for metric, of in WATCHED["gpu" if old[0].has("gpu") else "host"]:
        lacking = [side.name for side in both if side.has("gpu") and metric.name == EXPOSED and value(side, metric) is None]
        if lacking:
            notes.append(f"{metric} is not checked: {lacking[0]} did not record it; analyse its trace again")
        else:
            budgets.append(Budget(metric, regression=regression, of=of))
    return Chosen(tuple(budgets), tuple(notes))


def read_budgets(path: Path) -> tuple[Budget, ...]:
    """The budgets of a TOML file, one for each `[[budget]]`. Raises TracekitError, which names the file and the budget."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TracekitError(f"cannot be read ({error.strerror})", where=path, mend="check the path") from error
    except (ValueError, RecursionError) as error:
        raise TracekitError(f"is not valid TOML ({error})", where=path, mend="see docs/diff.md for an example") from error
    entries = document.get("budget")
    unknown = sorted(document.keys() - {"budget"})
    if unknown or not isinstance(entries, list) or not entries:
        what = f"has the unknown key {unknown[0]!r}" if unknown else "has no budget"
        raise TracekitError(what, where=path, mend="write [[budget]] before each; see docs/diff.md")
    return tuple(_budget(entry, f"{path}, budget {number}") for number, entry in enumerate(entries, start=1))


def parse_percent(text: object, where: object) -> Fraction:
    """A share such as `5%`. Raises TracekitError for anything else.

    A bare number is refused because it may mean a share of 1 or per cent.
    """
    found = PERCENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise TracekitError(
            f"{str(text)[:40]!r} is not a share in per cent", where=where, mend="write it as 5%, not below zero"
        )
    return Fraction(found["number"]) / 100


def _budget(entry: Any, where: str) -> Budget:
    if not isinstance(entry, dict):
        raise TracekitError("is not a table", where=where, mend="write [[budget]] before it")
    if unknown := sorted(entry.keys() - set(KEYS)):
        raise TracekitError(f"has the unknown key {unknown[0]!r}", where=where, mend=f"there is {', '.join(KEYS)}")
    texts = {key: _text(entry.get(key), key, where) for key in ("metric", "match", "of", "per")}
    metric = checked_metric(texts["metric"] or "", texts["match"], where)
    of = checked_metric(texts["of"], None, where) if texts["of"] is not None else None
    if "max" not in entry and "max_regression" not in entry:
        raise TracekitError("limits nothing", where=where, mend="give it max or max_regression")
    if of is not None and "max_regression" not in entry:
        raise TracekitError("`of` is what max_regression is a share of", where=where, mend="give it max_regression as well")
    if texts["per"] is not None and metric.name in UNPROFILED:
        raise TracekitError(f"{metric} is of no profiled step", where=where, mend="leave out `per`")
    if texts["per"] is not None and (texts["per"] != "step" or "max" not in entry):
        raise TracekitError("`per` says that `max` is a step's", where=where, mend='write per = "step" beside max')
    return Budget(
        metric=metric,
        maximum=_maximum(entry["max"], metric, where) if "max" in entry else None,
        regression=parse_percent(entry["max_regression"], where) if "max_regression" in entry else None,
        of=of,
        per_step=texts["per"] is not None,
    )


def _text(value: Any, key: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TracekitError(f"`{key}` is not a text", where=where, mend=f'write it as {key} = "…"')
    return value


def _maximum(value: Any, metric: Metric, where: str) -> Fraction:
    """The value of `max`: a text with a unit, in ns, if the metric is a time; else a number. Raises TracekitError."""
    if metric.is_time:
        found = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise TracekitError(f"`max` of {metric.name} is not a time", where=where, mend='write it as "3 ms", not below zero')
        return Fraction(found["number"]) * UNITS[found["unit"]]
    if type(value) not in (int, float) or not 0 <= value < float("inf"):  # also refuses NaN
        raise TracekitError(f"`max` of {metric.name} is not a number from 0 on", where=where, mend="write it as max = 100")
    return Fraction(value)
