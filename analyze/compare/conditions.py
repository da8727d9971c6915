"""Were the conditions of two traces the same, as far as their run manifests tell?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .side import Side

CONDITIONS: Mapping[str, str] = {
    "variant": "variant",
    "dtype": "dtype",
    "attention": "attention",
    "device.driver": "driver",
    "host.cpu": "CPU",
    "host.threads": "CPU threads",
    "model.name": "model",
    "model.parameters": "parameters",
    "weights.source": "weights",
    "weights.location": "weights from",
    "weights.seed": "weights' seed",
    "workload.kind": "workload",
    "workload.batch": "batch",
    "workload.prompt_tokens": "prompt tokens",
    "workload.prompt": "prompt",
    "workload.new_tokens": "new tokens",
    "workload.decoding": "decoding",
    "seed": "seed",
    "tf32.matmul": "TF32 in matmul",
    "tf32.cudnn": "TF32 in cuDNN",
    "versions.torch": "torch",
    "versions.cuda": "CUDA",
    "versions.cudnn": "cuDNN",
    "profile.decode_tokens": "profiled tokens",
    "profile.record_shapes": "shapes recorded",
    "profile.layers": "layers marked",
}
"""The keys of a run manifest whose values two runs should have in common, and what we call each of them."""


@dataclass(frozen=True)
class Condition:
    """A condition in which the two traces differ. A value is None where that trace does not say."""

    name: str
    a: str | None
    b: str | None


def differing(a: Side, b: Side) -> tuple[Condition, ...]:
    """The conditions in which two traces differ. Conditions of the runs are compared only if both have a manifest."""
    found = [Condition("device", _device(a), _device(b))]
    if a.manifest and b.manifest:
        found += [Condition(name, _text(a.manifest, key), _text(b.manifest, key)) for key, name in CONDITIONS.items()]
    return tuple(condition for condition in found if condition.a != condition.b)


def unknown(a: Side, b: Side) -> str | None:
    """Which side has no run manifest, so that its conditions are not known: `A`, `B`, `A and B` or None."""
    return " and ".join(label for label, side in (("A", a), ("B", b)) if not side.manifest) or None


def _device(side: Side) -> str | None:
    """The device that ran the kernels. If the trace does not name it, the one that the manifest names."""
    return side.device or _text(side.manifest, "device.name")


def _text(manifest: Mapping[str, Any], key: str) -> str | None:
    """The value at a dotted key as text; None where it is absent or null."""
    value: Any = manifest
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else json.dumps(value)
