"""Do the blocks of products fill the device, or does it do nothing in most of the last wave?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tracekit.names import shorten
from tracekit.wording import counted, percent, quantity

from ...trace.arrays import Bools, Floats, Int64s
from ...trace.group import group
from ...trace.trace import Device
from ..facts import Facts
from ..finding import Answer, Finding
from .busy import COMPILE, is_gpu_bound, kernel_roofs
from .needs import KERNELS, Need, needs
from .wording import kept

PRODUCTS = ("gemm", "convolution")
WORST = 5
FEW_WAVES = 4.0
"""From so many waves on, the last one is a small part of the time, and blocks end so unevenly that it says little."""
WARP, REGISTER_UNIT, SHARED_UNIT, MOST_BLOCKS = 32, 256, 1024, 32
"""What a device gives out: threads by the warp, registers by the warp in units, shared memory reserved for each block, and how
many blocks a multiprocessor holds at most (CUDA Programming Guide, technical specifications; 16 or 24 on some devices)."""


def _grids_known(facts: Facts) -> bool:
    return any(grid is not None for grid in facts.trace.gpu["grid"][facts.work["gpu"]].tolist())


GRIDS = Need("the kernels' grids were not recorded", lambda e: not is_gpu_bound(e) or _grids_known(e))
MULTIPROCESSORS = Need(
    "the device's number of multiprocessors was not recorded",
    lambda e: not is_gpu_bound(e) or bool(e.trace.device and e.trace.device.multiprocessors),
)


@needs(KERNELS, GRIDS, MULTIPROCESSORS)
def partial_waves(facts: Facts) -> Answer:
    """Products' blocks do not fill the device evenly: in the last wave most multiprocessors do nothing."""
    products = facts.of_family(*PRODUCTS)
    if not is_gpu_bound(facts) or facts.work_share(products) < facts.thresholds.work:
        return None
    device = facts.trace.device
    assert device is not None
    time, found = facts.work["duration_ns"], kernel_roofs(facts)
    asked = products & (time >= facts.thresholds.long_kernel_ns)
    waves = np.full(len(time), np.nan)
    waves[asked] = _waves(facts, device, facts.work["gpu"][asked])
    few = waves < FEW_WAVES  # False where not known
    idle = np.where(few, 1 - waves / np.ceil(np.where(few, waves, 1.0)), 0.0)
    tail = idle * time
    # A kernel that is near its roof all the same loses nothing.
    could = np.where(found.is_known, np.maximum(time - found.roof_ns / found.attainable, 0), tail)
    # Where the roof is not known, memory may bind it: then few blocks are enough, and only a nearly empty wave tells.
    unsure = ~found.is_known & ((idle < facts.thresholds.far_below) | (waves < 1))
    saving = np.rint(np.where(unsure | (idle < 0.1), 0, np.minimum(tail, could))).astype(np.int64)
    if int(saving.sum()) < facts.thresholds.work * int(time.sum()):
        return None
    chosen = saving > 0
    saved, rows = facts.shorter(saving), _wave_rows(facts, waves, saving, chosen)
    worst = rows[0]
    number = device.multiprocessors or 0
    return Finding(
        code="partial_waves",
        title="Products leave part of the device without work",
        severity=facts.severity(saved),
        affected_ns=facts.time(chosen),
        **saved.fields,
        evidence=f"{counted(int(chosen.sum()), 'product')}, {percent(facts.work_share(chosen))} of the kernel time, run in few "
        f"waves whose last is not full: {shorten(worst['kernel'])}, {counted(worst['blocks'], 'block')} on {number} "
        f"multiprocessors, is {quantity(worst['waves'], 'waves')}",
        action="Change the number of blocks: another tile shape or split-K (torch.compile(model, mode='max-autotune') tries "
        f"them), a batch or sequence whose blocks fill {number} multiprocessors a whole number of times, or one product in "
        "place of several small ones.",
        snippet=COMPILE,
        reasoning="Blocks are taken to last equally long. So a wave takes as long with one block as with all, and the share of "
        "the last wave that is empty is lost, at most down to what the roof allows. "
        f"{kept(int(saving.sum()), saved.saving_ns)} An upper bound.",
        rows=rows,
    )


def _waves(facts: Facts, device: Device, kernels: Int64s) -> Floats:
    """How many waves the blocks of each of these rows of `trace.gpu` take.

    It is NaN where that is not known, or where all blocks run at once and some of them share a multiprocessor.

    One wave is as many blocks as the device holds at a time. If there are fewer blocks than multiprocessors, the wave is the
    number of multiprocessors: each block has one of its own.
    """
    gpu = facts.trace.gpu
    columns = [gpu[name][kernels].tolist() for name in ("grid", "block", "registers", "shared_memory_bytes")]
    kinds: dict[tuple[Any, ...], float] = {}
    keys = [_hashable(one) for one in zip(*columns, strict=True)]
    for key in keys:
        if key not in kinds:
            kinds[key] = _waves_of(device, *key)
    return np.array([kinds[key] for key in keys], dtype=np.float64)


def _hashable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _waves_of(device: Device, grid: Any, block: Any, registers: int | None, shared: int | None) -> float:
    blocks, threads, each = _product(grid), _product(block), device.multiprocessors or 0
    if not blocks or not threads or not each:
        return float("nan")
    held = _blocks_held(device, threads, registers, shared)
    if blocks <= each:
        return blocks / each
    if blocks <= each * held:
        return float("nan")  # all run at once, two or more on some multiprocessors: how much that costs is not known
    return blocks / (each * held)


def _blocks_held(device: Device, threads: int, registers: int | None, shared: int | None) -> int:
    """How many blocks a multiprocessor holds at a time; where its limits were not recorded, those of most devices."""
    warps = -(-threads // WARP)
    limits = [MOST_BLOCKS, (device.threads_each or 2048) // (warps * WARP)]
    if registers:
        unit = -(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
        limits.append((device.registers_each or 65_536) // (unit * warps))
    if shared and device.shared_memory_each:
        limits.append(device.shared_memory_each // (shared + SHARED_UNIT))
    return max(min(limits), 1)


def _product(sizes: Any) -> int:
    """The number of blocks of a grid, or of threads of a block; 0 where it was not recorded."""
    if not isinstance(sizes, tuple | list) or not all(type(size) is int and size > 0 for size in sizes):
        return 0
    return int(np.prod(sizes, dtype=np.int64)) if sizes else 0


def _wave_rows(facts: Facts, waves: Floats, saving: Int64s, chosen: Bools) -> tuple[Mapping[str, Any], ...]:
    """These kernels by name and number of blocks, those that lose the most time first."""
    blocks = np.array([_product(grid) for grid in facts.trace.gpu["grid"][facts.work["gpu"][chosen]].tolist()], dtype=np.int64)
    distinct, code = np.unique(np.stack((facts.names[chosen], blocks), axis=1), axis=0, return_inverse=True)
    of = group(code.reshape(-1))
    time, less, first = (
        of.sum(facts.work["duration_ns"][chosen]),
        of.sum(saving[chosen]),
        np.unique(of.code, return_index=True)[1],
    )
    return tuple(
        {
            "kernel": str(facts.trace.strings[distinct[at, 0]]),
            "blocks": int(distinct[at, 1]),
            "waves": round(float(waves[chosen][first[at]]), 3),
            "count": int(of.count[at]),
            "time_ns": int(time[at]),
            "faster_ns": int(less[at]),
        }
        for at in np.lexsort((distinct[:, 0], -less))[:WORST].tolist()
    )
