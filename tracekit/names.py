"""How do we show the name of a kernel, an operator or a layer where space is short?"""

from __future__ import annotations

import re
from collections.abc import Sequence

LIMIT = 58
ELLIPSIS = "…"
# A word such as `CUDAFunctor_add` or `GeluCUDAKernelImpl` tells what a generic launcher was instantiated for.
_TELLING = re.compile(r"\w*[Ff]unctor(?:_\w+)?\b|\w+Impl\b|\w+Ops?\b|\w+_kernel(?:_cuda|_impl)?\b|launch_\w+|multi_?tensor_\w+")
# These words do not tell it, because they are launchers themselves.
_EMPTY = re.compile(
    r"gpu_kernel_impl|gpu_kernel\b|ReduceOp|^[AB]?(?:Unary|Binary)Functor|BUnary|BinaryOp|TrivialOp|OpaqueType|gpu_index_kernel"
)
_GENERIC = re.compile(r"elementwise|reduce_kernel|index_kernel|multi_tensor|trampoline|DeviceFor|distribution", re.IGNORECASE)
_TOKEN = re.compile(r"\\.|/|[^/\\]+|\\", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WORD = re.compile(r"\w+")
_NOISE = re.compile(r"\(anonymous namespace\)::|\{anonymous\}::|<unnamed>::")
_RETURN_TYPE = re.compile(r"^(?:(?:static|inline|__global__)\s+)*(?:void|auto|int)\s+(?=\S)")
_CUTLASS = re.compile(r"^(?:cutlass::)?(Kernel2?)<([\w:]+)>")


def shorten(name: str, limit: int = LIMIT) -> str:
    """A name of at most `limit` characters.

    Return type, namespaces and arguments are removed first. If that is not enough, the middle is left out.
    """
    if len(name) <= limit:
        return name
    plain = _RETURN_TYPE.sub("", _without_enable_if(_NOISE.sub("", name.strip())))
    outer = _outermost(plain)
    head, arguments = _last_part(outer), plain[len(outer) :]
    if found := _CUTLASS.match(head + arguments):
        return elide(f"{found[1]}<{found[2].rsplit('::', 1)[-1]}>", limit)
    inner = _functor(arguments) if _GENERIC.search(head) else ""
    if inner or arguments.startswith("<"):
        # The argument gets its space first, and the head what is left: the argument tells two uses of one launcher apart.
        inner = elide(inner, limit // 2)
        return f"{elide(head, limit - len(inner) - 3)}<{inner}{ELLIPSIS}>"
    return elide(head or name, limit)


def renamed(old: str, new: str, limit: int = LIMIT) -> tuple[str, str, str]:
    """How a name that became another one is shown: the old name, the new one and a word of the old one.

    Each is of at most `limit` characters. If both names would read the same, the new one is replaced by the first word in which
    they differ, and the last text is the old one's word in that place: `BFloat16` and `Half`. Else the last text is empty.
    """
    short = shorten(old, limit), shorten(new, limit)
    if short[0] != short[1]:
        return *short, ""
    words = [_WORD.findall(name) for name in (old, new)]
    before, after = next((pair for pair in zip(*words, strict=False) if pair[0] != pair[1]), (old, new))
    return short[0], elide(after, limit), elide(before, limit)


def elide(text: str, limit: int) -> str:
    """`text` without its middle if it is longer than `limit`: both ends of a generated name carry information."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return text[: limit - tail - 1] + ELLIPSIS + text[-tail:]


def join_path(names: Sequence[str]) -> str:
    """A layer's names, from the outermost to the innermost, as one text with `/` between them.

    A `/` or a backslash inside a name is escaped.
    """
    return "/".join(name.replace("\\", "\\\\").replace("/", "\\/") for name in names)


def split_path(path: str) -> tuple[str, ...]:
    """The names that `join_path` joined, in the same order."""
    return tuple(_ESCAPED.sub(r"\1", step) for step in _steps(path))


def _steps(path: str) -> list[str]:
    """The names of a path, still escaped."""
    steps = [""]
    for token in _TOKEN.findall(path):
        if token == "/":
            steps.append("")
        else:
            steps[-1] += token
    return steps


def shorten_path(path: str, limit: int = LIMIT) -> str:
    """The end of a layer's path, with as many whole names as fit. The inner layers tell paths apart."""
    if len(path) <= limit:
        return path
    kept = ""
    for step in reversed(_steps(path)):
        longer = f"/{step}{kept}"
        if len(longer) > limit - 1:
            break
        kept = longer
    return f"{ELLIPSIS}{kept}" if kept else elide(path, limit)


def _outermost(name: str) -> str:
    """The part of a name before its first template or argument list."""
    cut = min((at for at in (name.find("<"), name.find("(")) if at > 0), default=len(name))
    return name[:cut]


def _last_part(name: str) -> str:
    """A name without its namespaces. If the rest is only `kernel`, the last namespace stays: `gemvx::kernel`."""
    parts = name.strip().split("::")
    kept = parts[-2:] if parts[-1].lower() == "kernel" else parts[-1:]
    return "::".join(kept) or name


def _without_enable_if(name: str) -> str:
    """The rest of a name after a templated return type `std::enable_if<…>::type`."""
    if not name.startswith(("std::enable_if", "enable_if")):
        return name
    before, found, after = name.partition(">::type ")
    return after if found and before else name


def _functor(arguments: str) -> str:
    candidates = _TELLING.findall(arguments)
    return next((word for word in candidates if not _EMPTY.search(word)), candidates[0] if candidates else "")
