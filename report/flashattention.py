"""Can FlashAttention run on a T4, and what would it gain there?

Nothing in this section was measured. An assembler decided which instructions exist. Limits and peaks are NVIDIA's. Statements
are quoted. Shares are computed here from the shape of a model. The section says for each of them where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.architectures import Instruction, instructions, multiprocessor
from tracekit.devices import find_datasheet
from tracekit.manifest import Model
from tracekit.quoted import quoted
from tracekit.wording import MISSING, counted, three_digits

from .bundle import TraceBundle
from .nonbreaking import binary_size, operations, percent, size
from .tables import Cell, Column, TableView, count_cell, share_cell

_TURING = (7, 5)
_AMPERE = (8, 0)
_HALF = 2  # bytes of an FP16 number
_CONTEXTS = (64, 256, 1024)
_PROMPTS = (512, 1024)
_SMALL = Model("gpt2", vocab_size=50257, context=1024, layers=12, heads=12, width=768, parameters=124_439_808)

# How kernels/flash.cu uses each instruction of tracekit.architectures, or what it does instead.
_OURS = {
    "ldmatrix": "used for keys and values",
    "mma m16n8k8, FP16": "used for both products",
    "mma m8n8k16, INT8": "not needed",
    "mma m16n8k16, FP16": "two m16n8k8 in a row, over the same registers",
    "mma m16n8k16, BF16": "FP16 in and out; scores, softmax and sums in FP32",
    "cp.async": "the next tile comes through registers while this one is worked on",
}


@dataclass(frozen=True)
class FlashAttentionView:
    """The section: an answer in one or two sentences, the hardware, the study's statements, and two tables of shares."""

    answer: str
    hardware: TableView
    statements: TableView
    decode: TableView
    prefill: TableView


def flash_attention(traces: Sequence[TraceBundle]) -> FlashAttentionView | None:
    """The section. None if no trace gives a reason to show it.

    It is shown for a trace of a Turing device, and for a run of the model that the quoted study is about.
    """
    models = [found.model for trace in traces if (found := trace.manifest) is not None]
    turing = any(str(trace.device.get("compute_capability")) == "7.5" for trace in traces)
    if not turing and not any(model.name == quoted().source.model for model in models):
        return None
    larger = {model.name: model for model in models if model.name.startswith(f"{_SMALL.name}-") and _sound(model)}
    shown = (_SMALL, *larger.values())
    return FlashAttentionView(_answer(), _hardware(), _statements(), _decode(shown), _prefill(shown))


def decode_bytes(model: Model, context: int) -> tuple[int, int]:
    """The bytes of weights and the bytes of KV cache that one decode step reads, in FP16 at batch 1.

    The weights are all but the embeddings of other tokens. A block has 12 width² weights, and 13 width numbers in its biases
    and layer norms. Then come a layer norm and the LM head.
    """
    width = model.width
    weights = model.layers * (12 * width**2 + 13 * width) + 2 * width + model.vocab_size * width
    return _HALF * weights, _HALF * model.layers * 2 * context * width


def prefill_flops(model: Model, tokens: int) -> tuple[int, int]:
    """The FLOPs of a prompt: those of its linear layers, and those of causal attention, in which token t sees t tokens.

    A multiply and an add count as two. Linear layers take 24 width² for each token and block, and the LM head runs for the last
    token only. Attention has two products of length width for each pair of tokens that see each other.
    """
    width, pairs = model.width, tokens * (tokens + 1) // 2
    return 24 * tokens * width**2 * model.layers + 2 * width * model.vocab_size, 4 * width * pairs * model.layers


def score_bytes(model: Model, tokens: int) -> int:
    """The bytes of the scores of all heads and blocks of a prompt in FP16. Attention without fusion writes them once."""
    return _HALF * model.layers * model.heads * tokens**2


def _sound(model: Model) -> bool:
    """Whether all sizes of the model's shape are positive. Anybody may have written the bundle."""
    return min(model.vocab_size, model.layers, model.heads, model.width, model.context) > 0


def _share(part: int, rest: int) -> float:
    return part / (part + rest)


def _answer() -> str:
    weights, cache = decode_bytes(_SMALL, _CONTEXTS[0])
    linear, attention = prefill_flops(_SMALL, _PROMPTS[-1])
    return (
        "It can run: a T4 has the matrix instructions that FlashAttention is made of. It cannot speed up decoding: of what a "
        f"step of GPT-2 small reads at context {_CONTEXTS[0]}, {percent(_share(cache, weights))} is the KV cache, and every "
        "kernel has to read that; the rest are weights. It can help with long prompts: of the arithmetic on "
        f"{counted(_PROMPTS[-1], 'token')}, attention is {percent(_share(attention, linear), 0)}."
    )


