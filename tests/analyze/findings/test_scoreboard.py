"""Does the page of predictions say what was measured, and do the predictions hold as well as it says?"""

from __future__ import annotations

import json
from functools import cache

from benchmark_scripts import script
from repository import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def pairs(kept):
    return [script("pairs").Predicted(**{**one, "first": tuple(one["first"])}) for one in kept]


@cache
def measured():
    return pairs(json.loads((RESULTS / "pairs.json").read_text())["pairs"])


def test_the_page_shows_every_pair_as_it_was_kept():
    page = (ROOT / "docs" / "predictions.md").read_text()
    for one in measured():
        assert script("pairs").line(one) in page


def test_nine_of_ten_changes_are_named_and_four_of_five_savings_come_true():
    graded = [one for one in measured() if one.is_graded]
    assert len(graded) >= 24
    assert sum(one.named is not None for one in graded) >= 0.9 * len(graded)
    assert sum(one.is_close for one in graded) >= 0.8 * len(graded)


def test_a_third_was_made_after_the_rules_and_the_page_tells_how_they_did_at_first_sight():
    rounds = json.loads((RESULTS / "pairs_unseen.json").read_text())["rounds"]
    page = " ".join((ROOT / "docs" / "predictions.md").read_text().split())
    first_sight = [one for kept in rounds for one in pairs(kept["pairs"]) if one.is_graded]
    after = [one for one in measured() if one.is_graded and one.made > 1]
    assert 3 * len(after) >= sum(one.is_graded for one in measured())
    named, close = sum(one.named is not None for one in first_sight), sum(one.is_close for one in first_sight)
    assert named >= 0.9 * len(first_sight)
    assert f"{named} of {len(first_sight)} named, {close} of {len(first_sight)} within 25 %" in page


def test_every_change_has_two_pairs():
    changes = [one.change for one in measured()]
    assert set(changes) == set(script("pairs").WORDS)
    assert all(changes.count(change) >= 2 for change in changes)


def test_the_totals_on_the_page_are_those_of_the_pairs():
    page = " ".join((ROOT / "docs" / "predictions.md").read_text().split())
    graded = [one for one in measured() if one.is_graded]
    named, close = sum(one.named is not None for one in graded), sum(one.is_close for one in graded)
    assert f"| all | | {named} of {len(graded)} | {close} of {len(graded)} |" in page
