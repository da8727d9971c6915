"""Which kernel a name speaks of, without its return type, arguments and launchers."""

from __future__ import annotations

import pytest

from tracekit.outline import short_name, words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int>(float*)", "CatArrayBatchedCopy"),
        ("std::enable_if<(((8)>(0)))&&vllm::_typeConvert<float>::exists, void>::type vllm::rms<float, 8>(int)", "rms"),
        (
            "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32>(cutlass_80_simt_sgemm_128x32::Params)",
            "cutlass_80_simt_sgemm_128x32",
        ),
        ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_3FooIDF16bEEEEJEEEvDpT1_", "Rmsnorm2dFwd"),
        ("_Z6vecAddPfS_S_i", "vecAdd"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float>(int)", "gemvx::kernel"),
        ("triton_poi_fused_add_0", "triton_poi_fused_add_0"),
        ("decltype(nullptr) ns::f<decltype(nullptr), 3>(int) [clone .kd]", "f"),
        ("void ns::outer(int)::inner<float>(float)", "inner"),
        ("foo_kernel.kd", "foo_kernel"),
        ("", ""),
    ],
)
def test_short_name(name: str, expected: str) -> None:
    assert short_name(name) == expected


def test_words() -> None:
    assert words("CatArrayBatchedCopy_contig") == "cat array batched copy contig"
    assert words("RowwiseMomentsCUDAKernel") == "rowwise moments cuda kernel"
