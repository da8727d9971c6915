"""How many blocks of a kernel fit a multiprocessor at once, and what keeps the next one out?

The arithmetic is that of NVIDIA's cuda_occupancy.h (CUDA 13.0), without the parts for older devices. The limits are those of
`tracekit.architectures`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracekit.architectures import Multiprocessor

_WARP = 32
_REGISTER_UNIT = 256  # warps get registers in units of this many
_PARTS = 4  # parts of a multiprocessor, each with a quarter of the registers; a warp stays in one part


@dataclass(frozen=True)
class Occupancy:
    """How many blocks and warps a multiprocessor holds at once, out of `most` warps. With 0 blocks the kernel cannot run.

    `limits` names what sets the bound: one or several of `warps`, `blocks`, `registers` and `shared memory`.
    """

    blocks: int
    warps: int
    most: int
    limits: tuple[str, ...]

    @property
    def share(self) -> float:
        """The warps as a share of those that the multiprocessor could hold."""
        return self.warps / self.most


def occupancy(on: Multiprocessor, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """The occupancy of a kernel on a multiprocessor.

    `threads` and `shared_bytes` are per block, `registers` per thread. `shared_bytes` is static and dynamic shared memory
    together.
    """
    warps = -(-threads // _WARP)
    room = {
        "warps": on.warps // warps,
        "blocks": on.blocks,
        "registers": _by_registers(on, warps, registers),
        "shared memory": _by_shared_memory(on, shared_bytes),
    }
    blocks = min(room.values())
    return Occupancy(blocks, blocks * warps, on.warps, tuple(name for name, most in room.items() if most == blocks))


def _by_registers(on: Multiprocessor, warps: int, registers: int) -> int:
    of_warp = max(1, -(-registers * _WARP // _REGISTER_UNIT)) * _REGISTER_UNIT
    if of_warp * -(-warps // _PARTS) * _PARTS > on.registers:
        return 0
    return on.registers // _PARTS // of_warp * _PARTS // warps


def _by_shared_memory(on: Multiprocessor, shared_bytes: int) -> int:
    if shared_bytes > on.shared_bytes_block:
        return 0
    of_block = -(-(shared_bytes + on.shared_bytes_reserved) // on.shared_unit) * on.shared_unit
    return on.shared_bytes // of_block if of_block else on.warps + 1  # more than any other bound
