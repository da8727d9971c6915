"""What did the authors of the study that tracekit repeats report themselves?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Source:
    """Whose figures these are: the study's title, a line that says on what and by whom, and how layers were timed there."""

    title: str
    line: str
    device: str
    model: str
    method: str


@dataclass(frozen=True)
class Method:
    """A way to run the model: the mean and the standard deviation of its time; `variant` is the one here that does the same."""

    name: str
    variant: str
    seconds: float
    std_seconds: float
    tokens_per_second: float
    reduction_percent: float | None = None


@dataclass(frozen=True)
class Layer:
    """A layer's part of the time of the layer `level`; `layer` is the name that its annotation has here."""

    level: str
    layer: str
    name: str
    percent: float


@dataclass(frozen=True)
class Statement:
    """What the study says of a topic, word for word."""

    topic: str
    text: str


@dataclass(frozen=True)
class Quoted:
    """Everything that is quoted from one source, in its own order."""

    source: Source
    methods: tuple[Method, ...]
    layers: tuple[Layer, ...]
    statements: tuple[Statement, ...]

    def level(self, level: str) -> dict[str, Layer]:
        """The layers of one level by the names of their annotations."""
        return {layer.layer: layer for layer in self.layers if layer.level == level}


@cache
def quoted() -> Quoted:
    """All of `quoted.toml`."""
    document = tomllib.loads(resources.files("tracekit").joinpath("quoted.toml").read_text(encoding="utf-8"))
    return Quoted(
        source=Source(**document["source"]),
        methods=tuple(Method(**entry) for entry in document["method"]),
        layers=tuple(Layer(**entry) for entry in document["layer"]),
        statements=tuple(Statement(**entry) for entry in document["statement"]),
    )
