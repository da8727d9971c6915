"""Which part of a model a kernel may be, by its name."""

from __future__ import annotations

import re

import pytest
from repository import ROOT

from tracekit.parts import Part, Parts
from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()
SOURCES = sorted((ROOT / "kernels").glob("*.cu*"))
OURS = sorted({name for source in SOURCES for name in re.findall(r"\b(gpt2_\w+)\(", source.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("name", OURS)
def test_every_kernel_of_ours_says_which_work_and_which_part_it_is(name: str) -> None:
    """Their traces can only be read by these names."""
    assert TAXONOMY.parts.of(name)
    assert TAXONOMY.classify(name).family != "other"


def test_there_are_kernels_of_ours() -> None:
    assert len(OURS) >= 8


@pytest.mark.parametrize("part", list(TAXONOMY.parts), ids=lambda part: f"{part.pattern} {'/'.join(part.after)}")
def test_examples_are_their_part(part: Part) -> None:
    """Also shows that none is unreachable: what goes before it matches only elsewhere, or not at all."""
    found = TAXONOMY.parts.of(part.example)
    before = found[: found.index(part)]
    assert all(other.after and other.after != part.after for other in before)


@pytest.mark.parametrize(
    "name",
    [
        "gpt2_norm",
        "gpt2_norm_qkv_bias_grad",
        "mygpt2_norm_qkv",
        "vllm_norm_qkv",
        "void gpt2_norm<qkv>(int)",
        "nvjet_tst_64x64",
        "void at::native::vectorized_elementwise_kernel<4, gpt2_norm_qkv>(gpt2_norm_qkv)",
        "",
    ],
)
def test_foreign_names_are_no_part(name: str) -> None:
    assert TAXONOMY.parts.of(name) == ()


@pytest.mark.parametrize(
    "name", ["gpt2_norm_qkv", "gpt2_norm_qkv_int8", "void gpt2_norm_qkv<64, 1>(int)", "_ZN2my13gpt2_norm_qkvEv"]
)
def test_a_name_may_be_written_in_any_way(name: str) -> None:
    assert [part.path[-1] for part in TAXONOMY.parts.of(name)] == ["norm_1+qkv_projection+kv_cache"]


def test_several_parts_may_share_a_name_in_their_order() -> None:
    assert [part.after for part in TAXONOMY.parts.of("gpt2_bias_residual_norm")] == [
        ("blocks", "block", "attention"),
        ("blocks", "block", "mlp"),
    ]


def test_a_pattern_that_no_letters_give_away_is_tried_on_every_name() -> None:
    parts = Parts([Part(pattern=r"^m\d$", path=("mixer",), example="m1")])
    assert parts.of("m7")
    assert not parts.of("m77")
    assert Parts([]).of("m7") == ()
