"""What may go wrong through no fault of ours, each with one line a user can act on."""

from __future__ import annotations


class TracekitError(Exception):
    """Base of every error that is the input's or the environment's: the command prints it as one line and exits 2.

    `where` names the file, directory or argument; `mend` says what would make it work.
    """

    def __init__(self, what: str, *, where: object = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(what)

    def __str__(self) -> str:
        """Return `where: what; mend` on one line, whatever the parts hold."""
        text = f"{self.where}: {self.what}" if self.where is not None else self.what
        if self.mend:
            text = f"{text}; {self.mend}"
        return " ".join(text.split())


class TraceError(TracekitError):
    """A file that cannot be read as a profiler trace."""


class BundleError(TracekitError):
    """A directory that cannot be read, or must not be overwritten, as an analysis bundle."""


class ManifestError(TracekitError):
    """A run manifest that cannot be read."""


class MissingExtraError(TracekitError):
    """A command needs an optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, mend=f"pip install 'torch-tracekit[{extra}]'")
