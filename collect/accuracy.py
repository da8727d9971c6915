"""Does a variant still compute GPT-2?

Its logits are compared with those of the plain FP32 model, step by step of the same run.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tracekit.errors import TracekitError
from tracekit.manifest import Accuracy
from tracekit.wording import is_number, scientific

from .candidate import Candidate
from .environment import tf32
from .workload import Next

REFERENCE = "baseline: float32, eager, sdpa attention, TF32 off"
# The bound of INT8 allows for the error of the weights themselves, not for errors of the kernels: see docs/kernels.md.
BOUNDS: Mapping[str, float] = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2, "int8": 4e-2}
_TF32_BOUND = 5e-3  # TF32 keeps as many bits of each factor as FP16 does


def bound(dtype: str, tf32_allowed: bool) -> float:
    """The largest allowed ‖logits − reference‖ / ‖reference‖ for a dtype, or for weights in that dtype."""
    return _TF32_BOUND if dtype == "float32" and tf32_allowed else BOUNDS[dtype]


def compare(candidate: Candidate, reference: Candidate, new_tokens: int, allowed: float) -> Accuracy:
    """Run the candidate's workload once. The reference gets exactly the tokens that the candidate sees.

    The candidate leads. So what a captured step feeds back to itself is checked as well.
    """
    device = candidate.assignment.prompt.device
    squares = torch.zeros(2, dtype=torch.float64, device=device)
    equal = torch.zeros((), dtype=torch.int64, device=device)
    greedy = candidate.assignment.sampling is None

    def both(tokens: Tensor, positions: Tensor) -> Next:
        # The reference runs first, because a captured step overwrites the tokens and the position that it was given.
        with tf32(False):
            wanted, _, expected = reference.step(tokens, positions)
        expected = expected.double()
        found = candidate.step(tokens, positions)
        token, _, logits = found
        squares.add_(torch.stack([(logits.double() - expected).square().sum(), expected.square().sum()]))
        equal.add_(((token if greedy else logits.argmax(-1)) == wanted).sum())
        return found

    torch.manual_seed(candidate.assignment.seed)
    generation = candidate.assignment.task(both, candidate.assignment.prompt, new_tokens)
    difference, norm = squares.sqrt().tolist()
    return Accuracy(
        reference=REFERENCE,
        relative_error=difference / norm if norm else difference,
        bound=allowed,
        equal_tokens=int(equal),
        tokens=generation.tokens.numel(),
    )


def require(accuracy: Accuracy, variant: str) -> None:
    """Raise TracekitError if the error is above its bound, or is not a number.

    The message names the variant, its error and the bound.
    """
    if not accuracy.relative_error <= accuracy.bound:
        error = accuracy.relative_error
        off = scientific(error) if is_number(error) else str(error)  # a NaN is the worst error, so it is shown as it is
        raise TracekitError(
            f"its logits are {off} off the FP32 baseline's, {scientific(accuracy.bound)} is the bound",
            where=f"variant {variant}",
            mend="its numbers are not kept; run the other variants",
        )
