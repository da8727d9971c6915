"""What a kernel's source says of its launch."""

from __future__ import annotations

import re

from tracekit.kernels import compile as compiler


def parameters(source: str, name: str) -> list[str]:
    """What a kernel's parameters are to a launch: `pointer` or `int`."""
    (found,) = re.findall(rf"{name}\(([^)]*)\)", compiler.source(source))
    return ["pointer" if "*" in one else one.split()[0] for one in found.split(",")]
