"""What do the words and colours of the dossier stand for?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A family or a cause: `key` as in the bundle, `label` for people, `meaning` in a line."""

    key: str
    label: str
    meaning: str

    @property
    def token(self) -> str:
        """The CSS custom property that holds this term's colour."""
        return "--" + self.key.replace("_", "-")

    @property
    def idle(self) -> bool:
        """Whether it is a cause of idle time, which is drawn hatched."""
        return self.key in CAUSES

    @property
    def ink(self) -> str:
        """The CSS custom property for text upon that colour: idle causes and two families are light on a light page."""
        return "--ink" if self.idle else "--on-light" if self.key in ("elementwise", "other") else "--on-colour"


# Order is the order of stacking in every chart.
FAMILIES = {
    term.key: term
    for term in (
        Term("gemm", "gemm", "dense matrix multiply"),
        Term("attention", "attention", "fused attention"),
        Term("convolution", "convolution", "convolution and its stages"),
        Term("reduction", "reduction", "sums, softmax, norms, sorting, scans"),
        Term("elementwise", "elementwise", "pointwise math, casts, copies, fills, layout"),
        Term("indexing", "indexing", "gather, scatter, embedding, cache stores"),
        Term("communication", "communication", "collectives between devices"),
        Term("other", "other", "kernels of none of these families"),
        Term("memory", "memory", "copies and fills by the copy engines"),
    )
}
CAUSES = {
    term.key: term
    for term in (
        Term("host_sync", "host sync", "the launching thread sat in a blocking runtime call"),
        Term("dispatch", "dispatch", "the launching thread was inside an operator: the framework's own cost"),
        Term("host_other", "host other", "the launching thread was elsewhere: Python, data loading, nothing"),
        Term("launch_latency", "launch latency", "from the launching call to the kernel's start"),
        Term("device_wait", "device wait", "queued but not started: a dependency, or the device's own dispatch"),
        Term("unattributed", "unattributed", "no launching call was recorded"),
    )
}


def family(key: object) -> Term:
    """The family of that name; one that this version does not know is shown as `other`."""
    return FAMILIES.get(str(key), FAMILIES["other"])


def cause(key: object) -> Term:
    """The cause of that name; one that this version does not know is shown as `unattributed`."""
    return CAUSES.get(str(key).removesuffix("_ns"), CAUSES["unattributed"])
