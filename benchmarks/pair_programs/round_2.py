"""Programs that were written after the rules, which round 1 had made."""

from __future__ import annotations

import functools
import itertools
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .listed import AUTOCAST, CACHE, CHANNELS_LAST, COMPILE, FUSED, GRAPH, PINNED, REDUCE, SDPA, SYNC, TF32, WORKERS, Step
from .listed import program as listed_program
from .parts import (
    DEVICE,
    Gates,
    adamw,
    bert,
    blocks,
    captured,
    copied,
    gpt2,
    images,
    infer,
    llama,
    loaded,
    mlp,
    rounded,
    tokens,
    training,
    vision,
)

program = functools.partial(listed_program, made=2)


@program(GRAPH)
def deit_small_graph(after: bool) -> Step:
    step = infer(vision("deit_small_patch16_224").half(), images(2).half())
    return captured(step) if after else step


@program(GRAPH)
def mixer_graph(after: bool) -> Step:
    step = infer(vision("mixer_s32_224").bfloat16(), images(1).bfloat16())
    return captured(step) if after else step


@program(REDUCE)
def efficientnet_reduce_overhead(after: bool) -> Step:
    model = vision("efficientnet_b0").half()
    return infer(torch.compile(model, mode="reduce-overhead") if after else model, images(1).half())


@program(AUTOCAST)
def bert_training_autocast(after: bool) -> Step:
    model, ids = bert(6), tokens(32, 256)
    return training(model, lambda: model(ids, labels=ids).loss, adamw(model), autocast=after)


@program(AUTOCAST)
def mixer_inference_autocast(after: bool) -> Step:
    model, x = vision("mixer_b16_224").eval(), images(128)

    @torch.no_grad()
    def step() -> object:
        with torch.autocast("cuda", dtype=torch.bfloat16) if after else nullcontext():
            return model(x)

    return step


@program(TF32)
def gpt2_training_tf32(after: bool) -> Step:
    model, ids = gpt2(4, 1024, vocab_size=8192, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokens(8, 512)
    return rounded(training(model, lambda: model(ids, labels=ids).loss, adamw(model)), after)


@program(TF32)
def vit_small_inference_tf32(after: bool) -> Step:
    return rounded(infer(vision("vit_small_patch16_224"), images(128)), after)


@program(CHANNELS_LAST)
def resnet34_training_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model, x = vision("resnet34").to(memory_format=layout), images(256).to(memory_format=layout)
    return training(model, lambda: model(x).square().mean(), adamw(model), autocast=True)


@program(CHANNELS_LAST)
def densenet_inference_channels_last(after: bool) -> Step:
    layout = torch.channels_last if after else torch.contiguous_format
    model = vision("densenet121").half().to(memory_format=layout)
    return infer(model, images(128).half().to(memory_format=layout))


@program(SDPA)
def bert_inference_sdpa(after: bool) -> Step:
    return infer(bert(8, "sdpa" if after else "eager").bfloat16(), tokens(16, 512))


@program(SDPA)
def blocks_inference_sdpa(after: bool) -> Step:
    model = blocks(6, 768, after).half()
    return infer(model, torch.randn(2, 2048, 768, device=DEVICE, dtype=torch.float16))


@program(SYNC)
def clipped_training_sync(after: bool) -> Step:
    model, x = mlp(768, 12), torch.randn(256, 768, device=DEVICE)
    told: list[object] = []

    def watch(value: Tensor) -> None:
        gradients = [] if after else [one.grad for one in model.parameters() if one.grad is not None]
        told.extend("a gradient is not finite" for gradient in gradients if not torch.isfinite(gradient).all())

    return training(model, lambda: model(x).square().mean(), adamw(model), after_backward=watch)


@program(SYNC)
def statistics_inference_sync(after: bool) -> Step:
    layers = [mlp(4096, 1, torch.bfloat16) for _ in range(10)]
    x = torch.randn(512, 4096, device=DEVICE, dtype=torch.bfloat16)
    told: list[object] = []

    @torch.no_grad()
    def step() -> object:
        y = x
        del told[:-100]
        for layer in layers:
            y = layer(y)
            if not after:
                told.append(y.norm().cpu())
        return y

    return step


@program(CACHE)
def vit_training_empty_cache(after: bool) -> Step:
    model, x = vision("vit_small_patch16_224"), images(64)
    inner = training(model, lambda: model(x).square().mean(), adamw(model), autocast=True)

    def step() -> object:
        found = inner()
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


@program(CACHE)
def gpt2_inference_empty_cache(after: bool) -> Step:
    model, batches = gpt2(6, 1024, vocab_size=8192).bfloat16().eval(), itertools.cycle([tokens(16, 256), tokens(16, 384)])

    @torch.no_grad()
    def step() -> object:
        found = model(next(batches)).logits.argmax(-1)
        if not after:
            torch.cuda.empty_cache()
        return found

    return step


class Sounds(torch.utils.data.Dataset[Tensor]):
    """Waves that Python turns into spectra."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Tensor:
        wave = torch.randn(16_000)
        return torch.stft(wave, 400, 160, window=torch.hann_window(400), return_complex=True).abs().clamp_min(1e-5).log()


@program(WORKERS)
def sounds_training_workers(after: bool) -> Step:
    model = nn.Sequential(nn.Linear(101, 1024), nn.GELU(), nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 64)).to(DEVICE)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).square().mean(), adamw(model), autocast=True)

    def train(batch: Tensor) -> object:
        held[:] = [batch]
        return inner()

    return loaded(Sounds(), 48, 8 if after else 0, train)


@program(PINNED)
def vit_inference_pinned(after: bool) -> Step:
    model = vision("vit_small_patch16_224").half().eval()
    return copied((96, 3, 224, 224), after, torch.no_grad()(lambda batch: model(batch.half())))


@program(PINNED)
def features_training_pinned(after: bool) -> Step:
    model = mlp(2048, 4, torch.bfloat16)
    held: list[Tensor] = []
    inner = training(model, lambda: model(held[0]).float().square().mean(), adamw(model))

    def train(batch: Tensor) -> object:
        held[:] = [batch.bfloat16()]
        return inner()

    return copied((4096, 2048), after, train)


@program(COMPILE)
def norms_inference_compile(after: bool) -> Step:
    model = nn.Sequential(*(Gates(8192) for _ in range(8))).to(DEVICE, torch.bfloat16)
    return infer(torch.compile(model) if after else model, torch.randn(4096, 8192, device=DEVICE, dtype=torch.bfloat16))


@program(COMPILE)
def llama_inference_compile(after: bool) -> Step:
    model = llama(6, 1024).bfloat16()
    return infer(torch.compile(model) if after else model, tokens(1, 128))


@program(FUSED)
def narrow_adamw_fused(after: bool) -> Step:
    model, x = mlp(256, 96), torch.randn(32, 256, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": True}
    return training(model, lambda: model(x).square().mean(), adamw(model, **options))


@program(FUSED)
def wide_adam_loop_fused(after: bool) -> Step:
    model, x = mlp(2048, 24), torch.randn(64, 2048, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, **options)
    return training(model, lambda: model(x).square().mean(), optimizer)


@program(FUSED)
def wide_sgd_loop_fused(after: bool) -> Step:
    model, x = mlp(1024, 48), torch.randn(64, 1024, device=DEVICE)
    options: dict[str, Any] = {"fused": True} if after else {"foreach": False}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, **options)
    return training(model, lambda: model(x).square().mean(), optimizer)
