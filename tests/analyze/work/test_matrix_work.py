"""Are the FLOPs and bytes of matrix multiplies, convolutions and attention those that one counts by hand?"""

from __future__ import annotations

import gzip
import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import call, t, work
from properties import examples
from repository import TRACES
from shared_data import traces

from tracekit.analyze.trace.loader import load
from tracekit.analyze.work.formulas import FORMULAS, work_of
from tracekit.analyze.work.matrix_work import Attention, Convolution
from tracekit.analyze.work.work import Work

SHIPPED = sorted(TRACES.glob("*.trace.json.gz"))
HALF, BF16, FP8, INT8 = "c10::Half", "c10::BFloat16", "c10::Float8_e4m3fn", "signed char"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # 2·2·3·4 FLOPs; 6 + 12 elements in, 8 out, 4 bytes each.
        ("aten::mm", (t(2, 3), t(3, 4)), Work(48, 104, "fp32")),
        ("aten::mm", (t(2, 3, dtype=HALF), t(3, 4, dtype=HALF)), Work(48, 52, "fp16")),
        # As half in, float out (argument out_dtype, 6 is float): 18·2 + 8·4.
        ("aten::mm", (t(2, 3, dtype=HALF), t(3, 4, dtype=HALF), 6), Work(48, 68, "fp16")),
        ("aten::bmm", (t(5, 2, 3), t(5, 3, 4)), Work(240, 520, "fp32")),
        # The T4's GEMM: 2·9·768·3072; 3072 + 9·768 + 768·3072 in, 9·3072 out.
        ("aten::addmm", (t(3072), t(9, 768), t(768, 3072), 1, 1), Work(42_467_328, 9_587_712, "fp32")),
        ("aten::addmm", (t(4), t(2, 3), t(3, 4), 1, 1), Work(48, 4 * (4 + 6 + 12 + 8), "fp32")),
        ("aten::addmm", (t(4), t(2, 3), t(3, 4), 0, 1), Work(48, 4 * (6 + 12 + 8), "fp32")),
        # An expanded bias lies in memory once.
        ("aten::addmm", (t(2, 4, strides=(0, 1)), t(2, 3), t(3, 4), 1, 1), Work(48, 4 * (4 + 6 + 12 + 8), "fp32")),
        ("aten::addmm", (t(2, 4), t(2, 3), t(3, 4), 1, 1), Work(48, 4 * (8 + 6 + 12 + 8), "fp32")),
        ("aten::baddbmm", (t(5, 2, 4), t(5, 2, 3), t(5, 3, 4), 1, 1), Work(240, 4 * 5 * (8 + 6 + 12 + 8), "fp32")),
        ("aten::_addmm_activation", (t(4), t(2, 3), t(3, 4), 1, 1, True), Work(48, 4 * (4 + 6 + 12 + 8), "fp32")),
        ("aten::addbmm", (t(2, 4), t(5, 2, 3), t(5, 3, 4), 1, 1), Work(240, 4 * (8 + 30 + 60 + 8), "fp32")),
        ("aten::mv", (t(2, 3), t(3)), Work(12, 4 * (6 + 3 + 2), "fp32")),
        ("aten::addmv", (t(2), t(2, 3), t(3), 1, 1), Work(12, 4 * (2 + 6 + 3 + 2), "fp32")),
        ("aten::dot", (t(7), t(7)), Work(14, 4 * 15, "fp32")),
        ("aten::linear", (t(1, 9, 768), t(3072, 768), t(3072)), Work(42_467_328, 9_587_712, "fp32")),
        ("aten::linear", (t(2, 3), t(4, 3), None), Work(48, 104, "fp32")),
        # Batch dimensions broadcast: [5, 1] with [6] gives 30 products of 2·2·3·4.
        ("aten::matmul", (t(5, 1, 2, 3), t(6, 3, 4)), Work(30 * 48, 4 * (30 + 72 + 30 * 8), "fp32")),
        ("aten::matmul", (t(3), t(3, 4)), Work(24, 4 * (3 + 12 + 4), "fp32")),
        ("aten::matmul", (t(2, 3), t(3)), Work(12, 4 * (6 + 3 + 2), "fp32")),
        ("aten::matmul", (t(3), t(3)), Work(6, 4 * 7, "fp32")),
        ("aten::_int_mm", (t(2, 3, dtype=INT8), t(3, 4, dtype=INT8)), Work(48, 6 + 12 + 32, "int8")),
        # Scales are read as well; the result is BF16 (15): 6 + 12 + 2·4 + 8·2.
        (
            "aten::_scaled_mm",
            (t(2, 3, dtype=FP8), t(3, 4, dtype=FP8), t(), t(), None, None, 15, False),
            Work(48, 6 + 12 + 8 + 16, "fp8"),
        ),
        (
            "aten::_weight_int8pack_mm",
            (t(2, 3, dtype=HALF), t(4, 3, dtype=INT8), t(4, dtype=HALF)),
            Work(48, 12 + 12 + 8 + 16, "fp16"),
        ),
        # Ten rows in five groups, each row by one [3, 4]: 2·10·3·4; rows, all weights, offsets, result.
        (
            "aten::_grouped_mm",
            (t(10, 3, dtype=BF16), t(5, 3, 4, dtype=BF16), t(5, dtype="int"), None, None),
            Work(240, 60 + 120 + 20 + 80, "bf16"),
        ),
        ("aten::mm", (t(2, 3, dtype="double"), t(3, 4, dtype="double")), Work(48, 208, "fp64")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_matrix_multiplies_by_hand(name: str, arguments: tuple[Any, ...], expected: Work) -> None:
    assert work(name, *arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten::mm", (t(2, 3), t(4, 5))),  # does not multiply
        ("aten::mm", (t(2, 3), t(3))),
        ("aten::mm", (t(2, 3),)),
        ("aten::mm", (t(2, 3, dtype="c10::complex<float>"), t(3, 4, dtype="c10::complex<float>"))),
        ("aten::mm", (t(2, 3, dtype="long"), t(3, 4, dtype="long"))),  # no datasheet has a peak of INT64
        ("aten::bmm", (t(5, 2, 3), t(6, 3, 4))),
        ("aten::matmul", (t(5, 2, 3), t(6, 3, 4))),
        ("aten::matmul", (t(), t(3))),
        ("aten::linear", (t(2, 3), t(4, 5), None)),
        ("aten::_grouped_mm", (t(10, 3), t(3, 40), t(5, dtype="int"), None, None)),
        ("aten::mm", (t(2**40, 2**40), t(2**40, 2**40))),  # no such matrix
        ("aten::nonsense", (t(2, 3), t(3, 4))),
    ],
)
def test_what_is_not_told_stays_unknown(name: str, arguments: tuple[Any, ...]) -> None:
    assert work(name, *arguments) is None


