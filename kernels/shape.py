"""Which models can our own decode step run, and how is a kernel's work shared out over blocks and warps?"""

from __future__ import annotations

from dataclasses import dataclass

MOST_SEQUENCES = 16  # of a batch
WIDEST = 1600  # GPT-2 XL's embedding
HEAD_WIDTHS = (32, 64, 128)


def obstacle(width: int, head_width: int, batch: int) -> str | None:
    """Why the kernels cannot run a model of this shape, and None where they can."""
    if head_width not in HEAD_WIDTHS:
        return f"heads must be {', '.join(map(str, HEAD_WIDTHS[:-1]))} or {HEAD_WIDTHS[-1]} wide, not {head_width}"
    if width % head_width or not 0 < width <= WIDEST:
        return f"the width must be a multiple of {head_width}, the heads', and at most {WIDEST}, not {width}"
    if not 0 < batch <= MOST_SEQUENCES:
        return f"the batch must be 1 to {MOST_SEQUENCES}, not {batch}"
    return None


@dataclass(frozen=True)
class Rows:
    """Outputs of a block, multiples of 8: of a layer behind a layer norm, and of one before a residual connection.

    The latter divide the width.
    """

    norm: int
    residual: int


@dataclass(frozen=True)
class Shape:
    """A model's shape and the batch, without `obstacle`, and how the work is shared out: what decode.cu is compiled for."""

    width: int
    head_width: int
    batch: int

    @property
    def heads(self) -> int:
        """Of attention."""
        return self.width // self.head_width

    @property
    def warps(self) -> int:
        """Of a block of a layer with `width` inputs: each has at most 128 of them."""
        return max(8, -(-self.width // 128))

    @property
    def wide_warps(self) -> int:
        """Of a block of the layer with four times as many inputs."""
        return 16

    @property
    def fp16_rows(self) -> Rows:
        """For FP16 weights, as measured on an H100 (docs/kernels.md).

        With one sequence, twice the blocks stream weights sooner; with more, each block reads all of their activations,
        and with two sequences a lane the norm is worth sharing among more outputs.
        """
        if self.batch == 1:
            return Rows(norm=16, residual=8)
        return Rows(norm=16 if self.batch <= 8 else 24, residual=16)

    @property
    def int8_rows(self) -> Rows:
        """The same for INT8 weights; with one sequence, twice the outputs, which are as many bytes."""
        return Rows(norm=32 if self.batch == 1 else 16, residual=16)

    @property
    def macros(self) -> dict[str, int]:
        """What decode.cu asks for."""
        return {
            "WIDTH": self.width,
            "HEAD_WIDTH": self.head_width,
            "BATCH": self.batch,
            "WARPS": self.warps,
            "WIDE_WARPS": self.wide_warps,
            "FP16_NORM_ROWS": self.fp16_rows.norm,
            "FP16_RESIDUAL_ROWS": self.fp16_rows.residual,
            "INT8_NORM_ROWS": self.int8_rows.norm,
            "INT8_RESIDUAL_ROWS": self.int8_rows.residual,
        }
