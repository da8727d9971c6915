"""Which part of a model may a kernel compute, judging by its name?

A kernel inside a CUDA graph has neither an operator nor an annotation; only its name tells anything. The `[[part]]` tables of
`kernels.toml`, and of a user's rules, say which names mean which part. Several parts of a model may share a name; the part
before them then tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracekit.errors import TracekitError
from tracekit.outline import NAME_LIMIT, Pattern, check_pattern, check_words, short_name, words

LayerPath = tuple[str, ...]
"""The names of a layer and of the layers around it, from the outermost to the innermost."""


@dataclass(frozen=True)
class Part:
    """Which part of a model the kernels are whose names match a pattern; one `[[part]]` table of `kernels.toml`."""

    pattern: str
    path: LayerPath
    example: str
    after: LayerPath = ()
    """The part applies only if the kernel with a part before this one lies in this layer."""
    begins: LayerPath = ()
    """A layer around the part that begins anew with this kernel, or with the kernels that compute its input."""
    input: LayerPath = ()
    """The layer of the kernels without a part, such as GEMMs of a library, that run right before this kernel."""


class Parts:
    """The parts of models that names of kernels tell. It remembers the answers for the names seen so far."""

    def __init__(self, parts: Iterable[Part]) -> None:
        """Take the parts in the order in which they are tried."""
        self._parts = [(part, Pattern(part.pattern)) for part in parts]
        hints = [_letters(hint) for _, pattern in self._parts for hint in pattern.hints]
        self._hints = tuple(dict.fromkeys(hints)) if all(hints) else ("",)
        self._seen: dict[str, tuple[Part, ...]] = {}

    def __iter__(self) -> Iterator[Part]:
        return (part for part, _ in self._parts)

    def of(self, name: str) -> tuple[Part, ...]:
        """The parts that a kernel of this name may be; empty for most names.

        The first of them whose `after` fits the place of the kernel counts.
        """
        found = self._seen.get(name)
        if found is None:
            found = self._seen[name] = self._find(name)
        return found

    def _find(self, name: str) -> tuple[Part, ...]:
        lower = name.lower()
        if not any(hint in lower for hint in self._hints):
            return ()
        text = _words(name)
        return tuple(part for part, pattern in self._parts if pattern.search(text))


def _words(name: str) -> str:
    return words(short_name(name)[:NAME_LIMIT])


def _letters(hint: str) -> str:
    """The longest run of letters and digits of a hint.

    A name that matches contains it as well, even before the name is split into words.
    """
    return max(re.findall(r"[a-z0-9]+", hint), key=len, default="")


# --- Reading them --------------------------------------------------------------------------------------------------

_REQUIRED = ("pattern", "path", "example")
_LAYERS = ("path", "after", "begins", "input")
_KEYS = (*_REQUIRED, "after", "begins", "input")


def checked_part(entry: object, where: object) -> Part:
    """Turn a TOML table into a part. Raises TracekitError, which says what is wrong, if it is not a part."""
    if not isinstance(entry, dict):
        raise TracekitError("a part is not a table", where=where, mend="write each part as [[part]]")
    owner = f"part {entry.get('pattern', '?')!r}"
    missing = [key for key in _KEYS if not isinstance(entry.get(key, None if key in _REQUIRED else ""), str)]
    if missing:
        raise TracekitError(f"{owner} lacks a text for {', '.join(missing)}", where=where, mend="add it")
    if unknown := sorted(set(entry) - set(_KEYS)):
        mend = f"the keys of a part are {', '.join(_KEYS)}"
        raise TracekitError(f"{owner} has unknown keys: {', '.join(unknown)}", where=where, mend=mend)
    return _part(entry, owner, where)


def _part(entry: Mapping[str, Any], owner: str, where: object) -> Part:
    layers = {key: _layer(entry[key], f"{owner}: {key}", where) for key in _LAYERS if key in entry}
    part = Part(pattern=entry["pattern"], example=entry["example"], **layers)
    for key, path in (("path", part.path), ("input", part.input)):
        if path and path[: len(part.begins)] != part.begins:
            what = f"{owner} begins {'/'.join(part.begins)!r}, but its {key} {'/'.join(path)!r} does not lie there"
            raise TracekitError(what, where=where, mend="let begins be a layer around it")
    return part


def _layer(text: str, what: str, where: object) -> LayerPath:
    names = tuple(text.split("/"))
    if not all(name.isprintable() and name.strip() == name and name and not name.startswith("(") for name in names):
        mend = "write names from the outermost in, such as 'blocks/block/mlp'; none is empty or begins with a bracket"
        raise TracekitError(f"{what} is {text!r}, which is no path of layers", where=where, mend=mend)
    return names


def check_example(part: Part, where: object) -> None:
    """Find mistakes that would make a part useless without any error.

    Raises TracekitError if the pattern is wrong or does not match the part's own example.
    """
    owner = f"part {part.pattern!r}"
    check_pattern(part.pattern, owner, where)
    check_words(part.pattern, owner, where)
    read = _words(part.example)
    if not Pattern(part.pattern).search(read):
        what = f"{owner} does not match its own example, read as {read!r}"
        raise TracekitError(what, where=where, mend="correct the pattern or the example")
