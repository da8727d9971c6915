"""Does no browser break a figure from its unit, and does the report say what the terminal says?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracekit import wording
from tracekit.report import nonbreaking
from tracekit.report.nonbreaking import NBSP

SHOWN = {
    "binary_size": (49_152,),
    "duration": (84_312_000,),
    "durations": (588_000_000, 624_000_000, "to"),
    "millions": (124_439_808,),
    "operations": (42_467_328,),
    "percent": (0.0567,),
    "quantity": (320, "GB/s"),
    "rate": (600_000, 60_000),
    "rough_percent": (0.714,),
    "size": (6_300_000,),
}


@pytest.mark.parametrize(("name", "given"), SHOWN.items())
def test_the_words_are_the_cores_and_stay_on_one_line(name: str, given: tuple[Any, ...]) -> None:
    plain: Callable[..., str] = getattr(wording, name)
    bound: Callable[..., str] = getattr(nonbreaking, name)
    assert " " not in bound(*given)
    assert NBSP in bound(*given)
    assert bound(*given).replace(NBSP, " ") == plain(*given)


def test_all_of_them_are_tested() -> None:
    assert {name for name, value in vars(nonbreaking).items() if hasattr(value, "__wrapped__")} == SHOWN.keys()
