"""Writes a trace as old releases of PyTorch do: names stand in the file as they are, with nothing in them escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence

from synthetic import TraceBuilder

PLACE = "@@{}@@"


def base() -> TraceBuilder:
    """Four operators, each with a launch and a kernel, and idle time between the kernels."""
    builder = TraceBuilder()
    for start in range(1_000_000, 1_400_000, 100_000):
        builder.operator(start, 20_000, "aten::mm")
        builder.launch(call=(start + 5_000, 5_000), kernel=(start + 15_000, 60_000), name="gemm")
    return builder


def with_frames(names: Sequence[str], *, escaped: bool) -> bytes:
    """The base trace and one Python function for each name; `escaped` as JSON demands, or not at all."""
    builder = base()
    for place in range(len(names)):
        frame = builder.event(1_000_000 + place * 1_000, 500, cat="python_function", name=PLACE.format(place), pid=100, tid=1)
        frame["args"] = {"Python id": place, "Python parent id": None}
    return filled(builder.json(), names, escaped=escaped)


def filled(data: bytes, texts: Sequence[str], *, escaped: bool) -> bytes:
    """The file with these texts in their places."""
    for place, text in enumerate(texts):
        written = json.dumps(text)[1:-1] if escaped else text
        data = data.replace(PLACE.format(place).encode(), written.encode("utf-8", "surrogatepass"))
    return data
