"""How close does each kernel and operator come to what the device can do?

In the roofline model, work takes at least the time in which the device does its FLOPs at peak. It also takes at least the time
in which the device moves its bytes at full bandwidth. The longer of the two times is the roof. The share of the roof that was
reached says how much there is left to gain. Which of the two times is longer says whether less compute or fewer bytes would
help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracekit.devices import PEAKS, Datasheet
from tracekit.table import Table

from ..trace.arrays import Bools, Floats, Int64s, Objects, objects
from ..trace.group import Groups, group
from ..trace.trace import Trace
from .call import OperatorCall, UnrecordedError

LATENCY_SHARE = 0.25
"""Below this share of both peak and bandwidth, a kernel waits rather than works.

It is too small for the device, or its data has a bad layout.
"""


@dataclass(frozen=True)
class Roofline:
    """The work of a trace's kernels, times in ns. FLOPs and bytes are sums over the kernels whose work is known.

    `device` is the name of the datasheet with whose peaks the kernels are compared, or None. `known_ns` is the time of the
    kernels of which at least the bytes are known.
    """

    device: str | None
    kernel_time_ns: int
    known_ns: int
    flops: int
    bytes: int
    kernels: Table
    operators: Table

    @property
    def known_share(self) -> float:
        """The share of the kernel time whose work is known."""
        return self.known_ns / max(self.kernel_time_ns, 1)


def roofline(trace: Trace, work: Table, family_of: Mapping[str, str], sheet: Datasheet | None) -> Roofline | None:
    """The roofline of a trace against a datasheet; `work` is what `kernel_work` returns. None if the trace has no kernels.

    `kernels` has one row for each kernel name: `name`, `family`. `operators` has one row for each operator and shapes of its
    inputs: `operator` (the one whose work it is, else the one that launched the kernels, or None) and `shapes` (of its tensors,
    as `"[9, 768], [768, 3072]"`, None where not recorded).

    Both tables are sorted by time, and also have `count` (of runs of kernels), `time_ns`, `share` (of all kernel time) and
    `known_ns` (time of the runs whose work is known). The columns that follow are of these runs: `flops`, `bytes`, `peak` (with
    which the FLOPs are compared), `tflops`, `gb_s`, `intensity` (FLOPs a byte), `compute_share` and `memory_share` (of the
    device's peak and bandwidth), `bound` (`compute`, `memory`, `latency` or None) and `flag`. The flag is `from_cache` for work
    that is faster than the memory and fits into the cache, `above_peak` for work that is faster than the device can be, else
    None.
    """
    if not len(work):
        return None
    return Roofline(
        device=sheet.name if sheet else None,
        kernel_time_ns=int(work["duration_ns"].sum()),
        known_ns=int(work["duration_ns"][work["has_bytes"]].sum()),
        flops=int(work["flops"].sum()),
        bytes=int(work["bytes"].sum()),
        kernels=_by_kernel(trace, work, family_of, sheet),
        operators=_by_operator(trace, work, sheet),
    )


def _by_kernel(trace: Trace, work: Table, family_of: Mapping[str, str], sheet: Datasheet | None) -> Table:
    by_name = group(trace.events["name"][trace.gpu["event"][work["gpu"]]])
    names: Objects = trace.strings[by_name.keys]
    families = np.array([family_of.get(name, "other") for name in names], dtype=object)
    table = Table({"name": names, "family": families, **_figures(work, by_name, sheet)})
    return table.sorted_by("time_ns", "name", descending=True)


def _by_operator(trace: Trace, work: Table, sheet: Datasheet | None) -> Table:
    whose = np.where(work["owner"] >= 0, work["owner"], work["operator"])
    name = np.where(whose >= 0, trace.events["name"][whose].astype(np.int64), -1)
    signature = np.where(whose >= 0, trace.events["signature"][whose].astype(np.int64), -1)
    pairs = group((name + 1) * (len(trace.signatures) + 1) + signature + 1)
    named, written = np.divmod(pairs.keys, len(trace.signatures) + 1)
    labels = [
        (str(trace.strings[n - 1]), _shapes(trace, s - 1)) if n else (None, None)
        for n, s in zip(named.tolist(), written.tolist(), strict=True)
    ]
    # Calls that differ only in inputs that the table does not show are one row.
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    by_label = group(np.array([places[label] for label in labels], dtype=np.int64)[pairs.code])
    columns = {
        "operator": objects([operator for operator, _ in places]),
        "shapes": objects([shapes for _, shapes in places]),
        **_figures(work, by_label, sheet),
    }
    return Table(columns).sorted_by("time_ns", descending=True)


def _shapes(trace: Trace, signature: int) -> str | None:
    """The shapes of a signature's tensors, as text; None if it has none or they were not recorded."""
    if signature < 0:
        return None
    try:
        tensors = list(OperatorCall.parse("", trace.signatures[signature]).tensors())
    except UnrecordedError:
        return None
    return ", ".join(str(list(tensor.shape)) for tensor in tensors) or None


def _figures(work: Table, groups: Groups, sheet: Datasheet | None) -> dict[str, npt.NDArray[Any]]:
    """The figures of each group of runs."""
    known, counted = work["has_bytes"], work["has_flops"]
    duration = work["duration_ns"]
    time, known_ns, counted_ns = (groups.sum(np.where(mask, duration, 0)) for mask in (duration >= 0, known, counted))
    flops, moved = groups.sum(work["flops"]), groups.sum(work["bytes"])
    has_bytes, has_flops = groups.sum(known.astype(np.int64)) > 0, groups.sum(counted.astype(np.int64)) > 0
    compute, memory = roofs(work, sheet)
    # A run that took no time at all has no rate, and so no share of a peak.
    timed, counted_time = has_bytes & (known_ns > 0), has_flops & (counted_ns > 0)
    compute_share = np.where(counted_time, _over(groups.sum_of_floats(compute), counted_ns), np.nan)
    memory_share = np.where(timed, _over(groups.sum_of_floats(memory), known_ns), np.nan)
    return {
        "count": groups.count,
        "time_ns": time,
        "share": time / max(int(time.sum()), 1),
        "known_ns": known_ns,
        "flops": _masked(flops, has_flops),
        "bytes": _masked(moved, has_bytes),
        "peak": _peaks(work, groups),
        "tflops": _masked(_over(flops, counted_ns) / 1e3, counted_time),
        "gb_s": _masked(_over(moved, known_ns), timed),
        "intensity": _masked(_over(flops, moved), has_flops & (moved > 0)),
        "compute_share": _masked(compute_share, np.isfinite(compute_share)),
        "memory_share": _masked(memory_share, np.isfinite(memory_share)),
        "bound": _bounds(compute_share, memory_share, has_flops),
        "flag": _flags(compute_share, memory_share, _largest(work, groups), sheet),
    }


def roofs(work: Table, sheet: Datasheet | None) -> tuple[Floats, Floats]:
    """The least time in ns that each run's FLOPs, and its bytes, take. NaN if the peak is not known, 0 if there are none."""
    if sheet is None:
        return np.full(len(work), np.nan), np.full(len(work), np.nan)
    peaks = np.array([*(peak_tflops(sheet, peak) or np.nan for peak in PEAKS), np.nan])
    compute = np.where(work["flops"] > 0, work["flops"] / (1e3 * peaks[work["peak"]]), 0.0)
    return compute, work["bytes"] / sheet.memory_gb_s


def peak_tflops(sheet: Datasheet, peak: str) -> float | None:
    """The peak in 1e12 operations a second.

    A type that the hardware lacks is computed in FP32, so FP32's peak is returned for it. None if the peak of FP64 is asked for
    and not known.
    """
    return sheet.tflops.get(peak) or (None if peak == "fp64" else sheet.tflops.get("fp32"))


def _bounds(compute_share: Floats, memory_share: Floats, has_flops: Bools) -> Objects:
    """What limits the speed of each group; None if that is not known. Without FLOPs the bytes alone decide."""
    compute, memory = np.where(has_flops, compute_share, 0.0), memory_share
    reached = np.fmax(compute, memory)
    bound = np.where(compute >= memory, "compute", "memory").astype(object)
    bound[~(reached >= LATENCY_SHARE)] = "latency"
    # A roof that is not known may be the higher one.
    bound[np.isnan(memory) | (np.isnan(compute) & ~(memory >= LATENCY_SHARE))] = None
    bound[np.isnan(compute) & (memory >= LATENCY_SHARE)] = "memory"
    return bound


def _flags(compute_share: Floats, memory_share: Floats, largest: Int64s, sheet: Datasheet | None) -> Objects:
    flags: Objects = np.full(len(compute_share), None, dtype=object)
    cache = (sheet.cache_mb or 0) * 2**20 if sheet else 0
    flags[memory_share > 1] = np.where(largest[memory_share > 1] <= cache, "from_cache", "above_peak")
    flags[compute_share > 1] = "above_peak"
    return flags


def _largest(work: Table, groups: Groups) -> Int64s:
    """The bytes of the run that moves most, for each group."""
    largest = np.zeros(len(groups.keys), dtype=np.int64)
    np.maximum.at(largest, groups.code, work["bytes"])
    return largest


def _peaks(work: Table, groups: Groups) -> Objects:
    """The peak with which most of each group's FLOPs are compared; None if the group has no FLOPs."""
    counted = np.flatnonzero(work["flops"] > 0)
    flops = np.zeros((len(groups.keys), len(PEAKS)), dtype=np.int64)
    np.add.at(flops, (groups.code[counted], work["peak"][counted]), work["flops"][counted])
    names: Objects = np.array(PEAKS, dtype=object)[flops.argmax(axis=1)]
    names[~flops.any(axis=1)] = None
    return names


def _over(value: npt.NDArray[Any], by: npt.NDArray[Any]) -> Floats:
    quotient: Floats = value / np.maximum(by, 1)
    return quotient


def _masked(values: npt.NDArray[Any], known: Bools) -> Objects:
    """The values as Python objects, None where not known."""
    masked: Objects = values.astype(object)
    masked[~known] = None
    return masked
