"""What kind of work does a GPU kernel do, judging by its name?

A name is taken apart first (`outline`): the return type, the argument list and the namespaces go, mangled names are
demangled, generic launchers are opened, and what is left is read as lower-case words. Ordered rules from `kernels.toml`
then look at those words; the first that matches decides. The launching operator only breaks ties.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

from tracekit.errors import TracekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Family(str, Enum):
    """The families that kernel time is added up by."""

    GEMM = "gemm"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    REDUCTION = "reduction"
    ELEMENTWISE = "elementwise"
    INDEXING = "indexing"
    COMMUNICATION = "communication"
    OTHER = "other"


@dataclass(frozen=True)
class Label:
    """One kernel's classification: the rule's id says why, the confidence (0 to 1) how sure it is."""

    family: str
    kind: str
    rule: str
    confidence: float


UNKNOWN = Label(Family.OTHER.value, "unknown", "none", 0.0)


# --- Taking a name apart -------------------------------------------------------------------------------------------

# Launchers that say nothing about the work: the kernel is their first type argument.
_DISPATCHERS = re.compile(r"(?:Kernel2?|device_kernel\w*|kentry|_?kernel_agent|enable_\w*sm\d\w*|run_kernel)\Z")
# Identifiers that need the namespace before them to mean anything.
_NAMELESS = frozenset({"kernel", "globalkernel", "static_kernel", "dynamic_kernel", "run", "main_kernel"})
_EMPTY_SCOPES = frozenset({"impl", "detail", "internal", "kernel", "kernels", "device", ""})
_NOT_A_KERNEL = re.compile(r"[\W\d]|(?:true|false|float|double|int|unsigned|long|bool|char|short|void|nullptr|gfx\w+)\b")
# How much of an identifier or a path the rules see; the longest real ones (Tensile) have some 600 characters.
_NAME_LIMIT = 1000
# How much of the template arguments the rules see: a functor's name comes early, and CUTLASS types run to 10 kB.
_INSIDE_LIMIT = 3000
# How many pieces of a mangled name are read: the kernel's identifier comes first.
_PIECES_LIMIT = 250

# No `\b` before "operator": every alternative begins with a plain character, so that re skips quickly to the next one.
_TOKEN = re.compile(r"\(anonymous namespace\)|operator *(?:\(\)|\[\]|<<=?|>>=?|<=>|[<>]=?|->)|->|[<>(){}\[\]]")
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\s]+")


@dataclass(frozen=True)
class Outline:
    """A kernel's name without return type and arguments: its qualified path and its template arguments' text."""

    path: str
    inside: str

    @property
    def identifier(self) -> str:
        """The last part of the path, with a telling namespace before it where it is as bare as `kernel`."""
        parts = [p for p in self.path.split("::") if p]
        if not parts:
            return self.path
        if parts[-1].lower() in _NAMELESS:
            scope = next((p for p in reversed(parts[:-1]) if p.lower() not in _EMPTY_SCOPES), None)
            if scope:
                return f"{scope}::{parts[-1]}"
        return parts[-1]


class _Scanner:
    """One pass over a demangled name; everything stays linear because brackets are only pushed and popped once."""

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
            # Outside all brackets a space ends (a part of) the return type: the name is what follows the last one.
            _, space, name = chunk.rstrip().rpartition(" ")
            if space:
                self.head.clear()
                self.inside.clear()
            if name:
                self.head.append(name)
        elif not self.open["("]:
            self.inside.append(chunk)

    def _token(self, token: str, start: int, end: int) -> bool:
        """Take one token in; true where the argument list begins, so that nothing after it is read."""
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
        # A bracket of arguments ends the name, unless a local name or a decltype's type follows.
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
    """A tolerant reader of Itanium-mangled names: it keeps identifiers, literals and the template structure."""

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
        # A length that runs past the end (a name cut off by the profiler) takes what there is.
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
        # Only a lambda's end carries a number of its own ("E0_"); elsewhere what follows is the next thing's length.
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
    """Find the kernel that a name speaks of: no return type, no arguments, no dispatcher around it."""
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
    """Return a kernel's name as a person would say it: no return type, namespaces, template or other arguments."""
    return outline(name).identifier or name


def words(text: str) -> str:
    """Read an identifier as lower-case words: `CatArrayBatchedCopy_contig` becomes `cat array batched copy contig`."""
    return _WORD_BREAK.sub(" ", text).lower().strip()


# --- Rules ---------------------------------------------------------------------------------------------------------

_META = re.compile(r"[\\.^$*+?{}\[\]()|]")
_LITERAL_RUN = re.compile(r"(?:[a-z0-9 :_-](?![*?{]))+")


