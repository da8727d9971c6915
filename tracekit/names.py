"""How is a kernel's, an operator's or a layer's name shown where space is short?"""

from __future__ import annotations

import re
from collections.abc import Sequence

LIMIT = 58
ELLIPSIS = "…"
# What a generic launcher was instantiated for is told by a word such as `CUDAFunctor_add` or `GeluCUDAKernelImpl`,
_TELLING = re.compile(r"\w*[Ff]unctor(?:_\w+)?\b|\w+Impl\b|\w+Ops?\b|\w+_kernel(?:_cuda|_impl)?\b|launch_\w+|multi_?tensor_\w+")
# but not by these, which are launchers themselves.
_EMPTY = re.compile(
    r"gpu_kernel_impl|gpu_kernel\b|ReduceOp|^[AB]?(?:Unary|Binary)Functor|BUnary|BinaryOp|TrivialOp|OpaqueType|gpu_index_kernel"
)
_GENERIC = re.compile(r"elementwise|reduce_kernel|index_kernel|multi_tensor|trampoline|DeviceFor|distribution", re.IGNORECASE)
_TOKEN = re.compile(r"\\.|/|[^/\\]+|\\", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NOISE = re.compile(r"\(anonymous namespace\)::|\{anonymous\}::|<unnamed>::")
_RETURN_TYPE = re.compile(r"^(?:(?:static|inline|__global__)\s+)*(?:void|auto|int)\s+(?=\S)")
_CUTLASS = re.compile(r"^(?:cutlass::)?(Kernel2?)<([\w:]+)>")


def shorten(name: str, limit: int = LIMIT) -> str:
    """A name of at most `limit` characters: without return type, namespaces and arguments, then without its middle."""
    if len(name) <= limit:
        return name
    plain = _RETURN_TYPE.sub("", _without_enable_if(_NOISE.sub("", name.strip())))
    outer = _outermost(plain)
    head, arguments = _last_part(outer), plain[len(outer) :]
    if found := _CUTLASS.match(head + arguments):
        return elide(f"{found[1]}<{found[2].rsplit('::', 1)[-1]}>", limit)
    inner = _functor(arguments) if _GENERIC.search(head) else ""
    if inner or arguments.startswith("<"):
        # The head may be cut, its argument not: it is what tells two of them apart.
        inner = elide(inner, limit // 2)
        return f"{elide(head, limit - len(inner) - 3)}<{inner}{ELLIPSIS}>"
    return elide(head or name, limit)


def elide(text: str, limit: int) -> str:
    """`text` with its middle left out if it is longer than `limit`: both ends of a generated name tell something."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return text[: limit - tail - 1] + ELLIPSIS + text[-tail:]


def join_path(names: Sequence[str]) -> str:
    """A layer's names from the outermost in as one text, joined by `/`; a `/` or a backslash within a name is escaped."""
    return "/".join(name.replace("\\", "\\\\").replace("/", "\\/") for name in names)


def split_path(path: str) -> tuple[str, ...]:
    """The names that `join_path` joined."""
    return tuple(_ESCAPED.sub(r"\1", step) for step in _steps(path))


def _steps(path: str) -> list[str]:
    """A path's names, still escaped."""
    steps = [""]
    for token in _TOKEN.findall(path):
        if token == "/":
            steps.append("")
        else:
            steps[-1] += token
    return steps


def shorten_path(path: str, limit: int = LIMIT) -> str:
    """A layer's path from its end, as many whole steps as fit: the inner layers tell paths apart."""
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
    """What stands before the first template or call argument list."""
    cut = min((at for at in (name.find("<"), name.find("(")) if at > 0), default=len(name))
    return name[:cut]


def _last_part(name: str) -> str:
    """A name without its namespaces, but the last one where the rest says nothing: `gemvx::kernel`."""
    parts = name.strip().split("::")
    kept = parts[-2:] if parts[-1].lower() == "kernel" else parts[-1:]
    return "::".join(kept) or name


def _without_enable_if(name: str) -> str:
    """What a templated return type `std::enable_if<…>::type` stands before."""
    if not name.startswith(("std::enable_if", "enable_if")):
        return name
    before, found, after = name.partition(">::type ")
    return after if found and before else name


def _functor(arguments: str) -> str:
    candidates = _TELLING.findall(arguments)
    return next((word for word in candidates if not _EMPTY.search(word)), candidates[0] if candidates else "")
