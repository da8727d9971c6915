"""What do the colours of the dossier stand for?"""

from __future__ import annotations

from dataclasses import dataclass

from tracekit import vocabulary


@dataclass(frozen=True)
class Term(vocabulary.Term):
    """A family of kernels, or a cause of idle time, with its colour."""

    @property
    def token(self) -> str:
        """The CSS custom property that holds this term's colour."""
        return "--" + self.key.replace("_", "-")

    @property
    def idle(self) -> bool:
        """Whether the term is a cause of idle time. Such causes are drawn hatched."""
        return self.key in CAUSES

    @property
    def ink(self) -> str:
        """The CSS custom property for text on this colour.

        Causes of idle time and two families have light colours on a light page, so their text has another colour.
        """
        return "--ink" if self.idle else "--on-light" if self.key in ("elementwise", "other") else "--on-colour"


def _coloured(terms: vocabulary.Terms) -> dict[str, Term]:
    return {key: Term(term.key, term.label, term.meaning) for key, term in terms.items()}


FAMILIES, CAUSES = _coloured(vocabulary.FAMILIES), _coloured(vocabulary.CAUSES)


def family(key: object) -> Term:
    """The family of that name. A family that this version does not know is shown as `other`."""
    return FAMILIES.get(str(key), FAMILIES["other"])


def cause(key: object) -> Term:
    """The cause of that name. A cause that this version does not know is shown as `unattributed`."""
    return CAUSES.get(str(key).removesuffix("_ns"), CAUSES["unattributed"])
