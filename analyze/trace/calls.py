"""What does a runtime or driver call do, by its name: launch a kernel, a graph or a copy, wait, or capture?

The names are those of CUDA, HIP, Level Zero, OpenCL and the runtimes that follow them.
"""

from __future__ import annotations

import re

KERNEL_LAUNCH = re.compile(
    r"Launch(?:Cooperative)?Kernel|KernelLaunch|LaunchMultiKernel|EnqueueNDRange|\A(?:cu|cuda|hip)Launch(?:Grid\w*)?(?:_v\d+)?\Z"
)
"""Calls that launch one kernel: `cudaLaunchKernelExC`, `cuLaunchCooperativeKernel`, `hipExtModuleLaunchKernel`,
`urEnqueueKernelLaunch`, `zeCommandListAppendLaunchKernel`, …"""

GRAPH_LAUNCH = re.compile(r"(?:cuda|cu|hip)GraphLaunch")
"""Calls that launch all nodes of a graph at once."""

COPY = re.compile(r"(?:cuda|cu|hip)Mem(?:cpy|set)(?!.*(?:Node|Params|Attributes))")
"""Calls that launch a copy or a fill."""

BLOCKING_CALL = re.compile(r"(?:cuda|hip|cu)(?:(?:Stream|Device|Event|Ctx)Synchronize|Memcpy(?!.*(?:Async|Peer)))")
"""Calls that return only when the device has done something: synchronisations and blocking copies, CUDA and HIP."""

BEGIN_CAPTURE = re.compile(r"(?:cuda|cu|hip)StreamBeginCapture")
END_CAPTURE = re.compile(r"(?:cuda|cu|hip)StreamEndCapture")
"""Between these a thread records a graph: what it calls then launches nothing."""
