"""What can be asked of a collection? Nothing here needs torch."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tracekit.errors import TracekitError

if TYPE_CHECKING:
    from tracekit.manifest import RunManifest

DEFAULT_PROMPT_TOKENS = 16
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class Console(Protocol):
    """Where a collection tells a person how it goes: never standard output, which belongs to results."""

    def notice(self, message: str) -> None:
        """Show one line that the reader must not miss; it is in the manifest as well."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of what `label` names are over; called with 0 when it begins."""

    def result(self, trace: Path, manifest: RunManifest) -> None:
        """Show what a variant came to, once its files are written."""


@dataclass(frozen=True)
class CollectOptions:
    """What to run and where to put it.

    `model` is a preset's name or the path of a transformers checkpoint directory or config.json; `weights` is `auto`,
    `pretrained`, `random` or a path. None stands for a default that depends on the rest: `prompt_tokens` is 16, or what
    `prompt` amounts to; `repeats` and `warmup` are fewer on a CPU.
    """

    variants: tuple[str, ...] = ("baseline",)
    device: str = "auto"
    model: str = "gpt2"
    weights: str = "auto"
    batch: int = 1
    prompt_tokens: int | None = None
    new_tokens: int = 100
    profile_tokens: int = 8
    repeats: int | None = None
    warmup: int | None = None
    seed: int = 0
    output: Path = Path("traces")
    prompt: str | None = None

    def check(self) -> None:
        """Raise TracekitError, one line naming the argument, if a value cannot be right whatever the machine."""
        if not self.variants:
            raise TracekitError("names no variant", where="--variant", mend="name at least one, such as baseline")
        if not _DEVICE.fullmatch(self.device):
            raise TracekitError(f"no such device as {self.device!r}", where="--device", mend="use auto, cpu, cuda or cuda:N")
        _at_least(1, "--batch", self.batch)
        _at_least(1, "--prompt-tokens", self.prompt_tokens)
        _at_least(2, "--new-tokens", self.new_tokens)
        _at_least(1, "--profile-tokens", self.profile_tokens)
        _at_least(1, "--repeats", self.repeats)
        _at_least(0, "--warmup", self.warmup)
        _at_least(0, "--seed", self.seed)
        if self.prompt is not None and self.prompt_tokens is not None:
            raise TracekitError("cannot be given along with --prompt", where="--prompt-tokens", mend="leave one out")
        if self.prompt == "":
            raise TracekitError("is empty", where="--prompt", mend="give some text, or leave it out")

    def command(self, *, variant: str, device: str, weights: str, repeats: int, warmup: int) -> str:
        """The command line that runs one variant so, with every default spelled out."""
        words: list[object] = ["tracekit", "collect", "--variant", variant, "--device", device, "--model", self.model]
        words += ["--weights", weights, "--batch", self.batch, "--new-tokens", self.new_tokens]
        words += ["--prompt", self.prompt] if self.prompt is not None else ["--prompt-tokens", self.prompt_length]
        words += ["--profile-tokens", self.profile_tokens, "--repeats", repeats, "--warmup", warmup]
        words += ["--seed", self.seed, "-o", self.output]
        return shlex.join(map(str, words))

    @property
    def prompt_length(self) -> int:
        """How many random token ids the prompt has where no text is given."""
        return DEFAULT_PROMPT_TOKENS if self.prompt_tokens is None else self.prompt_tokens


def _at_least(least: int, argument: str, value: int | None) -> None:
    if value is not None and value < least:
        raise TracekitError(f"is {value}", where=argument, mend=f"use {least} or more")
