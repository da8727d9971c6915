"""What must a trace have so that a rule can decide?

A rule declares its needs. If one of them is not met, the rule answers CannotTell with the reason of that need, without looking
at the trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from ..facts import Facts
from ..finding import Answer, CannotTell

Rule = Callable[[Facts], Answer]


@dataclass(frozen=True)
class Need:
    """Something that a rule needs, and the reason that the rule gives where it is missing."""

    because: str
    met: Callable[[Facts], bool]


def needs(*wanted: Need) -> Callable[[Rule], Rule]:
    """Declare what a rule needs. If something is missing, the rule answers CannotTell before it looks.

    The answer carries the rule's name as its code and the reason of the first need that is not met.
    """

    def declare(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def ask(facts: Facts) -> Answer:
            missing = next((need for need in wanted if not need.met(facts)), None)
            return CannotTell(rule.__name__, missing.because) if missing else rule(facts)

        return ask

    return declare


LOST = "the trace lost GPU events in most of this time: the GPU may have been busy"
"""The reason of a rule that does not blame idle time which may not have been idle."""

GPU = Need("the trace has no GPU events", lambda e: e.gpu is not None)
KERNELS = Need("the trace has no kernels", lambda e: len(e.work) > 0)
CALLS = Need("the trace has no runtime calls: what the host did is not known", lambda e: len(e.trace.calls) > 0)
HOST = Need("the trace has no host operators or annotations", lambda e: e.has_host)
DISPATCH = Need(
    "the launching threads recorded no operators (ProfilerActivity.CPU): what the host did is not known",
    lambda e: e.has_launching_operators,
)
OPERATORS = Need("no operator launched a kernel", lambda e: bool((e.work["operator"] >= 0).any()))
SHAPES = Need("the shapes of operators were not recorded (record_shapes=True)", lambda e: bool(e.work["has_bytes"].any()))
DATASHEET = Need("the device is not in the table of datasheets (--device-table)", lambda e: e.sheet is not None)
CAPABILITY = Need("the device's compute capability is not known", lambda e: e.capability is not None)
