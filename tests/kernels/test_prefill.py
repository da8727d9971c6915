"""What a prefill is made of, without a device: its sources compiled, its plans."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tracekit.kernels import compile as compiler  # noqa: E402
from tracekit.kernels.prefill import FEW, MANY, SHARED, Plan, choose_plan  # noqa: E402

needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core")
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"]


def taken(name: str, architecture: str, macros: dict[str, int]) -> dict[str, compiler.Resources]:
    code, log = compiler.compile_source(compiler.source(name), architecture, macros)
    assert code.startswith(b"\x7fELF")
    found = compiler.resources(log)
    if not found:
        pytest.skip("this NVRTC does not tell what kernels take")
    for one in found.values():
        assert (one.spilled_bytes, one.stack_bytes) == (0, 0)
    return found


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("plan", [SHARED, FEW, MANY])
def test_flash_attention_fits_a_multiprocessor_as_often_as_planned(architecture: str, plan: Plan) -> None:
    macros = {"KEY_GROUPS": plan.groups, "TILE_KEYS": plan.tile_keys, "BLOCKS": plan.blocks}
    found = taken("flash.cu", architecture, macros)
    assert set(found) == {"gpt2_flash_attention"}
    (one,) = found.values()
    assert one.shared_bytes <= 48 << 10  # static; a Turing's multiprocessor has 64 KB
    assert one.registers * 128 * plan.groups * plan.blocks <= 65536


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_newer_devices_can_run_turings_path(architecture: str) -> None:
    macros = {"KEY_GROUPS": 1, "TILE_KEYS": 64, "BLOCKS": 2}
    own, path = (
        compiler.compile_source(compiler.source("flash.cu"), architecture, {**macros, **one})[0] for one in ({}, {"TURING": 1})
    )
    assert own != path


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", [64, 96, 768, 1024, 1280, 1600])
def test_what_lies_between_the_products_compiles(architecture: str, width: int) -> None:
    found = taken("prefill.cu", architecture, {"WIDTH": width})
    assert set(found) == {"gpt2_embed_norm", "gpt2_bias_residual_norm", "gpt2_bias_gelu"}
    assert all(one.registers * 128 <= 65536 and one.shared_bytes == 0 for one in found.values())


def test_an_included_header_is_part_of_the_source() -> None:
    assert '#include "' not in compiler.source("flash.cu")
    assert compiler.source("half.cuh") in compiler.source("flash.cu")


@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "multiprocessors", "plan"),
    [
        (1, 12, 128, 132, FEW),
        (1, 12, 512, 132, FEW),  # few blocks, but none is long
        (1, 12, 1024, 132, SHARED),
        (1, 25, 1024, 132, FEW),
        (4, 12, 512, 132, FEW),
        (4, 12, 1024, 132, MANY),
        (1, 12, 128, 40, FEW),
        (1, 12, 1024, 40, MANY),
    ],
)
def test_each_prompt_has_a_plan(batch: int, heads: int, tokens: int, multiprocessors: int, plan: Plan) -> None:
    assert choose_plan(batch * heads * -(-tokens // 64), tokens, multiprocessors) == plan
