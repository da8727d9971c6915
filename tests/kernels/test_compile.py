from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tracekit.errors import MissingExtraError, TracekitError
from tracekit.kernels import compile as compiler

needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core")
KERNELS = {
    "gpt2_embed_norm_qkv",
    "gpt2_norm_qkv",
    "gpt2_attention",
    "gpt2_attention_projection",
    "gpt2_norm_fc1_gelu",
    "gpt2_fc2_residual",
    "gpt2_norm_lm_head",
    "gpt2_argmax",
}
TINY = 'extern "C" __global__ void fill(float* out) { out[threadIdx.x] = VALUE; }'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKIT_CACHE", str(tmp_path / "cache"))


def kept() -> list[Path]:
    return sorted((compiler.cache_directory() / "kernels").glob("*"))


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"])
@pytest.mark.parametrize(
    ("width", "head_width", "batch"),
    [(768, 64, 1), (768, 64, 16), (1024, 64, 16), (1280, 64, 3), (1600, 64, 1), (1600, 64, 16), (64, 32, 2), (256, 128, 1)],
)
def test_every_kernel_compiles_and_fits(architecture: str, width: int, head_width: int, batch: int) -> None:
    macros = {"WIDTH": width, "HEAD_WIDTH": head_width, "BATCH": batch}
    code, log = compiler.compile_source(compiler.source("decode.cu"), architecture, macros)
    assert code.startswith(b"\x7fELF")
    found = compiler.resources(log)
    if not found:
        pytest.skip("this NVRTC does not tell what kernels take")
    assert set(found) == KERNELS
    for name, taken in found.items():
        assert (taken.spilled_bytes, taken.stack_bytes) == (0, 0), name
        assert taken.shared_bytes <= 48 << 10, name
        # A block must fit a multiprocessor: 65,536 registers, of which the largest block has as many threads as this.
        threads = {"gpt2_attention": 512, "gpt2_norm_lm_head": 256, "gpt2_argmax": 32}.get(name, 128)
        assert taken.registers * threads <= 65536, name


@needs_nvrtc
def test_a_spill_would_be_seen() -> None:
    text = """extern "C" __global__ void __launch_bounds__(1024) f(float* x, int n) {
      float a[256]; for (int i = 0; i < 256; ++i) a[i] = x[i * n]; __syncthreads();
      for (int i = 0; i < 256; ++i) x[i] = a[(i * n) & 255]; }"""
    taken = compiler.resources(compiler.compile_source(text, "sm_75", {})[1])["f"]
    assert taken.stack_bytes > 0


@needs_nvrtc
def test_the_cache_knows_source_architecture_and_macros_and_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiler.cubin(TINY, "sm_75", {"VALUE": 1})
    assert len(kept()) == 1
    different = [
        compiler.cubin(TINY, "sm_75", {"VALUE": 2}),
        compiler.cubin(TINY, "sm_90", {"VALUE": 1}),
        compiler.cubin(TINY.replace("fill", "full"), "sm_75", {"VALUE": 1}),
    ]
    assert len({first, *different}) == len(kept()) == 4
    monkeypatch.setattr(compiler, "compiler_version", lambda: "99.0")
    compiler.cubin(TINY, "sm_75", {"VALUE": 1})
    assert len(kept()) == 5
    monkeypatch.setattr(compiler, "compile_source", lambda *_: pytest.fail("compiled again"))
    compiler.cubin(TINY, "sm_75", {"VALUE": 1})


@needs_nvrtc
@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"", lambda data: data[:40] + b"!" + data[41:]])
def test_a_damaged_file_is_compiled_anew(damage) -> None:
    code = compiler.cubin(TINY, "sm_75", {"VALUE": 1})
    (file,) = kept()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert compiler.cubin(TINY, "sm_75", {"VALUE": 1}) == code
    assert file.read_bytes()[32:] == code


@needs_nvrtc
def test_a_cache_that_cannot_be_written_costs_time_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACEKIT_CACHE", str(tmp_path / "file"))
    assert compiler.cubin(TINY, "sm_75", {"VALUE": 1}).startswith(b"\x7fELF")


@needs_nvrtc
def test_what_the_compiler_says_is_one_line() -> None:
    with pytest.raises(TracekitError, match=r"^sm_75: NVRTC could not compile the kernels \(.*VALUE.*\); ") as caught:
        compiler.compile_source(TINY, "sm_75", {})
    assert "\n" not in str(caught.value)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.bindings", "cuda.core", "cuda.core.experimental"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not compiler.available()
    with pytest.raises(MissingExtraError, match=r"needs cuda-core .*torch-tracekit\[cuda\]"):
        compiler.cubin(TINY, "sm_75", {"VALUE": 1})
