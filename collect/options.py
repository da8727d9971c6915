"""What can a user ask of a collection?

Nothing in this module needs torch.
"""

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
DEFAULT_NEW_TOKENS = 100
WORKLOAD_NAMES = ("generate", "recompute", "prefill")
ATTENTION_NAMES = ("sdpa", "explicit")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class Console(Protocol):
    """Tells a person how a collection proceeds. It never writes to standard output, which is for results."""

    def notice(self, message: str) -> None:
        """Show one line that the reader must not miss. If it is about a result, the manifest has it as well."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of the work `label` are finished. It is called with 0 when the work begins."""

    def result(self, trace: Path, manifest: RunManifest) -> None:
        """Show a variant's result, once its files are written."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from the `top_k` most likely ones, or from all if it is None.

    The logits are divided by `temperature`.
    """

    temperature: float
    top_k: int | None = None

    def __str__(self) -> str:
        """Return the text that the manifest holds."""
        return f"temperature {self.temperature:g}" + ("" if self.top_k is None else f", top-k {self.top_k}")


@dataclass(frozen=True)
class CollectOptions:
    """What to run, and where to write it.

    `model` is the name of a preset, or the path of a transformers checkpoint directory or of a config.json. `weights` is
    `auto`, `pretrained`, `random` or a path. With `all_variants`, all variants run that the device supports, instead of
    `variants`.

    None stands for a default that depends on the other options. `prompt_tokens` is 16, or the length of `prompt`. `new_tokens`
    is 100, or 1 for a prefill. `repeats` and `warmup` are lower on a CPU. Without `temperature` and `top_k`, each token is the
    most likely one.
    """

    variants: tuple[str, ...] = ("baseline",)
    all_variants: bool = False
    workload: str = "generate"
    attention: str = "sdpa"
    layers: bool = False
    tf32: bool = False
    device: str = "auto"
    model: str = "gpt2"
    weights: str = "auto"
    batch: int = 1
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    profile_tokens: int = 8
    repeats: int | None = None
    warmup: int | None = None
    seed: int = 0
    output: Path = Path("traces")
    prompt: str | None = None
    resume: bool = False

    def check(self) -> None:
        """Raise TracekitError, one line that names the argument, if a value would be wrong on any machine."""
        if not self.variants and not self.all_variants:
            raise TracekitError("names no variant", where="--variant", mend="name at least one, such as baseline")
        if not _DEVICE.fullmatch(self.device):
            raise TracekitError(f"no such device as {self.device!r}", where="--device", mend="use auto, cpu, cuda or cuda:N")
        _one_of(WORKLOAD_NAMES, "--workload", self.workload)
        _one_of(ATTENTION_NAMES, "--attention", self.attention)
        _at_least(1, "--batch", self.batch)
        _at_least(1, "--prompt-tokens", self.prompt_tokens)
        self._check_new_tokens()
        _at_least(1, "--profile-tokens", self.profile_tokens)
        _at_least(1, "--repeats", self.repeats)
        _at_least(0, "--warmup", self.warmup)
        _at_least(0, "--seed", self.seed)
        _at_least(1, "--top-k", self.top_k)
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise TracekitError(f"is {self.temperature:g}", where="--temperature", mend="use more than 0, or leave it out")
        if self.prompt is not None and self.prompt_tokens is not None:
            raise TracekitError("cannot be given along with --prompt", where="--prompt-tokens", mend="leave one out")
        if self.prompt == "":
            raise TracekitError("is empty", where="--prompt", mend="give some text, or leave it out")

    def _check_new_tokens(self) -> None:
        if self.workload != "prefill":
            _at_least(2, "--new-tokens", self.new_tokens)
        elif self.new_tokens not in (None, 1):
            raise TracekitError(
                f"is {self.new_tokens}, and a prefill yields 1", where="--new-tokens", mend="leave it out, or use generate"
            )

    def command(self, *, variant: str, layers: bool, device: str, weights: str, repeats: int, warmup: int) -> str:
        """The command line that runs one variant with these settings. Every default is written out."""
        words: list[object] = ["tracekit", "collect", "--variant", variant, "--device", device, "--model", self.model]
        words += ["--weights", weights, "--workload", self.workload, "--batch", self.batch]
        words += ["--prompt", self.prompt] if self.prompt is not None else ["--prompt-tokens", self.prompt_length]
        words += ["--new-tokens", self.new_length, "--attention", self.attention]
        words += [] if self.temperature is None else ["--temperature", self.temperature]
        words += [] if self.top_k is None else ["--top-k", self.top_k]
        words += ["--profile-tokens", self.profile_tokens, "--repeats", repeats, "--warmup", warmup]
        words += ["--seed", self.seed, "-o", self.output, "--tf32" if self.tf32 else "--no-tf32"]
        words += ["--layers"] if layers else []
        return shlex.join(map(str, words))

    @property
    def prompt_length(self) -> int:
        """How many random token ids the prompt has if no text is given."""
        return DEFAULT_PROMPT_TOKENS if self.prompt_tokens is None else self.prompt_tokens

    @property
    def new_length(self) -> int:
        """How many new tokens a timed run generates."""
        if self.workload == "prefill":
            return 1
        return DEFAULT_NEW_TOKENS if self.new_tokens is None else self.new_tokens

    @property
    def profiled_length(self) -> int:
        """How many new tokens the profiled window generates: one in the prefill, and one in each decode step."""
        return 1 if self.workload == "prefill" else self.profile_tokens + 1

    @property
    def sampling(self) -> Sampling | None:
        """How tokens are drawn. None if each is the most likely one."""
        if self.temperature is None and self.top_k is None:
            return None
        return Sampling(1.0 if self.temperature is None else self.temperature, self.top_k)


def _at_least(least: int, argument: str, value: int | None) -> None:
    if value is not None and value < least:
        raise TracekitError(f"is {value}", where=argument, mend=f"use {least} or more")


def _one_of(names: tuple[str, ...], argument: str, value: str) -> None:
    if value not in names:
        raise TracekitError(f"no such choice as {value!r}", where=argument, mend=f"use {' or '.join(names)}")
