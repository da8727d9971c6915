"""Are the FLOPs and bytes of norms, reductions, elementwise operators, copies and lookups those that one counts by hand?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import KEYS, t, work

from tracekit.analyze.work.formulas import find_formula, work_of
from tracekit.analyze.work.work import Work

HALF, BF16, LONG = "c10::Half", "c10::BFloat16", "long int"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # Elementwise: one operation an element of the result; every operand read, the result written.
        ("aten::add", (t(2, 3), t(2, 3), 1), Work(6, 4 * 18, "fp32")),
        ("aten::add", (t(2, 3, dtype=HALF), t(2, 3, dtype=HALF), 1), Work(6, 2 * 18, "fp32")),
        ("aten::add", (t(2, 1), t(3), 1), Work(6, 4 * (2 + 3 + 6), "fp32")),
        ("aten::add", (t(2, 3, strides=(0, 1)), t(2, 3), 1), Work(6, 4 * (3 + 6 + 6), "fp32")),
        ("aten::add_", (t(2, 3), t(3), 1), Work(6, 4 * (6 + 3 + 6), "fp32")),
        ("aten::add_", (t(2, 3, dtype=HALF), t(2, 3), 1), Work(6, 12 + 24 + 12, "fp32")),
        # A number as a tensor without dimensions does not raise the result's type; BF16 and float do.
        ("aten::mul", (t(6, dtype=BF16), t(dtype="double")), Work(6, 12 + 8 + 12, "fp32")),
        ("aten::mul", (t(6, dtype=BF16), t(6)), Work(6, 12 + 24 + 24, "fp32")),
        ("aten::mul", (t(6, dtype=LONG), t()), Work(6, 48 + 4 + 24, "fp32")),
        ("aten::mul", (t(6, dtype=BF16), t(dtype="double"), t(6, dtype=BF16)), Work(6, 12 + 8 + 12, "fp32")),
        ("aten::mul", (t(6, dtype="double"), 2), Work(6, 96, "fp64")),
        ("aten::div", (t(6, dtype=LONG), t(6, dtype=LONG)), Work(6, 96 + 24, "fp32")),
        ("aten::gelu", (t(1, 9, 3072), "none"), Work(27_648, 221_184, "fp32")),
        ("aten::exp", (t(6, dtype=LONG),), Work(6, 48 + 24, "fp32")),
        ("aten::eq", (t(6), 1), Work(6, 24 + 6, "fp32")),
        ("aten::where", (t(6, dtype="bool"), t(6, dtype=HALF), t(dtype=HALF)), Work(6, 6 + 12 + 2 + 12, "fp32")),
        ("aten::addcmul_", (t(6), t(6), t(6), 1), Work(6, 4 * 24, "fp32")),
        ("aten::gelu_backward", (t(6), t(6), "none"), Work(6, 4 * 18, "fp32")),
        ("aten::threshold_backward", (t(6), t(6), 0, t(6)), Work(6, 4 * 18, "fp32")),
        ("aten::masked_fill_", (t(2, 3), t(2, 1, dtype="bool"), 0), Work(6, 24 + 2 + 24, "fp32")),
        ("aten::clamp", (t(6), 0, 1), Work(6, 48, "fp32")),
        ("aten::clamp", (t(6), t(), t()), Work(6, 24 + 4 + 4 + 24, "fp32")),
        # Copies, casts, fills.
        ("aten::copy_", (t(6, dtype=HALF), t(6), False), Work(0, 12 + 24, "fp32")),
        ("aten::copy_", (t(2, 3), t(2, 3, strides=(0, 1)), False), Work(0, 24 + 12, "fp32")),
        ("aten::fill_", (t(6, dtype=LONG), 0), Work(0, 48, "fp32")),
        ("aten::normal_", (t(6), 0, 1, None), Work(0, 24, "fp32")),
        # Norms: 8 FLOPs an element; scale, shift, mean and deviation are small but counted.
        ("aten::native_layer_norm", (t(2, 3), [3], t(3), t(3), 1e-5), Work(48, 4 * (6 + 3 + 3 + 6 + 4), "fp32")),
        ("aten::native_layer_norm", (t(2, 3, dtype=HALF), [3], None, None, 1e-5), Work(48, 12 + 12 + 16, "fp32")),
        (
            "aten::native_layer_norm_backward",
            (t(2, 3), t(2, 3), [3], t(2, 1), t(2, 1), t(3), t(3), [True, True, True]),
            Work(84, 4 * (6 + 6 + 2 + 2 + 3 + 6 + 3 + 3), "fp32"),
        ),
        (
            "aten::native_layer_norm_backward",
            (t(2, 3), t(2, 3), [3], t(2, 1), t(2, 1), t(3), t(3), [True, False, False]),
            Work(84, 4 * (6 + 6 + 2 + 2 + 3 + 6), "fp32"),
        ),
        ("aten::_fused_rms_norm", (t(2, 3), [3], t(3), 1e-5), Work(24, 4 * (6 + 3 + 6), "fp32")),
        ("aten::native_group_norm", (t(2, 4, 3), t(4), t(4), 2, 4, 3, 2, 1e-5), Work(192, 4 * (24 + 8 + 24), "fp32")),
        (
            "aten::native_batch_norm",
            (t(2, 3, 4), t(3), t(3), t(3), t(3), True, 0.1, 1e-5),
            Work(192, 4 * (24 + 12 + 24), "fp32"),
        ),
        (
            "aten::native_batch_norm_backward",
            (t(2, 3, 4), t(2, 3, 4), t(3), t(3), t(3), t(3), t(3), True, 1e-5, [True, True, True]),
            Work(336, 4 * (24 + 24 + 3 + 6 + 24 + 6), "fp32"),
        ),
        (
            "aten::cudnn_batch_norm_backward",
            (t(2, 3, 4), t(2, 3, 4), t(3), t(3), t(3), t(3), t(3), 1e-5, t(8, dtype="unsigned char")),
            Work(336, 4 * (24 + 24 + 3 + 6 + 24 + 6), "fp32"),
        ),
        # Softmax: 5 an element; half to float writes four bytes.
        ("aten::_softmax", (t(2, 3), -1, False), Work(30, 48, "fp32")),
        ("aten::_softmax", (t(2, 3, dtype=HALF), -1, True), Work(30, 12 + 24, "fp32")),
        ("aten::_log_softmax", (t(2, 3), -1, False), Work(30, 48, "fp32")),
        ("aten::_softmax_backward_data", (t(2, 3), t(2, 3), -1, 6), Work(24, 72, "fp32")),
        ("aten::_softmax_backward_data", (t(2, 3), t(2, 3), -1, 5), Work(24, 24 + 24 + 12, "fp32")),
        # Reductions: one operation an element read.
        ("aten::sum", (t(2, 3), [1], False, None), Work(6, 4 * (6 + 2), "fp32")),
        ("aten::sum", (t(2, 3), [0, -1], False, None), Work(6, 4 * 7, "fp32")),
        ("aten::sum", (t(2, 3), None), Work(6, 4 * 7, "fp32")),
        ("aten::sum", (t(2, 3, dtype="bool"), [1], False, None), Work(6, 6 + 16, "fp32")),
        ("aten::mean", (t(2, 3, 4), [-1], True, None), Work(24, 4 * (24 + 6), "fp32")),
        ("aten::argmax", (t(1, 1, 50257), -1, False), Work(50_257, 4 * 50_257 + 8, "fp32")),
        ("aten::argmax", (t(2, 3), None, False), Work(6, 24 + 8, "fp32")),
        ("aten::max", (t(2, 3), 1, False), Work(6, 24 + 2 * (4 + 8), "fp32")),
        ("aten::max", (t(2, 3),), Work(6, 24 + 4, "fp32")),
        ("aten::max", (t(2, 3), t(2, 3)), Work(6, 72, "fp32")),
        ("aten::all", (t(2, 3, dtype="bool"),), Work(6, 7, "fp32")),
        ("aten::var", (t(2, 3), [1], 1, False), Work(24, 4 * 8, "fp32")),
        ("aten::var", (t(2, 3), True), Work(24, 4 * 7, "fp32")),
        ("aten::cumsum", (t(2, 3), 1, None), Work(6, 48, "fp32")),
        # Lookups: a row an index, read and written, and the index.
        ("aten::embedding", (t(50257, 768), t(1, 16, dtype=LONG), -1, False, False), Work(0, 2 * 16 * 768 * 4 + 128, "fp32")),
        ("aten::index_select", (t(5, 7), 0, t(2, dtype=LONG)), Work(0, 2 * 14 * 4 + 16, "fp32")),
        ("aten::index_select", (t(5, 7), 1, t(2, dtype=LONG)), Work(0, 2 * 10 * 4 + 16, "fp32")),
        ("aten::gather", (t(5, 7), 1, t(5, 2, dtype=LONG), False), Work(0, 2 * 10 * 4 + 80, "fp32")),
        ("aten::index_copy_", (t(1, 12, 120, 64), 2, t(1, dtype=LONG), t(1, 12, 1, 64)), Work(0, 2 * 768 * 4 + 8, "fp32")),
        ("aten::index_add_", (t(50, 8), 0, t(3, dtype=LONG), t(3, 8), 1), Work(24, 3 * 24 * 4 + 24, "fp32")),
        ("aten::embedding_dense_backward", (t(6, 8), t(6, dtype=LONG), 50, -1, False), Work(48, 4 * 48 + 48 + 4 * 400, "fp32")),
        # Pooling: windows of 3·3 every 2 places of 8·8, padded by 1: 4·4 come out, with places of 8 bytes.
        (
            "aten::max_pool2d_with_indices",
            (t(1, 2, 8, 8), [3, 3], [2, 2], [1, 1], [1, 1], False),
            Work(32 * 9, 4 * 128 + 32 * 12, "fp32"),
        ),
        ("aten::native_dropout", (t(6), 0.1, True), Work(12, 24 + 24 + 6, "fp32")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_by_hand(name: str, arguments: tuple[Any, ...], expected: Work) -> None:
    assert work(name, *arguments) == expected


def test_lists_of_tensors_are_known_where_their_kernel_tells_the_type() -> None:
    lists = [t(2, 3), t(4)], [t(2, 3), t(4)]
    assert work("aten::cat", lists[0], 0) is None
    assert work("aten::cat", lists[0], 0, list_item_bytes=2) == Work(0, 2 * 10 * 2, "fp32")
    assert work("aten::_foreach_add_", *lists, 1, list_item_bytes=4) == Work(10, 4 * 30, "fp32")
    assert work("aten::_foreach_mul_", lists[0], 0.9, list_item_bytes=4) == Work(10, 4 * 20, "fp32")
    state = (*lists, *lists, [], [t(), t()])
    assert work("aten::_fused_adamw_", *state, list_item_bytes=4) == Work(140, 4 * 70, "fp32")
    # An older profiler wrote no shapes of lists.
    assert work_of("aten::cat", (b"[[], []]", b'["TensorList", "Scalar"]', b"", b""), 4) is None


@pytest.mark.parametrize(
    ("name", "dims", "types"),
    [
        # What PyTorch of 2022 recorded: lists have neither type nor value.
        ("aten::sum", [[1024, 512], [], [], []], ["float", "", "Scalar", ""]),
        ("aten::mean", [[1024], [], [], []], ["float", "", "Scalar", ""]),
        ("aten::index_select", [[7, 5], [], [2]], ["float", "Scalar", "long"]),
        ("aten::native_layer_norm_backward", [[2, 3], [2, 3], [], [2, 1], [2, 1], [3], [3], []], ["float"] * 2 + [""] + ["float"] * 4 + [""]),
    ],
)  # fmt: skip
def test_what_an_older_profiler_left_out_is_unknown(name: str, dims: list[Any], types: list[str]) -> None:
    assert find_formula(name) is not None
    assert work_of(name, (json.dumps(dims).encode(), json.dumps(types).encode(), b"", b"")) is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten::add", (t(2, 3), t(4), 1)),  # does not broadcast
        ("aten::add", (1, 2, 1)),  # no tensor
        ("aten::native_layer_norm", (t(2, 3), [0], None, None, 1e-5)),
        ("aten::native_layer_norm", (t(2, 3), [4], t(4), t(4), 1e-5)),
        ("aten::sum", (t(2, 3), [2], False, None)),
        ("aten::sum", (t(2, 3), ["x"], False, None)),
        ("aten::index_select", (t(5, 7), 2, t(2, dtype=LONG))),
        ("aten::max_pool2d_with_indices", (t(1, 2, 8, 8), [3, 3], [0, 0], [1, 1], [1, 1], False)),
        ("aten::topk", (t(2, 3), 1, -1, True, True)),
        ("aten::sort", (t(2, 3), -1, False)),
    ],
)
def test_what_is_not_told_stays_unknown(name: str, arguments: tuple[Any, ...]) -> None:
    assert work(name, *arguments) is None


# Held against PyTorch: run the operator, and count what went in and what came out.


def operators(torch: Any) -> list[tuple[str, Callable[[], tuple[list[Any], Any]]]]:
    """An operator's name, and a function that runs it: what it must read, and what comes out."""
    x, y, half = torch.randn(6, 8), torch.randn(6, 8), torch.randn(6, 8).half()
    whole, flag, vector = torch.arange(48).reshape(6, 8), torch.rand(6, 8) > 0.5, torch.randn(8)
    image = torch.randn(2, 3, 9, 7)
    one = torch.nn.functional
    weight, bias = torch.randn(4, 3, 3, 3), torch.randn(4)

    def run(function: Callable[..., Any], *tensors: Any) -> Callable[[], tuple[list[Any], Any]]:
        return lambda: (list(tensors), function(*tensors))

    return [
        ("aten::add", run(lambda a, b: a + b, x, y)),
        ("aten::add", run(lambda a, b: a + b, x, vector)),
        ("aten::add", run(lambda a, b: a + b, half, x)),
        ("aten::mul", run(lambda a, b: a * b, whole, x)),
        ("aten::div", run(lambda a, b: a / b, whole, whole)),
        ("aten::gt", run(lambda a, b: a > b, x, vector)),
        ("aten::where", run(torch.where, flag, x, y)),
        ("aten::exp", run(torch.exp, x)),
        ("aten::tanh", run(torch.tanh, half)),
        ("aten::clamp_min", run(torch.relu, x)),
        ("aten::sum", run(lambda a: a.sum(0), x)),
        ("aten::sum", run(lambda a: a.sum(), whole)),
        ("aten::sum", run(lambda a: a.sum((0, 2), keepdim=True), image)),
        ("aten::sum", run(lambda a: a.sum(1), flag)),
        ("aten::mean", run(lambda a: a.mean(1), x)),
        ("aten::max", run(lambda a: tuple(a.max(1)), x)),
        ("aten::amax", run(lambda a: a.amax((1, 2)), image)),
        ("aten::argmax", run(lambda a: a.argmax(-1), x)),
        ("aten::any", run(lambda a: a.any(0), flag)),
        ("aten::var", run(lambda a: a.var(1), x)),
        ("aten::cumsum", run(lambda a: a.cumsum(0), whole)),
        ("aten::_softmax", run(lambda a: one.softmax(a, -1), x)),
        ("aten::_log_softmax", run(lambda a: one.log_softmax(a, 0), x)),
        ("aten::mm", run(lambda a, b: a @ b, x, y.T)),
        ("aten::mv", run(torch.mv, x, vector)),
        ("aten::linear", run(one.linear, x, torch.randn(5, 8), torch.randn(5))),
        ("aten::matmul", run(torch.matmul, torch.randn(2, 1, 3, 4), torch.randn(5, 4, 6))),
        ("aten::baddbmm", run(torch.baddbmm, torch.randn(2, 3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5))),
        ("aten::conv2d", run(lambda a, w, b: one.conv2d(a, w, b, stride=2, padding=1), image, weight, bias)),
        ("aten::convolution", run(lambda a, w: one.conv2d(a, w, padding="same", dilation=2), image, weight)),
        ("aten::convolution", run(lambda a, w: one.conv_transpose2d(a, w, stride=2, output_padding=1), image, torch.randn(3, 4, 2, 2))),
        ("aten::max_pool2d_with_indices", run(lambda a: one.max_pool2d(a, 3, 2, ceil_mode=True, return_indices=True), image)),
        ("aten::avg_pool2d", run(lambda a: one.avg_pool2d(a, 2, padding=1), image)),
    ]  # fmt: skip


