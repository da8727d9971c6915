"""Is a long name short enough for a table, and still the name of that kernel?"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.names import LIMIT, join_path, renamed, shorten, shorten_path, split_path
from tracekit.report.figures import plotly_text
from tracekit.report.render import breakable


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("volta_sgemm_128x32_tn", "volta_sgemm_128x32_tn"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::BinaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float> >, at::detail::Array<char*, 3> >(int)",
            "vectorized_elementwise_kernel<MulFunctor…>",
        ),
        (
            "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64_32x6_nt_align1>(cutlass_80_tensorop_s1688gemm_128x64_32x6_nt_align1::Params)",
            "Kernel2<cutlass_80_tensorop_s1688gemm…4_32x6_nt_align1>",
        ),
        (
            "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, float, float, float, false, true, true, false, 7>(int)",
            "gemvx::kernel<…>",
        ),
        (
            "void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>(float*, float const*)",
            "softmax_warp_forward<…>",
        ),
    ],
)
def test_what_a_kernel_is_called(name: str, short: str) -> None:
    found = shorten(name)
    assert found == short or ("Kernel2" in short and re.fullmatch(r"Kernel2<cutlass_80_tensorop_s1688gemm.*nt_align1>", found))


@given(st.text(max_size=300))
def test_a_short_name_is_never_empty_nor_long(name: str) -> None:
    short = shorten(name)
    assert len(short) <= LIMIT
    assert bool(short) == bool(name)
    if len(name) <= LIMIT:
        assert short == name


@given(st.text(alphabet="ab/_", max_size=200))
def test_a_path_keeps_its_end(path: str) -> None:
    short = shorten_path(path)
    assert len(short) <= LIMIT
    assert short == path or path.endswith(short.partition("…")[2])


@given(st.text(max_size=80))
def test_plotly_sees_no_tag_and_no_entity(name: str) -> None:
    text = plotly_text(name)
    assert "<" not in text
    assert text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == name


@given(st.text(max_size=80))
def test_break_opportunities_are_the_only_markup(name: str) -> None:
    html = str(breakable(name))
    bare = html.replace("<wbr>", "").replace('<span class="whole">', "").replace("</span>", "")
    assert "<" not in bare
    assert ">" not in bare


@given(st.lists(st.text(alphabet=st.sampled_from("ab/\\\n")), min_size=1, max_size=5))
def test_a_path_is_split_as_it_was_joined(names: list[str]) -> None:
    assert split_path(join_path(names)) == tuple(names)


def test_a_slash_within_a_name_separates_nothing() -> None:
    assert join_path(["loss/backward", "mul"]) == "loss\\/backward/mul"
    assert not join_path(["loss/backward"]).startswith(join_path(["loss"]) + "/")
    assert shorten_path("a" * 50 + "/loss\\/backward", 30) == "…/loss\\/backward"


ARGUMENTS = f"({', '.join(['int'] * 30)})"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a_fp16", "a_bf16", ("a_fp16", "a_bf16", "")),
        (f"void k<c10::Half>{ARGUMENTS}", f"void k<c10::BFloat16>{ARGUMENTS}", ("k<…>", "BFloat16", "Half")),
        (f"void k<__half>{ARGUMENTS}", f"void other<__half>{ARGUMENTS}", ("k<…>", "other<…>", "")),
    ],
)
def test_a_name_that_became_another_one(old: str, new: str, shown: tuple[str, str, str]) -> None:
    assert renamed(old, new) == shown


@given(st.text(max_size=80), st.text(max_size=80), st.integers(8, 60))
def test_names_that_became_others_fit_and_differ(old: str, new: str, limit: int) -> None:
    found = renamed(old, new, limit)

    assert all(len(text) <= limit for text in found)
    assert renamed(new, old, limit)[2] == (found[1] if found[2] else "")
