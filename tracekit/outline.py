"""Which kernel does a name mean, and which words does the name consist of?

`outline` takes a name apart: it removes the return type, the arguments and the namespaces, demangles mangled names and opens
generic launchers. The rest is read as lower-case words, which rules search with a `Pattern`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracekit.errors import TracekitError

NAME_LIMIT = 1000
"""How many characters of an identifier or a path are read. The longest real ones (Tensile) have some 600."""

# Launchers that say nothing about the work. Their first type argument is the kernel.
_DISPATCHERS = re.compile(r"(?:Kernel2?|device_kernel\w*|kentry|_?kernel_agent|enable_\w*sm\d\w*|run_kernel)\Z")
# Identifiers that need the namespace before them to mean anything.
_NAMELESS = frozenset({"kernel", "globalkernel", "static_kernel", "dynamic_kernel", "run", "main_kernel"})
_EMPTY_SCOPES = frozenset({"impl", "detail", "internal", "kernel", "kernels", "device", ""})
_NOT_A_KERNEL = re.compile(
    r"[\W\d]|(?:true|false|float|double|int|unsigned|long|bool|char|short|void|nullptr|(?:\w+::)*gfx\w+)\b"
)
# How many pieces of a mangled name are read. That is enough because the kernel's identifier comes first.
_PIECES_LIMIT = 250

# No `\b` before "operator": every alternative begins with a plain character, so that re skips quickly to the next one.
_TOKEN = re.compile(r"\(anonymous namespace\)|operator *(?:\(\)|\[\]|<<=?|>>=?|<=>|[<>]=?|->)|->|[<>(){}\[\]]")
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\s]+")


@dataclass(frozen=True)
class Outline:
    """A kernel's name without return type and arguments: its qualified path, and the text of its template arguments."""

    path: str
    inside: str

    @property
    def identifier(self) -> str:
        """The last part of the path. If it is as bare as `kernel`, the last meaningful namespace stands before it."""
        parts = [p for p in self.path.split("::") if p]
        if not parts:
            return self.path
        if parts[-1].lower() in _NAMELESS:
            scope = next((p for p in reversed(parts[:-1]) if p.lower() not in _EMPTY_SCOPES), None)
            if scope:
                return f"{scope}::{parts[-1]}"
        return parts[-1]