class Pattern:
    """A regular expression with a cheap test before it: most rules are plain words, most names hold none of them."""

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
        """Texts of which every match holds at least one; an empty one means that nothing is known."""
        return [*self._plain, *(hint for hint, _ in self._hinted)]

    def _regex(self, part: str) -> re.Pattern[str]:
        regex = self._compiled.get(part)
        if regex is None:
            regex = self._compiled[part] = re.compile(part)
        return regex


def _alternatives(source: str) -> list[str]:
    """Split a pattern at the bars that stand outside all brackets."""
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
    """Return the longest text that every match must hold, or an empty one."""
    flat = re.sub(r".\{[^}]*\}", ".", re.sub(r"\\.", ".", part))
    while (shorter := re.sub(r"\([^()]*\)[*?+]?|\[[^\]]*\][*?+]?", ".", flat)) != flat:
        flat = shorter
    return max(_LITERAL_RUN.findall(flat), key=len, default="") if "|" not in flat else ""


@dataclass(frozen=True)
class Rule:
    """One line of `kernels.toml`: where it looks, for what, and what it concludes."""

    id: str
    pattern: str
    family: str
    kind: str
    confidence: float
    example: str
    look: str = "name"
    outer: str = ""
    unless: str = ""
    operator: str = ""
    refines: tuple[str, ...] = ()
    _pattern: Pattern = field(init=False, repr=False, compare=False)
    _outer: Pattern | None = field(init=False, repr=False, compare=False)
    _unless: Pattern | None = field(init=False, repr=False, compare=False)
    _operator: Pattern | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", Pattern(self.pattern))
        for key in ("outer", "unless", "operator"):
            source = getattr(self, key)
            object.__setattr__(self, f"_{key}", Pattern(source) if source else None)

    @property
    def label(self) -> Label:
        """What the rule concludes."""
        return Label(self.family, self.kind, self.id, self.confidence)

    @property
    def hints(self) -> list[str]:
        """Texts of which the path of every kernel that the rule speaks about holds at least one."""
        if self.look != "inside":
            return self._pattern.hints
        return self._outer.hints if self._outer is not None else [""]

    def matches(self, views: Mapping[str, str], operator: str) -> bool:
        """Tell whether the rule speaks about a kernel with these views and this launching operator."""
        if self._outer is not None and not self._outer.search(views["name"]):
            return False
        if not self._pattern.search(views[self.look]):
            return False
        if self._unless is not None and self._unless.search(views["name"]):
            return False
        return self._operator is None or self._operator.search(operator)


_LOOKS = ("name", "path", "inside")
_REQUIRED = ("id", "pattern", "family", "kind", "example")
_OPTIONAL = ("confidence", "look", "outer", "unless", "operator", "refines")


