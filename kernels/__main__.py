"""How many resources do our kernels take on an architecture?

`python -m tracekit.kernels sm_75` prints it, without a GPU or a driver.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap

from tracekit.architectures import Capability, multiprocessor, multiprocessors
from tracekit.errors import MissingExtraError, TracekitError

from .configuration import Configuration, declared
from .inspection import Inspected, inspect

_LINE = "{:<30} {:>7} {:>4} {:>6} {:>3} {:>5} {}"
_HEADING = _LINE.format("kernel", "threads", "regs", "shared", "fit", "warps", "limited by")
_SHORT = {"registers": "regs", "shared memory": "shared"}


def main() -> int:
    """Print a table for each configuration and return the exit code.

    It is 0 if all is well, 1 if a kernel spills or does not fit, and 2, after one line, if that cannot be told.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tracekit.kernels",
        description="Compile every kernel for an architecture and print what it takes of a multiprocessor: registers a "
        "thread, bytes of shared memory a block, blocks and warps at once, and what keeps out the next block.",
        epilog="Example: python -m tracekit.kernels sm_75 decode.cu WIDTH=768 BATCH=1",
    )
    known = ", ".join("sm_" + one.compute_capability.replace(".", "") for one in multiprocessors())
    parser.add_argument("architecture", nargs="?", default="sm_75", help=f"{known}; sm_75, a T4, by default")
    parser.add_argument("only", nargs="*", help="sources and macros (WIDTH=768) that a configuration must have")
    arguments = parser.parse_args()
    try:
        return _print(_capability(arguments.architecture), frozenset(arguments.only))
    except TracekitError as error:
        print(f"tracekit: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does; else Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _print(capability: Capability, only: frozenset[str]) -> int:
    limits = multiprocessor(capability)
    chosen = [one for one in _declared() if only <= set(str(one).split()) and one.capability <= capability]
    if not chosen:
        raise TracekitError("no configuration is like this", where=" ".join(sorted(only)), mend="leave one of them out")
    print(
        f"{limits.name}, compute capability {limits.compute_capability} ({limits.example}). A multiprocessor has\n"
        f"{limits.registers:,} registers, {limits.shared_bytes:,} bytes of shared memory, room for {limits.warps} warps\n"
        f"and {limits.blocks} blocks. `fit` are blocks that it holds at once. Compiled, not run."
    )
    problems = 0
    for configuration in chosen:
        print("\n" + textwrap.fill(str(configuration), 80, subsequent_indent="  ") + f"\n{_HEADING}")
        for kernel in inspect(configuration, capability):
            print(_row(kernel))
            problems += len(kernel.problems)
    return 1 if problems else 0


def _declared() -> tuple[Configuration, ...]:
    try:
        return declared()
    except ImportError as error:
        raise MissingExtraError(f"the kernels' launches need torch ({error})", "collect,cuda") from error


def _row(kernel: Inspected) -> str:
    taken, holds = kernel.taken, kernel.occupancy
    shared = f"{taken.shared_bytes + kernel.dynamic_shared:,}"
    warps, limits = f"{holds.warps}/{holds.most}", ", ".join(_SHORT.get(limit, limit) for limit in holds.limits)
    line = _LINE.format(kernel.name, taken.threads, taken.registers, shared, holds.blocks, warps, limits)
    return "\n".join((line, *(f"  ! {problem}" for problem in kernel.problems)))


def _capability(text: str) -> Capability:
    match = re.fullmatch(r"sm_(\d+)(\d)", text)
    if match is None:
        raise TracekitError("is no architecture", where=text, mend="name one such as sm_75")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