class _Scanner:
    """Takes a demangled name apart in one pass. It runs in linear time, because each bracket is pushed and popped only once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.stack: list[str] = []
        self.open = {"<": 0, "(": 0, "{": 0, "[": 0}
        self.head: list[str] = []
        self.inside: list[str] = []

    def outline(self) -> Outline:
        position, text = 0, self.text
        for token in _TOKEN.finditer(text):
            self._text(text[position : token.start()])
            position = token.end()
            if self._token(token.group(), token.start(), position):
                break
        else:
            self._text(text[position:])
        return Outline("".join(self.head).strip(), "".join(self.inside))

    def _text(self, chunk: str) -> None:
        if not self.stack:
            # Outside all brackets, a space ends the return type or a part of it. The name follows the last space.
            _, space, name = chunk.rstrip().rpartition(" ")
            if space:
                self.head.clear()
                self.inside.clear()
            if name:
                self.head.append(name)
        elif not self.open["("]:
            self.inside.append(chunk)

    def _token(self, token: str, start: int, end: int) -> bool:
        """Handle one token. Returns True where the argument list begins, because nothing after it is read."""
        if token in ("<", "(", "{", "["):
            return self._opens(token, start)
        elif token in (">", ")", "}", "]"):
            return self._closes(token, end)
        elif token.startswith("operator"):
            self._text("operator")
        return False

    def _opens(self, token: str, start: int) -> bool:
        before = self.text[start - 1] if start else ""
        if token == "<" and not (before.isalnum() or before == "_" or self.text.endswith("operator()", 0, start)):
            return False  # a comparison within an enable_if, not a template
        if token == "[" and not self.stack and before == " ":
            return True  # "[clone .kd]"
        if self.stack and not self.open["("] and token != "(":
            self.inside.append(token)
        self.stack.append(token)
        self.open[token] += 1
        return False

    def _closes(self, token: str, end: int) -> bool:
        opener = {">": "<", ")": "(", "}": "{", "]": "["}[token]
        if not self.open[opener] or (token == ">" and self.stack[-1] != "<"):
            return False
        while True:
            last = self.stack.pop()
            self.open[last] -= 1
            if last == opener:
                break
        if self.stack and not self.open["("] and token != ")":
            self.inside.append(token)
        elif not self.stack and token == ">":
            self.inside.append(" ")
        # The end of the arguments ends the name, unless a local name or the type of a decltype follows.
        return token == ")" and not self.stack and bool(self.head) and self._ends(end)

    def _ends(self, end: int) -> bool:
        return not self.text.startswith("::", end) and self.head[-1] != "decltype"


_MANGLED = re.compile(
    r"L(?P<type>[a-z]|DF16[b_]?)(?P<value>n?\d+)E"  # a literal of a built-in type
    r"|(?P<skip>S[0-9A-Z]*_|S[a-z]|T[0-9]*_|DF\d+[b_x]?|Dv\d+_|D[a-z]|A\d+_)"  # substitutions, built-in types
    r"|(?P<length>\d+)|(?P<lambda>Ul)|(?P<open>[NIJXFLZ])|(?P<close>E\d*_?|E)|(?P<other>.)",
    re.DOTALL,
)


class _Demangler:
    """Reads Itanium-mangled names and tolerates errors. It keeps identifiers, literals and the structure of templates."""

    def __init__(self, mangled: str) -> None:
        self.text = mangled
        self.out: list[str] = []
        self.stack: list[str] = []
        self.glue = False  # whether the next identifier belongs to the path before it

    def demangle(self) -> str:
        position = 2
        while position < len(self.text) and len(self.out) < _PIECES_LIMIT:
            token = _MANGLED.match(self.text, position)
            assert token is not None
            position = self._take(token)
            if position < 0 or (not self.stack and self.out and self.text[position : position + 1] != "I"):
                break
        return "".join(self.out)

    def _take(self, token: re.Match[str]) -> int:
        kind = token.lastgroup
        if kind == "length":
            return self._identifier(token)
        if kind == "value":
            self._separate()
            self.out.append(token["value"])
        elif kind in ("open", "lambda"):
            self._push(token.group())
        elif kind == "close":
            return self._pop(token)
        elif kind == "skip" and token.group().startswith(("S", "D")) and self.stack[-1:] != ["N"]:
            self.glue = False
        return token.end()

    def _identifier(self, token: re.Match[str]) -> int:
        if self.stack[-1:] == ["L"]:
            return token.end()  # an enumerator's value
        # If the profiler cut the name off, a length may run past its end. Then the identifier is what is left.
        start = token.end()
        end = start + int(token["length"][:6])
        name = self.text[start:end]
        if not self.glue:
            self._separate()
        elif self.out and self.out[-1] != "::":
            self.out.append("::")
        if not name.startswith("_GLOBAL__N"):
            self.out.append(name)
        self.glue = self.stack[-1:] == ["N"]
        return min(end, len(self.text))

    def _separate(self) -> None:
        if self.out and self.out[-1] not in ("<", ", ", "::"):
            self.out.append(", " if "I" in self.stack else "::")
        self.glue = False

    def _push(self, opener: str) -> None:
        self.stack.append(opener)
        if opener == "I":
            if self.out[-1:] and self.out[-1] in ("<", ">", ", ", "::"):
                self._separate()
                self.out.append("_")  # the template's own name is a substitution
            self.out.append("<")
            self.glue = False
        elif opener == "N":
            self.glue = False

    def _pop(self, token: re.Match[str]) -> int:
        if not self.stack:
            return -1
        opener = self.stack.pop()
        if opener == "I":
            self.out.append(">")
        self.glue = self.stack[-1:] == ["N"]
        # Only the end of a lambda has a number of its own ("E0_"). Elsewhere, a number is the length of what follows.
        return token.end() if opener == "Ul" else token.start() + 1


def _first_kernel(inside: str) -> str | None:
    """Return the first type among a dispatcher's template arguments."""
    depth, start = 0, 0
    for token in re.finditer(r"[<>{},]", inside):
        char = token.group()
        if char == "," and depth == 0:
            if (argument := _as_kernel(inside[start : token.start()])) is not None:
                return argument
            start = token.end()
        elif char in "<{":
            depth += 1
        elif char in ">}":
            depth = max(0, depth - 1)
    return _as_kernel(inside[start:])


