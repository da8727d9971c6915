"""What can go wrong without a bug in tracekit? Each such error is one line that tells the user what to do."""

from __future__ import annotations


class TracekitError(Exception):
    """Base of every error whose cause is the input or the environment. The command prints it as one line and exits with 2.

    `what` says what is wrong. `where` names the file, directory or argument. `mend` says how to correct it.
    """

    def __init__(self, what: str, *, where: object = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(what)

    def __str__(self) -> str:
        """Return `where: what; mend` on one line, even if the parts contain line breaks."""
        text = f"{self.where}: {self.what}" if self.where is not None else self.what
        if self.mend:
            text = f"{text}; {self.mend}"
        return " ".join(text.split())


class TraceError(TracekitError):
    """A file that cannot be read as a profiler trace."""


class BundleError(TracekitError):
    """A directory that cannot be read as an analysis bundle, or must not be overwritten by one."""


class ManifestError(TracekitError):
    """A run manifest that cannot be read."""


class MissingExtraError(TracekitError):
    """A command needs an optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, mend=f"pip install 'torch-tracekit[{extra}]'")
