"""What did the machine lack, or run out of?

Errors of torch that the user can correct become one line each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tracekit.errors import TracekitError

from .variants import Variant
from .weights import first_line


@contextmanager
def explained(variant: Variant, device: torch.device) -> Iterator[None]:
    """Raise errors that the user can correct as a TracekitError of one line, and all other errors unchanged."""
    try:
        yield
    except Exception as error:
        explanation = explain(error, variant, device)
        if explanation is None:
            raise
        raise explanation from error


def explain(error: Exception, variant: Variant, device: torch.device) -> TracekitError | None:
    """The error for lack of memory, for a failed compilation, or for a kernel that gave up, as one line.

    None if the error is a fault of ours.
    """
    where = f"variant {variant.name}"
    if _out_of_memory(error):
        return TracekitError(
            f"out of memory on {device}", where=where, mend="use a smaller --model or --batch, or fewer tokens"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
        return TracekitError(f"torch.compile failed ({first_line(error)})", where=where, mend=_compiler_mend(error))
    if isinstance(error, RuntimeError) and "unspecified launch failure" in str(error):
        from tracekit.kernels.hopper import PATIENCE_MS

        return TracekitError(
            f"a kernel failed on {device}: the one that runs a whole step stops itself if its blocks do not all run within "
            f"{PATIENCE_MS // 1000} seconds",
            where=where,
            mend="run it again while no other program uses the GPU",
        )
    return None


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _compiler_mend(error: Exception) -> str:
    text = str(error)
    if "InvalidCxxCompiler" in text or "C++ compiler" in text or "C compiler" in text:
        return "install a C++ compiler (apt install g++) or name one in CXX"
    if "Python.h" in text:
        return "install Python's headers (apt install python3-dev)"
    return "run the other variants, or set TORCH_LOGS=+inductor to see why"
