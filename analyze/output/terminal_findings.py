"""How does a person at a terminal read what to do next?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from tracekit.savings import LATER, NOTED, NOW, Saving

from ..findings.finding import CannotTell, Finding
from .terminal_text import printable

SEVERITY_STYLE = {"high": "bold red", "medium": "yellow", "low": "cyan"}


def findings(found: tuple[Finding, ...], span_ns: int) -> Iterable[RenderableType]:
    """What saves time now, with all that helps; then in a line each what would matter later; then what has no estimate."""
    told = [finding for finding in found if finding.code != "incomplete_trace"]  # the warning above says it already
    savings = [(finding, Saving.of(asdict(finding), span_ns)) for finding in told]
    for finding, saving in savings:
        if saving.group == NOW:
            yield from _finding(finding, saving.told())
    later = [(finding, saving.told()) for finding, saving in savings if saving.group == LATER]
    if later:
        yield Text("\nWould matter once launches no longer limit", style="bold")
        for finding, words in later:
            yield Padding(Text(f"{finding.title}: {words}"), (0, 0, 0, 2))
    for finding, saving in savings:
        if saving.group == NOTED:
            yield from _finding(finding, "")


def _finding(finding: Finding, saving: str) -> Iterable[RenderableType]:
    yield Text.assemble(
        "\n",
        (f"[{finding.severity}] ", SEVERITY_STYLE.get(finding.severity, "")),
        (finding.title, "bold"),
        f" — {saving}" if saving else "",
    )
    yield Padding(Text(f"{printable(finding.evidence)}."), (0, 0, 0, 2))
    yield Padding(Text(f"→ {finding.action}", style="green"), (0, 0, 0, 2))
    if finding.snippet:
        yield Padding(Text("\n".join(map(printable, finding.snippet.splitlines())), style="green"), (0, 0, 0, 6))


def undecided(unknown: tuple[CannotTell, ...]) -> Iterable[RenderableType]:
    """The rules that could not decide, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for one in unknown:
        reasons.setdefault(one.because, []).append(one.code)
    if reasons:
        yield Text("")
    for because, codes in reasons.items():
        yield Text(f"cannot tell {', '.join(codes)}: {printable(because)}", style="dim")
