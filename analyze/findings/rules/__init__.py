"""Which rules are there? Each is one function; docs/findings.md has a line about each."""

from __future__ import annotations

from . import attention, communication, conversions, fusion, health, host, launching, memory, optimizers, precision, stalls
from .needs import Rule

RULES: tuple[Rule, ...] = (
    health.incomplete_trace,
    health.above_peak,
    health.profiler_inflation,
    launching.launch_overhead,
    launching.graph_launch_cost,
    launching.layer_launch_cost,
    host.host_sync,
    host.host_late,
    host.data_loader,
    stalls.allocation_stalls,
    stalls.pinned_allocation,
    stalls.compilation,
    stalls.garbage_collection,
    precision.fp32_gemm,
    precision.tf32_off,
    precision.bf16_emulated,
    memory.memory_bound_gemv,
    memory.pageable_copies,
    memory.device_copies,
    optimizers.unfused_optimizer,
    conversions.weight_casts,
    fusion.elementwise_chains,
    fusion.split_k,
    fusion.layout_conversions,
    attention.unfused_attention,
    attention.flash_unavailable,
    communication.exposed_communication,
    communication.stragglers,
)
