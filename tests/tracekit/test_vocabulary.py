"""Has every thing that a trace is divided into a name and a meaning?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tracekit import vocabulary
from tracekit.analyze.path.critical_path import BOUNDS, KINDS
from tracekit.schema import CAUSES
from tracekit.taxonomy import Family
from tracekit.vocabulary import Terms

MEMORY = "memory"


@pytest.mark.parametrize(
    ("terms", "keys"),
    [
        (vocabulary.FAMILIES, [*(family.value for family in Family), MEMORY]),
        (vocabulary.CAUSES, CAUSES),
        (vocabulary.PATH_SEGMENTS, KINDS),
        (vocabulary.ROOFS, ["compute", "memory", "latency"]),
        (vocabulary.FLAGS, ["from_cache", "above_peak"]),
    ],
)
def test_each_has_a_label_that_tells_its_key_and_a_meaning_that_fits_beside_it(terms: Terms, keys: list[str]) -> None:
    assert set(terms) == set(keys)
    for key, term in terms.items():
        assert term.key == key
        assert term.label.replace(" ", "_") == key
        assert 0 < len(term.meaning) <= 45
        assert str(term) == f"{term.label}: {term.meaning}"


def test_no_two_meanings_of_a_kind_are_the_same() -> None:
    for terms in (vocabulary.FAMILIES, vocabulary.CAUSES, vocabulary.PATH_SEGMENTS, vocabulary.ROOFS, vocabulary.FLAGS):
        assert len({term.meaning for term in terms.values()}) == len(terms)


def test_a_key_of_a_later_version_is_shown_in_plain_words() -> None:
    unknown = vocabulary.term(vocabulary.CAUSES, "power_cap")
    assert str(unknown) == unknown.label == "power cap"
    assert {vocabulary.label(bound) for bound in BOUNDS.values()} >= {"host", "launch latency", "kernel delay"}


def test_what_limits_a_step() -> None:
    assert vocabulary.limited_by("host") == "the host's launches"
    assert vocabulary.limited_by("memory") == "the memory roof and the gaps"


def test_both_modules_are_light() -> None:
    code = (
        "import sys; import tracekit.wording, tracekit.vocabulary; "
        "print([name for name in ('numpy', 'pandas', 'rich', 'pyarrow', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
