"""Is what we quote what its authors wrote?"""

from __future__ import annotations

import dataclasses

import pytest

from tracekit.quoted import quoted


def test_the_source_is_named():
    source = quoted().source

    assert "NVIDIA T4" in source.title
    assert source.line == "Tesla T4, as its authors report"


def test_methods_agree_with_themselves():
    methods = quoted().methods
    first = methods[0]

    assert [method.variant for method in methods] == ["baseline", "fp16", "compiled", "fp16-compiled"]
    assert first.reduction_percent is None
    for method in methods:
        # Their workload is 100 tokens, and the columns tell the same twice.
        assert method.seconds * method.tokens_per_second == pytest.approx(100, abs=0.02)
        if method is not first:
            assert method.reduction_percent == pytest.approx(100 * (1 - method.seconds / first.seconds), abs=0.011)


@pytest.mark.parametrize(("level", "layers", "percent"), [("model", 6, 99.0), ("block", 6, 91.0), ("attention", 8, 83.0), ("mlp", 3, 90.5)])  # fmt: skip
def test_each_level_is_whole(level, layers, percent):
    found = quoted().level(level)

    assert len(found) == layers
    assert sum(layer.percent for layer in found.values()) == pytest.approx(percent)


def test_statements_carry_no_markup():
    said = [statement.text for statement in quoted().statements if statement.topic == "FlashAttention"]

    assert said[0] == "T4 (SM75) lacks LDMatrix + MMA instructions required for FlashAttention"
    assert len(said) == 4
    assert not any("*" in text for text in said)


def test_a_level_that_nobody_quoted_is_empty():
    assert quoted().level("kernel") == {}


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        quoted().source.device = "H100"  # type: ignore[misc]
