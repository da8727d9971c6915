"""Does the GPU wait while the host allocates, compiles or collects garbage?"""

from __future__ import annotations

from ...activity.program import FREES
from ..facts import Facts
from ..finding import Answer, Finding
from ..reasons import Reason
from .activities import Rows, functions, innermost, named, of_reasons, share_of, spread
from .needs import CALLS, GPU, needs

EXPANDABLE = "# before torch is imported:\nos.environ['PYTORCH_CUDA_ALLOC_CONF'] = 'expandable_segments:True'"


@needs(GPU, CALLS)
def allocation_stalls(facts: Facts) -> Answer:
    """The allocator asks the driver for memory, or gives it back, in the loop: each such call may wait for the device."""
    rows = _enough(facts, Reason.ALLOCATING)
    if not rows:
        return None
    freed = any("Free" in row["name"] or "Unmap" in row["name"] for row in rows)
    emptied = _emptied(facts)
    return _finding(
        facts,
        Reason.ALLOCATING,
        rows,
        code="allocation_stalls",
        title="The GPU waits while the allocator gets memory from the driver",
        doing="in calls that allocate or free device memory",
        action="Take torch.cuda.empty_cache() out of the loop: the caching allocator uses memory again by itself. If memory is "
        "short, set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True instead."
        if emptied
        else (
            "Memory is freed to be allocated again, as if it were short or fragmented: set "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, reserve less (a smaller batch, activation checkpointing), keep "
            "shapes equal from step to step."
            if freed
            else "Warm up before you measure, so that the caching allocator holds its memory; keep shapes equal from step to "
            "step, or set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
        ),
        snippet="# once, before the loop, not in it:\ntorch.cuda.empty_cache()" if emptied else EXPANDABLE,
    )


def _emptied(facts: Facts) -> bool:
    """Whether memory is given back by request, and not because an operator ran short of it."""
    trace = facts.trace
    calls = trace.named(trace.calls, FREES.match)
    return bool((trace.enclosing(trace.operator_forest, calls) < 0).any())


@needs(GPU, CALLS)
def pinned_allocation(facts: Facts) -> Answer:
    """Pinned memory of the host is allocated in the loop, which takes long and may wait for the device."""
    rows = _enough(facts, Reason.PINNING)
    if not rows:
        return None
    return _finding(
        facts,
        Reason.PINNING,
        rows,
        code="pinned_allocation",
        title="The GPU waits while the host allocates pinned memory",
        doing="in calls that allocate or free pinned memory",
        action="Allocate pinned buffers once and reuse them (torch.empty(..., pin_memory=True), then buffer.copy_(x)); let the "
        "DataLoader pin (pin_memory=True) in its own thread, not .pin_memory() in the loop.",
        snippet="buffer = torch.empty_like(batch, pin_memory=True)  # once\n"
        "batch = buffer.copy_(batch).to(device, non_blocking=True)",
    )


@needs(GPU, CALLS)
def compilation(facts: Facts) -> Answer:
    """Code is compiled or loaded while the GPU waits."""
    rows, whole = _enough(facts, Reason.COMPILING), len(facts.steps.table)
    if not rows:
        return None
    once = whole > 1 and 2 * max(row["steps"] for row in rows) <= whole
    return _finding(
        facts,
        Reason.COMPILING,
        rows,
        code="compilation",
        title="Code is compiled in the first steps" if once else "Code is compiled while the GPU waits",
        severity="low" if once else None,
        doing="while the host compiles or loads code",
        action="This happens once: warm up before you measure or serve, and keep the caches (TORCHINDUCTOR_CACHE_DIR, "
        "TRITON_CACHE_DIR)."
        if once
        else "Something is compiled again and again: TORCH_LOGS=recompiles tells why. Mark changing sizes "
        "(torch._dynamo.mark_dynamic, dynamic=True), pad shapes, or autotune before the loop.",
        snippet="for batch in warm_up:  # before you measure or serve\n    model(batch)"
        if once
        else "model = torch.compile(model, dynamic=True)",
    )


@needs(GPU, CALLS)
def garbage_collection(facts: Facts) -> Answer:
    """Python's garbage collector stops the launching thread."""
    rows = _enough(facts, Reason.COLLECTING)
    if not rows:
        return None
    inside = functions(facts, of_reasons(facts, Reason.COLLECTING))
    by_itself = any("Python GC" in row["path"] for row in rows)
    return _finding(
        facts,
        Reason.COLLECTING,
        rows,
        code="garbage_collection",
        title="The GPU waits for Python's garbage collector",
        doing="while Python collects garbage",
        more=f"; inside {inside[0]['function']}" if inside else "",
        action="gc.disable() after gc.freeze(), and gc.collect() at a moment of your own (between epochs, at the same step on "
        "all ranks); make fewer objects with cycles in the loop."
        if by_itself
        else "The program calls gc.collect() in the loop: take it out, or call it rarely. It walks all objects of Python each "
        "time; gc.freeze() before the loop leaves those out that live on.",
        snippet="gc.collect(); gc.freeze(); gc.disable()  # before the loop\nif step % 1000 == 0:\n    gc.collect()"
        if by_itself
        else "if step % 1000 == 0:\n    gc.collect()",
    )


def _enough(facts: Facts, reason: Reason) -> Rows:
    """What the launching thread was in for this reason; empty if the GPU hardly waited for it."""
    if facts.share(facts.reason_ns(reason)) < facts.thresholds.stall:
        return ()
    return innermost(facts, of_reasons(facts, reason))


def _finding(
    facts: Facts,
    reason: Reason,
    rows: Rows,
    *,
    code: str,
    title: str,
    doing: str,
    action: str,
    snippet: str,
    more: str = "",
    severity: str | None = None,
) -> Finding:
    """The finding on idle time for one reason: `doing` says what the host does, and `more` ends the evidence."""
    waited, saved = facts.reason_ns(reason), facts.without(reason)
    return Finding(
        code=code,
        title=title,
        severity=severity or facts.severity(saved),
        affected_ns=waited,
        **saved.fields,
        evidence=f"{share_of(facts, waited)}, is idle {doing}{spread(facts, rows)}: {named(rows)}{more}",
        action=action,
        snippet=snippet,
        reasoning="Idle time for this reason. The program is played again without this work of the host, whether the GPU was "
        "idle meanwhile or not, and without waiting for the device in it.",
        rows=rows,
    )