def test_hostile_records_are_unknown_and_nothing_worse() -> None:
    good = b"[[2, 3], [3, 4]]", b'["float", "float"]', b"", b""
    assert work_of("aten::mm", good) == Work(48, 104, "fp32")
    for dims in (b"", b"null", b"7", b"[", b"[[2, -3], [-3, 4]]", b'[["2", 3], [3, 4]]', b"[[2, 3]]", b"[2, 3]", b"[" * 9999):
        assert work_of("aten::mm", (dims, *good[1:])) is None
    for types in (b"", b"{}", b"[1, 2]", b'[["float"], "float"]', b'["float"]', b"\xff"):
        assert work_of("aten::mm", (good[0], types, b"", b"")) is None
    for strides in (b"[7, 8]", b"[[1], [1]]", b'[["a", 1], [4, 1]]'):
        assert work_of("aten::mm", (*good[:2], strides, b"")) == Work(48, 104, "fp32")


# Convolutions


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # [1, 3, 8, 8] by 4 kernels of [3, 3, 3], padded by 1: 8·8 places, 27 weights, 4 channels: 2·64·27·4.
        (
            "aten::conv2d",
            (t(1, 3, 8, 8), t(4, 3, 3, 3), t(4), [1, 1], [1, 1], [1, 1], 1),
            Work(13_824, 4 * (192 + 108 + 4 + 256), "fp32"),
        ),
        # Stride 2 without padding: 3·3 places.
        (
            "aten::convolution",
            (t(2, 3, 8, 8), t(4, 3, 3, 3), None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1),
            Work(2 * 2 * 9 * 108, 4 * (384 + 108 + 2 * 4 * 9), "fp32"),
        ),
        # Two groups: each output channel meets half of the input's.
        (
            "aten::_convolution",
            (t(1, 4, 5), t(6, 2, 3), None, [1], [0], [1], False, [0], 2, False, False, True, True),
            Work(2 * 3 * 36, 4 * (20 + 36 + 18), "fp32"),
        ),
        # Dilation 2 makes a kernel of 3 reach over 5.
        (
            "aten::conv1d",
            (t(1, 1, 9), t(1, 1, 3), None, [1], [0], [2], 1),
            Work(2 * 5 * 3, 4 * (9 + 3 + 5), "fp32"),
        ),
        # Padding comes before stride, and there is no bias.
        (
            "aten::cudnn_convolution",
            (t(2, 3, 8, 8), t(4, 3, 3, 3), [0, 0], [2, 2], [1, 1], 1, False, False, True),
            Work(2 * 2 * 9 * 108, 4 * (384 + 108 + 72), "fp32"),
        ),
        (
            "aten::miopen_convolution",
            (t(2, 3, 8, 8), t(4, 3, 3, 3), None, [0, 0], [2, 2], [1, 1], 1, False, False),
            Work(2 * 2 * 9 * 108, 4 * (384 + 108 + 72), "fp32"),
        ),
        # Transposed: each of 4·4 inputs of 3 channels meets 5 kernels of 2·2; (4 - 1)·2 + 2 = 8 come out a side.
        (
            "aten::convolution",
            (t(1, 3, 4, 4), t(3, 5, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1),
            Work(2 * 16 * 60, 4 * (48 + 60 + 5 * 64), "fp32"),
        ),
        (
            "aten::_conv_depthwise2d",
            (t(1, 4, 5, 5), t(4, 1, 3, 3), [3, 3], None, [1, 1], [1, 1], [1, 1]),
            Work(2 * 25 * 36, 4 * (100 + 36 + 100), "fp32"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_convolutions_by_hand(name: str, arguments: tuple[Any, ...], expected: Work) -> None:
    assert work(name, *arguments) == expected


def test_backward_of_a_convolution_is_a_forward_for_each_gradient_asked_for() -> None:
    grad, image, weight = t(1, 4, 8, 8), t(1, 3, 8, 8), t(4, 3, 3, 3)
    rest = ([4], [1, 1], [1, 1], [1, 1], False, [0, 0], 1)

    def backward(*mask: bool) -> Work | None:
        return work("aten::convolution_backward", grad, image, weight, *rest, list(mask))

    assert backward(True, True, True) == Work(2 * 13_824, 4 * (256 + 192 + 108 + 192 + 108 + 4), "fp32")
    assert backward(True, False, False) == Work(13_824, 4 * (256 + 108 + 192), "fp32")
    assert backward(False, True, False) == Work(13_824, 4 * (256 + 192 + 108), "fp32")
    unrecorded = work_of(
        "aten::convolution_backward", (b"[[1,4,8,8],[1,3,8,8],[4,3,3,3]]", b'["float","float","float"]', b"", b"")
    )
    assert unrecorded is None


# Attention


def test_attention_by_hand() -> None:
    # Two batches of 3 heads, 5 queries over 7 keys, 8 wide: scores and values are 2·6·35·8 each.
    query, key = t(2, 3, 5, 8), t(2, 3, 7, 8)
    flops, moved = 2 * 2 * 6 * 35 * 8, 4 * 8 * 6 * (5 + 7 + 7 + 5)
    flash = ("aten::_scaled_dot_product_flash_attention", query, key, key, 0.0, False, False, None)
    assert work(*flash) == Work(flops, moved, "fp32")
    bias = t(5, 7)
    masked = ("aten::scaled_dot_product_attention", query, key, key, bias, 0.0, False, None, False)
    assert work(*masked) == Work(flops, moved + 4 * 35, "fp32")
    expanded = t(2, 3, 5, 7, strides=(0, 0, 7, 1))
    efficient = ("aten::_scaled_dot_product_efficient_attention", query, key, key, expanded, False, 0.0, False, None)
    assert work(*efficient) == Work(flops, moved + 4 * 35, "fp32")


def test_a_causal_mask_leaves_the_pairs_below_the_diagonal() -> None:
    square = t(1, 1, 4, 8)
    causal = work("aten::scaled_dot_product_attention", square, square, square, None, 0.0, True, None, False)
    assert causal is not None
    assert causal.flops == 2 * 10 * 16  # 1 + 2 + 3 + 4 pairs, twice 8 products each
    # Aligned to the first query (mask type 1) and to the last key (2): 5 queries over 7 keys.
    layout = (t(1, 5, 1, 8), t(1, 7, 1, 8), t(1, 7, 1, 8))
    pairs = {0: 35, 1: 1 + 2 + 3 + 4 + 5, 2: 3 + 4 + 5 + 6 + 7}
    for kind, expected in pairs.items():
        found = work(
            "aten::_efficient_attention_forward",
            *layout,
            None, None, None, None, None, 0.0, kind, False, None, None, None,
        )  # fmt: skip
        assert found is not None
        assert found.flops == 2 * expected * 16
    # More queries than keys: the first three see nothing, the last four 1, 2, 3 and 4 keys.
    found = work(
        "aten::_efficient_attention_forward",
        t(1, 7, 1, 8), t(1, 4, 1, 8), t(1, 4, 1, 8),
        None, None, None, None, None, 0.0, 2, False, None, None, None,
    )  # fmt: skip
    assert found is not None
    assert found.flops == 2 * 10 * 16


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 2]))
def test_causal_pairs_equal_a_count_one_by_one(queries: int, keys: int, kind: int) -> None:
    found = work(
        "aten::_efficient_attention_forward",
        t(1, queries, 1, 1), t(1, keys, 1, 1), t(1, keys, 1, 1),
        None, None, None, None, None, 0.0, kind, False, None, None, None,
    )  # fmt: skip
    ahead = keys - queries if kind == 2 else 0
    assert found is not None
    assert found.flops == 4 * sum(min(keys, max(0, i + 1 + ahead)) for i in range(queries))


