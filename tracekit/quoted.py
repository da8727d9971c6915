"""What do the authors of the study report that tracekit repeats?"""

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
    """The study that the figures are quoted from.

    `title` is its title. `line` says who measured, and on what. `method` says how the study timed layers.
    """

    title: str
    line: str
    device: str
    model: str
    method: str


@dataclass(frozen=True)
class Method:
    """A way to run the model, with the mean and the standard deviation of its time in seconds.

    `variant` is the variant of tracekit that does the same.
    """

    name: str
    variant: str
    seconds: float
    std_seconds: float
    tokens_per_second: float
    reduction_percent: float | None = None


@dataclass(frozen=True)
class Layer:
    """A layer's share of the time of the layer `level`, in per cent. `layer` is the name of its annotation in tracekit."""

    level: str
    layer: str
    name: str
    percent: float


@dataclass(frozen=True)
class Statement:
    """What the study says about a topic, word for word."""

    topic: str
    text: str


@dataclass(frozen=True)
class Quoted:
    """Everything that is quoted from one source, in the order of the source."""

    source: Source
    methods: tuple[Method, ...]
    layers: tuple[Layer, ...]
    statements: tuple[Statement, ...]

    def level(self, level: str) -> dict[str, Layer]:
        """The layers of one level, by the names of their annotations."""
        return {layer.layer: layer for layer in self.layers if layer.level == level}


@cache
def quoted() -> Quoted:
    """All quotations of `quoted.toml`."""
    document = tomllib.loads(resources.files("tracekit").joinpath("quoted.toml").read_text(encoding="utf-8"))
    return Quoted(
        source=Source(**document["source"]),
        methods=tuple(Method(**entry) for entry in document["method"]),
        layers=tuple(Layer(**entry) for entry in document["layer"]),
        statements=tuple(Statement(**entry) for entry in document["statement"]),
    )
