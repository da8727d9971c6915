"""Does every kernel compile for a T4 and fit it, and for the newer ones? Nothing here runs on a GPU.

A new source is found by itself, and fails the first test until a module declares what it is compiled with.
"""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch")

from tracekit.architectures import Capability, instructions
from tracekit.errors import TracekitError
from tracekit.kernels import compile as compiler
from tracekit.kernels.configuration import Configuration, declared
from tracekit.kernels.inspection import inspect

TURING, HOPPER = (7, 5), (9, 0)
BETWEEN = ((8, 0), (8, 6), (8, 9))
needs_nvrtc = pytest.mark.skipif(not compiler.available(), reason="needs cuda-core and NVRTC")


def able(capability: Capability) -> list[Configuration]:
    """What is ever compiled for devices like this."""
    return [one for one in declared() if one.capability <= capability]


def for_newer() -> list[tuple[Configuration, Capability]]:
    """All for the newest, which is the one that figures are measured on; of the others each takes its turn."""
    newest = [(one, HOPPER) for one in able(HOPPER)]
    return newest + [(one, BETWEEN[at % len(BETWEEN)]) for at, one in enumerate(able(BETWEEN[0]))]


def kernels_of(name: str) -> set[str]:
    return set(re.findall(r'extern "C" __global__ void\s+(?:__\w+__\([^{;]*?\)\s+)*(\w+)\(', compiler.source(name)))


# The one-kernel step in widths that are not GPT-2 small's: three values, of which none is needed more than once a layer.
A_LITTLE = 16
NARROW = {("hopper.cu", 256), ("hopper.cu", 512)}


def check(configuration: Configuration, capability: Capability) -> None:
    found = inspect(configuration, capability)
    for kernel in found:
        taken, holds = kernel.taken, kernel.occupancy
        print(
            f"{configuration} {kernel.name}: {taken.threads} threads, {taken.registers} registers, "
            f"{taken.shared_bytes} + {kernel.dynamic_shared} bytes shared; {holds.blocks} blocks, "
            f"{holds.warps} of {holds.most} warps, by {' and '.join(holds.limits)}"
        )
    assert {kernel.name for kernel in found} == kernels_of(configuration.source)
    narrow = (configuration.source, configuration.macros.get("WIDTH")) in NARROW
    spared = [kernel.name for kernel in found if narrow and kernel.taken.spilled_bytes <= A_LITTLE]
    problems = [(kernel.name, one) for kernel in found for one in kernel.problems]
    assert [(name, one) for name, one in problems if not (name in spared and one.startswith("spills "))] == []
    assert set(configuration.dynamic_shared) <= {kernel.name for kernel in found}


def test_every_source_is_declared() -> None:
    undeclared = set(compiler.sources()) - {one.source for one in declared()}
    assert not undeclared, f"no module's CONFIGURATIONS say what {undeclared} are compiled with"


def test_every_declaration_has_a_source_and_stands_once() -> None:
    assert {one.source for one in declared()} <= set(compiler.sources())
    assert len({str(one) for one in declared()}) == len(declared())


@needs_nvrtc
@pytest.mark.parametrize("configuration", able(TURING), ids=str)
def test_every_kernel_fits_a_t4(configuration: Configuration) -> None:
    check(configuration, TURING)


@needs_nvrtc
@pytest.mark.parametrize(("configuration", "capability"), for_newer(), ids=str)
def test_and_the_newer_ones(configuration: Configuration, capability: Capability) -> None:
    check(configuration, capability)


BROKEN = 'extern "C" __global__ void __launch_bounds__(1024) broken(float* x, int n) { %s }'
SPILLING = "float a[256]; for (int i = 0; i < 256; ++i) a[i] = x[i * n]; __syncthreads(); for (int i = 0; i < 256; ++i) x[i] = a[i * n & 255];"
SHARING = "extern __shared__ float a[]; a[threadIdx.x] = x[n]; __syncthreads(); x[threadIdx.x] = a[threadIdx.x ^ 1];"


@needs_nvrtc
@pytest.mark.parametrize(
    ("body", "dynamic", "problem"),
    [
        (SPILLING, 0, r"spills \d+ bytes a thread and has a stack of [1-9]\d+"),
        (SHARING, (64 << 10) + 1, "does not fit a multiprocessor: shared memory"),
        (SHARING, 64 << 10, ""),
    ],
)
def test_a_kernel_that_does_not_fit_is_told(body: str, dynamic: int, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracekit.kernels.inspection.source", lambda _: BROKEN % body)
    (found,) = inspect(Configuration("broken.cu", {}, dynamic_shared={"broken": dynamic}), TURING)
    assert re.fullmatch(problem, "\n".join(found.problems))


@needs_nvrtc
def test_too_much_static_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    body = SHARING.replace("extern __shared__ float a[]", "__shared__ float a[12 * 1024 + 1]")
    monkeypatch.setattr("tracekit.kernels.inspection.source", lambda _: BROKEN % body)
    with pytest.raises(TracekitError, match=r"sm_75: .*uses too much shared data \(0xc004 bytes, 0xc000 max\)"):
        inspect(Configuration("broken.cu", {}), TURING)


# How each instruction of architectures.toml is written in a kernel: a, b and c are registers, f FP32, to and from addresses.
OPERANDS = {
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16": "{%0, %1, %2, %3}, [%12]",
    "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32": "{%8, %9, %10, %11}, {%0, %1}, {%4}, {%8, %9, %10, %11}",
    "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32": "{%6, %7}, {%0}, {%4}, {%6, %7}",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32": "{%8, %9, %10, %11}, {%0, %1, %2, %3}, {%4, %5}, {%8, %9, %10, %11}",
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": "{%8, %9, %10, %11}, {%0, %1, %2, %3}, {%4, %5}, {%8, %9, %10, %11}",
    "cp.async.cg.shared.global": "[%12], [%13], 16",
}
KERNEL = """extern "C" __global__ void one(unsigned* out, float* sums, const void* from) {
  __shared__ uint4 to[32];
  unsigned a[8] = {out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7]};
  float f[4] = {sums[0], sums[1], sums[2], sums[3]};
  asm volatile("INSTRUCTION OPERANDS;"
               : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3]), "+r"(a[4]), "+r"(a[5]), "+r"(a[6]), "+r"(a[7]),
                 "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
               : "r"((unsigned)__cvta_generic_to_shared(to + threadIdx.x)), "l"(from) : "memory");
  for (int i = 0; i < 8; ++i) out[i] = a[i];
  for (int i = 0; i < 4; ++i) sums[i] = f[i];
}"""


@needs_nvrtc
@pytest.mark.parametrize("instruction", instructions(), ids=lambda one: one.name)
@pytest.mark.parametrize("capability", [TURING, *BETWEEN, HOPPER], ids=str)
def test_instructions_exist_from_where_the_dossier_says(instruction, capability: Capability) -> None:
    text = KERNEL.replace("INSTRUCTION", instruction.ptx).replace("OPERANDS", OPERANDS[instruction.ptx])
    architecture = compiler.Target(capability).architecture
    if instruction.known_to(capability):
        assert instruction.ptx in compiler.compile_source(text, architecture, {}).ptx.decode()
        return
    needed = "sm_" + instruction.since.replace(".", "")
    with pytest.raises(TracekitError, match=f"requires .*{needed} or higher"):
        compiler.compile_source(text, architecture, {})
