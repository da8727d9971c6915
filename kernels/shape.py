"""Which models can our own decode step run, and how do a kernel's blocks and warps share its work?"""

from __future__ import annotations

from dataclasses import dataclass

MOST_SEQUENCES = 16  # sequences of a batch
WIDEST = 1600  # the width of GPT-2 XL
HEAD_WIDTHS = (32, 64, 128)


def obstacle(width: int, head_width: int, batch: int) -> str | None:
    """Why the kernels cannot run a model of this shape; None if they can."""
    if head_width not in HEAD_WIDTHS:
        return f"heads must be {', '.join(map(str, HEAD_WIDTHS[:-1]))} or {HEAD_WIDTHS[-1]} wide, not {head_width}"
    if width % head_width or not 0 < width <= WIDEST:
        return f"the width must be a multiple of {head_width}, the heads', and at most {WIDEST}, not {width}"
    if not 0 < batch <= MOST_SEQUENCES:
        return f"the batch must be 1 to {MOST_SEQUENCES}, not {batch}"
    return None


@dataclass(frozen=True)
class Rows:
    """How many outputs a block computes, a multiple of 8.

    `norm` is for a layer behind a layer norm, `residual` for a layer before a residual connection. `residual` divides the
    width.
    """

    norm: int
    residual: int


@dataclass(frozen=True)
class Shape:
    """The shape of a model and the batch, to which there is no `obstacle`, and how blocks and warps share the work.

    decode.cu is compiled for one such shape.
    """

    width: int
    head_width: int
    batch: int

    @property
    def heads(self) -> int:
        """The number of attention heads."""
        return self.width // self.head_width

    @property
    def warps(self) -> int:
        """The number of warps in a block of a layer with `width` inputs. Each warp has at most 128 of these inputs."""
        return max(8, -(-self.width // 128))

    @property
    def wide_warps(self) -> int:
        """The number of warps in a block of the layer with four times as many inputs."""
        return 16

    @property
    def attention_warps(self) -> int:
        """The number of warps in a block of attention, which has one head of one sequence."""
        return 16

    @property
    def fp16_rows(self) -> Rows:
        """How many outputs a block computes with FP16 weights, as measured on an H100 (docs/kernels.md).

        With one sequence, twice as many blocks start to stream weights sooner. With more sequences, each block has to read all
        of their activations, so fewer blocks are better. If a lane holds two sequences, it pays to share the norm among more
        outputs.
        """
        if self.batch == 1:
            return Rows(norm=16, residual=8)
        return Rows(norm=16 if self.batch <= 8 else 24, residual=16)

    @property
    def int8_rows(self) -> Rows:
        """How many outputs a block computes with INT8 weights.

        With one sequence, twice as many as with FP16 behind a norm, which are as many bytes.
        """
        return Rows(norm=32 if self.batch == 1 else 16, residual=16)

    @property
    def macros(self) -> dict[str, int]:
        """The macros that decode.cu needs."""
        return {
            "WIDTH": self.width,
            "HEAD_WIDTH": self.head_width,
            "BATCH": self.batch,
            "WARPS": self.warps,
            "WIDE_WARPS": self.wide_warps,
            "ATTENTION_WARPS": self.attention_warps,
            "FP16_NORM_ROWS": self.fp16_rows.norm,
            "FP16_RESIDUAL_ROWS": self.fp16_rows.residual,
            "INT8_NORM_ROWS": self.int8_rows.norm,
            "INT8_RESIDUAL_ROWS": self.int8_rows.residual,
        }
