"""Does every run of a kernel have its part of its operator's work, once and exactly?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_calls import recorded, t
from properties import examples
from synthetic import TraceBuilder

from tracekit.analyze.work.kernel_work import kernel_work
from tracekit.devices import PEAKS

ADDMM = recorded(t(3072), t(9, 768), t(768, 3072), 1, 1)
FLOPS, BYTES = 42_467_328, 9_587_712


def rows(builder: TraceBuilder) -> list[dict[str, Any]]:
    return kernel_work(builder.trace()).records()


def peak(row: dict[str, Any]) -> str | None:
    return PEAKS[row["peak"]] if row["peak"] >= 0 else None


def test_an_operators_work_is_its_kernels() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::linear", **recorded(t(9, 768), t(3072, 768), t(3072)))
    builder.operator(10, 80, "aten::addmm", **ADDMM)
    builder.launch(call=(20, 5), kernel=(200, 300), name="sgemm")
    builder.launch(call=(30, 5), kernel=(500, 100), name="splitKreduce_kernel")

    main, reduction = rows(builder)
    assert main["flops"] + reduction["flops"] == FLOPS
    assert main["bytes"] + reduction["bytes"] == BYTES
    assert main["flops"] == FLOPS * 3 // 4
    assert (main["owner"], reduction["owner"]) == (1, 1)
    assert peak(main) == "fp32"


def test_unknown_work_is_not_none_at_all() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::sort", **recorded(t(9, 768), -1, False))
    builder.launch(call=(10, 5), kernel=(200, 300))
    builder.operator(200, 100, "aten::mm")  # nothing recorded
    builder.launch(call=(210, 5), kernel=(600, 300))
    builder.kernel(1000, 300)
    builder.operator(400, 100, "aten::copy_", **recorded(t(6), t(6), False))
    builder.launch(call=(410, 5), kernel=(2000, 300))

    *unknown, copied = rows(builder)
    assert [(row["has_bytes"], row["has_flops"], row["owner"], peak(row)) for row in unknown] == [(False, False, -1, None)] * 3
    assert [row["operator"] >= 0 for row in unknown] == [True, True, False]
    assert (copied["has_bytes"], copied["has_flops"], copied["flops"], copied["bytes"]) == (True, True, 0, 48)


def test_graph_replay_has_no_operator_even_where_one_encloses_its_launch() -> None:
    builder = TraceBuilder()
    builder.graph(call=(10, 5), kernels=[(100, 10), (120, 10)])
    assert [(row["operator"], row["owner"]) for row in rows(builder)] == [(-1, -1)] * 2


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("ampere_sgemm_128x64_tn", "fp32"),
        ("cutlass_80_tensorop_s1688gemm_128x64_16x6_nt_align1", "tf32"),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x8", "tf32"),
        ("cutlass_80_tensorop_s1688f16gemm_64x64", "fp32"),
    ],
)
def test_a_kernels_name_tells_tf32(kernel: str, expected: str) -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::addmm", **ADDMM)
    builder.launch(call=(20, 5), kernel=(200, 300), name=kernel)
    builder.launch(call=(30, 5), kernel=(500, 100), name="splitKreduce_kernel")
    assert {peak(row) for row in rows(builder)} == {expected}


@pytest.mark.parametrize(
    ("kernel", "item"),
    [
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)::OpaqueType<2u>, unsigned int, 4, 64, 64>(…)", 2),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 2, 128, 1>(float*, …)", 4),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<long, unsigned int, 2, 128, 1>(long*, …)", 8),
        ("some_other_kernel", None),
    ],
)  # fmt: skip
def test_a_kernels_name_tells_the_type_of_lists(kernel: str, item: int | None) -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::cat", **recorded([t(2, 3), t(4)], 0))
    builder.launch(call=(20, 5), kernel=(200, 300), name=kernel)
    (row,) = rows(builder)
    assert row["has_bytes"] == (item is not None)
    assert row["bytes"] == 20 * (item or 0)


def test_a_fused_optimizers_kernel_tells_its_type() -> None:
    kernel = (
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::TensorListMetadata<2>, "
        "at::native::(anonymous namespace)::BinaryOpListAlphaFunctor<c10::BFloat16, 2, 2, 0>, std::plus<float>, float>(…)"
    )
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::_foreach_add_", **recorded([t(2, 3), t(4)], [t(2, 3), t(4)], 1))
    builder.launch(call=(20, 5), kernel=(200, 300), name=kernel)
    (row,) = rows(builder)
    assert (row["flops"], row["bytes"]) == (10, 2 * 30)


def test_a_trace_without_kernels_has_no_rows() -> None:
    builder = TraceBuilder()
    builder.operator(0, 100, "aten::mm", **recorded(t(2, 3), t(3, 4)))
    assert rows(builder) == []


TIMES = st.one_of(st.integers(0, 5), st.integers(0, 10**7), st.integers(2**40, 2**41))


@given(st.lists(st.tuples(st.integers(0, 3), TIMES), min_size=1, max_size=12), st.integers(1, 10**7))
@examples(60)
def test_parts_add_up_to_the_unit_whatever_the_times(launches: list[tuple[int, int]], width: int) -> None:
    """Kernels of up to four operators in any order, of any length; each operator's work is all handed out, and no more."""
    builder = TraceBuilder()
    works: dict[int, tuple[int, int]] = {}
    for which in range(4):
        operands = t(width, which + 1), t(which + 1, 7)
        builder.operator(1000 * which, 900, "aten::mm", **recorded(*operands))
        works[which] = (2 * width * (which + 1) * 7, 4 * (width * (which + 1) + (which + 1) * 7 + width * 7))
    at = 10**6
    for number, (which, time) in enumerate(launches):
        builder.launch(call=(1000 * which + 10 + number, 1), kernel=(at, time))
        at += time + 1
    found = rows(builder)
    for which, (flops, moved) in works.items():
        parts = [row for row, (owner, _) in zip(found, launches, strict=True) if owner == which]
        if parts:
            assert sum(row["flops"] for row in parts) == flops
            assert sum(row["bytes"] for row in parts) == moved
            assert all(row["flops"] >= 0 and row["bytes"] >= 0 for row in parts)
