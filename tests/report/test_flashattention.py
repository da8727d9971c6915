"""Does the section on FlashAttention say what follows from a model's shape, and only where it matters?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.architectures import instructions
from tracekit.manifest import Model
from tracekit.quoted import quoted
from tracekit.report.bundle import Bundle
from tracekit.report.flashattention import decode_bytes, flash_attention, prefill_flops, score_bytes
from tracekit.report.render import to_html

Parts = tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]
SMALL = Model("gpt2", vocab_size=50257, context=1024, layers=12, heads=12, width=768, parameters=124_439_808)


def test_gpt2_small_by_hand() -> None:
    weights, cache = decode_bytes(SMALL, 64)
    # All parameters but the position embeddings of other tokens: the token embedding is the LM head.
    assert weights == 2 * (SMALL.parameters - 1024 * 768)
    assert cache == 2 * 12 * 2 * 64 * 768 == 2_359_296
    assert cache / (weights + cache) == pytest.approx(0.0094, abs=5e-5)
    assert prefill_flops(SMALL, 512) == (2 * 512 * 12 * 12 * 768**2 + 2 * 50257 * 768, 12 * 4 * 768 * (512 * 513 // 2))
    assert score_bytes(SMALL, 1024) == 2 * 144 * 1024**2


def test_a_tiny_model_counted_one_by_one() -> None:
    tiny = Model("tiny", vocab_size=5, context=8, layers=2, heads=1, width=3, parameters=0)
    block = [3, 3, 9 * 3, 9, 3 * 3, 3, 3, 3, 12 * 3, 12, 3 * 12, 3]  # norm, qkv, projection, norm, fc1, fc2
    assert decode_bytes(tiny, 4) == (2 * (2 * sum(block) + 3 + 3 + 5 * 3), 2 * (2 * 2 * 4 * 3))
    pairs = sum(1 for query in range(4) for key in range(4) if key <= query)
    products = 2 * 4 * (9 * 3 + 3 * 3 + 12 * 3 + 3 * 12) * 2 + 2 * 5 * 3
    assert prefill_flops(tiny, 4) == (products, 2 * 2 * 3 * pairs * 2)


@given(st.integers(1, 48), st.integers(1, 25), st.integers(1, 1023))
def test_longer_is_more_and_never_less(layers: int, heads: int, length: int) -> None:
    model = dataclasses.replace(SMALL, layers=layers, heads=heads, width=64 * heads)
    (weights, cache), (same, more) = (decode_bytes(model, one) for one in (length, length + 1))
    assert same == weights
    assert more * length == cache * (length + 1)
    (linear, attention), (longer, quadratic) = (prefill_flops(model, one) for one in (length, length + 1))
    assert quadratic / longer > attention / linear


def of_device(part: Parts, capability: str | None) -> Parts:
    document, tables = part
    return document | {"manifest": None, "device": {"name": "GPU", "compute_capability": capability}}, tables


def of_model(part: Parts, **model: Any) -> Parts:
    document, tables = part
    manifest = document["manifest"]
    return document | {"manifest": manifest | {"model": manifest["model"] | model}}, tables


def test_it_is_shown_where_it_matters(parts: Callable[..., Parts], load: Callable[..., Bundle]) -> None:
    assert flash_attention(load(parts()).traces)
    assert flash_attention(load(of_device(parts(), "7.5")).traces)
    assert flash_attention(load(of_device(parts(), "9.0"), of_device(parts(), "7.5")).traces)
    for capability in ("7.0", "9.0", None):
        assert flash_attention(load(of_device(parts(), capability)).traces) is None
    assert flash_attention(load(of_model(parts(), name="bert")).traces) is None
    assert "FlashAttention on T4" not in to_html(load(of_device(parts(), "9.0")))


def test_every_instruction_and_every_statement_is_answered(parts: Callable[..., Parts], load: Callable[..., Bundle]) -> None:
    view = flash_attention(load(parts()).traces)
    assert view is not None
    shown = {row[0].text: row[3].text for row in view.hardware.rows}
    assert shown == {one.name: "has it" if one.since == "7.5" else "lacks it" for one in instructions()} | {
        "shared memory": "less of it"
    }
    assert {name for name, has in shown.items() if has == "has it"} >= {"ldmatrix", "mma m16n8k8, FP16"}
    assert [row[0].text.strip("“”") for row in view.statements.rows] == [one.text for one in quoted().statements]
    assert "Quoted" in view.statements.title
    html = to_html(load(parts()))
    assert html.count('<section id="flashattention">') == 1
    assert "nothing in this section was measured on a T4" in html


def test_shares_of_the_models_at_hand(parts: Callable[..., Parts], load: Callable[..., Bundle]) -> None:
    xl = of_model(parts(), name="gpt2-xl", layers=48, heads=25, width=1600)
    view = flash_attention(load(parts(), xl, of_model(parts(), name="tiny", context=128)).traces)
    assert view is not None
    texts = [tuple(cell.text for cell in row) for row in view.decode.rows]
    assert [row[:2] for row in texts] == [(name, at) for name in ("gpt2", "gpt2-xl") for at in ("64", "256", "1,024")]
    assert [row[4] for row in texts[:3]] == ["0.9\u00a0%", "3.7\u00a0%", "13.2\u00a0%"]
    assert [row[4].text for row in view.prefill.rows[:2]] == ["5.3\u00a0%", "10.0\u00a0%"]
    assert "0.9\u00a0% is the KV cache" in view.answer


@pytest.mark.parametrize("bad", [{"width": 0}, {"heads": 0}, {"context": 0}, {"name": "gpt2-<script>"}, {"width": 10**30}])
def test_a_bundle_from_anybody(bad: dict[str, Any], parts: Callable[..., Parts], load: Callable[..., Bundle]) -> None:
    html = to_html(load(parts(), of_model(parts(name="other.json"), **({"name": "gpt2-large"} | bad))))
    assert '<section id="flashattention">' in html
    assert "gpt2-<script>" not in html
