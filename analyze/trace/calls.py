"""What does a runtime or driver call do, by its name: launch a kernel, a graph or a copy, wait, or capture?

The names are those of CUDA, HIP, Level Zero, OpenCL and the runtimes that follow them.
"""

from __future__ import annotations

import re

KERNEL_LAUNCH = re.compile(
    r"Launch(?:Cooperative|Multiple)?Kernel|KernelLaunch|LaunchMultiKernel|EnqueueNDRange|InvokeKernel|\Alaunch_?[kK]ernel"
    r"|\A(?:cu|cuda|hip)Launch(?:Grid\w*|ByPtr|Device)?(?:_v\d+)?\Z|\ArunFunction\Z|\ANode@launch\Z"
)
"""Calls that launch one kernel: `cudaLaunchKernelExC`, `cuLaunchCooperativeKernel`, `hipExtModuleLaunchKernel`,
`urEnqueueKernelLaunch`, `zeCommandListAppendLaunchKernel`, `cnrtInvokeKernel`, …"""

GRAPH_LAUNCH = re.compile(r"(?:cuda|cu|hip|musa)GraphLaunch|ur(?:Enqueue)?CommandBuffer(?:Enqueue)?Exp\Z")
"""Calls that launch all nodes of a graph at once."""

LAUNCHES_SEVERAL = re.compile(r"(?:cuda|cu|hip)\w*(?:Batch|MultiDevice)")
"""Other calls that launch several things under one id: copies in a batch, one kernel on several devices."""

COPY = re.compile(
    r"(?:cuda|cu|hip|musa|aclrt)Mem(?:cpy|set)(?!.*(?:Node|Params|Attributes))"
    r"|(?:ur|pi(?:ext)?)(?:USM)?Enqueue(?:USM)?(?:Mem(?:cpy|set)|Fill|Mem(?:Buffer|Image)(?:Read|Write|Copy|Fill))"
    r"|zeCommandListAppend(?:Memory(?:Copy|Fill)|ImageCopy)"
)
"""Calls that launch a copy or a fill."""

BLOCKING_CALL = re.compile(
    r"(?:cuda|hip|cu|musa)(?:(?:Stream|Device|Event|Ctx)Synchronize|Memcpy(?!.*(?:Async|Peer|Batch)))"
    r"|(?:ur|pi)(?:QueueFinish|Events?Wait\Z)|ze(?:CommandQueue|CommandList|Event|Fence)(?:Host)?Synchronize"
    r"|cl(?:Finish|WaitForEvents)|aclrtSynchronize"
)
"""Calls that return only when the device has done something: synchronisations and blocking copies of all runtimes."""

BEGIN_CAPTURE = re.compile(r"(?:cuda|cu|hip)StreamBeginCapture")
END_CAPTURE = re.compile(r"(?:cuda|cu|hip)StreamEndCapture")
"""Between these a thread records a graph: what it calls then launches nothing."""