def test_grouped_queries_share_keys_that_are_read_once() -> None:
    query, key = t(1, 8, 5, 16, dtype=HALF), t(1, 2, 7, 16, dtype=HALF)
    found = work("aten::scaled_dot_product_attention", query, key, key, None, 0.0, False, None, True)
    assert found == Work(2 * 8 * 35 * 32, 2 * (2 * 8 * 5 * 16 + 2 * 2 * 7 * 16), "fp16")


def test_attention_over_lengths_that_lie_on_the_device_is_unknown() -> None:
    tokens = t(100, 8, 64, dtype=HALF)
    lengths = t(5, dtype="int")
    rest = (50, 50, 0.0, True, False, None, None, None, None, None)
    assert work("aten::_flash_attention_forward", tokens, tokens, tokens, lengths, lengths, *rest) is None
    dense = t(2, 50, 8, 64, dtype=HALF)
    assert work("aten::_flash_attention_forward", dense, dense, dense, None, None, *rest) is not None
    window = (50, 50, 0.0, True, False, None, 16, 0, None, None)
    assert work("aten::_flash_attention_forward", dense, dense, dense, None, None, *window) is None


def test_backward_of_attention_has_five_products_for_two() -> None:
    query, lse = t(2, 3, 5, 8), t(2, 3, 5)
    rest = (None, None, 5, 5, 0.0, False, None, None, None)
    found = work("aten::_scaled_dot_product_flash_attention_backward", query, query, query, query, query, lse, *rest)
    assert found == Work(5 * 2 * 6 * 25 * 8, 4 * (8 * 240 + 30), "fp32")