def _as_kernel(argument: str) -> str | None:
    argument = argument.strip()
    return argument if argument and not _NOT_A_KERNEL.match(argument) else None


def outline(name: str) -> Outline:
    """Find the kernel that a name means, without its return type, its arguments and any dispatcher around it."""
    text = name.strip().removesuffix(".kd")
    if text.startswith("_Z"):
        text = _Demangler(text).demangle() or text
    found = _Scanner(text).outline()
    for _ in range(4):
        if not _DISPATCHERS.match(found.path.rpartition("::")[2]):
            break
        inner = _first_kernel(found.inside)
        if inner is None:
            break
        found = _Scanner(inner.replace(" ", "")).outline()
    return found if found.path else Outline(text, "")


def short_name(name: str) -> str:
    """Return a kernel's name as a person would say it: without return type, namespaces, template and other arguments."""
    return outline(name).identifier or name


def words(text: str) -> str:
    """Read an identifier as lower-case words: `CatArrayBatchedCopy_contig` becomes `cat array batched copy contig`."""
    return _WORD_BREAK.sub(" ", text).lower().strip()


# --- Searching the words --------------------------------------------------------------------------------------------

_META = re.compile(r"[\\.^$*+?{}\[\]()|]")
_LITERAL_RUN = re.compile(r"(?:[a-z0-9 :_-](?![*?{]))+")


class Pattern:
    """A regular expression with a cheap test before it. Most rules are plain words, and most names contain none of them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._plain: list[str] = []
        self._hinted: list[tuple[str, str]] = []
        for part in _alternatives(source):
            if _META.search(part):
                self._hinted.append((_hint(part), part))
            else:
                self._plain.append(part)
        self._compiled: dict[str, re.Pattern[str]] = {}

    def search(self, text: str) -> bool:
        """Tell whether the pattern occurs in the text."""
        for word in self._plain:
            if word in text:
                return True
        for hint, part in self._hinted:  # noqa: SIM110 - a generator costs more than the test it wraps
            if hint in text and self._regex(part).search(text) is not None:
                return True
        return False

    @property
    def hints(self) -> list[str]:
        """Texts such that every match contains at least one of them. An empty text means that nothing is known."""
        return [*self._plain, *(hint for hint, _ in self._hinted)]

    def _regex(self, part: str) -> re.Pattern[str]:
        regex = self._compiled.get(part)
        if regex is None:
            regex = self._compiled[part] = re.compile(part)
        return regex


def _alternatives(source: str) -> list[str]:
    """Split a pattern at the bars that are outside of all brackets."""
    parts, depth, start, escaped, in_class = [], 0, 0, False, False
    for i, char in enumerate(source):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            parts.append(source[start:i])
            start = i + 1
    return [*parts, source[start:]]


def _hint(part: str) -> str:
    """Return the longest text that every match must contain, or an empty text if none is known."""
    flat = re.sub(r".\{[^}]*\}", ".", re.sub(r"\\.", ".", part))
    while (shorter := re.sub(r"\([^()]*\)[*?+]?|\[[^\]]*\][*?+]?", ".", flat)) != flat:
        flat = shorter
    return max(_LITERAL_RUN.findall(flat), key=len, default="") if "|" not in flat else ""


def check_pattern(source: str, owner: str, where: object) -> None:
    """Find mistakes that would make a pattern fail or match nothing. Raises TracekitError, which names the owner of the
    pattern.
    """
    try:
        for part in [source, *_alternatives(source)]:
            re.compile(part)
    except re.error as error:
        what = f"{owner}: {source!r} is not a regular expression ({error})"
        raise TracekitError(what, where=where, mend="correct the pattern") from error


def check_words(source: str, owner: str, where: object) -> None:
    """Find characters in a pattern that never occur in words: capitals and underscores.

    Raises TracekitError, which names the owner of the pattern.
    """
    if re.search(r"(?<!\\)[A-Z_]", source):
        what = f"{owner}: {source!r} holds a capital or an underscore, and names are read as lower-case words"
        raise TracekitError(what, where=where, mend="write CatArray_contig as 'cat array contig'")
