"""Are the FLOPs and bytes of kernels that fuse several operators those that one counts by hand?"""

from __future__ import annotations

from typing import Any

import pytest
from operator_calls import t, work

from tracekit.analyze.work.work import Work

HALF, LONG = "c10::Half", "long int"
B, D = 2, 8


def h(*shape: int) -> Any:
    return t(*shape, dtype=HALF)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # Pointwise over 3,072 elements, in place.
        ("triton_poi_fused_gelu_view_5", (h(1, 1, 3072), 3072), 6144),
        # A token into a cache: 768 of the QKV's 2,304 and of the cache's 92,160 elements, and its position.
        (
            "triton_poi_fused_index_copy_permute_unbind_view_1",
            (t(1, dtype=LONG), h(1, 2304), h(1, 12, 120, 64), 768),
            8 + 2 * 768 + 2 * 768,
        ),
        # A row of each embedding, with scale and shift, into a norm over 768.
        (
            "triton_per_fused_add_embedding_native_layer_norm_0",
            (t(1, 1, dtype=LONG), h(50257, 768), t(1, dtype=LONG), h(1024, 768), h(768), h(768), h(1, 1, 768), 1, 768),
            8 + 8 + 2 * 5 * 768,
        ),
        ("triton_red_fused__unsafe_view_argmax_11", (h(1, 50257), t(1, 1, dtype=LONG), 1, 50257), 2 * 50257 + 8),
        # Two loops in a pointwise kernel, where a tensor has as many elements.
        ("triton_poi_fused_clone_3", (h(16, 24), h(16, 24), 16, 24), 4 * 384),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inductors_kernels_by_hand(name: str, arguments: tuple[Any, ...], expected: int) -> None:
    assert work(name, *arguments) == Work(None, expected, "fp32")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        # A size that varies stands before the length of the loop: 7 or 7·768 iterations?
        ("triton_poi_fused_add_1", (h(50257, 768), h(768), 7, 768)),
        ("triton_per_fused_add_1", (h(50257, 768), h(768), 7, 7, 768)),
        ("triton_poi_fused_add_1", (h(768),)),
        ("triton_poi_fused_add_1", (768,)),
        ("triton_tem_fused_mm_2", (h(16, 768), h(768, 768), h(16, 768))),
        ("triton_my_own_kernel", (h(768), 768)),
    ],
)
def test_loops_that_are_not_told_are_unknown(name: str, arguments: tuple[Any, ...]) -> None:
    assert work(name, *arguments) is None


def test_our_own_kernels_by_hand() -> None:
    """Width 8, batch 2: hidden states have 16 elements of 2 bytes, 8 FLOPs each in a norm."""
    hidden, position, norm = h(B, D), t(1, dtype=LONG), (h(D), h(D))
    cache = h(B, 2, 10, 4)
    qkv = h(3 * D, D), h(3 * D)
    assert work("tracekit::norm_qkv", hidden, position, *norm, *qkv, cache, cache) == Work(
        2 * B * 3 * D * D + 8 * 16, 2 * (16 + 8 + 8 + 192 + 24) + 8 + 2 * 3 * 16, "fp16"
    )
    tokens = t(B, 1, dtype=LONG)
    assert work("tracekit::embed_norm_qkv", tokens, position, h(50, D), h(20, D), *norm, *qkv, cache, cache) == Work(
        2 * B * 3 * D * D + 9 * 16, 16 + 8 + 2 * (2 * 16) + 2 * (8 + 8 + 192 + 24) + 2 * 4 * 16, "fp16"
    )
    assert work("tracekit::linear_residual", h(B, 4 * D), h(D, 4 * D), h(D), hidden) == Work(
        2 * B * 4 * D * D + 16, 2 * (64 + 256 + 8 + 16) + 2 * 16, "fp16"
    )
    assert work("tracekit::norm_fc1_gelu", hidden, *norm, h(4 * D, D), h(4 * D)) == Work(
        2 * B * 4 * D * D + 8 * 16 + 64, 2 * (16 + 8 + 8 + 256 + 32) + 2 * 64, "fp16"
    )
    assert work("tracekit::norm_lm_head", hidden, *norm, h(50, D)) == Work(
        2 * B * 50 * D + 8 * 16 + 100, 2 * (16 + 8 + 8 + 400) + 2 * 100 + 8 * B, "fp16"
    )
    # How many tokens of its cache it reads lies on the device.
    assert work("tracekit::decode_attention", hidden, position, cache, cache) is None


