"""Whatever is wrong with a trace, is it refused in one line or analysed with exact sums?

200 damaged traces by default, and 2,000 with `HYPOTHESIS_PROFILE=thorough`. The same number always is the same damage.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzzed import Fuzzed, fuzzed
from properties import times
from sums import assert_adds_up, kernels_plainly_read

from tracekit.analyze import Analyses, analyze
from tracekit.errors import TracekitError
from tracekit.report.render import render

TOGETHER = 10
"""How many damaged traces one test reads."""


@pytest.mark.parametrize("first", range(0, round(200 * times()), TOGETHER))
def test_it_is_refused_or_adds_up(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + TOGETHER):
        damaged = fuzzed(seed)
        try:
            found = holds(damaged, tmp_path)
            if found is not None and seed % TOGETHER == 0:
                render(found.write(tmp_path / "bundle"), tmp_path / "report.html")
        except Exception as error:
            raise AssertionError(f"seed {seed}, {damaged.source}: {'; '.join(damaged.changes)}") from error


def holds(damaged: Fuzzed, directory: Path) -> Analyses | None:
    """The analysis, whose figures add up; None if the file is refused in one line. Fails by assertion."""
    found, refusal = analyzed(damaged.write(directory / "damaged.json"))
    if found is None:
        assert len(str(refusal).splitlines()) == 1
        return None
    json.dumps(found.document(), allow_nan=False)
    for one in found.analyses:
        assert_adds_up(one)
    codes = {warning.code for one in found.analyses for warning in one.warnings}
    if all(one.complete for one in found.analyses) and "doubled_events" not in codes:
        figures = [one.gpu for one in found.analyses if one.gpu]
        together = sum(gpu.kernels for gpu in figures), sum(gpu.kernel_time_ns for gpu in figures)
        assert together == kernels_plainly_read(damaged.document), "it is called complete"
    return found


def analyzed(path: Path) -> tuple[Analyses | None, TracekitError | None]:
    try:
        return analyze([path]), None
    except TracekitError as refusal:
        return None, refusal


def test_the_damage_can_be_repeated_and_is_of_every_kind() -> None:
    once = [fuzzed(seed) for seed in range(60)]
    assert [str(fuzzed(seed)) for seed in range(60)] == list(map(str, once))
    told = " ".join(change for damaged in once for change in damaged.changes)
    for words in ("dropped", "doubled", "swapped", "moved", "times as long", "shuffled all events", "odd values", "no args"):
        assert words in told
