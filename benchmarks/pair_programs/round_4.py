"""Programs for rules that rounds 1 to 3 do not ask, written after these rules."""

from __future__ import annotations

import functools
import gc
import json
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .listed import BESIDE, CASTS, CLIPPING, COLLECTOR, DEQUANTISED, PYTHON, RECOMPUTED, ZEROING, Step
from .listed import program as listed_program
from .parts import DEVICE, Block, adamw, blocks, captured, gpt2, images, infer, mlp, tokens, training, vision

program = functools.partial(listed_program, made=4)


# --- The host's own work ----------------------------------------------------------------------------------------------------


def between(step: Step, work: Callable[[], object], after: bool) -> Step:
    """The step, and before the change some work of Python that no operator does."""

    def own() -> object:
        if not after:
            work()
        return step()

    return own


@program(PYTHON, stack=True)
def tokenised_inference_python(after: bool) -> Step:
    words = [f"w{random.Random(7).randrange(9000)}" for _ in range(20_000)]

    def tokenise() -> object:
        table: dict[str, int] = {}
        return [table.setdefault(word.lower().strip(), len(table)) for word in words]

    step = infer(mlp(2048, 6, torch.bfloat16), torch.randn(2048, 2048, device=DEVICE, dtype=torch.bfloat16))
    return between(step, tokenise, after)


@program(PYTHON)
def recorded_training_python(after: bool) -> Step:
    state = {f"metric {number}": [number / 7] * 20 for number in range(400)}
    model, x = mlp(1024, 6, torch.bfloat16), torch.randn(4096, 1024, device=DEVICE, dtype=torch.bfloat16)
    step = training(model, lambda: model(x).float().square().mean(), adamw(model))
    return between(step, lambda: json.dumps(state), after)


def collected(step: Step, objects: int, after: bool) -> Step:
    """The step among so many objects of Python, with the garbage collector called before the change."""
    held = [{"number": number} for number in range(objects)]

    def collect() -> object:
        return gc.collect(), len(held)

    return between(step, collect, after)


@program(COLLECTOR, stack=True)
def transformer_inference_collector(after: bool) -> Step:
    model = blocks(4, 1024, True).bfloat16()
    return collected(infer(model, torch.randn(4, 512, 1024, device=DEVICE, dtype=torch.bfloat16)), 30_000, after)


@program(COLLECTOR, stack=True)
def graph_inference_collector(after: bool) -> Step:
    step = captured(infer(mlp(2048, 12, torch.bfloat16), torch.randn(4096, 2048, device=DEVICE, dtype=torch.bfloat16)))
    return collected(step, 60_000, after)


# --- Casts and quantised weights --------------------------------------------------------------------------------------------


def recast(model: nn.Module, x: Tensor, after: bool) -> Step:
    """Inference with FP32 weights, which autocast without its cache casts at every call; then with bfloat16 weights."""
    model = model.eval()
    if after:
        return infer(model.bfloat16(), x.bfloat16())

    @torch.no_grad()
    def step() -> object:
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            return model(x)

    return step


@program(CASTS)
def mlp_inference_casts(after: bool) -> Step:
    return recast(mlp(4096, 8), torch.randn(512, 4096, device=DEVICE), after)


@program(CASTS)
def vit_inference_casts(after: bool) -> Step:
    return recast(vision("vit_large_patch16_224"), images(4), after)


class Quantised(nn.Module):
    """A linear layer of one byte a weight, which it dequantises at every call, or did once."""

    def __init__(self, width: int, once: bool) -> None:
        super().__init__()
        weight = torch.quantize_per_tensor(torch.randn(width, width, device=DEVICE), 0.02, 0, torch.qint8)
        self.weight: Callable[[], Tensor] = functools.partial(torch.clone, weight.dequantize()) if once else weight.dequantize
        self.kept = weight.dequantize() if once else None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.kept if self.kept is not None else self.weight())


@program(DEQUANTISED)
def wide_layers_dequantised(after: bool) -> Step:
    return infer(nn.Sequential(*(Quantised(4096, after) for _ in range(8))), torch.randn(64, 4096, device=DEVICE))


