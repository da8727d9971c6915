"""Which operators did the compiler fuse into a kernel, judging by the kernel's name?

Inductor names a Triton kernel like `triton_poi_fused_add_gelu_mul_3`. The name holds the kind of kernel, then the source
operators that went into it, each once and sorted, then a number. Operators' names have underscores too, so a list of all
operators is needed to split the text.
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
# Names such as `triton__0d1d2d3de`, which do not list operators.
_ANONYMOUS = re.compile(r"triton_(?:_?\d+d\w*|_?\d+)?\Z")


def is_generated(name: str) -> bool:
    """Whether Inductor generated the kernel."""
    return bool(_FUSED.match(name) or _ANONYMOUS.match(name))


class Operators:
    """The names of PyTorch's operators, from `aten.toml`."""

    def __init__(self) -> None:
        text = resources.files("tracekit").joinpath("aten.toml").read_text(encoding="utf-8")
        self._known = frozenset(tomllib.loads(text)["operators"].split())
        self._longest = 1 + max(name.count("_") for name in self._known)

    def fused_in(self, name: str) -> tuple[str, ...]:
        """The source operators that a kernel's name lists, in the order of the name. Empty if it lists none.

        If words could be read as one long name or several short ones, the long name counts: `index_put`, not `index` and `put`.
        Words that are not a known operator are joined to the unknown words beside them and taken as one operator of some
        library.
        """
        found = _FUSED.match(name)
        return tuple(self._split(found["operators"])) if found and found["operators"] else ()

    def _split(self, text: str) -> Iterator[str]:
        words, at, unknown = text.split("_"), 0, 0  # the words from `unknown` to `at` belong to no known operator
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
