"""What do we call the things that a trace is divided into?

A terminal, findings and the report use the same words. A label is the key in plain words, with spaces instead of underscores,
so that a reader of `host sync` finds `host_sync` in the documents and tables. A meaning is a few words that fit beside the
label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One of these things: its `key` in the bundle, its `label` for people, and its `meaning` in a few words."""

    key: str
    label: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.label}: {self.meaning}" if self.meaning else self.label


Terms = Mapping[str, Term]


def _terms(**meanings: str) -> Terms:
    return {key: Term(key, label(key), meaning) for key, meaning in meanings.items()}


def label(key: object) -> str:
    """A key in plain words. It may be a key of a later version that this module does not know."""
    return str(key).replace("_", " ")


def term(terms: Terms, key: object) -> Term:
    """The term of a key. If this version does not know the key, a term with a label and no meaning."""
    return terms.get(str(key)) or Term(str(key), label(key), "")


# Every chart stacks the families in this order.
FAMILIES = _terms(
    gemm="dense matrix multiply",
    attention="fused attention",
    convolution="convolution and its stages",
    reduction="sums, softmax, norms, sorting, scans",
    elementwise="pointwise math, casts, copies, fills, layout",
    indexing="gather, scatter, embedding, cache stores",
    communication="collectives between devices",
    other="kernels of none of these families",
    memory="copies and fills by the copy engines",
)
"""What the GPU is busy with: the families of kernels, and the work of the copy engines."""

CAUSES = _terms(
    host_sync="host waits in a blocking call",
    dispatch="framework's work before a launch",
    host_other="Python, data loading, nothing",
    launch_latency="from a launch to its kernel",
    device_wait="queued: dependency, or the device",
    unattributed="no launching call recorded",
)
"""Why the GPU is idle. docs/idle.md defines the causes."""

PATH_SEGMENTS = _terms(
    operator="in host operators",
    call="in runtime and driver calls",
    outside="between host operators",
    launch="from a launch to its kernel",
    kernel="kernels that compute",
    communication="kernels that communicate",
    copy="copies and fills",
    delay="between queued kernels",
    behind="behind other GPU work",
    queued="launched, then not explained",
    unattributed="no launching call recorded",
    waiting="waits for what is not seen",
    **{"return": "GPU done to host going on"},
)
"""The kinds of segments that a critical path has. docs/hta.md defines them."""

ROOFS = _terms(
    compute="the device's arithmetic",
    memory="the device's bandwidth",
    latency="neither, below a quarter of both",
)
"""What keeps a kernel from being faster."""

FLAGS = _terms(
    from_cache="faster than the memory",
    above_peak="the model or the clock is wrong",
)
"""What is said instead of a roof if the memory or the device seems faster than it can be."""

WITHOUT_OPERATOR = {
    "replayed": "replayed from CUDA graphs",
    "outside": "launched outside operators",
    "unlaunched": "launch not recorded",
}
"""Why a kernel has no operator that launched it."""


def limited_by(bound: object) -> str:
    """What limits a projected decode step, in words: the host, or one of the device's two roofs."""
    return "the host's launches" if bound == "host" else f"the {bound} roof and the gaps"
