"""Makes the traces of a run of several ranks that train together.

In each step a rank computes, takes part in an all-reduce that waits for the last rank, and runs an update.

job = Job(ranks=2, steps=4)
job.late[0, 1] = 30_000           # rank 1 computes 30 µs longer in step 0
traces = job.traces()
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthetic import TraceBuilder

from tracekit.analyze.trace.loader import load
from tracekit.analyze.trace.trace import Trace

COMPUTE, REDUCE, STEP = 100_000, 20_000, 400_000
BASE = 1_790_857_026_000_000_000
NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
GEMM = "ampere_sgemm_128x64_tn"


@dataclass
class Job:
    """A run, and how its ranks differ; times in ns.

    `late[step, rank]` is how much longer a rank computes, and `offset[rank]` how far its clock is ahead. `overlap` is how long
    another kernel runs at the same time as the collective. `details` says whether each collective is described in the trace,
    and `sequences` whether the description has sequence numbers. `info` says whether the trace says which rank it is.
    """

    ranks: int = 2
    steps: int = 3
    overlap: int = 0
    sequences: bool = True
    details: bool = True
    info: bool = True
    late: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    offset: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def builder(self, rank: int) -> TraceBuilder:
        metadata: dict[str, Any] = {"baseTimeNanoseconds": BASE}
        if self.info:
            metadata["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": self.ranks}
        builder = TraceBuilder(base_ns=self.offset[rank], **metadata)
        for step in range(self.steps):
            at = step * STEP
            arrive = [at + 10_000 + COMPUTE + self.late[step, one] for one in range(self.ranks)]
            end = max(arrive) + REDUCE
            builder.annotation(at, STEP - 1_000, f"ProfilerStep#{step + 5}")
            builder.launch(call=(at + 1_000, 2_000), kernel=(at + 10_000, arrive[rank] - at - 10_000), name=GEMM)
            builder.annotation(at + 3_000, 6_000, "nccl:all_reduce")
            builder.launch(
                call=(at + 4_000, 2_000),
                kernel=(arrive[rank], end - arrive[rank]),
                name=NCCL,
                stream=20,
                **self._told(step),
            )
            if self.overlap:
                builder.launch(call=(at + 7_000, 1_000), kernel=(arrive[rank], self.overlap), name=GEMM)
            builder.launch(
                call=(at + 8_500, 500), kernel=(end, 5_000), name="void at::native::vectorized_elementwise_kernel<4>"
            )
        return builder

    def _told(self, step: int) -> dict[str, Any]:
        if not self.details:
            return {}
        told = {
            "Collective name": "allreduce",
            "In msg nelems": 1_000_000,
            "Out msg nelems": 1_000_000,
            "Group size": self.ranks,
            "dtype": "Float",
            "Process Group Name": "0",
            "Process Group Ranks": str(list(range(self.ranks))),
        }
        return told | ({"Seq": 100 + step} if self.sequences else {})

    def traces(self) -> list[Trace]:
        """The traces of all ranks, loaded from files that are named by their rank."""
        with tempfile.TemporaryDirectory() as folder:
            return [load(path) for path in self.write(Path(folder))]

    def write(self, folder: Path) -> list[Path]:
        """Write the traces of all ranks into a folder. Return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        return [self.builder(rank).write(folder / f"job_rank{rank}.json") for rank in range(self.ranks)]
