"""Does the GPU wait while the host allocates, compiles or collects garbage?"""

from __future__ import annotations

from ..facts import Facts
from ..finding import Answer, Finding
from ..reasons import Reason
from .activities import functions, innermost, named, of_reasons, share_of, spread
from .needs import CALLS, GPU, needs

REPLAYED = "The program is played again without this work of the host, as far as the GPU was idle in it."


@needs(GPU, CALLS)
def allocation_stalls(facts: Facts) -> Answer:
    """The allocator asks the driver for memory, or gives it back, in the loop: each such call may wait for the device."""
    waited = facts.reason_ns(Reason.ALLOCATING)
    if facts.share(waited) < facts.thresholds.stall:
        return None
    saved, rows = facts.without(Reason.ALLOCATING), innermost(facts, of_reasons(facts, Reason.ALLOCATING))
    freed = any("Free" in row["name"] or "Unmap" in row["name"] for row in rows)
    emptied = any("empty_cache" in row["path"] or "emptyCache" in row["path"] for row in rows)
    return Finding(
        code="allocation_stalls",
        title="The GPU waits while the allocator gets memory from the driver",
        severity=facts.severity(waited),
        affected_ns=waited,
        **saved.fields,
        evidence=f"{share_of(facts, waited)}, is idle in calls that allocate or free device memory{spread(facts, rows)}: "
        + named(rows),
        action=("Take torch.cuda.empty_cache() out of the loop. " if emptied else "")
        + (
            "Memory is freed to be allocated again, as if it were short or fragmented: set "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, reserve less (a smaller batch, activation checkpointing), keep "
            "shapes equal from step to step."
            if freed
            else "Warm up before you measure, so that the caching allocator holds its memory; keep shapes equal from step to "
            "step, or set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
        ),
        reasoning=f"Idle time in which the launching thread was in such a call. {REPLAYED}",
        rows=rows,
    )


@needs(GPU, CALLS)
def pinned_allocation(facts: Facts) -> Answer:
    """Pinned memory of the host is allocated in the loop, which takes milliseconds and may wait for the device."""
    waited = facts.reason_ns(Reason.PINNING)
    if facts.share(waited) < facts.thresholds.stall:
        return None
    rows = innermost(facts, of_reasons(facts, Reason.PINNING))
    return Finding(
        code="pinned_allocation",
        title="The GPU waits while the host allocates pinned memory",
        severity=facts.severity(waited),
        affected_ns=waited,
        **facts.without(Reason.PINNING).fields,
        evidence=f"{share_of(facts, waited)}, is idle in calls that allocate or free pinned memory{spread(facts, rows)}: "
        + named(rows),
        action="Allocate pinned buffers once and reuse them (torch.empty(..., pin_memory=True), then buffer.copy_(x)); let the "
        "DataLoader pin (pin_memory=True) in its own thread, not .pin_memory() in the loop.",
        reasoning=f"Idle time in which the launching thread was in such a call. {REPLAYED}",
        rows=rows,
    )


@needs(GPU, CALLS)
def compilation(facts: Facts) -> Answer:
    """Code is compiled or loaded while the GPU waits."""
    waited = facts.reason_ns(Reason.COMPILING)
    if facts.share(waited) < facts.thresholds.stall:
        return None
    rows = innermost(facts, of_reasons(facts, Reason.COMPILING))
    steps, whole = max((row["steps"] for row in rows), default=0), len(facts.steps.table)
    once = whole > 1 and 2 * steps <= whole
    return Finding(
        code="compilation",
        title="Code is compiled in the first steps" if once else "Code is compiled while the GPU waits",
        severity="low" if once else facts.severity(waited),
        affected_ns=waited,
        **facts.without(Reason.COMPILING).fields,
        evidence=f"{share_of(facts, waited)}, is idle while the host compiles or loads code{spread(facts, rows)}: "
        + named(rows),
        action="This happens once: warm up before you measure or serve, and keep the caches (TORCHINDUCTOR_CACHE_DIR, "
        "TRITON_CACHE_DIR)."
        if once
        else "Something is compiled again and again: TORCH_LOGS=recompiles tells why. Mark changing sizes "
        "(torch._dynamo.mark_dynamic, dynamic=True), pad shapes, or autotune before the loop.",
        reasoning=f"Idle time in which the launching thread was compiling, or loading what was compiled. {REPLAYED}",
        rows=rows,
    )


@needs(GPU, CALLS)
def garbage_collection(facts: Facts) -> Answer:
    """Python's garbage collector stops the launching thread."""
    waited = facts.reason_ns(Reason.COLLECTING)
    if facts.share(waited) < facts.thresholds.stall:
        return None
    chosen = of_reasons(facts, Reason.COLLECTING)
    rows = innermost(facts, chosen)
    inside = functions(facts, chosen)
    return Finding(
        code="garbage_collection",
        title="The GPU waits for Python's garbage collector",
        severity=facts.severity(waited),
        affected_ns=waited,
        **facts.without(Reason.COLLECTING).fields,
        evidence=f"{share_of(facts, waited)}, is idle while Python collects garbage{spread(facts, rows)}: {named(rows)}"
        + (f"; inside {inside[0]['function']}" if inside else ""),
        action="gc.disable() after gc.freeze(), and gc.collect() at a moment of your own (between epochs, at the same step on "
        "all ranks); make fewer objects with cycles in the loop.",
        reasoning=f"Idle time in which the launching thread was in a collection. {REPLAYED}",
        rows=rows,
    )
