"""Reads from a kernel's source how the kernel must be launched."""

from __future__ import annotations

import re

from tracekit.kernels import compile as compiler


def parameters(source: str, name: str) -> list[str]:
    """The kinds of a kernel's parameters, as a launch passes them: `pointer`, or a type such as `int`."""
    (found,) = re.findall(rf"{name}\(([^)]*)\)", compiler.source(source))
    return ["pointer" if "*" in one else one.split()[0] for one in found.split(",")]