def test_int8_weights_are_bytes_and_scales_and_the_products_those_of_the_activations() -> None:
    hidden, norm, scale = h(B, D), (h(D), h(D)), t(4 * D, dtype="float")
    weight = t(4 * D, D, dtype="signed char")
    assert work("tracekit::norm_fc1_gelu", hidden, *norm, weight, h(4 * D), scale) == Work(
        2 * B * 4 * D * D + 8 * 16 + 64, 2 * (16 + 8 + 8 + 32) + 256 + 4 * 32 + 2 * 64, "fp16"
    )
    assert work("tracekit::linear_residual", h(B, D), t(D, D, dtype="signed char"), h(D), hidden, t(D, dtype="float")) == Work(
        2 * B * D * D + 16, 2 * (16 + 8 + 16) + 64 + 4 * 8 + 2 * 16, "fp16"
    )
    # Not given: FP16 weights.
    assert work("tracekit::norm_fc1_gelu", hidden, *norm, h(4 * D, D), h(4 * D), None) == work(
        "tracekit::norm_fc1_gelu", hidden, *norm, h(4 * D, D), h(4 * D)
    )


def test_our_own_prefill_by_hand() -> None:
    """Width 8, two prompts of three tokens: 6 rows of 48 elements of 2 bytes."""
    tokens, positions, norm, rows = t(2, 3, dtype=LONG), t(3, dtype=LONG), (h(D), h(D)), h(6, D)
    assert work("tracekit::embed_layer_norm", tokens, positions, h(50, D), h(20, D), *norm) == Work(
        9 * 48, 8 * (6 + 3) + 2 * (8 + 8) + 2 * 48 + 2 * 3 * 8 + 2 * 2 * 48, "fp32"
    )
    assert work("tracekit::bias_residual_layer_norm", rows, h(D), rows, *norm) == Work(
        10 * 48, 2 * (48 + 8 + 48 + 8 + 8) + 2 * 2 * 48, "fp32"
    )
    assert work("tracekit::bias_gelu", h(6, 4 * D), h(4 * D)) == Work(2 * 192, 2 * (192 + 32 + 192), "fp32")
    # Two heads 4 wide; 1 + 2 + 3 pairs of tokens in each of four heads of prompts, 2 products of 2 FLOPs each.
    cache = h(2, 2, 10, 4)
    assert work("tracekit::flash_attention", h(6, 3 * D), cache, cache) == Work(4 * 4 * 6 * 4, 2 * 2 * 144, "fp16")


def test_our_own_kernels_look_where_the_operators_have_their_arguments() -> None:
    pytest.importorskip("tracekit.kernels.ops")
    from tracekit.kernels import ops, prefill_ops

    expected = {
        "embed_norm_qkv": "tokens position token_embedding position_embedding gamma beta weight bias keys values scale",
        "norm_qkv": "hidden position gamma beta weight bias keys values scale",
        "linear_residual": "x weight bias residual scale",
        "norm_fc1_gelu": "hidden gamma beta weight bias scale",
        "norm_lm_head": "hidden gamma beta weight scale",
        "embed_layer_norm": "tokens positions token_embedding position_embedding gamma beta",
        "bias_residual_layer_norm": "product bias hidden gamma beta",
        "bias_gelu": "x bias",
        "flash_attention": "qkv keys values",
    }
    for name, arguments in expected.items():
        schema = getattr(prefill_ops if hasattr(prefill_ops, name) else ops, name)._opoverload._schema
        assert [argument.name for argument in schema.arguments] == arguments.split()


def test_vllms_kernels_by_hand() -> None:
    rows = h(6, D)
    assert work("_C::rms_norm", rows, rows, h(D), 1e-5) == Work(4 * 48, 2 * (48 + 8 + 48), "fp32")
    assert work("_C::fused_add_rms_norm", rows, rows, h(D), 1e-5) == Work(5 * 48, 2 * (48 + 48 + 8 + 96), "fp32")
    key, cache = h(6, 2, 4), h(100, 16, 2, 4)
    stored = work("_C_cache_ops::reshape_and_cache_flash", key, key, cache, cache, t(6, dtype=LONG), None, t(), t())
    assert stored == Work(0, 2 * 96 + 48 + 2 * 96, "fp32")
