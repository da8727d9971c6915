"""How is a finding's saving told, and among which findings does it stand?

A terminal and the report show findings that save time now first. Those that would matter only once launches no longer limit
stand apart, and so do those without an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .wording import MINUS, duration, percent

NOW, LATER, NOTED = "now", "later", "noted"
WORTH_TELLING = 0.01
"""What a change saves once launches no longer limit is told if it is more by at least this share of the span."""


@dataclass(frozen=True)
class Saving:
    """The times of a finding in ns, and the span in which they lie; None where they are not known.

    `window` is of the profiled window, `step` of a step without the profiler of which `after` is left, and `unlimited` is of
    the window, if launches were no limit.
    """

    window: int | None
    step: int | None
    after: int | None
    unlimited: int | None
    span: int

    @classmethod
    def of(cls, finding: Mapping[str, Any], span_ns: int) -> Saving:
        """The saving of a finding of the document. Values that are no whole numbers count as not known."""

        def known(name: str) -> int | None:
            value = finding.get(name)
            return value if type(value) is int else None

        window, step, after = known("saving_ns"), known("step_saving_ns"), known("step_after_ns")
        return cls(window, step, after, known("unlimited_saving_ns"), span_ns)

    @property
    def group(self) -> str:
        """`now` if it saves time as the host launches, `later` if only once launches no longer limit, else `noted`."""
        if self.window is None:
            return NOTED
        return NOW if (self.step if self.step is not None else self.window) > 0 else LATER

    def told(self) -> str:
        """The saving in a few words; empty without an estimate."""
        if self.window is None:
            return ""
        if self.group == LATER:
            return f"{duration(self.unlimited)}{self._share(self.unlimited)}" if self.unlimited else "nothing here"
        return self._now() + self._later()

    def _now(self) -> str:
        if self.step is not None and self.after is not None:
            whole = max(self.step + self.after, 1)
            return f"{duration(whole)} → about {duration(self.after)} a step ({MINUS}{percent(self.step / whole)})"
        return f"saves about {duration(self.window)}{self._share(self.window)} with the profiler on"

    def _later(self) -> str:
        if self.unlimited is None or self.window is None or self.unlimited - self.window < WORTH_TELLING * max(self.span, 1):
            return ""
        return f"; {duration(self.unlimited)} of the profiled window once launches no longer limit"

    def _share(self, ns: int | None) -> str:
        return f" ({percent(ns / self.span)} of the span)" if ns is not None and self.span else ""


def grouped(findings: Iterable[Mapping[str, Any]], span_ns: int) -> dict[str, list[tuple[Mapping[str, Any], str]]]:
    """The findings by group, in their order, each with its saving in words."""
    found: dict[str, list[tuple[Mapping[str, Any], str]]] = {NOW: [], LATER: [], NOTED: []}
    for finding in findings:
        saving = Saving.of(finding, span_ns)
        found[saving.group].append((finding, saving.told()))
    return found