def _checked(entry: object, where: object) -> Rule:
    """Turn a TOML table into a rule, or say what is wrong with it."""
    if not isinstance(entry, dict):
        raise TracekitError("a rule is not a table", where=where, mend="write each rule as [[rule]]")
    name = entry.get("id", "?")
    missing = [k for k in _REQUIRED if not isinstance(entry.get(k), str)]
    if missing:
        raise TracekitError(f"rule {name!r} lacks a text for {', '.join(missing)}", where=where, mend="add it")
    unknown = sorted(set(entry) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        mend = f"the keys of a rule are {', '.join(_REQUIRED + _OPTIONAL)}"
        raise TracekitError(f"rule {name!r} has unknown keys: {', '.join(unknown)}", where=where, mend=mend)
    _check_values(entry, where)
    return _rule(entry)


def _rule(entry: Mapping[str, Any]) -> Rule:
    given = {k: entry[k] for k in ("look", "outer", "unless", "operator") if k in entry}
    confidence = float(entry.get("confidence", 0.9))
    refines = tuple(entry.get("refines", ()))
    core = {k: entry[k] for k in _REQUIRED}
    return Rule(**core, confidence=confidence, refines=refines, **given)


def _check_values(entry: Mapping[str, Any], where: object) -> None:
    def fail(what: str, mend: str) -> None:
        raise TracekitError(f"rule {entry['id']!r}: {what}", where=where, mend=mend)

    if entry["family"] not in {f.value for f in Family}:
        fail(f"no such family: {entry['family']!r}", f"use one of {', '.join(f.value for f in Family)}")
    if entry.get("look", "name") not in _LOOKS:
        fail(f"cannot look at {entry['look']!r}", f"use one of {', '.join(_LOOKS)}")
    confidence = entry.get("confidence", 0.9)
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 <= confidence <= 1:
        fail(f"confidence is {confidence!r}", "use a number from 0 to 1")
    refines = entry.get("refines", [])
    if not isinstance(refines, list) or not all(isinstance(r, str) for r in refines):
        fail(f"refines is {refines!r}", "use a list of families or rule ids")
    for key in ("outer", "unless", "operator"):
        if not isinstance(entry.get(key, ""), str):
            fail(f"{key} is {entry[key]!r}", "use a regular expression as text")


def _check_user_rules(rules: Iterable[Rule], where: object) -> None:
    """Find slips that would otherwise make a rule silently useless."""
    for rule in rules:
        _check_patterns(rule, where)
        if not rule.operator and not rule.matches(_views(outline(rule.example)), ""):
            what = f"rule {rule.id!r} does not match its own example, read as {words(short_name(rule.example))!r}"
            raise TracekitError(what, where=where, mend="correct the pattern or the example")


def _check_patterns(rule: Rule, where: object) -> None:
    for source in (rule.pattern, rule.outer, rule.unless, rule.operator):
        try:
            for part in [source, *_alternatives(source)]:
                re.compile(part)
        except re.error as error:
            what = f"rule {rule.id!r}: {source!r} is not a regular expression ({error})"
            raise TracekitError(what, where=where, mend="correct the pattern") from error
        if source != rule.operator and re.search(r"(?<!\\)[A-Z_]", source):
            what = f"rule {rule.id!r}: {source!r} holds a capital or an underscore, and names are read as lower-case words"
            raise TracekitError(what, where=where, mend="write CatArray_contig as 'cat array contig'")


def _parse(text: str, where: object) -> list[Rule]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TracekitError(f"not valid TOML ({error})", where=where, mend="correct the file") from error
    entries = document.get("rule")
    if not isinstance(entries, list) or set(document) != {"rule"}:
        raise TracekitError("holds no list of rules", where=where, mend="write each rule as [[rule]], nothing else")
    return [_checked(entry, where) for entry in entries]


# --- Deciding ------------------------------------------------------------------------------------------------------


def _views(found: Outline) -> dict[str, str]:
    """Return what the rules look at, as words."""
    return {
        "name": words(found.identifier[:_NAME_LIMIT]),
        "path": words(found.path[-_NAME_LIMIT:]),
        "inside": words(found.inside[:_INSIDE_LIMIT]),
    }


class _Shortlist:
    """Which rules could speak about a name at all: found by three letters that each of their patterns must hold."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._always: set[int] = set()
        self._by_letters: dict[str, list[int]] = {}
        for number, rule in enumerate(self._rules):
            for hint in rule.hints:
                if len(hint) < 3:
                    self._always.add(number)
                else:
                    self._by_letters.setdefault(hint[:3], []).append(number)

    def candidates(self, views: Mapping[str, str]) -> list[Rule]:
        """Return the rules worth trying, in their order."""
        text = views["path"] if views["name"] in views["path"] else f"{views['name']} {views['path']}"
        found = set(self._always)
        for letters in {text[i : i + 3] for i in range(len(text) - 2)} & self._by_letters.keys():
            found.update(self._by_letters[letters])
        return [self._rules[number] for number in sorted(found)]


class Taxonomy:
    """Ordered rules, and what they said about the names seen so far."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Take rules in the order in which they are to be tried."""
        self.rules = tuple(rules)
        self._by_name = _Shortlist(r for r in self.rules if not r.refines)
        self._refining = [r for r in self.rules if r.refines]
        self._seen: dict[tuple[str, str], Label] = {}
        self._views: dict[tuple[str, str, str], Label] = {}

    @classmethod
    def default(cls) -> Taxonomy:
        """Return the built-in rules."""
        return cls.load(None)

    @classmethod
    def load(cls, user_file: Path | None) -> Taxonomy:
        """Return the built-in rules with a user's own before them."""
        built_in = resources.files("tracekit").joinpath("kernels.toml").read_text(encoding="utf-8")
        rules = _parse(built_in, "kernels.toml")
        return cls(rules if user_file is None else [*_user_rules(user_file), *rules])

    def classify(self, name: str, operator: str | None = None) -> Label:
        """Label a kernel by its name; the operator that launched it, where known, only breaks ties."""
        key = (name, operator or "")
        label = self._seen.get(key)
        if label is None:
            label = self._seen[key] = self._decide(*key)
        return label

    def _decide(self, name: str, operator: str) -> Label:
        views = _views(outline(name))
        # Names that differ in their arguments only are one question.
        key = (views["path"], views["inside"], operator)
        label = self._views.get(key)
        if label is None:
            label = self._views[key] = self._match(views, operator)
        return label

    def _match(self, views: Mapping[str, str], operator: str) -> Label:
        label = next((r.label for r in self._by_name.candidates(views) if r.matches(views, operator)), UNKNOWN)
        if not operator:
            return label
        for rule in self._refining:
            if (label.rule in rule.refines or label.family in rule.refines) and rule.matches(views, operator):
                return rule.label
        return label


def _user_rules(path: Path) -> list[Rule]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise TracekitError(f"cannot be read ({reason})", where=path, mend="name a TOML file of rules") from error
    rules = _parse(text, path)
    _check_user_rules(rules, path)
    return rules
