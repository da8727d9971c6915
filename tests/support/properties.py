"""How many examples does a property test try?

A few by default, so that all tests take minutes; ten times as many with `HYPOTHESIS_PROFILE=thorough`. With `quick` it is a tenth,
always the same ones: the tests of mutants run thousands of times, and a failure there need not be made small.
"""

from __future__ import annotations

import os

from hypothesis import Phase, settings

TIMES = {"quick": 0.1, "default": 1, "thorough": 10}
USUAL = 100
"""As many as Hypothesis tries by itself."""


def examples(count: int) -> settings:
    """Try so many examples, or as many times more as the profile says; a slow machine is no failure."""
    tried = settings(max_examples=round(count * times()), deadline=None)
    if times() >= 1:
        return tried
    return settings(tried, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))


def times() -> float:
    """How many times as many examples as usual the profile asks for. Raises KeyError for a profile that is none."""
    return TIMES[os.environ.get("HYPOTHESIS_PROFILE", "default")]


def load_profile() -> None:
    """Let tests that ask for no number follow the profile too. Raises KeyError for a profile that is none."""
    settings.register_profile("tracekit", examples(USUAL))
    settings.load_profile("tracekit")
