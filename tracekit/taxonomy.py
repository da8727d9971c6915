"""What kind of work does a GPU kernel do, judging by its name?

First a name is taken apart (`tracekit.outline`) and read as lower-case words. Then the rules of `kernels.toml` are tried on
these words in order, and the first one that matches decides. The operator that launched the kernel only breaks ties.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

from tracekit.errors import TracekitError
from tracekit.outline import NAME_LIMIT, Outline, Pattern, check_pattern, check_words, outline, short_name, words
from tracekit.parts import Part, Parts, check_example, checked_part

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Family(str, Enum):
    """The families of kernels. Kernel time is added up by family."""

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
    """One kernel's classification. `rule` is the id of the rule that decided; `confidence`, from 0 to 1, is how sure it is."""

    family: str
    kind: str
    rule: str
    confidence: float


UNKNOWN = Label(Family.OTHER.value, "unknown", "none", 0.0)


# --- Rules ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One rule of `kernels.toml`: where it looks, what it looks for, and what it concludes."""

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
        """Texts such that the path of every kernel that matches the rule contains at least one of them."""
        if self.look != "inside":
            return self._pattern.hints
        return self._outer.hints if self._outer is not None else [""]

    def matches(self, views: Mapping[str, str], operator: str) -> bool:
        """Tell whether the rule matches a kernel with these views of its name and this launching operator."""
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
    """Turn a TOML table into a rule. Raises TracekitError, which says what is wrong, if it is not a rule."""
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
    """Find mistakes that would otherwise make a rule useless without any error. Raises TracekitError."""
    for rule in rules:
        _check_patterns(rule, where)
        if not rule.operator and not rule.matches(_views(outline(rule.example)), ""):
            what = f"rule {rule.id!r} does not match its own example, read as {words(short_name(rule.example))!r}"
            raise TracekitError(what, where=where, mend="correct the pattern or the example")


def _check_patterns(rule: Rule, where: object) -> None:
    for source in (rule.pattern, rule.outer, rule.unless, rule.operator):
        check_pattern(source, f"rule {rule.id!r}", where)
        if source != rule.operator:
            check_words(source, f"rule {rule.id!r}", where)


@dataclass(frozen=True)
class _File:
    """The contents of a file of rules."""

    rules: tuple[Rule, ...]
    parts: tuple[Part, ...]


def _parse(text: str, where: object) -> _File:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TracekitError(f"not valid TOML ({error})", where=where, mend="correct the file") from error
    if not document or not all(key in ("rule", "part") and isinstance(document[key], list) for key in document):
        mend = "write each rule as [[rule]] and each part as [[part]], nothing else"
        raise TracekitError("holds no list of rules", where=where, mend=mend)
    return _File(
        rules=tuple(_checked(entry, where) for entry in document.get("rule", ())),
        parts=tuple(checked_part(entry, where) for entry in document.get("part", ())),
    )


# --- Deciding ------------------------------------------------------------------------------------------------------


# How many characters of the template arguments the rules see. A functor's name comes early; CUTLASS types run to 10 kB.
_INSIDE_LIMIT = 3000


def _views(found: Outline) -> dict[str, str]:
    """Return the parts of a name that the rules look at, as words."""
    return {
        "name": words(found.identifier[:NAME_LIMIT]),
        "path": words(found.path[-NAME_LIMIT:]),
        "inside": words(found.inside[:_INSIDE_LIMIT]),
    }


class _Shortlist:
    """Finds the rules that could match a name at all.

    Each rule is filed under three letters that a matching name must contain.
    """

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
        """Return the rules that are worth trying, in their order."""
        text = views["path"] if views["name"] in views["path"] else f"{views['name']} {views['path']}"
        found = set(self._always)
        for letters in {text[i : i + 3] for i in range(len(text) - 2)} & self._by_letters.keys():
            found.update(self._by_letters[letters])
        return [self._rules[number] for number in sorted(found)]


class Taxonomy:
    """Ordered rules that classify kernels, and the parts of models that names tell.

    It remembers the answers for the names seen so far.
    """

    def __init__(self, rules: Iterable[Rule], parts: Iterable[Part] = ()) -> None:
        """Take rules and parts in the order in which they are tried."""
        self.rules = tuple(rules)
        self.parts = Parts(parts)
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
        """Return the built-in rules, with the user's own before them. Raises TracekitError if the user's file is wrong."""
        text = resources.files("tracekit").joinpath("kernels.toml").read_text(encoding="utf-8")
        built_in, users = _parse(text, "kernels.toml"), _File((), ()) if user_file is None else _users(user_file)
        return cls((*users.rules, *built_in.rules), (*users.parts, *built_in.parts))

    def classify(self, name: str, operator: str | None = None) -> Label:
        """Label a kernel by its name; the operator that launched it, where known, only breaks ties."""
        key = (name, operator or "")
        label = self._seen.get(key)
        if label is None:
            label = self._seen[key] = self._decide(*key)
        return label

    def _decide(self, name: str, operator: str) -> Label:
        views = _views(outline(name))
        # Names that differ only in their arguments have the same answer.
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


def _users(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise TracekitError(f"cannot be read ({reason})", where=path, mend="name a TOML file of rules") from error
    file = _parse(text, path)
    _check_user_rules(file.rules, path)
    for part in file.parts:
        check_example(part, path)
    return file
