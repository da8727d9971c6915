"""How is a kernel's or an operator's name shown without drowning the page?"""

from __future__ import annotations

import re

LIMIT = 64
ELLIPSIS = "…"
# What a generic launcher was instantiated for is told by a word such as `CUDAFunctor_add` or `GeluCUDAKernelImpl`.
_TELLING = re.compile(
    r"(?:\w*(?:[Ff]unctor|Impl|Ops?|_kernel_cuda|_impl)\b\w*|\w+_kernel_(?:cuda|impl)\w*|\w*Functor_\w+)"
)
_GENERIC = re.compile(
    r"elementwise|reduce_kernel|index|scan|sort|multi_tensor|trampoline|DeviceFor|Kernel2?$", re.IGNORECASE
)
_NOISE = re.compile(r"\(anonymous namespace\)::|\{anonymous\}::|<unnamed>::")
_RETURN_TYPE = re.compile(r"^(?:(?:static|inline|__global__)\s+)*(?:void|auto|int)\s+(?=\S)")


def shorten(name: str, limit: int = LIMIT) -> str:
    """A name of at most `limit` characters: no return type, namespaces, template or call arguments; the middle left out last."""
    if len(name) <= limit:
        return name
    plain = _RETURN_TYPE.sub("", _NOISE.sub("", name.strip()))
    outer = _outermost(plain)
    head = outer.rsplit("::", 1)[-1].strip() or outer
    if len(head) < len(plain) and _GENERIC.search(head):
        head = _with_functor(head, plain[len(outer) :])
    elif len(plain) > len(outer) and plain[len(outer)] == "<":
        head = f"{head}<{ELLIPSIS}>"
    return elide(head or name, limit)


def elide(text: str, limit: int) -> str:
    """`text` with its middle left out if it is longer than `limit`: both ends of a generated name tell something."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return text[: limit - tail - 1] + ELLIPSIS + text[-tail:]


def plotly_text(text: str) -> str:
    """`text` so that Plotly, which reads tags and entities in every label, shows it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _outermost(name: str) -> str:
    """What stands before the first template or call argument list."""
    cut = min((at for at in (name.find("<"), name.find("(")) if at > 0), default=len(name))
    return name[:cut]


def _with_functor(head: str, arguments: str) -> str:
    found = _TELLING.search(arguments)
    return f"{head}<{ELLIPSIS}{found.group()}{ELLIPSIS}>" if found else f"{head}<{ELLIPSIS}>"