@program(DEQUANTISED)
def narrow_layers_dequantised(after: bool) -> Step:
    return infer(nn.Sequential(*(Quantised(2048, after) for _ in range(12))), torch.randn(512, 2048, device=DEVICE))


# --- Gradients --------------------------------------------------------------------------------------------------------------


def clipped(model: nn.Module, loss: Callable[[], Tensor], after: bool) -> Step:
    """Training whose gradients are clipped one by one, or all at once."""

    def clip(_: Tensor) -> object:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=after)

    return training(model, loss, adamw(model), after_backward=clip)


@program(CLIPPING)
def mlp_training_clipping(after: bool) -> Step:
    model, x = mlp(512, 32), torch.randn(64, 512, device=DEVICE)
    return clipped(model, lambda: model(x).square().mean(), after)


@program(CLIPPING)
def gpt2_training_clipping(after: bool) -> Step:
    model, ids = gpt2(6, 512, vocab_size=8192, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0).bfloat16(), tokens(4, 128)
    return clipped(model, lambda: model(ids, labels=ids).loss, after)


def zeroed(model: nn.Module, loss: Callable[[], Tensor], after: bool) -> Step:
    """Training whose gradients are filled with zeros one by one, or dropped."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, foreach=False)

    def step() -> object:
        optimizer.zero_grad(set_to_none=after)
        value = loss()
        value.backward()
        return value

    return step


@program(ZEROING)
def mlp_training_zeroing(after: bool) -> Step:
    model, x = mlp(2048, 16), torch.randn(128, 2048, device=DEVICE)
    return zeroed(model, lambda: model(x).square().mean(), after)


@program(ZEROING)
def wide_training_zeroing(after: bool) -> Step:
    model, x = mlp(8192, 4, torch.bfloat16), torch.randn(256, 8192, device=DEVICE, dtype=torch.bfloat16)
    return zeroed(model, lambda: model(x).float().square().mean(), after)


# --- Copies and memory ------------------------------------------------------------------------------------------------------


def fed(shape: tuple[int, ...], use: Callable[[Tensor], object], after: bool) -> Step:
    """A step on a batch from pinned memory, which is copied before it, or on another stream during the step before."""
    source = torch.randn(shape, dtype=torch.float16).pin_memory()
    copying, ready = torch.cuda.Stream(), [source.to(DEVICE)]

    def step() -> object:
        if not after:
            return use(source.to(DEVICE, non_blocking=True))
        torch.cuda.current_stream().wait_stream(copying)
        batch = ready.pop()
        batch.record_stream(torch.cuda.current_stream())
        copying.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(copying):
            ready.append(source.to(DEVICE, non_blocking=True))
        return use(batch)

    return step


@program(BESIDE)
def mlp_inference_beside(after: bool) -> Step:
    model = mlp(4096, 8, torch.float16)
    return fed((8192, 4096), torch.no_grad()(model.forward), after)


@program(BESIDE)
def vit_inference_beside(after: bool) -> Step:
    model = vision("vit_small_patch16_224").half().eval()
    return fed((256, 3, 224, 224), torch.no_grad()(model.forward), after)


class Recomputed(nn.Module):
    """Blocks whose activations are computed again in the backward, or kept."""

    def __init__(self, count: int, width: int, *, again: bool, reentrant: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, width // 64, True) for _ in range(count)])
        self.again, self.reentrant = again, reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant) if self.again else block(x)
        return x


def trained(width: int, count: int, batch: int, after: bool, *, reentrant: bool) -> Step:
    """Training of such blocks."""
    model = Recomputed(count, width, again=not after, reentrant=reentrant).to(DEVICE, torch.bfloat16)
    x = torch.randn(batch, 1024, width, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    return training(model, lambda: model(x).float().square().mean(), adamw(model))


@program(RECOMPUTED)
def blocks_training_recomputed(after: bool) -> Step:
    return trained(1024, 8, 16, after, reentrant=True)


@program(RECOMPUTED, stack=True)
def wide_blocks_training_recomputed(after: bool) -> Step:
    return trained(2048, 4, 8, after, reentrant=False)