def test_operators_move_what_went_in_and_came_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    profiling = pytest.importorskip("torch.profiler")
    for name, run in operators(torch):
        with profiling.profile(activities=[profiling.ProfilerActivity.CPU], record_shapes=True) as profiler:
            inputs, out = run()
        profiler.export_chrome_trace(str(tmp_path / "trace.json"))
        entries = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        args = next(entry["args"] for entry in entries if entry.get("name") == name)
        found = work_of(name, tuple(json.dumps(args[key]).encode() for key in KEYS))  # type: ignore[arg-type]
        outputs = out if isinstance(out, tuple) else (out,)
        expected = sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
        assert found is not None, name
        assert found.bytes == expected, name


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_more_elements_are_more_work(shape: list[int], grown: int, more: int) -> None:
    larger = [size + more * (at == grown % len(shape)) for at, size in enumerate(shape)]
    for name, arguments in (("aten::gelu", ()), ("aten::_softmax", (-1, False)), ("aten::sum", ([0], False, None))):
        small, large = (work(name, t(*sizes), *arguments) for sizes in (shape, larger))
        assert small is not None
        assert large is not None
        assert (large.flops or 0) >= (small.flops or 0)
        assert large.bytes >= small.bytes
        assert (large.bytes > small.bytes) == (more > 0)
