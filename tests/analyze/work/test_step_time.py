"""Is a saving told of a step without the profiler, where its time is known?"""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import TraceBuilder

from tracekit.analyze.analysis import Analysis
from tracekit.analyze.work.step_time import Saved, parse_step_time, timed
from tracekit.errors import TracekitError
from tracekit.manifest import find_manifest
from tracekit.taxonomy import Taxonomy


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1.48ms", 1_480_000),
        ("900 us", 900_000),
        ("900µs", 900_000),
        ("900\u03bcs", 900_000),
        (" 12ns ", 12),
        ("2s", 2 * 10**9),
        ("0.5ns", 0),
    ],
)
def test_times_are_read_with_their_unit(text, ns):
    if ns:
        assert parse_step_time(text) == ns
    else:
        with pytest.raises(TracekitError):
            parse_step_time(text)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1ms", "1,5ms", "1e3ms", "5 min", "0ms", "99999999s", "١ms"])
def test_what_is_no_time_is_one_line(text):
    with pytest.raises(TracekitError, match=r"--step-time .*no time of a step; write a number and ns, us, ms or s"):
        parse_step_time(text)


US = 1_000


def loop(steps: int = 4) -> TraceBuilder:
    """Steps of 100 µs: twenty operators that each launch a kernel."""
    builder = TraceBuilder()
    for step in range(steps):
        at = 100 * US * step
        builder.annotation(at, 100 * US - 1, f"ProfilerStep#{step}")
        for number in range(20):
            begin = at + 5 * US * number
            builder.operator(begin, 4 * US, "aten::add")
            builder.launch(call=(begin + US, US), kernel=(begin + 3 * US, US // 2))
    return builder


def analysis(step_ns: int | None = None) -> Analysis:
    return Analysis(loop().trace(), Taxonomy([]), step_ns=step_ns)


def test_without_the_time_of_a_step_only_the_window_is_told():
    one = analysis()
    assert one.timed.told is None
    assert one.timed.saved(lambda program: program.without_work(np.full(len(program.row), 1.0 * US))) == Saved(
        79 * US, unlimited_saving_ns=0
    )


def test_the_profilers_cost_is_taken_off_before_a_change_is_made():
    known = analysis(60 * US).timed
    assert known.unprofiled is not None
    assert known.unprofiled.total_ns == pytest.approx(4 * 60 * US, rel=0.05)
    saved = known.saved(lambda program: program.without_work(program.work_ns / 2))
    assert saved.step_saving_ns is not None
    assert saved.step_after_ns is not None
    assert saved.step_saving_ns + saved.step_after_ns == 60 * US
    assert 0 < saved.step_saving_ns < 60 * US
    assert saved.saving_ns > 4 * saved.step_saving_ns


def test_no_change_saves_more_than_the_step():
    known = analysis(1 * US).timed
    saved = known.saved(lambda program: program.without_work(program.work_ns + program.call_ns))
    assert saved.step_after_ns is not None
    assert saved.step_after_ns >= 0


def test_a_trace_without_steps_has_no_step_to_tell_of():
    builder = TraceBuilder()
    builder.launch(call=(0, 5), kernel=(10, 5))
    one = Analysis(builder.trace(), Taxonomy([]), step_ns=100)
    assert one.timed.saved(lambda program: program.faster(np.full(1, 5.0))) == Saved(5, unlimited_saving_ns=5)


def test_a_manifest_tells_the_time_of_a_decode_step():
    from pathlib import Path

    from repository import ROOT

    from tracekit.analyze.trace.loader import load
    from tracekit.manifest import read_manifest

    path = ROOT / "traces/gpt2-fp16-h100-80gb-hbm3.pt.trace.json.gz"
    manifest = find_manifest(Path(path))
    assert manifest is not None
    run = read_manifest(manifest)
    one = Analysis(load(path), Taxonomy([]))
    assert one.timed.told == "the run manifest"
    assert one.timed.step_ns == pytest.approx(run.timings.decode_token.median_ns, rel=1e-3)
    assert len(one.timed.steps.table) == 8
    assert timed(one.trace, one.steps, 5, run).step_ns == 5


def test_what_a_change_saves_outside_the_steps_is_no_part_of_a_step():
    builder = loop()
    for number in range(200):
        begin = 400 * US + 5 * US * number
        builder.operator(begin, 4 * US, "aten::add")
        builder.launch(call=(begin + US, US), kernel=(begin + 3 * US, US // 2))
    known = Analysis(builder.trace(), Taxonomy([]), step_ns=60 * US).timed
    alone = analysis(60 * US).timed.saved(lambda program: program.without_work(program.work_ns / 2))
    both = known.saved(lambda program: program.without_work(program.work_ns / 2))
    assert alone.step_saving_ns is not None
    assert both.step_saving_ns == pytest.approx(alone.step_saving_ns, rel=0.2)


def test_what_the_host_does_between_two_steps_is_no_part_of_a_step():
    """Steps of 100 µs with 900 µs of Python between them: without that Python a step saves nothing."""
    builder = TraceBuilder()
    for number in range(5):
        at = 1_000 * US * number
        builder.annotation(at, 100 * US, f"ProfilerStep#{number}")
        builder.operator(at + 5 * US, 80 * US, "aten::mm")
        builder.launch(call=(at + 10 * US, 5 * US), kernel=(at + 20 * US, 60 * US))
        builder.launch(call=(at + 85 * US, 5 * US), kernel=(at + 92 * US, 5 * US))
    known = Analysis(builder.trace(), Taxonomy([]), step_ns=100 * US).timed
    between = np.diff(known.trace.start_ns[known.played.row], prepend=0) > 800 * US
    saved = known.saved(lambda program: program.without_work(np.where(between, 900.0 * US, 0.0)))
    assert saved.saving_ns > 3_000 * US
    assert saved.step_saving_ns is not None
    assert saved.step_saving_ns < 20 * US


@pytest.mark.parametrize("step", [1, 10])
def test_a_time_that_no_program_could_take_leaves_a_share_of_it(step):
    """A device of 60 µs a step that is told to take less: the saving is a share of what was told."""
    builder = TraceBuilder()
    for number in range(5):
        at = 100 * US * number
        builder.annotation(at, 90 * US, f"ProfilerStep#{number}")
        builder.launch(call=(at + 10 * US, 5 * US), kernel=(at + 20 * US, 60 * US))
    known = Analysis(builder.trace(), Taxonomy([]), step_ns=step * US).timed
    half = known.saved(lambda program: program.faster(np.full(5, 30.0 * US)))
    assert half.step_saving_ns is not None
    assert 0 < half.step_saving_ns < 0.75 * step * US


def test_a_step_time_that_is_asked_for_is_of_a_decode_step_where_there_are_some():
    from repository import ROOT

    from tracekit.analyze.trace.loader import load

    path = ROOT / "traces/gpt2-fp16-h100-80gb-hbm3.pt.trace.json.gz"
    asked, told = (Analysis(load(path), Taxonomy([]), step_ns=ns).timed for ns in (4_600_000, None))
    assert len(asked.steps.table) == len(told.steps.table) == 8
    assert asked.told == "--step-time"
