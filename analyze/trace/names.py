"""Which names are Windows paths that JSON read wrongly, because their backslashes were not escaped?

`torch\nn\functional.py(3): relu` is valid JSON, but says a line break and a form feed. Where every backslash begins an escape,
no parser notices. The names of Python functions are paths, and no path holds such characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WRITTEN = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_CONTROL = re.compile("[\b\f\n\r\t]")
_PATH = re.compile(r"(?:[A-Za-z]:[\\\b\f\n\r\t]|[^\"*?<>|:]*\.pyw?\(\d+\): )[^\"*?<>|]*", re.DOTALL)
"""A path that begins with a drive, or the name of a Python function: its file, line and name."""


def names_as_written(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names, in which misread paths have their backslashes again, and the places of these names."""
    places = [place for place, name in enumerate(names) if _CONTROL.search(name) and _PATH.match(name)]
    mended = list(names)
    for place in places:
        mended[place] = _CONTROL.sub(lambda found: WRITTEN[found.group()], names[place])
    return mended, places