# Held against PyTorch


SIZES = st.integers(1, 9)


@given(SIZES, SIZES, SIZES, SIZES)
@examples(50)
def test_flops_are_those_of_pytorchs_own_counter(batch: int, rows: int, inner: int, columns: int) -> None:
    counter = pytest.importorskip("torch.utils.flop_counter")
    left, right = (batch, rows, inner), (batch, inner, columns)
    product = work("aten::bmm", t(*left), t(*right))
    attention = work(
        "aten::_scaled_dot_product_flash_attention",
        t(batch, 2, rows, inner), t(batch, 2, columns, inner), t(batch, 2, columns, inner), 0.0, False, False, None,
    )  # fmt: skip
    assert product is not None
    assert attention is not None
    assert product.flops == counter.bmm_flop(left, right)
    shapes = (batch, 2, rows, inner), (batch, 2, columns, inner), (batch, 2, columns, inner)
    assert attention.flops == counter.sdpa_flop_count(*shapes)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(),
)  # fmt: skip
@examples(60)
def test_convolutions_are_those_of_pytorch(
    batch: int, inputs: int, outputs: int, groups: int, kernel: int, stride: int, padding: int, dilation: int, transposed: bool
) -> None:
    torch = pytest.importorskip("torch")
    counter = pytest.importorskip("torch.utils.flop_counter")
    image = torch.empty(batch, inputs * groups, 9, 11, device="meta")
    channels = (inputs * groups, outputs) if transposed else (outputs * groups, inputs)
    weight = torch.empty(*channels, kernel, kernel, device="meta")
    sizes = ([stride] * 2, [padding] * 2, [dilation] * 2, transposed, [0, 0], groups)
    out = torch.ops.aten.convolution(image, weight, None, *sizes)

    found = work("aten::convolution", t(*image.shape), t(*weight.shape), None, *sizes)
    assert found == Work(
        counter.conv_flop_count(image.shape, weight.shape, out.shape, transposed),
        4 * (image.numel() + weight.numel() + out.numel()),
        "fp32",
    )


def names_at(operator: str) -> list[str]:
    """The names of an operator's arguments, in order."""
    torch = pytest.importorskip("torch")
    packet = getattr(torch.ops.aten, operator.removeprefix("aten::"))
    overload = "default" if "default" in packet.overloads() else packet.overloads()[0]
    return [argument.name for argument in getattr(packet, overload)._schema.arguments]