def _hardware() -> TableView:
    columns = (
        Column("Instruction", "text"),
        Column("What it does", "note"),
        Column("From", "text", "the compute capability"),
        Column("T4", "text"),
        Column("In our kernel", "note"),
    )
    rows = [_instruction(one) for one in instructions()]
    turing, ampere = multiprocessor(_TURING), multiprocessor(_AMPERE)
    rooms = f"{binary_size(turing.shared_bytes)} a multiprocessor, {binary_size(ampere.shared_bytes)} in an {ampere.example}"
    less = ("shared memory", rooms, MISSING, "less of it", "tiles so small that several blocks fit")
    rows.append(tuple(Cell(text) for text in less))
    return TableView(
        key="hardware",
        title="What a T4 has of it",
        columns=columns,
        rows=tuple(rows),
        total=len(rows),
        source="tracekit",
        note="Compiled, not run: NVIDIA's assembler takes each for a compute capability or refuses it. Limits as documented.",
    )


def _instruction(one: Instruction) -> tuple[Cell, ...]:
    has = "has it" if one.known_to(_TURING) else "lacks it"
    return (Cell(one.name), Cell(one.purpose), Cell(one.since), Cell(has), Cell(_OURS[one.name]))


def _statements() -> TableView:
    said = [one.text for one in quoted().statements if one.topic == "FlashAttention"]
    rows = tuple(
        (Cell(f"“{text}”"), Cell(finding), Cell(kind)) for text, (finding, kind) in zip(said, _findings(), strict=True)
    )
    return TableView(
        key="statements",
        title=f"Quoted: {quoted().source.line}",
        columns=(Column("The study", "words"), Column("What we find", "note"), Column("By", "text")),
        rows=rows,
        total=len(rows),
        source="the study",
        note=quoted().source.title,
    )


def _findings() -> tuple[tuple[str, str], ...]:
    """What we find about each of the study's statements, and by what means."""
    turing, ampere = multiprocessor(_TURING), multiprocessor(_AMPERE)
    return (
        (
            "It has both: ldmatrix and the m16n8k8 form of mma are as old as this very capability. What it lacks are "
            "cp.async, m16n8k16 and BF16, which FlashAttention-2 is written with.",
            "compiling",
        ),
        (
            f"True: {binary_size(turing.shared_bytes)} against {binary_size(ampere.shared_bytes)} of an {ampere.example}. "
            "It asks for smaller tiles; the algorithm needs no more.",
            "documentation",
        ),
        (_intensity(), "datasheets"),
        (
            "That is version 2, whose README says: “Support for Turing GPUs (T4, RTX 2080) is coming soon, please use "
            "FlashAttention 1.x for Turing GPUs for now.” Version 1 lists “Turing or Ampere GPUs (e.g., A100, RTX 3090, T4, "
            "RTX 2080)”.",
            "its READMEs",
        ),
    )


def _intensity() -> str:
    """The ratio of arithmetic to bandwidth, on which a fused kernel depends, from the datasheets of two devices; as a text."""
    small, large = find_datasheet("Tesla T4"), find_datasheet("NVIDIA A100-SXM4-40GB")
    assert small is not None
    assert large is not None
    balances = [1000 * one.tflops["fp16"] / one.memory_gb_s for one in (small, large)]
    return (
        "What counts is arithmetic against bandwidth, and there the two are alike: "
        f"{three_digits(balances[0])} FP16 operations a byte on a T4, {three_digits(balances[1])} on an A100. "
        "Scores that never go to memory save both the same share."
    )


def _decode(models: Sequence[Model]) -> TableView:
    columns = (
        Column("Model", "text"),
        Column("Context", "number", "tokens in the KV cache"),
        Column("Weights", "number", "read by every step"),
        Column("KV cache", "number", "read by every step"),
        Column("KV share", "bar", "of both: what attention has to do with, and must read in any case"),
    )
    rows = []
    for model in models:
        for context in (one for one in _CONTEXTS if one <= model.context):
            weights, cache = decode_bytes(model, context)
            rows.append(
                (
                    Cell(model.name),
                    count_cell(context),
                    Cell(size(weights), weights),
                    Cell(size(cache), cache),
                    share_cell(_share(cache, weights)),
                )
            )
    note = "Computed from the model's shape: FP16, batch 1."
    return TableView("decode", "Where it cannot help: decoding", columns, tuple(rows), len(rows), "tracekit", note)


def _prefill(models: Sequence[Model]) -> TableView:
    columns = (
        Column("Model", "text"),
        Column("Prompt", "number", "tokens"),
        Column("Linear layers", "number"),
        Column("Attention", "number", "causal: only what is seen"),
        Column("Attention's share", "bar", "of the arithmetic"),
        Column("Scores", "number", "of all layers in FP16, which attention without fusion writes, and reads again"),
    )
    rows = []
    for model in models:
        for tokens in (one for one in _PROMPTS if one <= model.context):
            linear, attention = prefill_flops(model, tokens)
            scores = score_bytes(model, tokens)
            rows.append(
                (
                    Cell(model.name),
                    count_cell(tokens),
                    _flops(linear),
                    _flops(attention),
                    share_cell(_share(attention, linear)),
                    Cell(size(scores), scores),
                )
            )
    note = "Computed from the model's shape: batch 1, the LM head for the last token alone."
    return TableView("prefill", "Where it can: long prompts", columns, tuple(rows), len(rows), "tracekit", note)


def _flops(count: int) -> Cell:
    return Cell(operations(count), float(count))
