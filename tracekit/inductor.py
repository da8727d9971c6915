"""Which operators did the compiler fuse into a kernel, by the name that it gave it?

Inductor calls a Triton kernel `triton_poi_fused_add_gelu_mul_3`: what kind it is, the operators of the source that went into
it, each once and sorted, and a number. Operators have underscores of their own, so their names are needed to tell them apart.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FUSED = re.compile(r"triton_(?:[a-z]+_)?fused(?:_(?P<operators>\D.*?))?(?:_\d+)?\Z")
# `triton__0d1d2d3de` and the like: named without its operators.
_ANONYMOUS = re.compile(r"triton_(?:_?\d+d\w*|_?\d+)?\Z")


def is_generated(name: str) -> bool:
    """Whether Inductor made the kernel."""
    return bool(_FUSED.match(name) or _ANONYMOUS.match(name))


class Operators:
    """PyTorch's operators by name, from `aten.toml`."""

    def __init__(self) -> None:
        text = resources.files("tracekit").joinpath("aten.toml").read_text(encoding="utf-8")
        self._known = frozenset(tomllib.loads(text)["operators"].split())
        self._longest = 1 + max(name.count("_") for name in self._known)

    def fused_in(self, name: str) -> tuple[str, ...]:
        """The source operators that a kernel's name lists, in its order; none of a name that lists none.

        Words that are no operator's name, next to each other, are taken for one of a library's own. Of two that read like
        a longer one, the longer one is meant: `index_put`, not `index` and `put`.
        """
        found = _FUSED.match(name)
        return tuple(self._split(found["operators"])) if found and found["operators"] else ()

    def _split(self, text: str) -> Iterator[str]:
        words, at, unknown = text.split("_"), 0, 0  # from `unknown` to `at` lie words of no known operator
        while at < len(words):
            ends = range(min(len(words), at + self._longest), at, -1)
            end = next((end for end in ends if "_".join(words[at:end]) in self._known), None)
            if end is None:
                at += 1
                continue
            if unknown < at:
                yield "_".join(words[unknown:at])
            yield "_".join(words[at:end])
            at = unknown = end
        if unknown < at:
            yield "_".join(words[unknown:at])