@pytest.mark.parametrize("operator", [name for name, f in FORMULAS.items() if isinstance(f, Convolution)])
def test_convolutions_look_where_pytorch_has_its_arguments(operator: str) -> None:
    formula, names = FORMULAS[operator], names_at(operator)
    assert isinstance(formula, Convolution)
    for argument in ("stride", "padding", "dilation", "bias", "output_padding", "groups"):
        at = getattr(formula, argument)
        assert at is None or names[at] == argument
    assert isinstance(formula.transposed, bool) or names[formula.transposed] == "transposed"
    assert formula.bias is not None or "bias" not in names


@pytest.mark.parametrize("operator", [name for name, f in FORMULAS.items() if isinstance(f, Attention)])
def test_attention_looks_where_pytorch_has_its_arguments(operator: str) -> None:
    formula, names = FORMULAS[operator], names_at(operator)
    assert isinstance(formula, Attention)
    first = 0 if formula.read_too is None else 1
    assert names[first : first + 3] == ["query", "key", "value"]
    assert formula.causal is None or names[formula.causal] == "is_causal"
    assert formula.mask_type is None or names[formula.mask_type] == "custom_mask_type"
    assert formula.bias is None or names[formula.bias] in ("attn_mask", "attn_bias", "bias")
    unsupported = ("cum_seq", "cu_seqlens", "window_size", "seqused", "seqlen_k", "block_table")
    for at in formula.absent:
        # Of later releases there may be fewer.
        assert at >= len(names) or names[at].startswith(unsupported)
    assert [names[at] for at in formula.read_too or ()] in ([], ["out", "logsumexp"])


# Held against every trace at hand


def matrix_multiply(name: str, args: dict[str, Any]) -> tuple[int, int]:
    """FLOPs and bytes of one recorded `mm`, `bmm`, `addmm` or `baddbmm`, worked out from the raw event alone."""
    sizes = {"float": 4, "double": 8, "c10::Half": 2, "c10::BFloat16": 2}
    first = 1 if "add" in name else 0
    *batch, rows, inner = args["Input Dims"][first]
    columns = args["Input Dims"][first + 1][-1]
    item = sizes[args["Input type"][first]]
    products = prod(batch) * rows * columns
    read = prod(batch) * (rows * inner + inner * columns)
    if first:
        dims = args["Input Dims"][0]
        strides = args.get("Input Strides", [[1] * len(dims)])[0]
        read += prod(size for size, stride in zip(dims, strides, strict=True) if stride != 0)
    return 2 * products * inner, item * (read + products)


@pytest.mark.parametrize("path", [*SHIPPED, *traces()], ids=lambda path: path.name.split(".")[0])
def test_every_recorded_matrix_multiply(path: Path) -> None:
    """Each event's signature, through the loader, gives what its raw arguments do (of which no factor is expanded)."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document = json.loads(text)
    entries = document if isinstance(document, list) else document["traceEvents"]
    complete = [entry for entry in entries if entry.get("ph") == "X"]
    trace = load(path)
    assert len(complete) == len(trace)
    checked = 0
    for row, entry in enumerate(complete):
        args = entry.get("args", {})
        if entry["name"] not in ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm") or not args.get("Input Dims"):
            continue
        found = work_of(entry["name"], trace.signatures[trace.events["signature"][row]])
        assert found is not None
        assert (found.flops, found.bytes) == matrix_multiply(entry["name"], args)
        checked += 1
    recorded = any("Input Dims" in entry.get("args", {}) and entry["name"].endswith("mm") for entry in complete)
    assert bool(checked) == recorded


@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 2))
def test_a_larger_matrix_is_never_less_work(rows: int, inner: int, columns: int, more: int, which: int) -> None:
    sizes = [rows, inner, columns]
    larger = [size + more * (at == which) for at, size in enumerate(sizes)]
    small, large = (work("aten::mm", t(m, k), t(k, n)) for m, k, n in (sizes, larger))
    assert small is not None
    assert large is not None
    assert (large.flops or 0) > (small.flops or 0)
    assert large.bytes > small.bytes


def test_an_argument_is_what_it_was_recorded_as() -> None:
    found = call("aten::addmm", t(4), t(2, 3), t(3, 4), 1, None)
    assert [found.is_tensor(at) for at in range(6)] == [True, True, True, False, False, False]
    assert [found.is_missing(at) for at in range(6)] == [False, False, False, False, True, True]
    assert found.value(3) == "1"
