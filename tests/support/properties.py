"""How many examples does a property test try?

A few by default, so that all tests take minutes; ten times as many with `HYPOTHESIS_PROFILE=thorough`.
"""

from __future__ import annotations

import os

from hypothesis import settings

TIMES = {"default": 1, "thorough": 10}
USUAL = 100
"""As many as Hypothesis tries by itself."""


def examples(count: int) -> settings:
    """Try so many examples, or as many times more as the profile says; a slow machine is no failure."""
    return settings(max_examples=count * times(), deadline=None)


def times() -> int:
    """How many times as many examples as usual the profile asks for. Raises KeyError for a profile that is none."""
    return TIMES[os.environ.get("HYPOTHESIS_PROFILE", "default")]


def load_profile() -> None:
    """Let tests that ask for no number follow the profile too. Raises KeyError for a profile that is none."""
    settings.register_profile("tracekit", examples(USUAL))
    settings.load_profile("tracekit")
