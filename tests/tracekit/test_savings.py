"""Is a saving told as what it is, and does it stand where it belongs?"""

from __future__ import annotations

import pytest

from tracekit.savings import LATER, NOTED, NOW, Saving, grouped

MS = 1_000_000


def saving(window: object = None, step: object = None, after: object = None, unlimited: object = None) -> Saving:
    finding = {"saving_ns": window, "step_saving_ns": step, "step_after_ns": after, "unlimited_saving_ns": unlimited}
    return Saving.of(finding, 100 * MS)


@pytest.mark.parametrize(
    ("known", "group", "told"),
    [
        (saving(40 * MS), NOW, "saves about 40.0 ms (40.0 % of the span) with the profiler on"),
        (saving(40 * MS, 3 * MS, MS), NOW, "4.00 ms → about 1.00 ms a step (−75.0 %)"),
        (
            saving(40 * MS, 3 * MS, MS, 50 * MS),
            NOW,
            "4.00 ms → about 1.00 ms a step (−75.0 %); 50.0 ms of the profiled window once launches no longer limit",
        ),
        (saving(40 * MS, unlimited=40 * MS + 1), NOW, "saves about 40.0 ms (40.0 % of the span) with the profiler on"),
        (saving(0, unlimited=2 * MS), LATER, "2.00 ms (2.0 % of the span)"),
        (saving(5 * MS, 0, 4 * MS, 2 * MS), LATER, "2.00 ms (2.0 % of the span)"),
        (saving(0), LATER, "nothing here"),
        (saving(), NOTED, ""),
        (saving("much"), NOTED, ""),
    ],
)
def test_a_saving_in_words(known, group, told):
    assert (known.group, known.told()) == (group, told)


def test_without_a_span_there_is_no_share():
    assert Saving(5 * MS, None, None, None, 0).told() == "saves about 5.00 ms with the profiler on"


def test_findings_keep_their_order_within_their_group():
    findings = [{"code": code, "saving_ns": ns} for code, ns in (("a", 5), ("b", 0), ("c", None), ("d", 7))]
    found = grouped(findings, 10)
    assert {group: [one["code"] for one, _ in rows] for group, rows in found.items()} == {
        NOW: ["a", "d"],
        LATER: ["b"],
        NOTED: ["c"],
    }
